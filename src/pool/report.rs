//! The sentences in which crimes against objects end. They name the pool, the
//! object, what was found, and who did it as far as that is known.

use super::debug::{CALLER, TAG};
use super::head::{Head, Name};
use super::registry::Registry;
use super::seal::Change;
use crate::sys::memory::peek;
use crate::sys::symbol;
use core::fmt;

/// A call site: a return address, 0 inside keel.
struct Site(usize);

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("inside keel");
        }
        write!(f, "at {:#x}", self.0)?;
        let place = symbol::place(self.0);
        let mut before = " (";
        for (name, offset) in place.function.iter().chain(&place.file) {
            write!(f, "{before}{name}+{offset:#x}")?;
            before = ", ";
        }
        f.write_str(if before == ", " { ")" } else { "" })
    }
}

/// The site of an earlier call, with words around it; nothing where it is not
/// known.
struct Earlier(&'static str, Option<usize>, &'static str);

impl fmt::Display for Earlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(site) => write!(f, "{}{}{}", self.0, Site(site), self.2),
            None => Ok(()),
        }
    }
}

/// The pool that an object given to another one belongs to.
struct Owner {
    name: Name,
    last: Option<usize>,
    live: bool,
}

impl Head {
    /// The site of the last allocation or free that the object recorded.
    fn last_site(&self, object: *mut u8) -> Option<usize> {
        // An object that is not this pool's may end earlier.
        let peek = || peek(self.caller_of(object).cast());
        self.has(CALLER).then(peek).flatten()
    }

    #[cold]
    pub(super) fn wrong_tag(
        &self,
        object: *mut u8,
        tag: usize,
        from: usize,
        registry: &Registry,
    ) -> ! {
        let (name, now) = (self.name(), Site(from));
        let (live, free) = self.tags();
        let last = self.last_site(object);
        if tag == free {
            let before = Earlier(": freed ", last, ", and again ");
            let but = if last.is_some() { "" } else { ", now " };
            panic!("pool {name}: object {object:p} is freed twice{before}{but}{now}");
        }
        if let Some(owner) = registry.owner(object) {
            let (pool, before) = (owner.name, Earlier(" ", owner.last, ""));
            if owner.live {
                panic!(
                    "object {object:p} was allocated from pool {pool}{before}, \
                     freed to pool {name} {now}"
                );
            }
            panic!(
                "object {object:p} of pool {pool} is freed twice: freed{before}, \
                 and again, to pool {name}, {now}"
            );
        }
        let before = Earlier("last allocated or freed ", last, ", ");
        panic!(
            "pool {name}: the word behind object {object:p}, at offset {}, is {tag:#x} instead of \
             {live:#x}: it was overwritten, or the object was freed already or never came from \
             this pool; {before}now freed {now}",
            self.size()
        );
    }

    #[cold]
    pub(super) fn underrun(&self, object: *mut u8, found: usize, from: usize) -> ! {
        let (name, now) = (self.name(), Site(from));
        let before = Earlier("allocated ", self.last_site(object), ", ");
        panic!(
            "pool {name}: the word before object {object:p} is {found:#x} instead of {:#x}: it was \
             overwritten; {before}freed {now}",
            object.addr()
        );
    }

    #[cold]
    pub(super) fn broken_seal(&self, object: *mut u8, change: &Change, from: usize) -> ! {
        let (name, now) = (self.name(), Site(from));
        let freed = Earlier(" ", self.last_site(object), "");
        let Change {
            offset,
            found,
            expected,
            before,
        } = change;
        let held = before.map(Held);
        let held: &dyn fmt::Display = match &held {
            Some(held) => held,
            None => &"",
        };
        panic!(
            "pool {name}: object {object:p} was written to after it was freed{freed}: the word at \
             offset {offset} is {found:#x} instead of {expected:#x}{held}; noticed {now}"
        );
    }
}

/// What a word was when its object was freed.
struct Held(usize);

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " (it was {:#x} when freed)", self.0)
    }
}

impl Registry {
    /// The pool whose tag the object carries where that pool's tags stand.
    fn owner(&self, object: *mut u8) -> Option<Owner> {
        let mut owner = None;
        self.visit(|pool| {
            if !pool.has(TAG) || owner.is_some() {
                return;
            }
            // Nobody knows how long the object is: it may end before the
            // place where this pool would have its tag.
            let tag = peek(pool.tag_of(object).cast());
            let (live, free) = pool.tags();
            if tag == Some(live) || tag == Some(free) {
                owner = Some(Owner {
                    name: pool.name(),
                    last: pool.last_site(object),
                    live: tag == Some(live),
                });
            }
        });
        owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_addresses_with_what_is_known() {
        assert_eq!(Site(0).to_string(), "inside keel");
        assert_eq!(Site(8).to_string(), "at 0x8");
        let malloc = libc::malloc as *const () as usize;
        let site = Site(malloc + 5).to_string();
        assert!(site.starts_with(&format!("at {:#x} (malloc+0x5, ", malloc + 5)));
        assert!(site.ends_with(')') && site.contains(".so"), "{site}");
        assert_eq!(Earlier("a ", None, " b").to_string(), "");
        assert_eq!(Earlier("a ", Some(8), " b").to_string(), "a at 0x8 b");
    }
}
