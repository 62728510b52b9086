//! The answers of pool_parse_debugging(): the table of debugging words, and
//! what is wrong with those that were given.

use super::MEM_F_UAF;
use super::debug::{self, Settings};
use super::registry::Registry;
use core::fmt::{self, Write};

/// What became of debugging words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// They are in force.
    Done,
    /// The same, but not for so many pools, which exist already.
    TooLate(usize),
    /// Help was asked for: nothing has changed.
    Help,
    /// One is not understood: nothing has changed.
    Unknown,
    /// Memory lacks to make declared pools anew.
    NoMemory,
}

/// Flag, what sets it, what clears it, what it does.
const WORDS: [(u32, &str, &str, &str); 11] = [
    (debug::FAIL, "fail", "no-fail", "make some allocations fail"),
    (
        debug::DONT_MERGE,
        "no-merge",
        "merge",
        "merge pools of the same name only",
    ),
    (
        debug::COLD_FIRST,
        "cold-first",
        "hot-first",
        "take the oldest cached object first",
    ),
    (
        debug::INTEGRITY,
        "integrity",
        "no-integrity",
        "check that cached objects do not change",
    ),
    (
        debug::NO_GLOBAL,
        "no-global",
        "global",
        "share no free objects among threads",
    ),
    (debug::NO_CACHE, "no-cache", "cache", "keep no free objects"),
    (
        debug::CALLER,
        "caller",
        "no-caller",
        "remember who called last",
    ),
    (
        debug::TAG,
        "tag",
        "no-tag",
        "tell objects of different pools apart",
    ),
    (
        debug::POISON,
        "poison",
        "no-poison",
        "fill objects when they are allocated",
    ),
    (debug::UAF, "uaf", "no-uaf", "have uses after free fault"),
    (
        debug::BACKUP,
        "backup",
        "no-backup",
        "compare cached objects with a copy",
    ),
];

impl Registry {
    /// As [`debug`](Self::debug), also for those declared pools that nobody
    /// has used; "help" among the words asks for the table.
    ///
    /// # Safety
    /// As for [`remake_declared_pools`](Self::remake_declared_pools).
    pub unsafe fn parse_debugging(&self, words: &[u8]) -> Parsed {
        if let Some(before) = before_help(words) {
            return match self.after(before) {
                Some(_) => Parsed::Help,
                None => Parsed::Unknown,
            };
        }
        if self.debug(words) != 0 {
            return Parsed::Unknown;
        }
        // SAFETY: by this function's contract.
        if unsafe { self.remake_declared_pools() } != 0 {
            return Parsed::NoMemory;
        }
        let flags = self.settings().flags;
        let mut late = 0;
        self.visit(|pool| {
            // MEM_F_UAF brings these along.
            let own = match pool.mem_flags & MEM_F_UAF {
                0 => 0,
                _ => debug::UAF | debug::NO_CACHE,
            };
            late += usize::from(pool.debug != flags | own);
        });
        match late {
            0 => Parsed::Done,
            n => Parsed::TooLate(n),
        }
    }

    /// What there is to say about `words`, from which `parsed` came.
    pub fn explain(&self, words: &[u8], parsed: Parsed, out: &mut impl Write) -> fmt::Result {
        match parsed {
            Parsed::Done => Ok(()),
            Parsed::TooLate(n) => write!(out, "{n} pools exist already and stay as they are"),
            Parsed::Help => self.write_help(words, out),
            Parsed::Unknown => {
                write!(out, "unknown pool debugging word '")?;
                for &byte in bad_word(words) {
                    let fit = byte.is_ascii_graphic() || byte == b' ';
                    out.write_char(if fit { byte as char } else { '?' })?;
                }
                write!(out, "', see 'help'")
            }
            Parsed::NoMemory => write!(out, "no memory to make the declared pools anew"),
        }
    }

