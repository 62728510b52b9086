//! The lines of `show table`.

use super::catalog::*;
use super::key::*;
use super::line::Store;
use core::ffi::CStr;
use core::fmt::{self, Write};
use core::net::{Ipv4Addr, Ipv6Addr};

/// The line that opens a table's dump.
pub fn header(out: &mut dyn Write, id: &[u8], key_type: u64, size: u32, used: u32) -> fmt::Result {
    let kind = KEY_TYPES.iter().find(|t| t.key_type == key_type);
    writeln!(
        out,
        "# table: {}, type: {}, size:{size}, used:{used}",
        Escaped(id),
        Escaped(kind.map_or(b"?", |t| t.name.to_bytes()))
    )
}

/// An entry, as a dump sees it.
pub struct View<'a> {
    /// Where it is.
    pub address: usize,
    /// Its key; of a string, what follows the first NUL does not matter.
    pub key: &'a [u8],
    /// `SMP_T_*`.
    pub key_type: u64,
    /// References, the dump's own not counted.
    pub uses: u32,
    /// What is left of its life, in ms.
    pub exp: u32,
    /// What it holds.
    pub stores: &'a [Store],
    /// The value of element `.1` of type `.0`: an int's bits, a rate, a
    /// pointer.
    pub read: &'a dyn Fn(usize, u32) -> u64,
}

/// An entry's line: the data in the order of the catalogue.
pub fn entry(out: &mut dyn Write, view: &View, catalog: &Catalog) -> fmt::Result {
    write!(out, "{:#x}: key=", view.address)?;
    key(out, view.key, view.key_type)?;
    write!(out, " use={} exp={}", view.uses, view.exp)?;
    // Each time the next higher type: few are stored, and nothing is sorted.
    let mut from = 0;
    while let Some(store) = view
        .stores
        .iter()
        .filter(|s| s.data_type >= from)
        .min_by_key(|s| s.data_type)
    {
        from = store.data_type + 1;
        if let Some(info) = catalog.get(store.data_type) {
            for element in 0..store.nbelem {
                datum(out, &info, store, element, view)?;
            }
        }
    }
    out.write_char('\n')
}

fn datum(
    out: &mut dyn Write,
    info: &Info,
    store: &Store,
    element: u32,
    view: &View,
) -> fmt::Result {
    out.write_char(' ')?;
    name(out, info.name, info.is_array.then_some(element))?;
    if info.arg_type == ARG_DELAY {
        write!(out, "({})", store.arg)?;
    }
    let value = (view.read)(store.data_type, element);
    match info.std_type {
        SINT => write!(out, "={}", value as i32),
        ULL => write!(out, "={value}"),
        DICT if value == 0 => out.write_str("=-"),
        // What the dictionary holds there is the program's.
        DICT => write!(out, "={value:#x}"),
        _ => write!(out, "={}", value as u32),
    }
}

/// A type's name; of an array, with the element before the first underscore.
fn name(out: &mut dyn Write, name: &CStr, element: Option<u32>) -> fmt::Result {
    let name = name.to_bytes();
    let Some(element) = element else {
        return write!(out, "{}", Escaped(name));
    };
    let at = name.iter().position(|&c| c == b'_').unwrap_or(name.len());
    let (start, rest) = name.split_at(at);
    write!(out, "{}{element}{}", Escaped(start), Escaped(rest))
}

/// A key, as [`filter`](super::filter) reads it.
fn key(out: &mut dyn Write, key: &[u8], key_type: u64) -> fmt::Result {
    match (key_type, key) {
        (SMP_T_SINT, &[a, b, c, d]) => write!(out, "{}", u32::from_ne_bytes([a, b, c, d])),
        (SMP_T_IPV4, &[a, b, c, d]) => write!(out, "{}", Ipv4Addr::new(a, b, c, d)),
        (SMP_T_IPV6, key) if key.len() == 16 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(key);
            write!(out, "{}", Ipv6Addr::from(octets))
        }
        (SMP_T_STR, key) => {
            let end = key.iter().position(|&c| c == 0).unwrap_or(key.len());
            write!(out, "{}", Escaped(&key[..end]))
        }
        // Binaries, and what a hand-made table gave a strange size.
        (_, key) => key.iter().try_for_each(|byte| write!(out, "{byte:02X}")),
    }
}

