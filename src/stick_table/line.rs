//! The `stick-table` line of a configuration, and the sentence that says what
//! is wrong with one.

use super::catalog::*;
use super::key::*;
use super::units::{self, Fault};
use core::fmt::{self, Write};

/// Bytes of a key at most, a string's NUL aside.
pub const MAX_KEY: u64 = 65536;
/// Entries at most.
pub const MAX_SIZE: u64 = 1 << 31;

/// Types that cannot stand in one table: the array would have the other's
/// element too.
const EXCLUSIONS: [(&[u8], &[u8]); 5] = [
    (b"gpt", b"gpt0"),
    (b"gpc", b"gpc0"),
    (b"gpc", b"gpc1"),
    (b"gpc_rate", b"gpc0_rate"),
    (b"gpc_rate", b"gpc1_rate"),
];

/// A datum of every entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Its index in the catalogue.
    pub data_type: usize,
    /// How many there are: 1 unless it is an array.
    pub nbelem: u32,
    /// Each one's argument: a period in ms, or the bits of an `int`.
    pub arg: u32,
}

/// What a line says.
#[derive(Clone, Debug)]
pub struct Line {
    /// `SMP_T_*`.
    pub key_type: u64,
    /// Bytes of a key, a string's NUL included.
    pub key_size: usize,
    /// Entries at most.
    pub size: u32,
    /// Their life in ms; 0: they never expire.
    pub expire: i32,
    /// A full table takes no more, rather than dropping its oldest entry.
    pub nopurge: bool,
    stores: [Store; TYPES],
    count: usize,
}

impl Line {
    /// The data, in the line's order.
    pub fn store(&self) -> &[Store] {
        &self.stores[..self.count]
    }

    /// Adds what one `store` word lists: names with arguments in parentheses,
    /// between commas.
    fn add(&mut self, list: &[u8], catalog: &Catalog) -> Result<(), Sentence> {
        let mut rest = Some(list);
        while let Some(text) = rest {
            let (item, after) = first_item(text);
            self.add_one(item, catalog)?;
            rest = after;
        }
        Ok(())
    }

    fn add_one(&mut self, item: &[u8], catalog: &Catalog) -> Result<(), Sentence> {
        let malformed = || sentence!("{} is not a data type with arguments", Word(item));
        let (name, args) = match item.iter().position(|&c| c == b'(') {
            None => (item, None),
            Some(at) => {
                let args = item[at + 1..].strip_suffix(b")").ok_or_else(malformed)?;
                (&item[..at], Some(args))
            }
        };
        if name.is_empty() || args.is_some_and(|a| a.iter().any(|c| b"()".contains(c))) {
            return Err(malformed());
        }
        let index = catalog
            .find(name)
            .ok_or_else(|| sentence!("unknown data type {}", Word(name)))?;
        let info = catalog.get(index).ok_or_else(malformed)?;

        let (sa, sa2) = match args {
            None => (None, None),
            Some(args) => match args.iter().position(|&c| c == b',') {
                None => (Some(args), None),
                Some(at) => (Some(&args[..at]), Some(&args[at + 1..])),
            },
        };
        let (nbelem, arg) = arguments(&info, sa, sa2).map_err(|error| match error {
            PE_ARG_MISSING if info.is_array && info.arg_type != ARG_NONE => {
                sentence!("{} needs a number of elements and an argument", Word(item))
            }
            PE_ARG_MISSING if info.is_array => {
                sentence!("{} needs a number of elements", Word(item))
            }
            PE_ARG_MISSING => sentence!("{} needs an argument", Word(item)),
            PE_ARG_NOT_USED => sentence!("{} has an argument too many", Word(item)),
            PE_ARG_VALUE_OOR => sentence!("an argument of {} is out of range", Word(item)),
            _ => sentence!("an argument of {} cannot be read", Word(item)),
        })?;

        for (array, single) in EXCLUSIONS {
            for (this, other) in [(array, single), (single, array)] {
                if name == this && catalog.find(other).is_some_and(|o| self.has(o)) {
                    return Err(sentence!("{} excludes {}", Word(this), Word(other)));
                }
            }
        }
        if self.has(index) {
            return Err(sentence!("{} is stored twice", Word(name)));
        }
        // There is room: no type is in twice.
        self.stores[self.count] = Store {
            data_type: index,
            nbelem,
            arg,
        };
        self.count += 1;
        Ok(())
    }

    fn has(&self, index: usize) -> bool {
        self.store().iter().any(|s| s.data_type == index)
    }
}

