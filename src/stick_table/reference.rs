//! An entry's reference count, and the mark of its end in the same word: who
//! buries an entry has changed "nobody holds it" to "nobody ever will" in one
//! step (INV-90, INV-91), whatever locks the others hold.

use crate::sync::atomic::{AtomicU32, Ordering};

const BURIED: u32 = 1 << 31;

/// The count. All zeroes: nobody holds the entry.
#[derive(Debug)]
#[repr(transparent)]
pub struct Reference(AtomicU32);

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
    /// It stays: others hold it.
    Held,
}

impl Reference {
    /// Nobody holds the entry.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// How many hold it.
    #[inline]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed) & !BURIED
    }

    /// Whether the entry was buried.
    #[inline]
    pub fn is_buried(&self) -> bool {
        self.0.load(Ordering::Relaxed) & BURIED != 0
    }

    /// Takes a reference. Its memory may be on its way out, and still there.
    #[inline]
    pub fn take(&self) -> Take {
        // What the entry holds was published by the link that led to it. The
        // count of a buried one does not matter any more.
        if self.0.fetch_add(1, Ordering::Relaxed) & BURIED == 0 {
            Take::Held
        } else {
            Take::Buried
        }
    }

    /// Gives a reference back: whether nobody holds the entry any more.
    #[inline]
    pub fn release(&self) -> bool {
        // PAIRS: bury's and release_and_bury's Acquire; what the holder did
        // with the entry.
        let was = self.0.fetch_sub(1, Ordering::Release);
        if was & !BURIED == 0 {
            released_too_often();
        }
        was == 1
    }

    /// Buries the entry if nobody holds it.
    #[inline]
    pub fn bury(&self) -> Bury {
        // PAIRS: release's Release.
        match self
            .0
            .compare_exchange(0, BURIED, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => Bury::Buried,
            Err(_) => Bury::Held,
        }
    }

    /// Gives a reference back and, if it was the last, buries the entry.
    pub fn release_and_bury(&self) -> Bury {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            if now & !BURIED == 0 {
                released_too_often();
            }
            let (then, what) = match now {
                1 => (BURIED, Bury::Buried),
                _ => (now - 1, Bury::Held),
            };
            // PAIRS: release's Release and bury's Acquire.
            match self
                .0
                .compare_exchange_weak(now, then, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return what,
                Err(seen) => now = seen,
            }
        }
    }
}

impl Default for Reference {
    fn default() -> Self {
        Self::new()
    }
}

#[cold]
fn released_too_often() -> ! {
    panic!("a stick-table entry was released more often than it was taken");
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_alone_buries() {
        let r = Reference::new();
        assert_eq!((r.take(), r.take()), (Take::Held, Take::Held));
        assert_eq!(r.bury(), Bury::Held);
        assert_eq!(r.release_and_bury(), Bury::Held);
        assert_eq!(r.count(), 1);
        assert_eq!(r.release_and_bury(), Bury::Buried);
        assert_eq!((r.take(), r.bury()), (Take::Buried, Bury::Held));
    }

    #[test]
    #[should_panic(expected = "more often than it was taken")]
    fn a_release_too_many_is_a_panic() {
        let r = Reference::new();
        let _ = r.take();
        r.release();
        r.release();
    }
}
