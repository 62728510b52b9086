//! An entry's date, its reference count and the mark of its end, in one word.
//! Who buries an entry has changed "nobody holds it, and its date has come" to
//! "nobody ever will" in one step (INV-90, INV-91): no reference was taken since
//! it looked, whatever locks the others hold, and no touch came between.

use crate::sync::atomic::{AtomicU64, Ordering};

// C sees two words of four bytes: first the date, then the count.
const LITTLE: bool = cfg!(target_endian = "little");
const DATE: u32 = if LITTLE { 0 } else { 32 };
const COUNT: u32 = 32 - DATE;
const ONE: u64 = 1 << COUNT;
const BURIED: u32 = 1 << 31;

/// An expire of 0 is no date: the entry does not expire.
pub const NO_DATE: u32 = 0;

/// The word.
#[derive(Debug)]
#[repr(transparent)]
pub struct Life(AtomicU64);

/// What became of an attempt to take a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Take {
    /// The caller holds one.
    Held,
    /// The entry was buried; there is nothing to give back.
    Buried,
}

/// What became of an attempt to bury an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Bury {
    /// The caller alone may unlink and free it.
    Buried,
    /// It stays: others hold it, or it may not go at its date.
    Stays,
}

/// What a touch has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Touched {
    /// The date is not earlier than it was; the reference was given back, if it
    /// was to be.
    Later {
        /// It was the last one.
        free: bool,
    },
    /// The date is earlier than it was, or there was none: the entry has to be
    /// filed anew, for which the caller still holds its reference.
    Earlier,
}

const fn date(word: u64) -> u32 {
    (word >> DATE) as u32
}

const fn count(word: u64) -> u32 {
    (word >> COUNT) as u32
}

const fn word(date: u32, count: u32) -> u64 {
    (date as u64) << DATE | (count as u64) << COUNT
}

impl Life {
    /// Nobody holds the entry, which expires at a tick.
    pub fn new(expire: u32) -> Self {
        Self(AtomicU64::new(word(expire, 0)))
    }

    /// How many hold it.
    #[inline]
    pub fn count(&self) -> u32 {
        count(self.0.load(Ordering::Relaxed)) & !BURIED
    }

    /// The tick at which it expires; where entries do not, of the last touch.
    #[inline]
    pub fn expire(&self) -> u32 {
        date(self.0.load(Ordering::Relaxed))
    }

    /// Whether it was buried.
    #[inline]
    pub fn is_buried(&self) -> bool {
        count(self.0.load(Ordering::Relaxed)) & BURIED != 0
    }

    /// Takes a reference. Its memory may be on its way out, and still there.
    // KEEPS: INV-90
    #[inline]
    pub fn take(&self) -> Take {
        // What the entry holds was published by the link that led to it. The
        // count of a buried one does not matter any more.
        if count(self.0.fetch_add(ONE, Ordering::Relaxed)) & BURIED == 0 {
            Take::Held
        } else {
            Take::Buried
        }
    }

    /// Gives a reference back: whether nobody holds the entry any more.
    // KEEPS: INV-92
    #[inline]
    pub fn release(&self) -> bool {
        // PAIRS: end's Acquire; what the holder did with the entry.
        let was = count(self.0.fetch_sub(ONE, Ordering::Release));
        if was & !BURIED == 0 {
            released_too_often();
        }
        was == 1
    }