/// Reads `type … size … [expire …] [store …] [nopurge]`, in any order.
pub fn parse(line: &[u8], catalog: &Catalog) -> Result<Line, Sentence> {
    let none = Store {
        data_type: 0,
        nbelem: 0,
        arg: 0,
    };
    let mut out = Line {
        key_type: 0,
        key_size: 0,
        size: 0,
        expire: 0,
        nopurge: false,
        stores: [none; TYPES],
        count: 0,
    };
    let mut words = Words(line);
    while let Some(word) = words.next() {
        let twice = match word {
            b"type" => out.key_type != 0,
            b"size" => out.size != 0,
            b"expire" => out.expire != 0,
            b"nopurge" => out.nopurge,
            _ => false,
        };
        if twice {
            return Err(sentence!("{} stands twice", Word(word)));
        }
        match word {
            b"type" => {
                let key = parse_type(|i| words.clone().nth(i))?;
                (out.key_type, out.key_size) = (key.key_type, key.key_size);
                words.nth(key.words - 1);
            }
            b"size" => {
                let text = argument(word, &mut words)?;
                out.size = match units::size(text) {
                    Ok(size @ 1..=MAX_SIZE) => size as u32,
                    Err(Fault::Syntax) => return Err(sentence!("{} is no size", Word(text))),
                    _ => return Err(sentence!("size {} is not 1 to 2^31", Word(text))),
                };
            }
            b"expire" => {
                let text = argument(word, &mut words)?;
                out.expire = match units::time(text) {
                    Ok(ms @ 1..) => ms as i32,
                    Err(Fault::Syntax) => return Err(sentence!("{} is no duration", Word(text))),
                    _ => return Err(sentence!("expire {} is not 1 to 2^31-1 ms", Word(text))),
                };
            }
            b"store" => out.add(argument(word, &mut words)?, catalog)?,
            b"nopurge" => out.nopurge = true,
            b"peers" => {
                return Err(sentence!(
                    "\"peers\" is refused: replication is the program's"
                ));
            }
            _ => return Err(sentence!("unknown word {}", Word(word))),
        }
    }
    if out.key_type == 0 {
        return Err(sentence!("\"type\" is missing"));
    }
    if out.size == 0 {
        return Err(sentence!("\"size\" is missing"));
    }
    Ok(out)
}

/// A type of keys, read from a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// `SMP_T_*`.
    pub key_type: u64,
    /// Bytes of a key, a string's NUL included.
    pub key_size: usize,
    /// How many words it took, 1 or 3.
    pub words: usize,
}

/// Reads a type of keys, and `len` with its number where that may follow;
/// `word(0)` is what stands after `type`.
pub fn parse_type<'a>(word: impl Fn(usize) -> Option<&'a [u8]>) -> Result<Key, Sentence> {
    let name = word(0).ok_or_else(|| sentence!("\"type\" needs an argument"))?;
    let found = KEY_TYPES
        .iter()
        .find(|t| t.name.to_bytes() == name)
        .ok_or_else(|| sentence!("unknown type {}", Word(name)))?;
    let mut key = Key {
        key_type: found.key_type,
        key_size: found.default_size,
        words: 1,
    };
    if word(1) != Some(b"len") {
        return Ok(key);
    }
    if !found.custom_size {
        return Err(sentence!("type {} takes no \"len\"", Word(name)));
    }
    let text = word(2).ok_or_else(|| sentence!("\"len\" needs an argument"))?;
    let length = match units::number(text) {
        Ok(length @ 1..=MAX_KEY) => length as usize,
        Err(Fault::Syntax) => return Err(sentence!("{} is no length", Word(text))),
        _ => return Err(sentence!("len {} is not 1 to {MAX_KEY}", Word(text))),
    };
    key.key_size = length + usize::from(key.key_type == SMP_T_STR);
    key.words = 3;
    Ok(key)
}

fn argument<'a>(word: &[u8], words: &mut Words<'a>) -> Result<&'a [u8], Sentence> {
    words
        .next()
        .ok_or_else(|| sentence!("{} needs an argument", Word(word)))
}

/// What stands before the first comma outside of parentheses, and after it.
fn first_item(list: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut inside = false;
    for (at, c) in list.iter().enumerate() {
        match c {
            b'(' => inside = true,
            b')' => inside = false,
            b',' if !inside => return (&list[..at], Some(&list[at + 1..])),
            _ => {}
        }
    }
    (list, None)
}

/// The words of a text, between white space.
#[derive(Clone)]
pub(super) struct Words<'a>(pub &'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii_start();
        let end = text
            .iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }
}

