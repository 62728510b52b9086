//! Words that come one by one, as in `stktable_parse_type()` and
//! `stktable_alloc_data_type()`, and the numbers in them. The first byte chooses
//! a type of data, blanks part the words. What is read must be what a table's
//! line reads, and numbers what wider arithmetic makes of them.
#![no_main]

use keel::stick_table::catalog::*;
use keel::stick_table::{line, units};
use libfuzzer_sys::fuzz_target;

static CATALOG: Catalog = Catalog::new();

fuzz_target!(|input: &[u8]| {
    let Some((&choice, text)) = input.split_first() else {
        return;
    };
    let words: Vec<&[u8]> = text.split(|&c| c == b' ').collect();
    for word in &words {
        numbers(word);
    }
    key_type(&words);
    if let Some(info) = CATALOG.get(usize::from(choice)) {
        data_type(&info, words[0], words.get(1).copied());
    }
});

/// Its digits, as far as they are a number, and what follows them.
fn split(word: &[u8]) -> Option<(Option<u128>, &str)> {
    let digits = word.iter().take_while(|c| c.is_ascii_digit()).count();
    let (digits, unit) = (&word[..digits], str::from_utf8(&word[digits..]).ok()?);
    let value = str::from_utf8(digits).unwrap();
    // More digits than these, without zeros in front, fit nowhere.
    let value = match value.trim_start_matches('0') {
        long if long.len() > 25 => None,
        "" if value.is_empty() => return None,
        "" => Some(0),
        short => short.parse().ok(),
    };
    Some((value, unit))
}

fn numbers(word: &[u8]) {
    let parts = split(word);
    let expect = |scale: &dyn Fn(&str, u128) -> Option<u128>, max: u128| {
        let (value, unit) = parts?;
        let value = scale(unit, value.unwrap_or(1 << 90))?;
        (value <= max).then_some(value)
    };
    let in_ms = |unit: &str, value: u128| match unit {
        "us" => Some(value.div_ceil(1000)),
        "" | "ms" => Some(value),
        "s" => Some(value * 1000),
        "m" => Some(value * 60_000),
        "h" => Some(value * 3_600_000),
        "d" => Some(value * 86_400_000),
        _ => None,
    };
    let in_bytes = |unit: &str, value: u128| match unit {
        "" => Some(value),
        "k" | "K" => Some(value << 10),
        "m" | "M" => Some(value << 20),
        "g" | "G" => Some(value << 30),
        _ => None,
    };
    let alone = |unit: &str, value: u128| unit.is_empty().then_some(value);
    let wide = u128::from(u64::MAX);

    let time = units::time(word).ok().map(u128::from);
    // Before it is rounded, a number must fit 64 bits.
    let readable = parts.is_some_and(|(value, _)| value.is_some_and(|v| v <= wide));
    assert_eq!(time, expect(&in_ms, i32::MAX as u128).filter(|_| readable));
    let size = units::size(word).ok().map(u128::from);
    assert_eq!(size, expect(&in_bytes, wide));
    let number = units::number(word).ok().map(u128::from);
    assert_eq!(number, expect(&alone, wide));

    let text = str::from_utf8(word).unwrap_or("x");
    let signed = text.parse::<i64>().ok().filter(|_| !text.starts_with('+'));
    assert_eq!(units::signed(word).ok(), signed);
}

/// A type and its length are the same, asked for alone or in a line.
fn key_type(words: &[&[u8]]) {
    let alone = line::parse_type(|k| words.get(k).copied());
    let Ok(key) = alone else {
        return;
    };
    assert!(key.key_size > 0 && [1, 3].contains(&key.words));
    let mut text = b"size 1 type ".to_vec();
    text.extend(words[..key.words].join(&b' '));
    let line = line::parse(&text, &CATALOG).unwrap();
    assert_eq!((line.key_type, line.key_size), (key.key_type, key.key_size));
}

fn data_type(info: &Info, first: &[u8], second: Option<&[u8]>) {
    for (sa, sa2) in [(None, None), (Some(first), None), (Some(first), second)] {
        match arguments(info, sa, sa2) {
            Ok((elements, arg)) => {
                assert!((1..=MAX_ELEMENTS).contains(&elements));
                assert!(info.is_array || elements == 1);
                assert!(info.arg_type != ARG_NONE || arg == 0);
                assert!(
                    info.arg_type != ARG_DELAY || (MIN_PERIOD..=i32::MAX as u32).contains(&arg)
                );
                in_a_line(info, [sa, sa2], (elements, arg));
            }
            Err(pe) => assert!((PE_ARG_MISSING..=PE_ARG_VALUE_OOR).contains(&pe)),
        }
    }
}

fn in_a_line(info: &Info, given: [Option<&[u8]>; 2], read: (u32, u32)) {
    let mut text = b"type integer size 1 store ".to_vec();
    text.extend(info.name.to_bytes());
    let given: Vec<&[u8]> = given.into_iter().flatten().collect();
    if !given.is_empty() {
        text.push(b'(');
        text.extend(given.join(&b','));
        text.push(b')');
    }
    let line = line::parse(&text, &CATALOG).unwrap();
    let store = line.store()[0];
    assert_eq!((store.nbelem, store.arg), read);
}
