//! Which entries a dump shows.
//!
//! A filter is empty, `key K`, or up to [`CONDITIONS`] times `data.NAME OP
//! VALUE`, all of which must hold; words stand between white space. K is written
//! as the dump prints it: an address, a number (which may be negative), hex
//! digits in pairs (zeroes are added up to the key's size), or a string with the
//! dump's escapes, cut off as a table cuts it.
//!
//! NAME is a data type; `gpc[3]` is an element of an array, `gpc` alone the first
//! one, and `gpc3` or `gpc3_rate`, as the dump prints them, too. So `gpc0`
//! asks for the type of that name, and where that is not stored, for the
//! array. What is not stored meets no condition; dictionaries have no value.
//! OP is `eq`, `ne`, `lt`, `le`, `gt` or `ge`.

use super::catalog::*;
use super::key::*;
use super::line::Words;
use super::units;
use crate::sys::memory;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::{ptr, slice, str};

/// Conditions of one filter at most.
pub const CONDITIONS: usize = 8;

/// Which entries a dump shows.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // one a dump, on its stack
pub enum Filter {
    /// All.
    All,
    /// The one with this key.
    Key(Key),
    /// The one with a key for which there is no memory.
    NoMemory,
    /// Those that meet every condition.
    Data([Option<Condition>; CONDITIONS]),
}

/// One `data.NAME OP VALUE`.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// The type and element that the name may mean, in this order.
    meanings: [Option<(usize, u32)>; 2],
    operator: Operator,
    value: i64,
}

#[derive(Clone, Copy, Debug)]
enum Operator {
    Eq,
    Ne,
    Le,
    Ge,
    Lt,
    Gt,
}

/// Reads a filter for a table with such keys. `None`: it cannot be read.
pub fn parse(text: &[u8], key_type: u64, key_size: usize, catalog: &Catalog) -> Option<Filter> {
    let mut words = Words(text);
    let Some(first) = words.next() else {
        return Some(Filter::All);
    };
    if first == b"key" {
        let text = words.next()?;
        let Some(room) = Key::with_len(text.len().max(key_size)) else {
            return Some(Filter::NoMemory);
        };
        let key = room.parse(text, key_type, key_size)?;
        return words.next().is_none().then_some(Filter::Key(key));
    }
    let mut conditions = [None; CONDITIONS];
    let mut free = conditions.iter_mut();
    let mut word = Some(first);
    while let Some(name) = word {
        let name = name.strip_prefix(b"data.")?;
        let condition = Condition {
            meanings: meanings(name, catalog)?,
            operator: Operator::parse(words.next()?)?,
            value: units::signed(words.next()?).ok()?,
        };
        *free.next()? = Some(condition);
        word = words.next();
    }
    Some(Filter::Data(conditions))
}

impl Filter {
    /// The key that a lookup takes, if one entry at most is wanted: of a
    /// string the bytes before the NUL, else as many as the table's keys have.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Filter::Key(key) => Some(key.bytes()),
            _ => None,
        }
    }

    /// Whether each condition is about a datum of which `has` says that the
    /// table stores it.
    pub fn suits(&self, has: &dyn Fn(usize, u32) -> bool) -> bool {
        let Filter::Data(conditions) = self else {
            return true;
        };
        conditions.iter().flatten().all(|condition| {
            let mut meanings = condition.meanings.iter().flatten();
            meanings.any(|&(data_type, element)| has(data_type, element))
        })
    }

    /// Whether an entry's data meet all conditions. `read` says what element
    /// `.1` of type `.0` holds, `None` if the table does not store it.
    pub fn matches(&self, read: &dyn Fn(usize, u32) -> Option<i64>) -> bool {
        match self {
            Filter::Data(conditions) => conditions.iter().flatten().all(|c| c.holds(read)),
            _ => true,
        }
    }
}

impl Condition {
    fn holds(&self, read: &dyn Fn(usize, u32) -> Option<i64>) -> bool {
        let mut meanings = self.meanings.iter().flatten();
        let Some(value) = meanings.find_map(|&(data_type, element)| read(data_type, element))
        else {
            return false;
        };
        match self.operator {
            Operator::Eq => value == self.value,
            Operator::Ne => value != self.value,
            Operator::Le => value <= self.value,
            Operator::Ge => value >= self.value,
            Operator::Lt => value < self.value,
            Operator::Gt => value > self.value,
        }
    }
}

impl Operator {
    fn parse(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"eq" => Operator::Eq,
            b"ne" => Operator::Ne,
            b"le" => Operator::Le,
            b"ge" => Operator::Ge,
            b"lt" => Operator::Lt,
            b"gt" => Operator::Gt,
            _ => return None,
        })
    }
}