/// What is wrong, in printable ASCII; cut off where it would be too long.
#[derive(Clone, Copy)]
pub struct Sentence {
    text: [u8; 120],
    len: u8,
}

impl Sentence {
    /// What `text` says.
    pub fn new(text: fmt::Arguments) -> Self {
        let mut sentence = Self {
            text: [0; 120],
            len: 0,
        };
        // Cut off, not failed.
        let _ = sentence.write_fmt(text);
        sentence
    }

    /// Its text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }
}

impl Write for Sentence {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            let printable = (b' '..=b'~').contains(&byte);
            let Some(free) = self.text.get_mut(usize::from(self.len)) else {
                return Err(fmt::Error);
            };
            *free = if printable { byte } else { b'?' };
            self.len += 1;
        }
        Ok(())
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // ASCII, by write_str.
        f.write_str(core::str::from_utf8(self.as_bytes()).unwrap_or(""))
    }
}

impl fmt::Debug for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A word at fault: quoted, escaped, shortened.
struct Word<'a>(&'a [u8]);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        const SHOWN: usize = 32;
        let (shown, more) = match self.0.get(..SHOWN) {
            Some(start) if self.0.len() > SHOWN => (start, "..."),
            _ => (self.0, ""),
        };
        write!(f, "\"{}{more}\"", shown.escape_ascii())
    }
}

