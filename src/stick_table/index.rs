//! From a key's hash to its entry: chains, in a hash table that grows by a few
//! buckets at a time, so that no insertion waits for a rebuilding. Who looks
//! something up takes no lock and writes nothing; who changes something holds
//! the shard's lock.
//!
//! A hit is right whatever happens meanwhile, since the key is compared. A
//! miss is right if no chain was split meanwhile, which is checked.

use super::entry::Entry;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::sys::memory;
use core::ptr;

/// Buckets at least, and how many are added at once; a power of two.
const FIRST: usize = if cfg!(model) { 1 } else { 8 };
/// Enough for 2^31 buckets.
const SEGMENTS: usize = if cfg!(model) { 3 } else { 29 };
/// Entries for each so many buckets before others are added.
const LOAD: (usize, usize) = (5, 4);

type Link = AtomicPtr<Entry>;

/// The buckets of one shard. They are in segments, each as large as all before
/// it together, which stay where they are.
#[derive(Debug)]
pub struct Index {
    /// Changes of chains under the eyes of readers; odd while one goes on.
    splits: AtomicUsize,
    buckets: AtomicUsize,
    segments: [AtomicPtr<Link>; SEGMENTS],
}

/// What a look without a lock found.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Find {
    /// This entry.
    Found(*mut Entry),
    /// None, at some moment of the look.
    Absent,
    /// None, but chains changed meanwhile: look again under the lock.
    Unsure,
}

/// Segments that readers may still see.
#[derive(Debug)]
pub struct Segments([*mut Link; SEGMENTS]);

/// The bucket of `hash` among `n`.
#[inline(always)]
fn place(hash: u64, n: usize) -> usize {
    let mask = n.next_power_of_two() - 1;
    let b = hash as usize & mask;
    if b < n { b } else { b & (mask >> 1) }
}

/// Where bucket `b` is: which segment, and which link of it.
#[inline(always)]
fn locate(b: usize) -> (usize, usize) {
    if b < FIRST {
        return (0, b);
    }
    let log = b.ilog2();
    ((log - FIRST.ilog2()) as usize + 1, b - (1 << log))
}

/// Links of segment `k`.
const fn length(k: usize) -> usize {
    if k == 0 { FIRST } else { FIRST << (k - 1) }
}

fn new_segment(k: usize) -> *mut Link {
    let n = length(k);
    let area: *mut Link = memory::alloc_zeroed(n * size_of::<Link>(), align_of::<Link>()).cast();
    #[cfg(model)]
    for i in 0..n {
        // SAFETY: the area holds n links.
        unsafe { area.add(i).write(Link::new(ptr::null_mut())) };
    }
    area
}

impl Index {
    /// An empty one; `None` for lack of memory.
    pub fn new() -> Option<Self> {
        let first = new_segment(0);
        let segments =
            core::array::from_fn(|k| AtomicPtr::new(if k == 0 { first } else { ptr::null_mut() }));
        (!first.is_null()).then_some(Self {
            splits: AtomicUsize::new(0),
            buckets: AtomicUsize::new(FIRST),
            segments,
        })
    }

    #[inline(always)]
    fn link(&self, b: usize) -> Option<&Link> {
        let (k, i) = locate(b);
        // PAIRS: split's Release; the segment's links.
        let segment = self.segments[k].load(Ordering::Acquire);
        // SAFETY: a segment has room for its buckets, and outlives the looks
        // that may see it.
        (!segment.is_null()).then(|| unsafe { &*segment.add(i) })
    }

    /// Looks for the entry that `is` says yes to, without a lock.
    ///
    /// # Safety
    /// Nothing that is unlinked meanwhile is freed before the end of this call.
    #[inline(always)]
    pub unsafe fn find(&self, hash: u64, is: impl Fn(*mut Entry) -> bool) -> Find {
        let before = self.splits.load(Ordering::Acquire);
        // PAIRS: split's Release; the chains of that many buckets.
        let n = self.buckets.load(Ordering::Acquire);
        let Some(link) = self.link(place(hash, n)) else {
            return Find::Unsure;
        };
        // PAIRS: insert's Release, what the entry holds; split's Release, so
        // that who has seen a moved link sees below that a split has begun.
        let mut ts = link.load(Ordering::Acquire);
        while !ts.is_null() {
            if is(ts) {
                return Find::Found(ts);
            }
            // SAFETY: by this function's contract.
            ts = unsafe { (*ts).next.load(Ordering::Acquire) };
        }
        if before & 1 == 0 && self.splits.load(Ordering::Relaxed) == before {
            Find::Absent
        } else {
            Find::Unsure
        }
    }

    /// Links `ts`, which has this hash.
    ///
    /// # Safety
    /// The shard's lock is held, here and below; `ts` is in no index.
    pub unsafe fn insert(&self, ts: *mut Entry, hash: u64) {
        let n = self.buckets.load(Ordering::Relaxed);
        let link = self.existing(place(hash, n));
        // SAFETY: the entry is the caller's.
        unsafe {
            (*ts)
                .next
                .store(link.load(Ordering::Relaxed), Ordering::Relaxed)
        };
        // PAIRS: find's Acquire.
        link.store(ts, Ordering::Release);
    }

