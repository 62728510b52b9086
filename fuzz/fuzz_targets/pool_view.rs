//! The words of 'show pools' (`keel_dump_pools_with()`): any bytes. Unknown
//! ones write nothing; else there is a heading, a sum, and lines of pools of
//! the wanted prefix alone, no more than are asked for.
#![no_main]

use keel::pool::Registry;
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::sync::LazyLock;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let registry = Registry::new();
    assert_eq!(registry.debug(b"no-merge"), 0);
    for (name, size) in [
        (&b"small"[..], 32),
        (b"smaller", 24),
        (b"large", 4096),
        (b"", 64),
    ] {
        registry.create(name, size, 0, 0).unwrap();
    }
    registry
});

fuzz_target!(|words: &[u8]| {
    let path = format!("/dev/shm/keel-fuzz-{}", std::process::id());
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let result = REGISTRY.dump_with(file.as_raw_fd(), words);
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();

    let words: Vec<&[u8]> = words
        .split(u8::is_ascii_whitespace)
        .filter(|w| !w.is_empty())
        .collect();
    if result < 0 {
        // EINVAL, and there is a reason.
        assert_eq!((result, text.as_str()), (-22, ""));
        assert!(!words.is_empty());
        return;
    }
    assert_eq!(result as usize, text.len());
    let lines = |start: &str| text.lines().filter(|l| l.starts_with(start)).count();
    assert_eq!(lines("Dumping pools usage."), 1);
    assert_eq!(lines("Total: "), 1);
    let shown = lines("  - Pool ");
    assert!(shown <= 4);
    if words.is_empty() {
        assert_eq!(shown, 4);
    }
    if let [b"match", prefix] = words[..] {
        let names = [&b"small"[..], b"smaller", b"large", b""];
        assert_eq!(
            shown,
            names.iter().filter(|n| n.starts_with(prefix)).count()
        );
    }
});
