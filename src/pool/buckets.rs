//! The shared lists of a pool: one for few threads, several for many, so that
//! not all of them meet at one head.
//!
//! Clusters go to a bucket by the address of their first object, and threads
//! look first into a bucket of their own number: every bucket is filled, and
//! visited, by all (INV-17). Who finds a head held looks elsewhere, at random,
//! or pairs of threads would keep meeting.

use super::shared::{Cluster, SharedList, wait};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The most buckets of a pool.
pub const MAX_BUCKETS: usize = 16;

/// How many buckets `threads` threads want: a power of two. Three threads at
/// one head, each of which holds it for some nanoseconds once per cluster, do
/// not feel each other.
pub fn wanted(threads: usize) -> usize {
    let wanted = (threads / 4).clamp(1, MAX_BUCKETS);
    (wanted + 1).next_power_of_two() / 2
}

/// One list, and a share of the pool's count of used objects in the cache line
/// that taking from the list has fetched anyway.
#[repr(C, align(64))]
struct Bucket {
    list: SharedList,
    /// Wraps below zero: an object may be counted in here and out there. Only
    /// the sum over all buckets means anything.
    used: AtomicU64,
}

/// All-zero is valid, and empty.
#[repr(C, align(64))]
pub struct Buckets {
    each: [Bucket; MAX_BUCKETS],
    /// How often somebody had to look elsewhere.
    turn: AtomicUsize,
}

impl Buckets {
    /// Without an object.
    #[cfg(model)]
    pub fn new() -> Self {
        let bucket = |_| Bucket {
            list: SharedList::new(),
            used: AtomicU64::new(0),
        };
        Self {
            each: core::array::from_fn(bucket),
            turn: AtomicUsize::new(0),
        }
    }

    /// Takes a cluster from one of the first `count` buckets, a power of two,
    /// and says from which: from number `first`, or else from one other.
    // KEEPS: INV-17
    pub fn pop(&self, count: usize, first: usize) -> Option<(usize, Cluster)> {
        if count == 1 {
            return self.each[0].list.pop().map(|cluster| (0, cluster));
        }
        let mut at = first & (count - 1);
        let mut found_empty = false;
        let mut turns = 0;
        loop {
            match self.each[at].list.try_pop(turns) {
                Ok(Some(cluster)) => return Some((at, cluster)),
                Ok(None) if found_empty => return None,
                Ok(None) => found_empty = true,
                Err(_) => wait(&mut turns),
            }
            at = self.other(at, count);
        }
    }

    /// Takes a cluster from this bucket and no other.
    pub fn pop_from(&self, bucket: usize) -> Option<Cluster> {
        self.each[bucket].list.pop()
    }

    /// Adds a cluster to one of the first `count` buckets: number `first`, if
    /// nobody holds its head.
    pub fn push(&self, count: usize, first: usize, mut cluster: Cluster) {
        if count == 1 {
            return self.each[0].list.push(cluster);
        }
        let mut at = first & (count - 1);
        let mut turns = 0;
        while let Err(back) = self.each[at].list.try_push(cluster, turns) {
            cluster = back;
            wait(&mut turns);
            at = self.other(at, count);
        }
    }

    /// Takes everything, bucket after bucket.
    pub fn take_all(&self) -> impl Iterator<Item = Cluster> {
        self.each.iter().flat_map(|bucket| bucket.list.take_all())
    }

    /// Any of the first `count` buckets but `at`: another one each time, or
    /// what lies in the rest would be found by nobody (POOL-9).
    // KEEPS: INV-17
    fn other(&self, at: usize, count: usize) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // Hashed: threads that take turns would each have their own few.
        let hash = (turn as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (at + 1 + hash as usize % (count - 1)) % count
    }

    /// Adds to the number of used objects.
    pub fn add_used(&self, bucket: usize, n: u64) {
        self.each[bucket].used.fetch_add(n, Ordering::Relaxed);
    }

    /// Subtracts from the number of used objects.
    pub fn sub_used(&self, bucket: usize, n: u64) {
        self.each[bucket].used.fetch_sub(n, Ordering::Relaxed);
    }

    /// The number of used objects, counted in the first `count` buckets. Not a
    /// snapshot: what moves from one to another meanwhile may be missed.
    // KEEPS: INV-16
    pub fn used(&self, count: usize) -> u64 {
        let each = self.each[..count].iter();
        let sum = each.fold(0u64, |sum, b| {
            sum.wrapping_add(b.used.load(Ordering::Relaxed))
        });
        // Missed here and counted there, it may even be less than none.
        if sum > u64::MAX / 2 { 0 } else { sum }
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    #[test]
    fn buckets_by_threads() {
        let wanted: Vec<_> = [1, 2, 7, 8, 15, 16, 31, 32, 63, 64].map(wanted).into();
        assert_eq!(wanted, [1, 1, 1, 2, 2, 4, 4, 8, 8, 16]);
    }

    // SHOWS: INV-17
    #[test]
    fn pool_9_10_the_other_bucket_is_any_other() {
        let bucket = || Bucket {
            list: SharedList::new(),
            used: AtomicU64::new(0),
        };
        let buckets = Buckets {
            each: core::array::from_fn(|_| bucket()),
            turn: AtomicUsize::new(0),
        };
        for count in [2, 4, 16] {
            // Alone, and where every second or third turn is somebody else's.
            for threads in 1..=count {
                let mut seen = 0;
                for turn in 0..5000 {
                    let to = buckets.other(1, count);
                    assert!(to != 1 && to < count);
                    seen |= u64::from(turn % threads == 0) << to;
                }
                assert_eq!(seen, (1u64 << count) - 1 - 2, "{threads} of {count}");
            }
        }
    }
}
