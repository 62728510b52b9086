//! Debugging words: HAProxy's -dM.

use crate::sys::{environment, file};
use core::ffi::CStr;
use core::fmt::{self, Write};

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
// KEEPS: INV-22
pub(super) const SLOW: u32 = !(DONT_MERGE | NO_GLOBAL);

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
    /// separated words, later ones winning. An error names the word that is
    /// not understood.
    pub(super) fn parse(mut self, words: &[u8]) -> Result<Self, BadWord<'_>> {
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
            self.apply(word).ok_or(BadWord(word))?;
        }
        Ok(self)
    }

    /// None if there is no such word.
    fn apply(&mut self, word: &[u8]) -> Option<()> {
        let (word, value) = match word.iter().position(|&c| c == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        if let Some(value) = value {
            let rate = number(value).filter(|n| word == b"fail" && (0..=100).contains(n))?;
            self.flags |= FAIL;
            self.fail_rate = rate as u32;
            return Some(());
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
            _ => return None,
        };
        self.flags = self.flags & !clear | set;
        if (set | clear) & FAIL != 0 {
            self.fail_rate = u32::from(set & FAIL != 0);
        }
        Some(())
    }
}

/// A word that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadWord<'a>(&'a [u8]);

impl fmt::Display for BadWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            let fit = byte.is_ascii_graphic() || byte == b' ';
            f.write_char(if fit { byte as char } else { '?' })?;
        }
        Ok(())
    }
}

/// The settings in force, and where the first ones come from.
pub(super) struct Source {
    settings: Settings,
    /// An environment variable that is still to be read.
    unread: Option<&'static CStr>,
}

impl Source {
    /// No word at first, or those of an environment variable.
    pub(super) const fn new(variable: Option<&'static CStr>) -> Self {
        Self {
            settings: Settings::NONE,
            unread: variable,
        }
    }

    /// The settings. The first look reads the variable, so its words come
    /// before all others.
    pub(super) fn settings(&mut self) -> &mut Settings {
        if let Some(variable) = self.unread.take() {
            if let Some(words) = environment::value(variable) {
                self.settings = from_environment(variable, words);
            }
        }
        &mut self.settings
    }
}

/// The settings that a variable asks for. No host stands ready to take an
/// error, and its log hook may not be installed: what is wrong goes to stderr,
/// once, and nothing is applied. An empty variable is as good as none.
fn from_environment(variable: &CStr, words: &[u8]) -> Settings {
    if words.is_empty() {
        return Settings::NONE;
    }
    Settings::NONE.parse(words).unwrap_or_else(|word| {
        let mut w = file::Writer::new(2);
        let name = variable.to_str().unwrap_or("?");
        let _ = writeln!(
            w,
            "keel: {name}: '{word}' is not understood, none of its words is applied"
        );
        w.finish();
        Settings::NONE
    })
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

    fn parse(words: &str) -> Option<Settings> {
        Settings::NONE.parse(words.as_bytes()).ok()
    }

    fn flags(words: &str) -> u32 {
        parse(words).unwrap().flags
    }

    /// The word that makes `words` wrong.
    fn wrong(words: &str) -> String {
        let error = Settings::NONE.parse(words.as_bytes()).unwrap_err();
        error.to_string()
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
        assert_eq!(wrong("tag,65"), "65");
        assert_eq!(wrong("65tag"), "65tag");
    }

    #[test]
    fn failures_have_a_rate() {
        assert_eq!(parse("fail").unwrap().fail_rate, 1);
        assert_eq!(parse("fail=50").unwrap().fail_rate, 50);
        assert_eq!(parse("fail=50,no-fail").unwrap(), Settings::NONE);
        assert_eq!(wrong("fail=101"), "fail=101");
        assert_eq!(wrong("fail="), "fail=");
        assert_eq!(wrong("tag=1"), "tag=1");
    }

    #[test]
    fn every_word_has_an_opposite() {
        for (word, flag) in [
            ("fail", FAIL),
            ("no-merge", DONT_MERGE),
            ("cold-first", COLD_FIRST),
            ("integrity", INTEGRITY),
            ("no-global", NO_GLOBAL),
            ("no-cache", NO_CACHE),
            ("caller", CALLER),
            ("tag", TAG),
            ("poison", POISON),
            ("backup", BACKUP),
        ] {
            assert_eq!(flags(word), flag, "{word}");
            let opposite = match word {
                "cold-first" => "hot-first".to_string(),
                _ => match word.strip_prefix("no-") {
                    Some(rest) => rest.to_string(),
                    None => format!("no-{word}"),
                },
            };
            assert_eq!(flags(&format!("{word},{opposite}")), 0, "{opposite}");
            assert_eq!(flags(&format!("{opposite},{word}")), flag, "{opposite}");
        }
        assert_eq!(flags("uaf,no-uaf"), NO_CACHE);
    }

    #[test]
    fn the_first_wrong_word_is_named() {
        assert_eq!(wrong("tag,nonsense,worse"), "nonsense");
        assert_eq!(wrong("TAG"), "TAG");
        assert_eq!(wrong("tag, poison"), " poison");
        assert_eq!(wrong("tag,\u{1}\n"), "??");
        assert_eq!(wrong("help"), "help");
    }

    #[test]
    fn a_source_without_a_variable_has_no_word() {
        assert_eq!(*Source::new(None).settings(), Settings::NONE);
        let mut source = Source::new(Some(c"KEEL_TEST_OF_NO_SUCH_VARIABLE"));
        assert_eq!(*source.settings(), Settings::NONE);
    }

    #[test]
    fn a_variable_applies_whole_or_not_at_all() {
        let from = |words: &str| from_environment(c"TEST", words.as_bytes());
        assert_eq!(from("tag,caller").flags, TAG | CALLER);
        assert_eq!(from("65").poison, b'A');
        assert_eq!(from("tag,nonsense"), Settings::NONE);
        assert_eq!(from(""), Settings::NONE);
    }
}
