//! A part of a table: the entries whose hashes begin alike, with a lock of its
//! own, their index and the wheel with their dates.
//!
//! An entry is stored if it is in the index and in the wheel; both change
//! under the lock. It leaves both in the critical section in which it is
//! buried, so that under the lock nothing in the index is buried.

use super::entry::{Entry, Layout};
use super::index::{Find, Index, Segments};
use super::key::{Keys, Kind};
use super::life::{Bury, NO_DATE, Take};
use super::readers::{Readers, Stamp};
use crate::sync::{Mutex, MutexGuard};
use crate::sys::memory;
use crate::wheel::{List, Node, Wheel};

/// What a table's shards have in common.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Its keys.
    pub keys: Keys,
    /// Where an entry's parts are.
    pub layout: Layout,
}

/// A part of a table.
#[repr(align(128))]
pub struct Shard {
    index: Index,
    held: Mutex<Held>,
}

/// What the lock guards, beside changes of the index.
struct Held {
    len: usize,
    wheel: Wheel,
    /// Segments that readers may still have seen.
    old: Option<(Stamp, Segments)>,
}

/// When things are.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Now, in milliseconds that never wrap.
    pub now: u64,
    /// Where an entry is filed whose date has come while it is in use.
    pub recheck: u64,
    /// Added to an entry's date; not 0 where entries do not expire.
    pub horizon: u64,
}

/// What does not expire is filed so much later than now, ms.
pub const HORIZON: u64 = 1 << 30;

impl Times {
    /// Where `ts` is to be filed.
    #[inline]
    pub fn date(&self, ts: &Entry) -> u64 {
        self.date_of(ts.life.expire())
    }

    // KEEPS: INV-99
    #[inline]
    fn date_of(&self, expire: u32) -> u64 {
        if expire == NO_DATE {
            return self.now + HORIZON;
        }
        let ahead = expire.wrapping_sub(self.now as u32) as i32;
        self.now.wrapping_add_signed(i64::from(ahead)) + self.horizon
    }
}

/// Entries that were buried and unlinked, to be freed.
#[derive(Debug, Default)]
pub struct Dead {
    /// By their places in the wheel, where they are no more.
    pub list: List,
    /// How many.
    pub len: usize,
}

impl Dead {
    /// Calls `f` for each.
    pub fn for_each(&self, mut f: impl FnMut(*mut Node)) {
        let mut node = self.list.first();
        for _ in 0..self.len {
            f(node);
            // SAFETY: the list's nodes are the burier's alone.
            node = unsafe { List::after(node) };
        }
    }

    fn push(&mut self, node: *mut Node) {
        self.len += 1;
        // SAFETY: the node has left the wheel, and is the burier's alone.
        unsafe { self.list.push_back(node) };
    }
}

/// What a pass of the expiry found.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Entries looked at, and steps of the wheel.
    pub visits: usize,
    /// The first date in the wheel; now, where the budget did not suffice.
    pub next: u64,
}

/// Entries that are buried and not unlinked yet.
struct Graves {
    some: [(*mut Entry, u64); 16],
    len: usize,
}

impl Graves {
    const fn new() -> Self {
        Self {
            some: [(core::ptr::null_mut(), 0); 16],
            len: 0,
        }
    }

    // True if there is no room for more.
    fn push(&mut self, ts: *mut Entry, hash: u64) -> bool {
        self.some[self.len] = (ts, hash);
        self.len += 1;
        self.len == self.some.len()
    }

    fn all(&self) -> &[(*mut Entry, u64)] {
        &self.some[..self.len]
    }
}

impl Shard {
    /// An empty one, at date `now`; `None` for lack of memory.
    pub fn new(now: u64) -> Option<Self> {
        Some(Self {
            index: Index::new()?,
            held: Mutex::new(Held {
                len: 0,
                wheel: Wheel::new(now),
                old: None,
            }),
        })
    }

    /// Finds the entry with this key and takes a reference. `None`: not
    /// certain; under the lock it is.
    ///
    /// # Safety
    /// The caller looks, by [`Readers::look`].
    #[inline(always)]
    pub unsafe fn find(&self, kind: Kind, key: &[u8], hash: u64) -> Option<*mut Entry> {
        // SAFETY: by this function's contract entries live on, and a stored
        // one's key does not change.
        match unsafe { self.index.find(hash, |ts| kind.is(ts, key)) } {
            // SAFETY: as above.
            Find::Found(ts) => match unsafe { (*ts).life.take() } {
                Take::Held => Some(ts),
                // It was there, and is not any more.
                Take::Buried => Some(core::ptr::null_mut()),
            },
            Find::Absent => Some(core::ptr::null_mut()),
            Find::Unsure => None,
        }
    }

