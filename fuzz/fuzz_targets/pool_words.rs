//! The words of `KEEL_POOL_DEBUG`, `keel_pool_debug()` and
//! `pool_parse_debugging()`: any bytes. What is understood is so again and
//! changes no more; what is not changes nothing, and the wrong word is named.
#![no_main]

use keel::pool::{Parsed, Registry};
use libfuzzer_sys::fuzz_target;

fn answer(registry: &Registry, words: &[u8]) -> (Parsed, String) {
    // SAFETY: nobody else knows the registry, nor is any pool declared.
    let parsed = unsafe { registry.parse_debugging(words) };
    let mut text = String::new();
    registry.explain(words, parsed, &mut text).unwrap();
    let printable = |c: u8| (b' '..=b'~').contains(&c) || c == b'\n';
    assert!(text.bytes().all(printable), "{text:?}");
    (parsed, text)
}

/// The stars of the table of words.
fn in_force(registry: &Registry) -> String {
    let (parsed, text) = answer(registry, b"help");
    assert_eq!(parsed, Parsed::Help);
    text
}

fuzz_target!(|words: &[u8]| {
    let registry = Registry::new();
    assert_eq!(registry.debug(b"tag,no-merge,fail=3"), 0);
    let before = in_force(&registry);
    let (parsed, text) = answer(&registry, words);
    let after = in_force(&registry);
    match parsed {
        Parsed::Done => {
            assert_eq!(text, "");
            assert_eq!(answer(&registry, words).0, Parsed::Done);
            assert_eq!(in_force(&registry), after);
        }
        Parsed::Help => {
            assert_eq!(before, after);
            assert!(text.lines().count() > 10);
        }
        Parsed::Unknown => {
            assert_eq!(before, after);
            assert!(text.starts_with("unknown pool debugging word '"));
        }
        Parsed::TooLate(_) | Parsed::NoMemory => panic!("{parsed:?}: there is no pool, and memory"),
    }
});
