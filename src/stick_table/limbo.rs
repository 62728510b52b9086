//! Entries that are out of the table and may still be looked at. They are
//! freed in batches, since finding out who looks has a price.

use super::readers::{Readers, Stamp};
use super::shard::Dead;
use crate::sync::Mutex;
use crate::wheel::List;

/// Entries that may wait before somebody pays.
const BATCH: usize = 64;

/// The entries of one table.
pub struct Limbo(Mutex<Inner>);

struct Inner {
    fresh: Dead,
    /// Older ones, which somebody looked past when the stamp was made.
    old: List,
    stamp: Option<Stamp>,
}

impl Limbo {
    /// No entries.
    pub fn new() -> Self {
        Self(Mutex::new(Inner {
            fresh: Dead::default(),
            old: List::new(),
            stamp: None,
        }))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        let inner = self.0.lock();
        inner.fresh.list.is_empty() && inner.old.is_empty()
    }

    /// Takes the entries of `dead`, and returns those that nobody can see any
    /// more; without `now` only once there are many.
    pub fn pass(&self, dead: &mut Dead, readers: &Readers, now: bool) -> List {
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        // SAFETY: buried entries are their burier's, here and below.
        unsafe { inner.fresh.list.append(&mut dead.list) };
        inner.fresh.len += core::mem::take(&mut dead.len);
        let mut done = List::new();
        if !now && inner.fresh.len < BATCH {
            return done;
        }
        if inner.stamp.is_none_or(|stamp| readers.is_over(stamp)) {
            // SAFETY: as above.
            unsafe {
                done.append(&mut inner.old);
                inner.old.append(&mut inner.fresh.list);
            }
            inner.fresh.len = 0;
            inner.stamp = None;
            if !inner.old.is_empty() {
                let stamp = readers.stamp();
                if readers.is_over(stamp) {
                    // SAFETY: as above.
                    unsafe { done.append(&mut inner.old) };
                } else {
                    inner.stamp = Some(stamp);
                }
            }
        }
        done
    }
}

impl Default for Limbo {
    fn default() -> Self {
        Self::new()
    }
}