    /// As [`find`](Self::find), under the lock; NULL: there is none.
    pub fn find_locked(&self, kind: Kind, key: &[u8], hash: u64) -> *mut Entry {
        let _held = self.held.lock();
        self.take_existing(kind, key, hash)
    }

    // Under the lock.
    fn take_existing(&self, kind: Kind, key: &[u8], hash: u64) -> *mut Entry {
        // SAFETY: nothing is unlinked without the lock.
        match unsafe { self.index.find(hash, |ts| kind.is(ts, key)) } {
            Find::Found(ts) => {
                // SAFETY: as above.
                let taken = unsafe { (*ts).life.take() };
                debug_assert_eq!(taken, Take::Held);
                ts
            }
            Find::Absent | Find::Unsure => core::ptr::null_mut(),
        }
    }

    /// Stores `ts` unless its key is there already; takes a reference
    /// on the one that is stored, and returns it.
    ///
    /// # Safety
    /// `ts` is alive, not stored, and the caller's; the rules are the table's,
    /// here and below.
    // KEEPS: INV-94
    pub unsafe fn store(
        &self,
        rules: &Rules,
        ts: *mut Entry,
        hash: u64,
        times: &Times,
    ) -> *mut Entry {
        // SAFETY: by this function's contract.
        let (key, entry) = unsafe { (rules.keys.kind.of_entry(ts), &*ts) };
        let mut held = self.held.lock();
        let there = self.take_existing(rules.keys.kind, key, hash);
        if !there.is_null() {
            return there;
        }
        let taken = entry.life.take();
        debug_assert_eq!(taken, Take::Held);
        held.len += 1;
        let wheel = &mut held.wheel;
        if wheel.is_empty() {
            wheel.reset(times.now);
        } else if times.horizon != 0 {
            // No task does it where entries do not expire.
            // SAFETY: stored entries live.
            unsafe { wheel.advance(times.now, 4) };
        }
        // SAFETY: the lock is held; stored entries live.
        unsafe {
            wheel.add(rules.layout.node(ts), times.date(entry), 0);
            self.index.insert(ts, hash);
            self.index.grow(held.len, |ts| rules.keys.hash_of(ts));
        }
        ts
    }

    // Unlinks a buried entry that has left the wheel. Under the lock.
    unsafe fn unlink(
        &self,
        held: &mut Held,
        rules: &Rules,
        ts: *mut Entry,
        hash: u64,
        dead: &mut Dead,
    ) {
        // SAFETY: it is in the index.
        unsafe { self.index.remove(ts, hash) };
        held.len -= 1;
        dead.push(rules.layout.node(ts));
    }

    /// Buries `ts` by `bury` and, if it is stored, unlinks it.
    ///
    /// # Safety
    /// `ts` is of this shard, and alive during the call.
    // KEEPS: INV-91, INV-114
    pub unsafe fn kill(
        &self,
        rules: &Rules,
        ts: *mut Entry,
        bury: impl FnOnce(&Entry) -> Bury,
        dead: &mut Dead,
    ) -> bool {
        let mut held = self.held.lock();
        // SAFETY: by this function's contract.
        unsafe {
            if bury(&*ts) == Bury::Stays {
                return false;
            }
            let node = rules.layout.node(ts);
            if (*node).is_linked() {
                held.wheel.remove(node);
                let hash = rules.keys.hash_of(ts);
                self.unlink(&mut held, rules, ts, hash, dead);
            } else {
                dead.push(node);
            }
        }
        true
    }

    /// Files `ts` earlier if its date has become earlier than its place.
    /// Returns its date if it is stored.
    ///
    /// # Safety
    /// `ts` is of this shard, and the caller holds a reference.
    // KEEPS: INV-96
    pub unsafe fn refile(&self, rules: &Rules, ts: *mut Entry, times: &Times) -> Option<u64> {
        let mut held = self.held.lock();
        let node = rules.layout.node(ts);
        // SAFETY: by this function's contract; the lock is held.
        unsafe {
            if !(*node).is_linked() {
                return None;
            }
            let date = times.date(&*ts);
            if (*node).time() > date {
                held.wheel.remove(node);
                held.wheel.add(node, date, 0);
            }
            Some(date)
        }
    }