/// What a name in a filter may mean; at least one thing.
fn meanings(name: &[u8], catalog: &Catalog) -> Option<[Option<(usize, u32)>; 2]> {
    let array = |index: &usize| catalog.get(*index).is_some_and(|i| i.is_array);
    if let Some(at) = name.iter().position(|&c| c == b'[') {
        let element = element(name[at + 1..].strip_suffix(b"]")?)?;
        let index = catalog.find(&name[..at]).filter(array)?;
        return Some([Some((index, element)), None]);
    }
    let plain = catalog.find(name).map(|index| (index, 0));
    if plain.is_some_and(|(index, _)| catalog.get(index).is_some_and(|i| i.std_type == DICT)) {
        return None;
    }
    let found = [plain, dumped(name, catalog)];
    found.iter().any(Option::is_some).then_some(found)
}

/// The array and element that the dump prints as `name`: letters, digits, and
/// what follows from an underscore on.
fn dumped(name: &[u8], catalog: &Catalog) -> Option<(usize, u32)> {
    let digits = name.iter().position(u8::is_ascii_digit)?;
    let rest = name.iter().position(|&c| c == b'_').unwrap_or(name.len());
    let element = element(name.get(digits..rest)?)?;
    let index = (0..TYPES).find(|&index| {
        catalog.get(index).is_some_and(|info| {
            let whole = info.name.to_bytes();
            info.is_array
                && whole.len() == digits + (name.len() - rest)
                && whole[..digits] == name[..digits]
                && whole[digits..] == name[rest..]
        })
    })?;
    Some((index, element))
}

fn element(text: &[u8]) -> Option<u32> {
    let element = u32::try_from(units::number(text).ok()?).ok()?;
    (element < MAX_ELEMENTS).then_some(element)
}

/// A key's bytes, in memory of their own.
#[derive(Debug)]
pub struct Key {
    area: *mut u8,
    len: usize,
}

impl Key {
    /// Reads a key into one that has room for it.
    fn parse(self, text: &[u8], key_type: u64, key_size: usize) -> Option<Self> {
        match key_type {
            SMP_T_STR => self.string(text, key_size),
            SMP_T_BIN => self.hexadecimal(text, key_size),
            SMP_T_SINT => {
                let value = units::signed(text).ok()?;
                let fits = (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&value);
                self.of(&(value as u32).to_ne_bytes(), key_size)
                    .filter(|_| fits)
            }
            SMP_T_IPV4 => {
                let address: Ipv4Addr = str::from_utf8(text).ok()?.parse().ok()?;
                self.of(&address.octets(), key_size)
            }
            SMP_T_IPV6 => {
                let address: Ipv6Addr = str::from_utf8(text).ok()?.parse().ok()?;
                self.of(&address.octets(), key_size)
            }
            _ => None,
        }
    }

    /// Zeroes.
    fn with_len(len: usize) -> Option<Self> {
        // No area is empty: malloc may answer NULL then.
        let area = memory::alloc_zeroed(len.max(1), 1);
        (!area.is_null()).then_some(Self { area, len })
    }

    /// Those bytes, if keys have that size.
    fn of(mut self, bytes: &[u8], key_size: usize) -> Option<Self> {
        if bytes.len() != key_size {
            return None;
        }
        self.len = key_size;
        self.bytes_mut().copy_from_slice(bytes);
        Some(self)
    }

    fn hexadecimal(mut self, text: &[u8], key_size: usize) -> Option<Self> {
        if text.len() % 2 != 0 || text.len() / 2 > key_size {
            return None;
        }
        self.len = key_size;
        for (byte, digits) in self.bytes_mut().iter_mut().zip(text.chunks_exact(2)) {
            *byte = hex(digits)?;
        }
        Some(self)
    }

    fn string(mut self, text: &[u8], key_size: usize) -> Option<Self> {
        // Escapes only make it shorter.
        self.len = text.len();
        let mut rest = text;
        let mut len = 0;
        while let [first, after @ ..] = rest {
            let (byte, after) = match first {
                b'\\' => unescape(after)?,
                _ => (*first, after),
            };
            if byte == 0 {
                return None;
            }
            self.bytes_mut()[len] = byte;
            len += 1;
            rest = after;
        }
        self.len = len.min(key_size.checked_sub(1)?);
        Some(self)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the area is ours, initialised, and at least `len` long.
        unsafe { slice::from_raw_parts(self.area, self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in bytes(); nobody else has it.
        unsafe { slice::from_raw_parts_mut(self.area, self.len) }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: allocated by with_len(), and nobody uses it any more.
        unsafe { memory::free(self.area) };
        self.area = ptr::null_mut();
    }
}

/// The byte that an escape means, and what follows it.
fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'x', a, b, rest @ ..] => Some((hex(&[*a, *b])?, rest)),
        [b't', rest @ ..] => Some((b'\t', rest)),
        [b'n', rest @ ..] => Some((b'\n', rest)),
        [b'r', rest @ ..] => Some((b'\r', rest)),
        [b'e', rest @ ..] => Some((0x1b, rest)),
        [byte @ (b'\\' | b'='), rest @ ..] => Some((*byte, rest)),
        _ => None,
    }
}

