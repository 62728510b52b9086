//! The parts of a stick table, put together as the table does, for models.
//!
//! The memory of an entry is one plain cell: who holds or looks at the entry
//! reads it, who frees the entry writes it, and a model fails in which the two
//! are not ordered. A freed entry looks like one that nobody holds, so that
//! whoever comes too late gets hold of it and is found out.

#![allow(dead_code)] // each program has its own needs

use keel::stick_table::entry::{Entry, Layout};
use keel::stick_table::expiry::{Expiry, NEVER};
use keel::stick_table::key::{Keys, Kind, SMP_T_SINT};
use keel::stick_table::life::{Bury, Life, Take};
use keel::stick_table::readers::{Readers, Stamp};
use keel::stick_table::shard::{Dead, Rules, Shard, Times};
use keel::stick_table::updates::{Counters, Update, Updates};
use keel::sync::atomic::AtomicU32;
use keel::sync::{UnsafeCell, model_point};

/// A task whose date and whose place in a queue are plain words. Whoever
/// touches them has to be alone (INV-98).
pub struct Toy {
    pub date: UnsafeCell<u64>,
    pub place: UnsafeCell<u64>,
}

impl Toy {
    pub fn new(date: u64) -> Self {
        Self {
            date: UnsafeCell::new(date),
            place: UnsafeCell::new(date),
        }
    }

    /// The historic crash is here: a date that somebody takes away again
    /// between the caller's look at it and this one.
    pub fn file(&self) {
        let date = self.date.with(|d| unsafe { *d });
        assert_ne!(date, NEVER, "queued with no date");
        self.place.with_mut(|p| unsafe { *p = date.min(*p) });
    }

    pub fn schedule(&self, date: u64) {
        self.date.with_mut(|d| unsafe { *d = date.min(*d) });
        self.file();
    }

    /// A run begins. Like the scheduler, whoever calls this is alone.
    pub fn begin(&self) {
        self.date.with_mut(|d| unsafe { *d = NEVER });
        self.place.with_mut(|p| unsafe { *p = NEVER });
    }

    /// The handler's word.
    pub fn set(&self, date: u64) {
        self.date.with_mut(|d| unsafe { *d = date });
        if date != NEVER {
            self.file();
        }
    }

    /// When the scheduler runs it: it comes to the place, and goes by the date.
    pub fn due(&self) -> u64 {
        let date = self.date.with(|d| unsafe { *d });
        let place = self.place.with(|p| unsafe { *p });
        assert!(place <= date || date == NEVER);
        date
    }
}

/// An entry's memory.
pub struct Block {
    pub area: core::cell::UnsafeCell<Box<[u64]>>,
    pub freed: UnsafeCell<bool>,
}

/// The engine's parts, put together as the table does.
pub struct World {
    pub rules: Rules,
    pub shards: Vec<Shard>,
    pub readers: Readers,
    pub updates: Updates,
    pub numbers: [AtomicU32; 3],
    pub expiry: Expiry,
    pub toy: Toy,
    pub blocks: Vec<Block>,
    /// Buried entries that somebody may still look at.
    pub limbo: std::sync::Mutex<Vec<(Stamp, Dead)>>,
}

unsafe impl Send for World {}
unsafe impl Sync for World {}

pub const NOW: u64 = 1000;
pub const LIFETIME: u64 = 100;

/// Threads as readers know them.
pub const MAIN: usize = 0;
pub const ONE: usize = 1;

impl World {
    /// Entries with these keys and dates; none is stored.
    pub fn new(shards: usize, entries: &[(u32, u64)], run: u64) -> Self {
        let layout = Layout {
            update: size_of::<Update>(),
            data: 0,
            key: 4,
            mark: 0,
        };
        let kind = Kind {
            of: SMP_T_SINT,
            size: 4,
        };
        let w = Self {
            rules: Rules {
                keys: Keys::new(kind, [1, 2]),
                layout,
            },
            shards: (0..shards).map(|_| Shard::new(NOW).unwrap()).collect(),
            readers: Readers::new(),
            updates: Updates::new(),
            numbers: [0; 3].map(AtomicU32::new),
            expiry: Expiry::new(),
            toy: Toy::new(run),
            blocks: (entries.iter())
                .map(|_| Block {
                    area: vec![0; layout.size().div_ceil(8)].into_boxed_slice().into(),
                    freed: UnsafeCell::new(false),
                })
                .collect(),
            limbo: Vec::new().into(),
        };
        for (block, &(key, date)) in w.blocks.iter().zip(entries) {
            unsafe {
                let ts = layout.build((*block.area.get()).as_mut_ptr().cast(), date as u32);
                layout.update::<Update>(ts).write(Update::new());
                kind.set(ts, &key.to_ne_bytes());
            }
        }
        w
    }