    fn write_help(&self, words: &[u8], out: &mut impl Write) -> fmt::Result {
        let flags = before_help(words).and_then(|before| self.after(before));
        let flags = flags.map_or(0, |settings| settings.flags);
        writeln!(
            out,
            "Pool debugging words, comma separated, later ones win; a number in front of them\n\
             is the poison byte. A star marks what is set:"
        )?;
        for (flag, set, clear, text) in WORDS {
            let star = |on| if on { '*' } else { ' ' };
            let (yes, no) = (star(flags & flag != 0), star(flags & flag == 0));
            writeln!(out, "  {yes}{set:<11} {no}{clear:<13} {text}")?;
        }
        Ok(())
    }

    /// The settings in force changed by `words`, or as they are without any.
    fn after(&self, words: &[u8]) -> Option<Settings> {
        match words {
            b"" => Some(self.settings()),
            words => self.settings().parse(words).ok(),
        }
    }
}

/// The words before "help", if that is among them.
fn before_help(words: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    for word in words.split(|&c| c == b',') {
        if word == b"help" {
            return Some(&words[..at.max(1) - 1]);
        }
        at += word.len() + 1;
    }
    None
}

/// The first word that is wrong where it stands.
fn bad_word(words: &[u8]) -> &[u8] {
    let mut end = 0;
    for word in words.split(|&c| c == b',') {
        end += word.len();
        if Settings::NONE.parse(&words[..end]).is_err() {
            return word;
        }
        end += 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(registry: &Registry, words: &str) -> (Parsed, String) {
        let mut text = String::new();
        // SAFETY: nobody else knows the registry.
        let parsed = unsafe { registry.parse_debugging(words.as_bytes()) };
        registry
            .explain(words.as_bytes(), parsed, &mut text)
            .unwrap();
        (parsed, text)
    }

    #[test]
    fn the_table_has_every_word() {
        for (flag, set, clear, _) in WORDS {
            let on = Settings::NONE.parse(set.as_bytes()).unwrap();
            assert_eq!(on.flags & flag, flag, "{set}");
            let off = on.parse(clear.as_bytes()).unwrap();
            assert_eq!(off.flags & flag, 0, "{clear}");
        }
        let all = WORDS.iter().fold(0, |all, word| all | word.0);
        assert_eq!(all, 0x7ff);
    }

    #[test]
    fn help_shows_what_would_be_set() {
        let registry = Registry::new();
        assert_eq!(registry.debug(b"no-merge"), 0);
        let (parsed, text) = parse(&registry, "help");
        assert_eq!(parsed, Parsed::Help);
        assert!(text.contains("  *no-merge     merge  "), "{text}");
        assert!(text.contains("   tag         *no-tag "), "{text}");
        let (parsed, text) = parse(&registry, "tag,help,nonsense");
        assert_eq!(parsed, Parsed::Help);
        assert!(text.contains("  *tag          no-tag "), "{text}");
        assert_eq!(registry.settings().flags, debug::DONT_MERGE);
    }

    #[test]
    fn the_unknown_word_is_named() {
        let registry = Registry::new();
        let (parsed, text) = parse(&registry, "tag,nonsense,help");
        assert_eq!(parsed, Parsed::Unknown);
        assert_eq!(text, "unknown pool debugging word 'nonsense', see 'help'");
        // A number stands first.
        assert!(parse(&registry, "tag,65").1.contains("'65'"));
        assert_eq!(registry.settings(), Settings::NONE);
    }

    #[test]
    fn pools_that_exist_are_a_warning() {
        let registry = Registry::new();
        assert_eq!(parse(&registry, "tag"), (Parsed::Done, String::new()));
        registry.create(b"early", 64, 0, 0).unwrap();
        assert_eq!(parse(&registry, "tag").0, Parsed::Done);
        let (parsed, text) = parse(&registry, "no-tag,poison");
        assert_eq!(parsed, Parsed::TooLate(1));
        assert_eq!(text, "1 pools exist already and stay as they are");
        assert_eq!(registry.settings().flags, debug::POISON);
        // SAFETY: nobody else knows the registry.
        unsafe { registry.destroy_all(None) };
    }
}
