//! Debugging words: HAProxy's -dM.

use crate::sys;

pub(super) const FAIL: u32 = 0x001;
pub(super) const DONT_MERGE: u32 = 0x002;
pub(super) const COLD_FIRST: u32 = 0x004;
pub(super) const INTEGRITY: u32 = 0x008;
pub(super) const NO_GLOBAL: u32 = 0x010;
pub(super) const NO_CACHE: u32 = 0x020;
pub(super) const CALLER: u32 = 0x040;
pub(super) const TAG: u32 = 0x080;
pub(super) const POISON: u32 = 0x100;
pub(super) const UAF: u32 = 0x200;
pub(super) const BACKUP: u32 = 0x400;

/// Words that alloc and free have to look at.
pub(super) const SLOW: u32 = !(DONT_MERGE | NO_GLOBAL);

/// Words that are understood, and refused because nothing implements them.
const MISSING: u32 = INTEGRITY | CALLER | BACKUP;

/// What the words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) flags: u32,
    pub(super) poison: u8,
    /// Injected failures, in percent.
    pub(super) fail_rate: u32,
}

impl Settings {
    pub(super) const NONE: Self = Self {
        flags: 0,
        poison: b'P',
        fail_rate: 0,
    };

    /// These settings changed by `words`: a leading poison byte, then comma
    /// separated words, later ones winning. An error changes nothing.
    pub(super) fn parse(mut self, words: &[u8]) -> Result<Self, i32> {
        for (i, word) in words.split(|&c| c == b',').enumerate() {
            if i == 0 {
                if let Some(byte) = poison_byte(word) {
                    self.flags |= POISON;
                    match byte {
                        0.. => self.poison = byte as u8,
                        _ => self.flags &= !POISON,
                    }
                    continue;
                }
            } else if word.is_empty() {
                continue;
            }
            self.apply(word)?;
        }
        if self.flags & MISSING != 0 {
            return Err(sys::ENOTSUP);
        }
        Ok(self)
    }

    fn apply(&mut self, word: &[u8]) -> Result<(), i32> {
        let (word, value) = match word.iter().position(|&c| c == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        if let Some(value) = value {
            let rate = number(value).filter(|n| (0..=100).contains(n));
            if word != b"fail" || rate.is_none() {
                return Err(sys::EINVAL);
            }
            self.flags |= FAIL;
            self.fail_rate = rate.unwrap_or(0) as u32;
            return Ok(());
        }
        let (set, clear) = match word {
            b"fail" => (FAIL, 0),
            b"no-fail" => (0, FAIL),
            b"no-merge" => (DONT_MERGE, 0),
            b"merge" => (0, DONT_MERGE),
            b"cold-first" => (COLD_FIRST, 0),
            b"hot-first" => (0, COLD_FIRST),
            b"integrity" => (INTEGRITY, 0),
            b"no-integrity" => (0, INTEGRITY),
            b"no-global" => (NO_GLOBAL, 0),
            b"global" => (0, NO_GLOBAL),
            b"no-cache" => (NO_CACHE, 0),
            b"cache" => (0, NO_CACHE),
            b"caller" => (CALLER, 0),
            b"no-caller" => (0, CALLER),
            b"tag" => (TAG, 0),
            b"no-tag" => (0, TAG),
            b"poison" => (POISON, 0),
            b"no-poison" => (0, POISON),
            b"uaf" => (UAF | NO_CACHE, 0),
            b"no-uaf" => (0, UAF),
            b"backup" => (BACKUP, 0),
            b"no-backup" => (0, BACKUP),
            _ => return Err(sys::EINVAL),
        };
        self.flags = self.flags & !clear | set;
        if (set | clear) & FAIL != 0 {
            self.fail_rate = u32::from(set & FAIL != 0);
        }
        Ok(())
    }
}

/// The value of a first word that selects the poison byte: nothing at all
/// means the default byte, a negative number no poison.
fn poison_byte(word: &[u8]) -> Option<i64> {
    if word.is_empty() {
        return Some(i64::from(b'P'));
    }
    number(word)
}

/// A decimal number or one in 0x hexadecimal, with an optional minus.
fn number(text: &[u8]) -> Option<i64> {
    let text = core::str::from_utf8(text).ok()?;
    let (text, sign) = match text.strip_prefix('-') {
        Some(rest) => (rest, -1),
        None => (text, 1),
    };
    let value = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    value.ok().map(|n| i64::from(n) * sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Settings, i32> {
        Settings::NONE.parse(words.as_bytes())
    }

    fn flags(words: &str) -> u32 {
        parse(words).unwrap().flags
    }

    #[test]
    fn words_apply_from_left_to_right() {
        assert_eq!(flags("tag,no-merge"), TAG | DONT_MERGE);
        assert_eq!(flags("tag,poison,no-tag"), POISON);
        assert_eq!(flags("uaf"), UAF | NO_CACHE);
        assert_eq!(flags("uaf,cache"), UAF);
        assert_eq!(flags("no-global,cold-first"), NO_GLOBAL | COLD_FIRST);
        assert_eq!(flags("tag,"), TAG);
        assert_eq!(flags("no-caller,no-backup,no-integrity"), 0);
    }

    #[test]
    fn a_leading_number_is_the_poison_byte() {
        assert_eq!(flags(""), POISON);
        assert_eq!(parse("").unwrap().poison, b'P');
        assert_eq!(parse("65,tag").unwrap().poison, b'A');
        assert_eq!(parse("0xff").unwrap().poison, 0xff);
        assert_eq!(flags("-1,tag"), TAG);
        assert_eq!(parse("tag,65"), Err(sys::EINVAL));
        assert_eq!(parse("65tag"), Err(sys::EINVAL));
    }

    #[test]
    fn failures_have_a_rate() {
        assert_eq!(parse("fail").unwrap().fail_rate, 1);
        assert_eq!(parse("fail=50").unwrap().fail_rate, 50);
        assert_eq!(parse("fail=50,no-fail").unwrap(), Settings::NONE);
        assert_eq!(parse("fail=101"), Err(sys::EINVAL));
        assert_eq!(parse("fail="), Err(sys::EINVAL));
        assert_eq!(parse("tag=1"), Err(sys::EINVAL));
    }

    #[test]
    fn unknown_and_unsupported_words_are_refused() {
        assert_eq!(parse("tag,nonsense"), Err(sys::EINVAL));
        assert_eq!(parse("TAG"), Err(sys::EINVAL));
        assert_eq!(parse("integrity"), Err(sys::ENOTSUP));
        assert_eq!(parse("caller"), Err(sys::ENOTSUP));
    }
}
