//! A dump's filter: the first byte chooses the keys, the rest is the filter. A
//! key that is read must be canonical, and come back from a dump.
#![no_main]

use keel::stick_table::catalog::*;
use keel::stick_table::key::*;
use keel::stick_table::{filter, show};
use libfuzzer_sys::fuzz_target;

static CATALOG: Catalog = Catalog::new();

fuzz_target!(|input: &[u8]| {
    let Some((&choice, text)) = input.split_first() else {
        return;
    };
    let room = usize::from(choice / 8);
    let (key_type, key_size) = match choice % 8 {
        0 => (SMP_T_SINT, 4),
        1 => (SMP_T_IPV4, 4),
        2 => (SMP_T_IPV6, 16),
        3 | 4 => (SMP_T_STR, room + 1),
        5 | 6 => (SMP_T_BIN, room + 1),
        // Made by hand, and wrong.
        _ => (u64::from(choice / 8), room),
    };
    let Some(filter) = filter::parse(text, key_type, key_size, &CATALOG) else {
        return;
    };
    for value in [None, Some(0), Some(i64::MIN), Some(i64::MAX)] {
        filter.matches(&|data_type, element| {
            let info = CATALOG.get(data_type).unwrap();
            assert!(info.is_array && element < MAX_ELEMENTS || element == 0);
            assert!(info.std_type != DICT);
            value
        });
    }
    let Some(key) = filter.key() else {
        return;
    };
    if key_type == SMP_T_STR {
        assert!(key.len() < key_size && !key.contains(&0));
    } else {
        assert_eq!(key.len(), key_size);
    }

    let mut out = String::new();
    let view = show::View {
        address: 1,
        key,
        key_type,
        uses: 0,
        exp: 0,
        stores: &[],
        read: &|_, _| 0,
    };
    show::entry(&mut out, &view, &CATALOG).unwrap();
    let shown = out
        .split_whitespace()
        .nth(1)
        .unwrap()
        .strip_prefix("key=")
        .unwrap();
    // An empty string cannot be asked for.
    if !shown.is_empty() {
        let again = format!("key {shown}");
        let again = filter::parse(again.as_bytes(), key_type, key_size, &CATALOG).unwrap();
        assert_eq!(again.key().unwrap(), key);
    }
});