    pub fn entry(&self, id: usize) -> *mut Entry {
        let area = unsafe { (*self.blocks[id].area.get()).as_mut_ptr() };
        let below = self.rules.layout.size() - size_of::<Entry>();
        area.wrapping_byte_add(below).cast()
    }

    pub fn id(&self, ts: *mut Entry) -> usize {
        let ids = 0..self.blocks.len();
        ids.into_iter().find(|&id| self.entry(id) == ts).unwrap()
    }

    pub fn life(&self, id: usize) -> &Life {
        unsafe { &(*self.entry(id)).life }
    }

    /// Whoever holds or sees the entry does something with it.
    pub fn touch(&self, ts: *mut Entry) {
        let freed = &self.blocks[self.id(ts)].freed;
        freed.with(|f| assert!(unsafe { !*f }, "used after it was freed"));
    }

    pub fn times(now: u64) -> Times {
        Times {
            now,
            recheck: now + LIFETIME,
            horizon: 0,
        }
    }

    pub fn hash(&self, key: u32) -> u64 {
        self.rules.keys.hash(&key.to_ne_bytes())
    }

    /// As `Table::store` does: a reference to the entry that is stored.
    pub fn store(&self, shard: usize, id: usize) -> *mut Entry {
        model_point();
        let times = Self::times(NOW);
        let ts = self.entry(id);
        let stored = unsafe {
            let hash = self.rules.keys.hash_of(ts);
            self.shards[shard].store(&self.rules, ts, hash, &times)
        };
        self.touch(stored);
        if stored == ts {
            self.arm(unsafe { times.date(&*ts) });
        }
        stored
    }

    /// Stores an entry that nobody holds.
    pub fn put(&self, shard: usize, id: usize) {
        unsafe { (*self.store(shard, id)).life.release() };
    }

    pub fn arm(&self, date: u64) {
        let _ = self.expiry.arm(date, || self.toy.schedule(date));
    }

    /// As `Table::touch` with a date that is earlier.
    pub fn lower(&self, shard: usize, id: usize, date: u64) {
        model_point();
        let ts = self.entry(id);
        unsafe {
            let _ = (*ts).life.touch(date as u32, false);
            let filed = self.shards[shard].refile(&self.rules, ts, &Self::times(NOW));
            if let Some(date) = filed {
                self.arm(date);
            }
        }
    }

    /// As `Table::lookup` does: a reference, or NULL.
    pub fn lookup(&self, tid: usize, key: u32) -> *mut Entry {
        model_point();
        let (kind, hash, key) = (self.rules.keys.kind, self.hash(key), key.to_ne_bytes());
        let looking = self.readers.look(tid);
        let found = unsafe { self.shards[0].find(kind, &key, hash) };
        drop(looking);
        let ts = found.unwrap_or_else(|| self.shards[0].find_locked(kind, &key, hash));
        if !ts.is_null() {
            self.touch(ts);
        }
        ts
    }

    pub fn look_and_release(&self, tid: usize, key: u32) {
        let ts = self.lookup(tid, key);
        if !ts.is_null() {
            self.release(ts);
        }
    }

    pub fn release(&self, ts: *mut Entry) {
        model_point();
        self.touch(ts);
        unsafe { (*ts).life.release() };
    }

    pub fn kill(&self, id: usize, bury: impl FnOnce(&Entry) -> Bury) -> bool {
        model_point();
        let mut dead = Dead::default();
        let killed = unsafe { self.shards[0].kill(&self.rules, self.entry(id), bury, &mut dead) };
        assert_eq!(dead.len, usize::from(killed));
        self.bury(dead);
        killed
    }