macro_rules! sentence {
    ($($text:tt)*) => { Sentence::new(format_args!($($text)*)) };
}
use sentence;

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    static CATALOG: Catalog = Catalog::new();

    fn fault(line: &str) -> String {
        parse(line.as_bytes(), &CATALOG).unwrap_err().to_string()
    }

    #[test]
    fn the_line_of_the_manual() {
        let line = parse(
            b"type ip size 1m expire 30s store conn_cnt,conn_rate(10s),gpc(4)",
            &CATALOG,
        )
        .unwrap();
        assert_eq!((line.key_type, line.key_size), (SMP_T_IPV4, 4));
        assert_eq!((line.size, line.expire), (1 << 20, 30_000));
        assert!(!line.nopurge);
        let store = |data_type, nbelem, arg| Store {
            data_type,
            nbelem,
            arg,
        };
        assert_eq!(
            line.store(),
            [store(4, 1, 0), store(5, 1, 10_000), store(23, 4, 0)]
        );
    }

    #[test]
    fn key_types() {
        for (text, key_type, key_size) in [
            ("ip", SMP_T_IPV4, 4),
            ("ipv4", SMP_T_IPV4, 4),
            ("ipv6", SMP_T_IPV6, 16),
            ("integer", SMP_T_SINT, 4),
            ("string", SMP_T_STR, 32),
            ("string len 64", SMP_T_STR, 65),
            ("binary", SMP_T_BIN, 32),
            ("binary len 5", SMP_T_BIN, 5),
            ("binary len 65536", SMP_T_BIN, 65536),
        ] {
            let line = format!("size 1 type {text} nopurge");
            let line = parse(line.as_bytes(), &CATALOG).unwrap();
            assert_eq!((line.key_type, line.key_size), (key_type, key_size));
            assert!(line.nopurge && line.expire == 0 && line.store().is_empty());
        }
    }

    #[test]
    fn stores_repeat_and_nest() {
        let line = parse(
            b"\ttype ip\tstore gpc_rate(3,1m),gpt(2) size 2g store server_name expire 1us ",
            &CATALOG,
        )
        .unwrap();
        assert_eq!(line.size, 1 << 31);
        assert_eq!(line.expire, 1);
        let types: Vec<_> = line.store().iter().map(|s| s.data_type).collect();
        assert_eq!(types, [24, 22, 19]);
        assert_eq!(line.store()[0].nbelem, 3);
        assert_eq!(line.store()[0].arg, 60_000);
    }

    #[test]
    fn each_fault_has_its_sentence() {
        for (line, sentence) in [
            ("", "\"type\" is missing"),
            ("size 1", "\"type\" is missing"),
            ("type ip", "\"size\" is missing"),
            ("type", "\"type\" needs an argument"),
            ("type ip size", "\"size\" needs an argument"),
            ("expire", "\"expire\" needs an argument"),
            ("store", "\"store\" needs an argument"),
            ("type ipx size 1", "unknown type \"ipx\""),
            ("type ip len 4 size 1", "type \"ip\" takes no \"len\""),
            ("type string len", "\"len\" needs an argument"),
            ("type string len 0", "len \"0\" is not 1 to 65536"),
            ("type binary len 65537", "len \"65537\" is not 1 to 65536"),
            ("type binary len 1k", "\"1k\" is no length"),
            ("type ip type ip", "\"type\" stands twice"),
            ("size 1 size 1", "\"size\" stands twice"),
            ("expire 1 expire 1", "\"expire\" stands twice"),
            ("nopurge nopurge", "\"nopurge\" stands twice"),
            ("size 0", "size \"0\" is not 1 to 2^31"),
            ("size 2147483649", "size \"2147483649\" is not 1 to 2^31"),
            ("size many", "\"many\" is no size"),
            ("expire 0", "expire \"0\" is not 1 to 2^31-1 ms"),
            ("expire 25d", "expire \"25d\" is not 1 to 2^31-1 ms"),
            ("expire soon", "\"soon\" is no duration"),
            (
                "peers mine",
                "\"peers\" is refused: replication is the program's",
            ),
            ("type ip syze 1", "unknown word \"syze\""),
            ("store conn_count", "unknown data type \"conn_count\""),
            ("store gpc", "\"gpc\" needs a number of elements"),
            (
                "store gpc_rate(4)",
                "\"gpc_rate(4)\" needs a number of elements and an argument",
            ),
            ("store conn_rate", "\"conn_rate\" needs an argument"),
            (
                "store conn_cnt(1)",
                "\"conn_cnt(1)\" has an argument too many",
            ),
            (
                "store conn_cnt()",
                "\"conn_cnt()\" has an argument too many",
            ),
            (
                "store conn_rate(1s,2s)",
                "\"conn_rate(1s,2s)\" has an argument too many",
            ),
            (
                "store gpc_rate(4,1s,2s)",
                "an argument of \"gpc_rate(4,1s,2s)\" cannot be read",
            ),
            (
                "store gpc(101)",
                "an argument of \"gpc(101)\" is out of range",
            ),
            (
                "store conn_rate(1ms)",
                "an argument of \"conn_rate(1ms)\" is out of range",
            ),
            (
                "store conn_rate(x)",
                "an argument of \"conn_rate(x)\" cannot be read",
            ),
            (
                "store conn_rate(1s",
                "\"conn_rate(1s\" is not a data type with arguments",
            ),
            (
                "store conn_rate(1s)x",
                "\"conn_rate(1s)x\" is not a data type with arguments",
            ),
            (
                "store conn_rate((1s))",
                "\"conn_rate((1s))\" is not a data type with arguments",
            ),
            ("store conn_cnt,", "\"\" is not a data type with arguments"),
            ("store (1)", "\"(1)\" is not a data type with arguments"),
            ("store gpc0,gpc0", "\"gpc0\" is stored twice"),
            ("store gpc0 store gpc0", "\"gpc0\" is stored twice"),
            (
                "store server_key,server_name",
                "\"server_name\" is stored twice",
            ),
            ("store gpt0,gpt(1)", "\"gpt\" excludes \"gpt0\""),
            ("store gpt(1),gpt0", "\"gpt0\" excludes \"gpt\""),
            ("store gpc0,gpc(1)", "\"gpc\" excludes \"gpc0\""),
            ("store gpc(1),gpc1", "\"gpc1\" excludes \"gpc\""),
            (
                "store gpc0_rate(1s),gpc_rate(1,1s)",
                "\"gpc_rate\" excludes \"gpc0_rate\"",
            ),
            (
                "store gpc_rate(1,1s),gpc1_rate(1s)",
                "\"gpc1_rate\" excludes \"gpc_rate\"",
            ),
            ("caf\u{e9}\u{1}", "unknown word \"caf\\xc3\\xa9\\x01\""),
        ] {
            assert_eq!(fault(line), sentence, "{line}");
        }
    }

    #[test]
    fn what_does_not_exclude() {
        let line = b"type ip size 1 store gpt(1),gpc0,gpc1,gpc_rate(2,1s)";
        assert_eq!(parse(line, &CATALOG).unwrap().store().len(), 4);
    }

    #[test]
    fn a_sentence_is_cut_off() {
        let long = "\u{1}".repeat(500);
        let text = fault(&long);
        assert_eq!(text.len(), 120);
        assert!(text.starts_with("unknown word \"\\x01\\x01"));
        assert_eq!(fault(&"a".repeat(33)).len(), 13 + 32 + 5);
        assert_eq!(fault(&"a".repeat(32)).len(), 13 + 32 + 2);
    }
}
