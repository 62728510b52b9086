//! Keys. Each has one canonical form, which everything uses: hash, lookup,
//! insertion (INV-95).

use super::entry::Entry;
use core::slice;
use siphasher::sip::SipHasher13;

/// An integer, 4 bytes in native order.
pub const SMP_T_SINT: u64 = 2;
/// An IPv4 address, 4 bytes in network order.
pub const SMP_T_IPV4: u64 = 4;
/// An IPv6 address, 16 bytes in network order.
pub const SMP_T_IPV6: u64 = 5;
/// A string of up to the table's key size less one bytes.
pub const SMP_T_STR: u64 = 6;
/// Bytes, as many as the table's key size.
pub const SMP_T_BIN: u64 = 7;

/// What a table's keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// SMP_T_*.
    pub of: u64,
    /// Bytes of a key; of a string with the NUL.
    pub size: usize,
}

/// Bytes before the first NUL.
fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

impl Kind {
    /// The type and the size in 16 bits, by which entries of different tables
    /// are told apart; 0 where the size is too large for that.
    pub const fn mark(self) -> u16 {
        if self.size < 1 << 13 {
            (self.of as u16) << 13 | self.size as u16
        } else {
            0
        }
    }

    /// The canonical form of a caller's key.
    ///
    /// # Safety
    /// A string has `len` readable bytes, everything else `size`.
    // KEEPS: INV-95
    #[inline]
    pub unsafe fn canonical<'a>(self, key: *const u8, len: usize) -> &'a [u8] {
        // SAFETY: by this function's contract.
        unsafe {
            if self.of == SMP_T_STR {
                until_nul(slice::from_raw_parts(key, len.min(self.size - 1)))
            } else {
                slice::from_raw_parts(key, self.size)
            }
        }
    }

    /// The canonical form of an entry's key.
    ///
    /// # Safety
    /// The entry is one of a table with such keys, and nobody writes its key.
    // KEEPS: INV-95
    #[inline]
    pub unsafe fn of_entry<'a>(self, ts: *const Entry) -> &'a [u8] {
        // SAFETY: an entry has room for its table's keys.
        let key = unsafe { slice::from_raw_parts(Entry::key_at(ts), self.size) };
        if self.of == SMP_T_STR {
            until_nul(key)
        } else {
            key
        }
    }

    /// Writes a canonical key into an entry.
    ///
    /// # Safety
    /// As [`of_entry`](Self::of_entry), and nobody reads it either.
    pub unsafe fn set(self, ts: *mut Entry, key: &[u8]) {
        // SAFETY: an entry has room for its table's keys, and a canonical
        // string is shorter.
        unsafe {
            let at = Entry::key_at(ts);
            at.write_bytes(0, self.size);
            at.copy_from_nonoverlapping(key.as_ptr(), key.len());
        }
    }

    /// Whether the entry has this canonical key.
    ///
    /// # Safety
    /// As [`of_entry`](Self::of_entry).
    #[inline(always)]
    pub unsafe fn is(self, ts: *const Entry, key: &[u8]) -> bool {
        // SAFETY: an entry has room for its table's keys.
        unsafe {
            let at = Entry::key_at(ts);
            if key.len() == 4 && self.of != SMP_T_STR {
                return at.cast::<u32>().read_unaligned()
                    == key.as_ptr().cast::<u32>().read_unaligned();
            }
            slice::from_raw_parts(at, key.len()) == key
                && (self.of != SMP_T_STR || *at.add(key.len()) == 0)
        }
    }
}

/// A table's keys, and the secret that their hashes depend on: nobody outside
/// can make keys that collide.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// What they are.
    pub kind: Kind,
    secret: [u64; 2],
}

impl Keys {
    /// Keys of `kind`, hashed with 128 random bits.
    pub const fn new(kind: Kind, secret: [u64; 2]) -> Self {
        Self { kind, secret }
    }

    /// The hash of a canonical key.
    #[inline(always)]
    pub fn hash(&self, key: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.secret[0], self.secret[1]).hash(key)
    }

    /// The hash of an entry's key.
    ///
    /// # Safety
    /// As [`Kind::of_entry`].
    #[inline]
    pub unsafe fn hash_of(&self, ts: *const Entry) -> u64 {
        // SAFETY: by this function's contract.
        self.hash(unsafe { self.kind.of_entry(ts) })
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;
    use crate::stick_table::entry::Layout;

    // SHOWS: INV-95
    #[test]
    fn strings_end_at_their_nul() {
        let kind = Kind {
            of: SMP_T_STR,
            size: 5,
        };
        let canonical = |bytes: &'static [u8]| {
            // SAFETY: the bytes are there.
            unsafe { kind.canonical(bytes.as_ptr(), bytes.len()) }
        };
        assert_eq!(canonical(b"AB\0CD"), b"AB");
        assert_eq!(canonical(b"abcdefg"), b"abcd");
        assert_eq!(canonical(b""), b"");
        let layout = Layout {
            update: 0,
            data: 0,
            key: 5,
            mark: kind.mark(),
        };
        let mut block = vec![0u64; layout.size().div_ceil(8)];
        // SAFETY: the block is large enough.
        unsafe {
            let ts = layout.build(block.as_mut_ptr().cast(), 0);
            kind.set(ts, b"abcd");
            assert!(kind.is(ts, b"abcd") && !kind.is(ts, b"abc"));
            kind.set(ts, b"ab");
            assert_eq!(kind.of_entry(ts), b"ab");
            assert!(kind.is(ts, b"ab") && !kind.is(ts, b"abc") && !kind.is(ts, b""));
        }
    }

    #[test]
    fn the_secret_changes_the_hash() {
        let kind = Kind {
            of: SMP_T_IPV4,
            size: 4,
        };
        let hash = |secret| Keys::new(kind, secret).hash(&[10, 0, 0, 1]);
        assert_ne!(hash([1, 2]), hash([1, 3]));
        assert_eq!(hash([1, 2]), hash([1, 2]));
    }
}