    /// Buries what has expired and nobody holds, files the rest again: `budget`
    /// visits at most.
    // KEEPS: INV-96
    pub fn expire(&self, rules: &Rules, times: &Times, budget: usize, dead: &mut Dead) -> Pass {
        let mut held = self.held.lock();
        // Another thread's clock may have been ahead.
        let now = times.now.max(held.wheel.now());
        let mut graves = Graves::new();
        let mut visits = 0;
        let next = loop {
            // The limit comes before the node is taken (STK-20).
            // KEEPS: INV-100
            if visits >= budget {
                break now;
            }
            visits += 1;
            // SAFETY: stored entries live.
            unsafe {
                let node = held.wheel.pop_due();
                memory::prefetch(held.wheel.peek_due());
                if node.is_null() {
                    if !held.wheel.advance(now, budget - visits) && held.wheel.peek_due().is_null()
                    {
                        break held.wheel.next().unwrap_or(u64::MAX);
                    }
                    continue;
                }
                let ts = rules.layout.of_node(node);
                if (*ts).life.end(0, |tick| times.date_of(tick) <= now) == Bury::Buried {
                    let hash = rules.keys.hash_of(ts);
                    self.index.prefetch(hash);
                    if graves.push(ts, hash) {
                        self.unlink_all(&mut held, rules, &mut graves, dead);
                    }
                    continue;
                }
                // KEEPS: INV-101
                let date = match times.date(&*ts) {
                    later if later > now => later,
                    _ => times.recheck.max(now + 1),
                };
                held.wheel.add(node, date, 0);
            }
        };
        // SAFETY: as above.
        unsafe { self.unlink_all(&mut held, rules, &mut graves, dead) };
        Pass { visits, next }
    }

    // Unlinks what was buried: as one after the other, but what they wait for
    // comes from memory together.
    unsafe fn unlink_all(
        &self,
        held: &mut Held,
        rules: &Rules,
        graves: &mut Graves,
        dead: &mut Dead,
    ) {
        for (_, hash) in graves.all() {
            self.index.prefetch_entry(*hash);
        }
        for (ts, hash) in graves.all() {
            // SAFETY: buried under this lock, and in the index still.
            unsafe { self.unlink(held, rules, *ts, *hash, dead) };
        }
        graves.len = 0;
    }

    /// Buries up to `n` of the entries that were not touched for longest,
    /// expired or not. What is in use counts as touched. `budget` visits at
    /// most; returns how many it took.
    // KEEPS: INV-100, INV-102
    pub fn evict(
        &self,
        rules: &Rules,
        times: &Times,
        n: usize,
        budget: usize,
        dead: &mut Dead,
    ) -> usize {
        let mut held = self.held.lock();
        let enough = dead.len + n;
        let budget = budget.min(2 * held.len);
        let mut visits = 0;
        // Filed again at the end: none is met twice before all others.
        let mut in_use = List::new();
        while visits < budget && dead.len < enough {
            // SAFETY: stored entries live.
            unsafe {
                let node = held.wheel.first();
                if node.is_null() {
                    break;
                }
                visits += 1;
                held.wheel.remove(node);
                let ts = rules.layout.of_node(node);
                let place = (*node).time();
                if (*ts).life.end(0, |tick| times.date_of(tick) <= place) == Bury::Buried {
                    let hash = rules.keys.hash_of(ts);
                    self.unlink(&mut held, rules, ts, hash, dead);
                    continue;
                }
                match times.date(&*ts) {
                    later if later > place => held.wheel.add(node, later, 0),
                    _ => in_use.push_back(node),
                }
            }
        }
        loop {
            // SAFETY: as above; the lock is still held.
            unsafe {
                let node = in_use.pop_front();
                if node.is_null() {
                    return visits;
                }
                held.wheel.add(node, times.recheck, 0);
            }
        }
    }

    /// How many entries are stored.
    pub fn len(&self) -> usize {
        self.held.lock().len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives back what a table that has become empty does not need.
    pub fn tidy(&self, readers: &Readers) {
        let mut held = self.held.lock();
        if held.old.is_none() && held.len == 0 {
            // SAFETY: the lock is held, and nothing is stored.
            let gone = unsafe { self.index.shrink() };
            held.old = gone.map(|segments| (readers.stamp(), segments));
        }
        let done = held.old.take_if(|(stamp, _)| readers.is_over(*stamp));
        // The lock is not held across the system's allocator.
        drop(held);
        drop(done);
    }

    /// Buckets to [`visit`](Self::visit) from 0 on.
    pub fn buckets(&self) -> usize {
        self.index.buckets()
    }

    /// Calls `f` under the lock for each entry of bucket `b`, of `then` that
    /// there were at the first call.
    pub fn visit(&self, b: usize, then: usize, f: impl FnMut(*mut Entry)) {
        let _held: MutexGuard<_> = self.held.lock();
        // SAFETY: the lock is held.
        unsafe { self.index.visit(b, then, f) };
    }

    /// Takes all entries out, held or not: the end of the table.
    pub fn clear(&self, rules: &Rules, dead: &mut Dead) {
        let mut held = self.held.lock();
        loop {
            // SAFETY: nobody else uses the table.
            unsafe {
                let node = held.wheel.pop_any();
                if node.is_null() {
                    return;
                }
                let ts = rules.layout.of_node(node);
                let hash = rules.keys.hash_of(ts);
                self.unlink(&mut held, rules, ts, hash, dead);
            }
        }
    }
}