/// The byte that two digits mean.
fn hex(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0, |value, &digit| {
        Some(value << 4 | char::from(digit).to_digit(16)? as u8)
    })
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    static CATALOG: Catalog = Catalog::new();

    fn filter(text: &str, key_type: u64, key_size: usize) -> Option<Filter> {
        parse(text.as_bytes(), key_type, key_size, &CATALOG)
    }

    fn key(text: &str, key_type: u64, key_size: usize) -> Option<Vec<u8>> {
        let filter = filter(&format!(" key\t{text} "), key_type, key_size)?;
        assert!(filter.matches(&|_, _| None));
        Some(filter.key().unwrap().to_vec())
    }

    /// Whether an entry with those data is shown.
    fn shows(text: &str, data: &[(&str, u32, i64)]) -> Option<bool> {
        let filter = filter(text, SMP_T_IPV4, 4)?;
        assert!(filter.key().is_none());
        Some(filter.matches(&|data_type, element| {
            let it = |(name, e, _): &&(&str, u32, i64)| {
                CATALOG.find(name.as_bytes()) == Some(data_type) && *e == element
            };
            data.iter().find(it).map(|d| d.2)
        }))
    }

    #[test]
    fn keys_of_each_type() {
        let v4 = |text| key(text, SMP_T_IPV4, 4);
        assert_eq!(v4("10.0.0.1"), Some(vec![10, 0, 0, 1]));
        for bad in ["10.0.0", "10.0.0.256", "::1", "10.0.0.1/8", "localhost", ""] {
            assert_eq!(v4(bad), None, "{bad}");
        }
        let v6 = |text| key(text, SMP_T_IPV6, 16);
        assert_eq!(v6("::1").unwrap()[15], 1);
        assert_eq!(v6("::ffff:1.2.3.4").unwrap()[10..], [255, 255, 1, 2, 3, 4]);
        assert_eq!(v6("::1%lo"), None);
        assert_eq!(v6("1.2.3.4"), None);

        let sint = |text| key(text, SMP_T_SINT, 4);
        assert_eq!(sint("7"), Some(7u32.to_ne_bytes().to_vec()));
        assert_eq!(sint("4294967295"), Some(vec![255; 4]));
        assert_eq!(sint("-1"), Some(vec![255; 4]));
        assert_eq!(sint("-2147483648"), sint("2147483648"));
        assert_eq!(sint("4294967296"), None);
        assert_eq!(sint("-2147483649"), None);
        assert_eq!(sint("0x10"), None);

        let bin = |text| key(text, SMP_T_BIN, 3);
        assert_eq!(bin("00aBFF"), Some(vec![0, 0xab, 0xff]));
        assert_eq!(bin("0a"), Some(vec![10, 0, 0]));
        for bad in ["0", "00000000", "0g", "+1", "0x00"] {
            assert_eq!(bin(bad), None, "{bad}");
        }

        let string = |text| key(text, SMP_T_STR, 6);
        assert_eq!(string("abc"), Some(b"abc".to_vec()));
        assert_eq!(string("abcdefgh"), Some(b"abcde".to_vec()));
        assert_eq!(string("\\x41\\t\\\\\\=\\x20"), Some(b"A\t\\= ".to_vec()));
        for bad in ["a\\", "\\q", "\\x4", "\\x4g", "\\x00", "a b"] {
            assert_eq!(string(bad), None, "{bad}");
        }
        // A table that nobody could make.
        assert_eq!(key("abc", SMP_T_STR, 0), None);
        assert_eq!(key("10.0.0.1", SMP_T_IPV4, 8), None);
        assert_eq!(key("abc", 0, 4), None);
    }

    #[test]
    fn operators() {
        for (operator, less, equal, more) in [
            ("eq", false, true, false),
            ("ne", true, false, true),
            ("le", true, true, false),
            ("ge", false, true, true),
            ("lt", true, false, false),
            ("gt", false, false, true),
        ] {
            for (value, shown) in [(4, less), (5, equal), (6, more)] {
                let text = format!("data.conn_rate {operator} 5");
                assert_eq!(shows(&text, &[("conn_rate", 0, value)]), Some(shown));
            }
            // Not stored: not even `ne` holds.
            let text = format!("data.conn_rate {operator} 5");
            assert_eq!(shows(&text, &[]), Some(false));
        }
        assert_eq!(
            shows("data.server_id lt -2", &[("server_id", 0, -3)]),
            Some(true)
        );
    }

    #[test]
    fn all_conditions_must_hold() {
        let text = "data.conn_cnt gt 1 data.conn_cnt lt 5\tdata.gpc0 eq 0";
        let data = |cnt, gpc0| [("conn_cnt", 0, cnt), ("gpc0", 0, gpc0)];
        assert_eq!(shows(text, &data(3, 0)), Some(true));
        assert_eq!(shows(text, &data(1, 0)), Some(false));
        assert_eq!(shows(text, &data(5, 0)), Some(false));
        assert_eq!(shows(text, &data(3, 1)), Some(false));
        let eight = "data.gpc0 eq 0 ".repeat(8);
        assert_eq!(shows(&eight, &data(0, 0)), Some(true));
        assert_eq!(shows(&"data.gpc0 eq 0 ".repeat(9), &[]), None);
        // The last one counts.
        let last = "data.gpc0 eq 0 ".repeat(7) + "data.conn_cnt eq 2";
        assert_eq!(shows(&last, &data(3, 0)), Some(false));
    }

    #[test]
    fn elements_of_arrays() {
        let array = [("gpc", 0, 1), ("gpc", 3, 9), ("gpc_rate", 12, 5)];
        for (text, shown) in [
            ("data.gpc[3] eq 9", true),
            ("data.gpc3 eq 9", true),
            ("data.gpc eq 1", true),
            ("data.gpc[0] eq 1", true),
            ("data.gpc0 eq 1", true), // falls back to the array
            ("data.gpc[4] eq 0", false),
            ("data.gpc_rate[12] eq 5", true),
            ("data.gpc12_rate eq 5", true),
        ] {
            assert_eq!(shows(text, &array), Some(shown), "{text}");
        }
        // The plain type comes first.
        let both = [("gpc", 0, 1), ("gpc0", 0, 2)];
        assert_eq!(shows("data.gpc0 eq 2", &both), Some(true));
        assert_eq!(shows("data.gpc0 eq 1", &both), Some(false));
    }

    #[test]
    fn conditions_suit_tables_that_store_their_data() {
        let gpc = CATALOG.find(b"gpc").unwrap();
        let conn_cnt = CATALOG.find(b"conn_cnt").unwrap();
        let suits = |text| {
            let has = |index, element| (index == gpc && element < 4) || index == conn_cnt;
            filter(text, SMP_T_IPV4, 4).unwrap().suits(&has)
        };
        for text in [
            "",
            "key 1.2.3.4",
            "data.gpc0 eq 0",
            "data.gpc[3] eq 0 data.conn_cnt eq 0",
        ] {
            assert!(suits(text), "{text}");
        }
        for text in [
            "data.gpc[4] eq 0",
            "data.conn_cur eq 0",
            "data.conn_cnt eq 0 data.gpt0 eq 0",
        ] {
            assert!(!suits(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_filter() {
        for text in [
            "key",
            "keys 10.0.0.1",
            "key 10.0.0.1 10.0.0.2",
            "key 10.0.0.1 data.gpc0 eq 0",
            "data.gpc0",
            "data.gpc0 eq",
            "data.gpc0 is 0",
            "data.gpc0 eq x",
            "data.gpc0 eq 9223372036854775808",
            "data.gpc0 eq 0 and",
            "data.gpc0 eq 0 key 10.0.0.1",
            "data. eq 0",
            "data.nothing eq 0",
            "data.server_key eq 0",
            "data.server_name eq 0",
            "data.conn_cnt[0] eq 0",
            "data.conn0_cnt eq 0",
            "data.gpc[100] eq 0",
            "data.gpc100 eq 0",
            "data.gpc[] eq 0",
            "data.gpc[1 eq 0",
            "data.gpc[1]x eq 0",
            "data.gpc_1rate eq 0",
            "data.gpc_rate3 eq 0",
            "gpc0 eq 0",
        ] {
            assert_eq!(shows(text, &[]), None, "{text}");
        }
        assert_eq!(shows("", &[]), Some(true));
        assert_eq!(shows(" \t\n", &[]), Some(true));
    }
}