    /// Unlinks `ts`. Who looks at it goes on from there.
    ///
    /// # Safety
    /// As [`insert`](Self::insert), but `ts` is in this index.
    pub unsafe fn remove(&self, ts: *mut Entry, hash: u64) {
        let n = self.buckets.load(Ordering::Relaxed);
        let mut link = self.existing(place(hash, n));
        loop {
            let at = link.load(Ordering::Relaxed);
            assert!(!at.is_null(), "a stick-table entry's key was changed");
            // SAFETY: entries in a chain live.
            let next = unsafe { &(*at).next };
            if at == ts {
                // PAIRS: find's Acquire.
                link.store(next.load(Ordering::Relaxed), Ordering::Release);
                return;
            }
            link = next;
        }
    }

    fn existing(&self, b: usize) -> &Link {
        match self.link(b) {
            Some(link) => link,
            None => unreachable!("bucket {b} has no segment"),
        }
    }

    /// Has the processor fetch the bucket of `hash`, which will be wanted.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let n = self.buckets.load(Ordering::Relaxed);
        if let Some(link) = self.link(place(hash, n)) {
            memory::prefetch(link);
        }
    }

    /// The same for the first entry there, once the bucket has come.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        let n = self.buckets.load(Ordering::Relaxed);
        if let Some(link) = self.link(place(hash, n)) {
            memory::prefetch(link.load(Ordering::Relaxed));
        }
    }

    /// Adds some buckets if `len` entries are many for those there are. Without
    /// memory the chains grow longer instead.
    ///
    /// # Safety
    /// As [`insert`](Self::insert).
    pub unsafe fn grow(&self, len: usize, hash_of: impl Fn(*mut Entry) -> u64) {
        let n = self.buckets.load(Ordering::Relaxed);
        if len * LOAD.1 <= n * LOAD.0 {
            return;
        }
        let (k, _) = locate(n);
        if k >= SEGMENTS {
            return;
        }
        if self.segments[k].load(Ordering::Relaxed).is_null() {
            let segment = new_segment(k);
            if segment.is_null() {
                return;
            }
            // PAIRS: link's Acquire.
            self.segments[k].store(segment, Ordering::Release);
        }
        let splits = self.splits.load(Ordering::Relaxed);
        self.splits.store(splits + 1, Ordering::Relaxed);
        // So many that those split lie in one line, and their entries come from
        // memory together.
        let from = n - (1 << n.ilog2());
        for b in from..from + FIRST {
            memory::prefetch(self.existing(b).load(Ordering::Relaxed));
        }
        for n in n..n + FIRST {
            // SAFETY: by this function's contract; there is room for bucket n.
            unsafe { self.split(n, &hash_of) };
        }
        self.splits.store(splits + 2, Ordering::Release);
    }

    /// # Safety
    /// As [`insert`](Self::insert); the segment of bucket `n` is there.
    unsafe fn split(&self, n: usize, hash_of: &impl Fn(*mut Entry) -> u64) {
        let mut stay = self.existing(n - (1 << n.ilog2()));
        let mut go = self.existing(n);
        let mut ts = stay.load(Ordering::Relaxed);
        while !ts.is_null() {
            // SAFETY: entries in a chain live.
            let next = unsafe { &(*ts).next };
            let after = next.load(Ordering::Relaxed);
            let end = if place(hash_of(ts), n + 1) == n {
                &mut go
            } else {
                &mut stay
            };
            // Chains keep their order, so that no reader goes in circles.
            // PAIRS: find's Acquire.
            end.store(ts, Ordering::Release);
            *end = next;
            ts = after;
        }
        stay.store(ptr::null_mut(), Ordering::Release);
        go.store(ptr::null_mut(), Ordering::Release);
        // PAIRS: find's Acquire.
        self.buckets.store(n + 1, Ordering::Release);
    }

    /// Of an empty index all segments but the first, where there are any.
    ///
    /// # Safety
    /// As [`insert`](Self::insert); nothing is in the index.
    pub unsafe fn shrink(&self) -> Option<Segments> {
        if self.buckets.load(Ordering::Relaxed) == FIRST {
            return None;
        }
        let splits = self.splits.load(Ordering::Relaxed);
        self.splits.store(splits + 1, Ordering::Relaxed);
        // PAIRS: find's Acquire, here and below.
        // UNSEEN: the index is empty, nothing can be missed; as in grow.
        self.buckets.store(FIRST, Ordering::Release);
        let rest = core::array::from_fn(|k| match k {
            0 => ptr::null_mut(),
            _ => self.segments[k].swap(ptr::null_mut(), Ordering::Relaxed),
        });
        // UNSEEN: as above.
        self.splits.store(splits + 2, Ordering::Release);
        Some(Segments(rest))
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        self.buckets.load(Ordering::Relaxed)
    }

    /// Calls `f` for the entries of which `place` was `b` when there were
    /// `then` buckets, or fewer.
    ///
    /// # Safety
    /// As [`insert`](Self::insert).
    pub unsafe fn visit(&self, b: usize, then: usize, mut f: impl FnMut(*mut Entry)) {
        // What was in b is where the lowest bits of the number are b's.
        let all = then.next_power_of_two();
        let half = all / 2;
        let step = if b < half && b + half >= then {
            half
        } else {
            all
        };
        for b in (b..self.buckets()).step_by(step) {
            let mut ts = self.existing(b).load(Ordering::Relaxed);
            while !ts.is_null() {
                f(ts);
                // SAFETY: entries in a chain live.
                ts = unsafe { (*ts).next.load(Ordering::Relaxed) };
            }
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let all = core::array::from_fn(|k| self.segments[k].load(Ordering::Relaxed));
        drop(Segments(all));
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        #[cfg(model)]
        for (k, segment) in self.0.iter().enumerate().filter(|(_, s)| !s.is_null()) {
            for i in 0..length(k) {
                // Who still sees them finds no entry there.
                // SAFETY: the segment holds that many links.
                unsafe { segment.add(i).write(Link::new(ptr::dangling_mut())) };
            }
        }
        #[cfg(not(model))]
        for segment in self.0 {
            // SAFETY: nobody sees them any more.
            unsafe { memory::free(segment.cast()) };
        }
    }
}

