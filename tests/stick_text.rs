//! The words of stick tables: lines, filters and dumps, with generated ones.
#![cfg(not(loom))]

use keel::stick_table::catalog::*;
use keel::stick_table::filter::{self, Filter};
use keel::stick_table::key::*;
use keel::stick_table::line::{self, Store};
use keel::stick_table::show;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

static CATALOG: Catalog = Catalog::new();

fn name(data_type: usize) -> &'static str {
    CATALOG.get(data_type).unwrap().name.to_str().unwrap()
}

/// A type's place in a line: index, elements, period.
type Choice = (usize, u32, u32);

/// Types that can stand in one table, in any order.
fn choices() -> impl Strategy<Value = Vec<Choice>> {
    btree_map(0..STATIC, (1..=MAX_ELEMENTS, 2..=i32::MAX as u32), 0..12)
        .prop_map(|chosen| {
            let has = |name: &str| chosen.contains_key(&CATALOG.find(name.as_bytes()).unwrap());
            let excluded = |t: usize| match name(t) {
                "gpt0" => has("gpt"),
                "gpc0" | "gpc1" => has("gpc"),
                "gpc0_rate" | "gpc1_rate" => has("gpc_rate"),
                _ => false,
            };
            let kept = chosen.iter().filter(|(t, _)| !excluded(**t));
            kept.map(|(&t, &(n, period))| (t, n, period)).collect()
        })
        .prop_shuffle()
}

fn as_store(&(data_type, elements, period): &Choice) -> Store {
    let info = CATALOG.get(data_type).unwrap();
    Store {
        data_type,
        nbelem: if info.is_array { elements } else { 1 },
        arg: if info.arg_type == ARG_DELAY {
            period
        } else {
            0
        },
    }
}

fn as_text(choice: &Choice) -> String {
    let store = as_store(choice);
    let info = CATALOG.get(store.data_type).unwrap();
    let name = name(store.data_type);
    match (info.is_array, info.arg_type == ARG_DELAY) {
        (false, false) => name.to_string(),
        (false, true) => format!("{name}({})", store.arg),
        (true, false) => format!("{name}({})", store.nbelem),
        (true, true) => format!("{name}({},{}ms)", store.nbelem, store.arg),
    }
}

/// A type with its text and size.
fn keys() -> impl Strategy<Value = (String, u64, usize)> {
    prop_oneof![
        Just(("ip".to_string(), SMP_T_IPV4, 4)),
        Just(("ipv4".to_string(), SMP_T_IPV4, 4)),
        Just(("ipv6".to_string(), SMP_T_IPV6, 16)),
        Just(("integer".to_string(), SMP_T_SINT, 4)),
        Just(("string".to_string(), SMP_T_STR, 32)),
        (1usize..70).prop_map(|n| (format!("string len {n}"), SMP_T_STR, n + 1)),
        (1usize..70).prop_map(|n| (format!("binary  len\t{n}"), SMP_T_BIN, n)),
    ]
}

/// A key of such a table: its canonical bytes, and those of an entry, where a
/// string ends with a NUL and leftovers.
fn key_of(key_type: u64, key_size: usize) -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let string = key_type == SMP_T_STR;
    let least = if string { 1 } else { key_size };
    let most = if string { key_size - 1 } else { key_size };
    (vec(any::<u8>(), least..=most), vec(any::<u8>(), key_size)).prop_map(
        move |(mut key, leftovers)| {
            if !string {
                return (key.clone(), key);
            }
            key.iter_mut().filter(|c| **c == 0).for_each(|c| *c = b'a');
            let mut stored = key.clone();
            stored.push(0);
            stored.extend_from_slice(&leftovers[stored.len()..]);
            (key, stored)
        },
    )
}

fn tables_with_key() -> impl Strategy<Value = (u64, usize, (Vec<u8>, Vec<u8>))> {
    keys().prop_flat_map(|(_, key_type, key_size)| {
        (Just(key_type), Just(key_size), key_of(key_type, key_size))
    })
}