/// One printable word: what would end it or start an escape has a backslash
/// before it, the rest of what is not graphic ASCII is `\xNN`, or a letter.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for &byte in self.0 {
            match byte {
                b'\t' => f.write_str("\\t")?,
                b'\n' => f.write_str("\\n")?,
                b'\r' => f.write_str("\\r")?,
                0x1b => f.write_str("\\e")?,
                // A filter's words end at spaces.
                b' ' => f.write_str("\\x20")?,
                b'\\' | b'=' => write!(f, "\\{}", char::from(byte))?,
                b'!'..=b'~' => f.write_char(byte.into())?,
                _ => write!(f, "\\x{byte:02X}")?,
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    static CATALOG: Catalog = Catalog::new();

    fn shown(key: &[u8], key_type: u64) -> String {
        let mut out = String::new();
        super::key(&mut out, key, key_type).unwrap();
        out
    }

    #[test]
    fn the_header() {
        let mut out = String::new();
        header(&mut out, b"sources", SMP_T_IPV4, 1 << 20, 3).unwrap();
        header(&mut out, b"a\nb", SMP_T_STR, 1 << 31, 0).unwrap();
        assert_eq!(
            out,
            "# table: sources, type: ip, size:1048576, used:3\n\
             # table: a\\nb, type: string, size:2147483648, used:0\n"
        );
    }

    #[test]
    fn keys() {
        assert_eq!(shown(&[10, 0, 0, 1], SMP_T_IPV4), "10.0.0.1");
        let mut v6 = [0; 16];
        (v6[0], v6[1], v6[15]) = (0x20, 1, 1);
        assert_eq!(shown(&v6, SMP_T_IPV6), "2001::1");
        assert_eq!(shown(&u32::MAX.to_ne_bytes(), SMP_T_SINT), "4294967295");
        assert_eq!(shown(b"abc\0garbage", SMP_T_STR), "abc");
        assert_eq!(
            shown(b"a b=c\\\t\n\r\x1b\x7f\xe9\"", SMP_T_STR),
            "a\\x20b\\=c\\\\\\t\\n\\r\\e\\x7F\\xE9\""
        );
        assert_eq!(shown(&[0, 0xab, 1], SMP_T_BIN), "00AB01");
    }

    #[test]
    fn an_entry_in_index_order_with_unsigned_values() {
        let store = |name: &str, nbelem, arg| Store {
            data_type: CATALOG.find(name.as_bytes()).unwrap(),
            nbelem,
            arg,
        };
        let stores = [
            store("gpc_rate", 2, 60_000),
            store("gpt", 2, 0),
            store("server_key", 1, 0),
            store("bytes_in_cnt", 1, 0),
            store("conn_rate", 1, 10_000),
            store("gpc0", 1, 0),
            store("server_id", 1, 0),
        ];
        let read = |data_type, element| match data_type {
            0 => -2i32 as u64,
            2 => u64::from(u32::MAX),
            13 => u64::MAX,
            19 => 0,
            24 => 100 + u64::from(element),
            _ => 7,
        };
        let view = View {
            address: 0x7f00,
            key: b"me\0",
            key_type: SMP_T_STR,
            uses: 1,
            exp: 2_999,
            stores: &stores,
            read: &read,
        };
        let mut out = String::new();
        entry(&mut out, &view, &CATALOG).unwrap();
        assert_eq!(
            out,
            "0x7f00: key=me use=1 exp=2999 server_id=-2 gpc0=4294967295 conn_rate(10000)=7 \
             bytes_in_cnt=18446744073709551615 server_key=- gpt0=7 gpt1=7 \
             gpc0_rate(60000)=100 gpc1_rate(60000)=101\n"
        );
    }
}
