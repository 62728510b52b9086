//! A stick table's line: any bytes. One that is read must be sound, and read
//! the same when written from what was read; one that is not has a sentence.
#![no_main]

use keel::stick_table::catalog::*;
use keel::stick_table::key::*;
use keel::stick_table::line;
use libfuzzer_sys::fuzz_target;
use std::fmt::Write;

static CATALOG: Catalog = Catalog::new();

fuzz_target!(|text: &[u8]| {
    let line = match line::parse(text, &CATALOG) {
        Ok(line) => line,
        Err(sentence) => {
            let text = sentence.to_string();
            assert!(!text.is_empty() && text.bytes().all(|c| (b' '..=b'~').contains(&c)));
            return;
        }
    };
    assert!(line.size >= 1 && line.size <= 1 << 31 && line.expire >= 0);
    let kind = KEY_TYPES
        .iter()
        .find(|t| t.key_type == line.key_type)
        .unwrap();
    let nul = usize::from(line.key_type == SMP_T_STR);
    if kind.custom_size {
        assert!(line.key_size > nul && line.key_size - nul <= line::MAX_KEY as usize);
    } else {
        assert_eq!(line.key_size, kind.default_size);
    }
    let has = |name: &[u8]| {
        line.store()
            .iter()
            .any(|s| Some(s.data_type) == CATALOG.find(name))
    };
    assert!(!(has(b"gpt") && has(b"gpt0")));
    assert!(!(has(b"gpc") && (has(b"gpc0") || has(b"gpc1"))));
    assert!(!(has(b"gpc_rate") && (has(b"gpc0_rate") || has(b"gpc1_rate"))));

    let mut again = format!("size {}", line.size);
    if line.nopurge {
        again.push_str(" nopurge");
    }
    write!(again, " type {}", kind.name.to_str().unwrap()).unwrap();
    if kind.custom_size {
        write!(again, " len {}", line.key_size - nul).unwrap();
    }
    if line.expire != 0 {
        write!(again, " expire {}", line.expire).unwrap();
    }
    for (at, store) in line.store().iter().enumerate() {
        assert!(
            !line.store()[..at]
                .iter()
                .any(|s| s.data_type == store.data_type)
        );
        let info = CATALOG.get(store.data_type).unwrap();
        write!(again, " store {}", info.name.to_str().unwrap()).unwrap();
        let period = info.arg_type == ARG_DELAY;
        assert!(!period || (MIN_PERIOD..=i32::MAX as u32).contains(&store.arg));
        assert!((1..=MAX_ELEMENTS).contains(&store.nbelem) && (info.is_array || store.nbelem == 1));
        match (info.is_array, period) {
            (true, true) => write!(again, "({},{})", store.nbelem, store.arg).unwrap(),
            (true, false) => write!(again, "({})", store.nbelem).unwrap(),
            (false, true) => write!(again, "({})", store.arg).unwrap(),
            (false, false) => {}
        }
    }
    let second = line::parse(again.as_bytes(), &CATALOG).unwrap();
    assert_eq!(
        (second.key_type, second.key_size),
        (line.key_type, line.key_size)
    );
    assert_eq!((second.size, second.expire), (line.size, line.expire));
    assert_eq!(
        (second.nopurge, second.store()),
        (line.nopurge, line.store())
    );
});