proptest! {
    /// What a line says comes back, wherever its words stand.
    #[test]
    fn lines_say_what_they_say(
        (key, key_type, key_size) in keys(),
        size in 1u64..=1 << 31,
        expire in prop::option::of(1i32..),
        nopurge: bool,
        split in 0usize..12,
        order in Just([0, 1, 2, 3, 4, 5]).prop_shuffle(),
        choices in choices(),
    ) {
        let list = |choices: &[Choice]| match choices {
            [] => String::new(),
            _ => format!("store {}", choices.iter().map(as_text).collect::<Vec<_>>().join(",")),
        };
        let (first, second) = choices.split_at(split.min(choices.len()));
        let parts = [
            format!("type {key}"),
            format!("size {size}"),
            expire.map_or(String::new(), |e| format!("expire {e}")),
            if nopurge { "nopurge".to_string() } else { String::new() },
            list(first),
            list(second),
        ];
        let text = order.map(|i| parts[i].clone()).join(" ");
        let line = line::parse(text.as_bytes(), &CATALOG);
        prop_assert!(line.is_ok(), "{text}: {:?}", line.err());
        let line = line.unwrap();
        prop_assert_eq!((line.key_type, line.key_size), (key_type, key_size));
        prop_assert_eq!(u64::from(line.size), size);
        prop_assert_eq!((line.expire, line.nopurge), (expire.unwrap_or(0), nopurge));
        let before = |i: usize| order.iter().position(|&o| o == i);
        let stored: Vec<_> = match before(4) < before(5) {
            true => first.iter().chain(second).map(as_store).collect(),
            false => second.iter().chain(first).map(as_store).collect(),
        };
        prop_assert_eq!(line.store(), stored);

        // Each word once, and no word more.
        for more in ["type ip", "size 1", "peers p", "what"] {
            let more = format!("{text} {more}");
            prop_assert!(line::parse(more.as_bytes(), &CATALOG).is_err());
        }
        if let Some(choice) = choices.first() {
            let more = format!("{text} store {}", as_text(choice));
            prop_assert!(line::parse(more.as_bytes(), &CATALOG).is_err());
        }
    }

    /// A refused line has a sentence of printable ASCII.
    #[test]
    fn lines_of_anything(words in vec(prop_oneof![
        Just("type".to_string()), Just("size".to_string()), Just("store".to_string()),
        Just("expire".to_string()), Just("len".to_string()), Just("string".to_string()),
        Just("gpc(4),".to_string()), Just("gpc_rate(4,".to_string()), "[0-9]{1,11}[a-z]?", "\\PC{0,50}",
    ], 0..12)) {
        if let Err(sentence) = line::parse(words.join(" ").as_bytes(), &CATALOG) {
            let text = sentence.to_string();
            prop_assert!(!text.is_empty());
            prop_assert!(text.bytes().all(|c| (b' '..=b'~').contains(&c)));
            prop_assert_eq!(text.as_bytes(), sentence.as_bytes());
        }
    }

    /// Every key that a dump shows is one word, and as a filter it finds that
    /// key.
    #[test]
    fn a_shown_key_is_a_filter((key_type, key_size, (key, stored)) in tables_with_key()) {
        let view = show::View {
            address: 16, key: &stored, key_type, uses: 0, exp: 0, stores: &[], read: &|_, _| 0,
        };
        let mut out = String::new();
        show::entry(&mut out, &view, &CATALOG).unwrap();
        prop_assert!(out.starts_with("0x10: key=") && out.ends_with('\n'));
        let words: Vec<_> = out.split_whitespace().collect();
        prop_assert_eq!(words.len(), 4, "{}", out);
        prop_assert!(words.iter().all(|w| w.bytes().all(|c| c.is_ascii_graphic())));
        let shown = words[1].strip_prefix("key=").unwrap();
        let filter = filter::parse(format!("key {shown}").as_bytes(), key_type, key_size, &CATALOG);
        let filter = filter.unwrap();
        prop_assert_eq!(filter.key().unwrap(), key);
    }

    /// Every datum that a dump shows can be asked for by the name it is shown
    /// with.
    #[test]
    fn shown_data_are_filters(choices in choices(), seed: u32) {
        let stores: Vec<_> = choices.iter().map(as_store).collect();
        let value = |t: usize, e: u32| u64::from(seed.wrapping_mul(t as u32 * 100 + e + 1) >> 1);
        let view = show::View {
            address: 16, key: &[1, 2, 3, 4], key_type: SMP_T_IPV4, uses: 3, exp: 5,
            stores: &stores, read: &value,
        };
        let mut out = String::new();
        show::entry(&mut out, &view, &CATALOG).unwrap();
        let line = out.strip_prefix("0x10: key=1.2.3.4 use=3 exp=5").unwrap().trim_end();

        let mut expected: Vec<(usize, u32)> =
            stores.iter().flat_map(|s| (0..s.nbelem).map(|e| (s.data_type, e))).collect();
        expected.sort();
        let words: Vec<_> = line.split_whitespace().collect();
        prop_assert_eq!(words.len(), expected.len());

        let read = |t: usize, e: u32| {
            expected.contains(&(t, e)).then(|| value(t, e) as i64)
        };
        for (word, (t, e)) in words.into_iter().zip(expected.iter().copied()) {
            let (shown, text) = word.split_once('=').unwrap();
            let store = stores.iter().find(|s| s.data_type == t).unwrap();
            let info = CATALOG.get(t).unwrap();
            let plain = match info.arg_type {
                ARG_DELAY => shown.strip_suffix(&format!("({})", store.arg)).unwrap(),
                _ => shown,
            };
            if info.std_type == DICT {
                continue;
            }
            prop_assert_eq!(text, value(t, e).to_string());
            let v = value(t, e) as i64;
            for (condition, holds) in [
                (format!("data.{plain} eq {v}"), true),
                (format!("data.{plain} ne {v}"), false),
                (format!("data.{plain} gt {}", v - 1), true),
                (format!("data.{plain} lt {v}"), false),
                (format!("data.{plain} le {v} data.{plain} ge {v}"), true),
                (format!("data.{plain} eq {v} data.{plain} ne {v}"), false),
            ] {
                let filter = filter::parse(condition.as_bytes(), SMP_T_IPV4, 4, &CATALOG);
                prop_assert_eq!(filter.unwrap().matches(&read), holds, "{}", condition);
            }
        }
    }

    /// Keys in a filter are canonical, and nothing is read beyond them.
    #[test]
    fn filters_of_anything(
        text in prop_oneof![
            "key [0-9a-f]{1,90}", "key -?[0-9]{1,11}", "key [0-9a-f:.]{1,20}", "key \\PC{1,90}",
            "key (\\\\x|\\\\|[0-9a-f]){1,90}", "data\\.gpc[\\[0-9\\]]{1,4}(_rate)? (eq|ne) -?[0-9]{1,20}",
        ],
        (_, key_type, key_size) in keys(),
    ) {
        let filter = filter::parse(text.as_bytes(), key_type, key_size, &CATALOG);
        if let Some(Filter::Key(_)) = &filter {
            let key = filter.as_ref().unwrap().key().unwrap();
            if key_type == SMP_T_STR {
                prop_assert!(key.len() < key_size && !key.contains(&0));
            } else {
                prop_assert_eq!(key.len(), key_size);
            }
        }
    }
}