    pub fn evict(&self, n: usize) -> usize {
        model_point();
        let mut dead = Dead::default();
        let times = Self::times(NOW);
        self.shards[0].evict(&self.rules, &times, n, 8, &mut dead);
        let n = dead.len;
        self.bury(dead);
        n
    }

    /// As `Table::expire`, for a scheduler that calls it alone.
    pub fn expire(&self, now: u64) {
        model_point();
        self.expiry.begin();
        let mut next = NEVER;
        let mut dead = Dead::default();
        for shard in &self.shards {
            let pass = shard.expire(&self.rules, &Self::times(now), 50, &mut dead);
            next = next.min(pass.next);
        }
        self.bury(dead);
        self.expiry.finish(next, |date| self.toy.set(date));
    }

    /// As `Table::bury` and its limbo.
    pub fn bury(&self, mut dead: Dead) {
        if dead.len == 0 {
            return;
        }
        dead.for_each(|node| unsafe {
            let layout = self.rules.layout;
            self.updates
                .forget(&*layout.update::<Update>(layout.of_node(node)));
        });
        let stamp = self.readers.stamp();
        if self.readers.is_over(stamp) {
            self.free(&mut dead);
        } else {
            self.limbo.lock().unwrap().push((stamp, dead));
        }
    }

    pub fn free(&self, dead: &mut Dead) {
        loop {
            let node = unsafe { dead.list.pop_front() };
            if node.is_null() {
                return;
            }
            let ts = self.rules.layout.of_node(node);
            self.blocks[self.id(ts)].freed.with_mut(|f| unsafe {
                assert!(!*f, "freed twice");
                *f = true;
                (&raw mut (*ts).life).write(Life::new(0));
            });
        }
    }

    pub fn counters(&self) -> Counters<'_> {
        Counters {
            update: &self.numbers[0],
            local: &self.numbers[1],
            commit: &self.numbers[2],
        }
    }

    pub fn update(&self, id: usize) -> &Update {
        unsafe { &*self.rules.layout.update(self.entry(id)) }
    }

    /// As `Table::touch` does for the peers.
    pub fn publish(&self, id: usize, local: bool) {
        model_point();
        unsafe {
            if local {
                self.updates.local(self.update(id), self.counters());
            } else {
                self.updates.remote(self.update(id), self.counters());
            }
        }
    }

    /// As `Table::update_after` does: a reference, and the number.
    pub fn update_after(&self, from: u32, to: u32) -> Option<(*mut Entry, u32)> {
        model_point();
        let layout = self.rules.layout;
        let (update, number) = self.updates.after(from, to, |update| {
            let ts = layout.of_update(update);
            self.touch(ts);
            unsafe { (*ts).life.take() == Take::Held }
        })?;
        Some((layout.of_update(update), number))
    }

    pub fn numbers_of(&self, from: u32, to: u32) -> Vec<(usize, u32)> {
        let mut seen = Vec::new();
        let mut at = from;
        while let Some((ts, number)) = self.update_after(at, to) {
            self.release(ts);
            seen.push((self.id(ts), number));
            at = number;
        }
        seen
    }

    /// Nobody is there any more: what waited is freed.
    pub fn settle(&self) {
        for (stamp, mut dead) in self.limbo.lock().unwrap().drain(..) {
            assert!(self.readers.is_over(stamp), "a look that never ends");
            self.free(&mut dead);
        }
    }

    pub fn is_freed(&self, id: usize) -> bool {
        self.blocks[id].freed.with(|f| unsafe { *f })
    }

    /// Nobody touches the table any more: its task, whenever it is due, empties
    /// it, and then rests (INV-97).
    pub fn run_out(&self) {
        for _ in 0..40 {
            let date = self.toy.due();
            if date == NEVER {
                break;
            }
            self.toy.begin();
            self.expire(date);
        }
        assert_eq!(self.toy.due(), NEVER, "it never rests");
        self.settle();
        assert!(self.shards.iter().all(Shard::is_empty), "never expires");
        assert!((0..self.blocks.len()).all(|id| self.is_freed(id)));
    }
}