    /// A holder gives the entry a date and, if that is not earlier than the one
    /// it had, perhaps its reference back, in one step.
    #[inline]
    pub fn touch(&self, expire: u32, release: bool) -> Touched {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            let was = date(now);
            let before = (expire.wrapping_sub(was) as i32) < 0 && expire != NO_DATE;
            let earlier = before || (was == NO_DATE && expire != NO_DATE);
            let release = release && !earlier;
            if release && count(now) & !BURIED == 0 {
                released_too_often();
            }
            let touched = match earlier {
                true => Touched::Earlier,
                false => Touched::Later {
                    free: release && count(now) == 1,
                },
            };
            let then = word(expire, count(now) - u32::from(release));
            if then == now {
                return touched;
            }
            // PAIRS: end's Acquire; what the holder did with the entry.
            match self
                .0
                .compare_exchange_weak(now, then, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return touched,
                Err(seen) => now = seen,
            }
        }
    }

    /// Buries the entry if nobody holds it, but for the caller with `own`
    /// references (0 or 1), and `may` says yes to its tick. The caller's own is
    /// given back, whatever becomes of the entry.
    // KEEPS: INV-90, INV-91
    #[inline]
    pub fn end(&self, own: u32, may: impl Fn(u32) -> bool) -> Bury {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if count(now) & !BURIED < own {
                released_too_often();
            }
            let bury = count(now) == own && may(date(now));
            if !bury && own == 0 {
                return Bury::Stays;
            }
            let then = match bury {
                true => word(date(now), BURIED),
                false => now - u64::from(own) * ONE,
            };
            // PAIRS: release's and touch's Release, what the holders did; and
            // end's Acquire, what this one did.
            match self
                .0
                .compare_exchange_weak(now, then, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) if bury => return Bury::Buried,
                Ok(_) => return Bury::Stays,
                Err(seen) => now = seen,
            }
        }
    }
}

#[cold]
fn released_too_often() -> ! {
    panic!("a stick-table entry was released more often than it was taken");
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    fn any(_: u32) -> bool {
        true
    }

    // SHOWS: INV-90, INV-91
    #[test]
    fn only_who_is_alone_buries() {
        let life = Life::new(5);
        assert_eq!((life.take(), life.take()), (Take::Held, Take::Held));
        assert_eq!(life.end(0, any), Bury::Stays);
        assert_eq!(life.end(1, any), Bury::Stays);
        assert_eq!(life.count(), 1);
        assert_eq!(life.end(1, any), Bury::Buried);
        assert_eq!((life.take(), life.end(0, any)), (Take::Buried, Bury::Stays));
        assert_eq!(life.expire(), 5);
    }

    // SHOWS: INV-91, INV-92
    #[test]
    fn a_date_that_may_not_end_stays_and_the_reference_goes() {
        let life = Life::new(5);
        assert_eq!(life.end(0, |tick| tick < 5), Bury::Stays);
        let _ = life.take();
        assert_eq!(life.end(1, |tick| tick < 5), Bury::Stays);
        assert_eq!((life.count(), life.is_buried()), (0, false));
    }

    // SHOWS: INV-99
    #[test]
    fn a_touch_sets_the_date_and_releases() {
        let life = Life::new(u32::MAX);
        let _ = life.take();
        let _ = life.take();
        let later = |free| Touched::Later { free };
        assert_eq!(life.touch(u32::MAX, false), later(false));
        assert_eq!(life.touch(7, true), later(false), "dates wrap");
        assert_eq!(life.touch(5, true), Touched::Earlier);
        assert_eq!((life.expire(), life.count()), (5, 1), "still held");
        assert_eq!(life.touch(NO_DATE, false), later(false));
        assert_eq!(life.touch(9, false), Touched::Earlier);
        assert_eq!(life.touch(9, true), later(true));
        assert_eq!((life.expire(), life.count()), (9, 0));
    }

    #[test]
    fn c_sees_the_date_first() {
        let life = Life::new(0x0102_0304);
        let _ = life.take();
        // SAFETY: two words of four bytes.
        let words: [u32; 2] = unsafe { core::mem::transmute(life) };
        assert_eq!(words, [0x0102_0304, 1]);
    }

    // SHOWS: INV-92
    #[test]
    #[should_panic(expected = "more often than it was taken")]
    fn a_release_too_many_is_a_panic() {
        let life = Life::new(0);
        let _ = life.take();
        life.release();
        life.release();
    }

    #[test]
    #[should_panic(expected = "more often than it was taken")]
    fn a_touch_that_releases_too_often_is_a_panic() {
        let _ = Life::new(5).touch(7, true);
    }
}