// SAFETY: nothing but memory.
unsafe impl Send for Segments {}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;
    use crate::stick_table::entry::Layout;

    const LAYOUT: Layout = Layout {
        update: 0,
        data: 0,
        key: 8,
        mark: 0,
    };

    struct Set(Index, Vec<Vec<u64>>);

    fn hash_of(ts: *mut Entry) -> u64 {
        // SAFETY: the test's entries have room for 8 bytes.
        unsafe { Entry::key_at(ts).cast::<u64>().read_unaligned() }
    }

    impl Set {
        fn add(&mut self, hash: u64) -> *mut Entry {
            let mut block = vec![0u64; LAYOUT.size().div_ceil(8)];
            // SAFETY: the block is large enough, and lives as long as the set.
            unsafe {
                let ts = LAYOUT.build(block.as_mut_ptr().cast(), 0);
                Entry::key_at(ts).cast::<u64>().write_unaligned(hash);
                self.1.push(block);
                self.0.insert(ts, hash);
                self.0.grow(self.1.len(), hash_of);
                ts
            }
        }

        fn has(&self, hash: u64) -> bool {
            // SAFETY: nothing is freed.
            let found = unsafe { self.0.find(hash, |ts| hash_of(ts) == hash) };
            matches!(found, Find::Found(_))
        }
    }

    fn hashes(n: u64) -> impl Iterator<Item = u64> {
        (1..=n).map(|k| k.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[test]
    fn what_goes_in_is_found_until_it_goes_out() {
        let mut set = Set(Index::new().unwrap(), Vec::new());
        let all: Vec<_> = hashes(1000).map(|h| (h, set.add(h))).collect();
        assert!(set.0.buckets() >= 790 && all.iter().all(|a| set.has(a.0)) && !set.has(7));
        // SAFETY: nobody else is there.
        unsafe {
            for (h, ts) in &all[..500] {
                set.0.remove(*ts, *h);
            }
            assert!(all.iter().position(|a| set.has(a.0)) == Some(500));
            for (h, ts) in &all[500..] {
                set.0.remove(*ts, *h);
            }
            assert!(set.0.shrink().is_some() && set.0.shrink().is_none());
        }
        assert_eq!(set.0.buckets(), FIRST);
        set.1.clear();
        hashes(100).for_each(|h| {
            set.add(h);
        });
        assert!(hashes(100).all(|h| set.has(h)));
    }

    #[test]
    fn a_visit_meets_each_entry_once_however_buckets_split() {
        for (before, between) in [(5, 0), (100, 1), (13, 500), (900, 900), (1024, 3000)] {
            let mut set = Set(Index::new().unwrap(), Vec::new());
            let all: Vec<_> = hashes(before + between).collect();
            let (first, rest) = all.split_at(before as usize);
            first.iter().for_each(|&h| {
                set.add(h);
            });
            let then = set.0.buckets();
            let mut rest = rest.iter();
            let mut seen = Vec::new();
            for b in 0..then {
                // SAFETY: nobody else is there.
                unsafe { set.0.visit(b, then, |ts| seen.push(hash_of(ts))) };
                rest.by_ref().take(3).for_each(|&h| {
                    set.add(h);
                });
            }
            seen.sort_unstable();
            assert!(seen.windows(2).all(|w| w[0] != w[1]), "{before}, {between}");
            assert!(first.iter().all(|h| seen.binary_search(h).is_ok()));
        }
    }
}
