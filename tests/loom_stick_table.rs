//! Models of stick tables: the date of the expiry task, references against
//! removal, the index under the eyes of readers. Each explores the parts that
//! ship; what stands for the table around them is `World`.
//!
//! The memory of an entry is one plain cell: who holds or looks at the entry
//! reads it, who frees the entry writes it, and loom fails a model in which the
//! two are not ordered. A freed entry looks like one that nobody holds, so that
//! whoever comes too late gets hold of it and is found out.
#![cfg(loom)]
#![allow(clippy::undocumented_unsafe_blocks)] // loom checks every access

use core::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};
use keel::stick_table::entry::{Entry, Layout};
use keel::stick_table::expiry::{Expiry, NEVER};
use keel::stick_table::index::{Find, Index, Segments};
use keel::stick_table::key::{Keys, Kind, SMP_T_SINT};
use keel::stick_table::life::{Bury, Life, Take};
use keel::stick_table::readers::{Readers, Stamp};
use keel::stick_table::shard::{Dead, Rules, Shard, Times};
use keel::stick_table::updates::{Counters, Update, Updates};
use keel::sync::atomic::AtomicU32;
use keel::sync::{Mutex, UnsafeCell, model_point};
use loom::sync::Arc;
use loom::thread;

/// Words.
const STACK: usize = 1 << 14;

/// Every interleaving, or those of at most `preemptions` preemptions.
fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let runs = std::sync::Arc::new(Count::new(0));
    let seen = runs.clone();
    let mut b = loom::model::Builder::new();
    b.preemption_bound = preemptions;
    b.max_branches = 20_000;
    let begin = std::time::Instant::now();
    let model = std::sync::Arc::new(model);
    b.check(move || {
        seen.fetch_add(1, Relaxed);
        let model = model.clone();
        // A wheel is larger than the stack that loom gives its first thread.
        let roomy = thread::Builder::new().stack_size(STACK);
        roomy.spawn(move || model()).unwrap().join().unwrap();
    });
    let runs = runs.load(Relaxed);
    println!("{name}: {runs} runs, {} ms", begin.elapsed().as_millis());
}

/// A task whose date and whose place in a queue are plain words. Whoever
/// touches them has to be alone (INV-98).
struct Toy {
    date: UnsafeCell<u64>,
    place: UnsafeCell<u64>,
}

impl Toy {
    fn new(date: u64) -> Self {
        Self {
            date: UnsafeCell::new(date),
            place: UnsafeCell::new(date),
        }
    }

    /// The historic crash is here: a date that somebody takes away again
    /// between the caller's look at it and this one.
    fn file(&self) {
        let date = self.date.with(|d| unsafe { *d });
        assert_ne!(date, NEVER, "queued with no date");
        self.place.with_mut(|p| unsafe { *p = date.min(*p) });
    }

    fn schedule(&self, date: u64) {
        self.date.with_mut(|d| unsafe { *d = date.min(*d) });
        self.file();
    }

    /// A run begins. Like the scheduler, whoever calls this is alone.
    fn begin(&self) {
        self.date.with_mut(|d| unsafe { *d = NEVER });
        self.place.with_mut(|p| unsafe { *p = NEVER });
    }

    /// The handler's word.
    fn set(&self, date: u64) {
        self.date.with_mut(|d| unsafe { *d = date });
        if date != NEVER {
            self.file();
        }
    }

    /// When the scheduler runs it: it comes to the place, and goes by the date.
    fn due(&self) -> u64 {
        let date = self.date.with(|d| unsafe { *d });
        let place = self.place.with(|p| unsafe { *p });
        assert!(place <= date || date == NEVER);
        date
    }
}

/// An entry's memory.
struct Block {
    area: core::cell::UnsafeCell<Box<[u64]>>,
    freed: UnsafeCell<bool>,
}

/// The engine's parts, put together as the table does.
struct World {
    rules: Rules,
    shards: Vec<Shard>,
    readers: Readers,
    updates: Updates,
    numbers: [AtomicU32; 3],
    expiry: Expiry,
    toy: Toy,
    blocks: Vec<Block>,
    /// Buried entries that somebody may still look at.
    limbo: std::sync::Mutex<Vec<(Stamp, Dead)>>,
}

unsafe impl Send for World {}
unsafe impl Sync for World {}

const NOW: u64 = 1000;
const LIFETIME: u64 = 100;

/// Threads as readers know them.
const MAIN: usize = 0;
const ONE: usize = 1;

impl World {
    /// Entries with these keys and dates; none is stored.
    fn new(shards: usize, entries: &[(u32, u64)], run: u64) -> Self {
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

    fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }

    fn entry(&self, id: usize) -> *mut Entry {
        let area = unsafe { (*self.blocks[id].area.get()).as_mut_ptr() };
        let below = self.rules.layout.size() - size_of::<Entry>();
        area.wrapping_byte_add(below).cast()
    }

    fn id(&self, ts: *mut Entry) -> usize {
        let ids = 0..self.blocks.len();
        ids.into_iter().find(|&id| self.entry(id) == ts).unwrap()
    }

    fn life(&self, id: usize) -> &Life {
        unsafe { &(*self.entry(id)).life }
    }

    /// Whoever holds or sees the entry does something with it.
    fn touch(&self, ts: *mut Entry) {
        let freed = &self.blocks[self.id(ts)].freed;
        freed.with(|f| assert!(unsafe { !*f }, "used after it was freed"));
    }

    fn times(now: u64) -> Times {
        Times {
            now,
            recheck: now + LIFETIME,
            horizon: 0,
        }
    }

    fn hash(&self, key: u32) -> u64 {
        self.rules.keys.hash(&key.to_ne_bytes())
    }

    /// As `Table::store` does: a reference to the entry that is stored.
    fn store(&self, shard: usize, id: usize) -> *mut Entry {
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
    fn put(&self, shard: usize, id: usize) {
        unsafe { (*self.store(shard, id)).life.release() };
    }

    fn arm(&self, date: u64) {
        let _ = self.expiry.arm(date, || self.toy.schedule(date));
    }

    /// As `Table::touch` with a date that is earlier.
    fn lower(&self, shard: usize, id: usize, date: u64) {
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
    fn lookup(&self, tid: usize, key: u32) -> *mut Entry {
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

    fn look_and_release(&self, tid: usize, key: u32) {
        let ts = self.lookup(tid, key);
        if !ts.is_null() {
            self.release(ts);
        }
    }

    fn release(&self, ts: *mut Entry) {
        model_point();
        self.touch(ts);
        unsafe { (*ts).life.release() };
    }

    fn kill(&self, id: usize, bury: impl FnOnce(&Entry) -> Bury) -> bool {
        model_point();
        let mut dead = Dead::default();
        let killed = unsafe { self.shards[0].kill(&self.rules, self.entry(id), bury, &mut dead) };
        assert_eq!(dead.len, usize::from(killed));
        self.bury(dead);
        killed
    }

    fn evict(&self, n: usize) -> usize {
        model_point();
        let mut dead = Dead::default();
        let times = Self::times(NOW);
        self.shards[0].evict(&self.rules, &times, n, 8, &mut dead);
        let n = dead.len;
        self.bury(dead);
        n
    }

    /// As `Table::expire`, for a scheduler that calls it alone.
    fn expire(&self, now: u64) {
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
    fn bury(&self, mut dead: Dead) {
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

    fn free(&self, dead: &mut Dead) {
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

    fn counters(&self) -> Counters<'_> {
        Counters {
            update: &self.numbers[0],
            local: &self.numbers[1],
            commit: &self.numbers[2],
        }
    }

    fn update(&self, id: usize) -> &Update {
        unsafe { &*self.rules.layout.update(self.entry(id)) }
    }

    /// As `Table::touch` does for the peers.
    fn publish(&self, id: usize, local: bool) {
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
    fn update_after(&self, from: u32, to: u32) -> Option<(*mut Entry, u32)> {
        model_point();
        let layout = self.rules.layout;
        let (update, number) = self.updates.after(from, to, |update| {
            let ts = layout.of_update(update);
            self.touch(ts);
            unsafe { (*ts).life.take() == Take::Held }
        })?;
        Some((layout.of_update(update), number))
    }

    fn numbers_of(&self, from: u32, to: u32) -> Vec<(usize, u32)> {
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
    fn settle(&self) {
        for (stamp, mut dead) in self.limbo.lock().unwrap().drain(..) {
            assert!(self.readers.is_over(stamp), "a look that never ends");
            self.free(&mut dead);
        }
    }

    fn is_freed(&self, id: usize) -> bool {
        self.blocks[id].freed.with(|f| unsafe { *f })
    }

    /// Nobody touches the table any more: its task, whenever it is due, empties
    /// it, and then rests (INV-97).
    fn run_out(&self) {
        for _ in 0..10 {
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

use keel::sync::atomic::Ordering;

fn spawn(w: &Arc<World>, f: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let w = w.clone();
    thread::spawn(move || f(&w))
}

// --- the date of the task --------------------------------------------------

/// The seed (STK-1, 2, 4): the last entry is created while the handler runs. It
/// is not queued without a date, and the table empties.
#[test]
fn creation_against_the_handler() {
    explore("creation_against_the_handler", None, || {
        let w = World::new(1, &[(1, NOW), (2, NOW + 50)], NEVER).shared();
        w.put(0, 0);
        w.toy.begin();
        let creator = spawn(&w, |w| w.put(0, 1));
        w.expire(NOW);
        creator.join().unwrap();
        w.run_out();
    });
}

/// The same with two creators, of which the later needs the earlier date.
#[test]
fn two_creations_against_the_handler() {
    explore("two_creations_against_the_handler", Some(3), || {
        let w = World::new(1, &[(1, NOW), (2, NOW + 50), (3, NOW + 20)], NEVER).shared();
        w.put(0, 0);
        w.toy.begin();
        let one = spawn(&w, |w| w.put(0, 1));
        let two = spawn(&w, |w| w.put(0, 2));
        w.expire(NOW);
        one.join().unwrap();
        two.join().unwrap();
        w.run_out();
    });
}

/// The entry goes to a shard that the handler has passed, while it is in the
/// next one.
#[test]
fn creation_behind_the_handler() {
    explore("creation_behind_the_handler", None, || {
        let w = World::new(2, &[(1, NOW), (2, NOW + 20), (3, NOW + 50)], NEVER).shared();
        w.put(1, 0);
        w.put(1, 2);
        w.toy.begin();
        let creator = spawn(&w, |w| w.put(0, 1));
        w.expire(NOW);
        creator.join().unwrap();
        w.run_out();
    });
}

/// A holder gives its entry an earlier date while the handler files it again;
/// it may be due at once.
#[test]
fn a_lowered_date_against_the_handler() {
    for date in [NOW, NOW + 20] {
        explore("a_lowered_date_against_the_handler", None, move || {
            // Where it is filed it is looked at now.
            let w = World::new(1, &[(1, NOW)], NEVER).shared();
            w.store(0, 0);
            let _ = w.life(0).touch(NOW as u32 + 60, false);
            w.toy.begin();
            let holder = spawn(&w, move |w| {
                w.lower(0, 0, date);
                w.release(w.entry(0));
            });
            w.expire(NOW);
            holder.join().unwrap();
            w.run_out();
        });
    }
}

/// What was touched in time stays, though nobody holds it any more when the
/// handler comes to bury it.
#[test]
fn a_touch_that_releases_against_the_handler() {
    explore("a_touch_that_releases_against_the_handler", None, || {
        let w = World::new(1, &[(1, NOW)], NEVER).shared();
        w.store(0, 0);
        w.toy.begin();
        let holder = spawn(&w, |w| {
            model_point();
            let _ = w.life(0).touch(NOW as u32 + 60, true);
        });
        w.expire(NOW);
        holder.join().unwrap();
        let ts = w.lookup(0, 1);
        assert!(!ts.is_null(), "it was touched while it was held");
        w.release(ts);
        w.run_out();
    });
}

/// Two holders move one date, one earlier and one later: whatever it is in the
/// end, the task comes by then.
#[test]
fn two_dates_at_once() {
    explore("two_dates_at_once", None, || {
        let w = World::new(1, &[(1, NOW + 80)], NEVER).shared();
        w.store(0, 0);
        let one = spawn(&w, |w| w.lower(0, 0, NOW + 20));
        w.lower(0, 0, NOW + 50);
        one.join().unwrap();
        let date = unsafe { World::times(NOW).date(&*w.entry(0)) };
        assert!(w.toy.due() <= date, "after {date}");
        w.release(w.entry(0));
        w.run_out();
    });
}

/// The touch that skips the lock does so for what the handler will find: two
/// runs of it, and a creation whenever.
#[test]
fn creation_against_two_runs() {
    explore("creation_against_two_runs", None, || {
        let w = World::new(1, &[(1, NOW), (2, NOW + 5), (3, NOW + 20)], NEVER).shared();
        w.put(0, 0);
        w.put(0, 1);
        w.toy.begin();
        let runs = spawn(&w, |w| {
            w.expire(NOW);
            w.expire(NOW + 5);
        });
        w.put(0, 2);
        runs.join().unwrap();
        w.run_out();
    });
}

// --- references ------------------------------------------------------------

/// A look without a lock against a removal, and the freeing that waits for it.
#[test]
fn a_lookup_against_a_kill() {
    explore("a_lookup_against_a_kill", None, || {
        let w = World::new(1, &[(7, NOW + 50)], NEVER).shared();
        w.put(0, 0);
        let reader = spawn(&w, |w| w.look_and_release(ONE, 7));
        let killed = w.kill(0, |ts| ts.life.end(0, |_| true));
        reader.join().unwrap();
        w.settle();
        assert_eq!(w.is_freed(0), killed, "freed if nobody held it");
        assert_eq!(w.shards[0].is_empty(), killed);
    });
}

/// Two entries in one chain: who looks at the one that goes finds the other.
#[test]
fn a_neighbour_of_what_goes_is_found() {
    explore("a_neighbour_of_what_goes_is_found", None, || {
        let w = World::new(1, &[(7, NOW + 50), (8, NOW + 50)], NEVER).shared();
        w.put(0, 0);
        w.put(0, 1);
        let readers = [(ONE, 7), (ONE, 8)];
        let reader = spawn(&w, move |w| {
            for (tid, key) in readers {
                let ts = w.lookup(tid, key);
                assert!(!ts.is_null() || key == 7, "lost");
                if !ts.is_null() {
                    w.release(ts);
                }
            }
        });
        w.kill(0, |ts| ts.life.end(0, |_| true));
        reader.join().unwrap();
        w.settle();
    });
}

/// INV-90, 91 (STK-5, 6, 7): a look-up, the handler and somebody who kills what
/// it holds. Freed once, and not while anybody holds it.
#[test]
fn a_lookup_against_a_kill_and_the_handler() {
    explore("a_lookup_against_a_kill_and_the_handler", Some(4), || {
        let w = World::new(1, &[(7, NOW)], NEVER).shared();
        w.store(0, 0);
        let reader = spawn(&w, |w| w.look_and_release(ONE, 7));
        let handler = spawn(&w, |w| {
            w.toy.begin();
            w.expire(NOW);
        });
        let killed = w.kill(0, |ts| ts.life.end(1, |_| true));
        reader.join().unwrap();
        handler.join().unwrap();
        w.settle();
        assert!(!killed || w.is_freed(0));
        w.run_out();
    });
}

/// The same with eviction, of an entry that would not be due.
#[test]
fn a_lookup_against_a_kill_and_eviction() {
    explore("a_lookup_against_a_kill_and_eviction", Some(4), || {
        let w = World::new(1, &[(7, NOW + 50)], NEVER).shared();
        w.store(0, 0);
        let reader = spawn(&w, |w| w.look_and_release(ONE, 7));
        let evicts = spawn(&w, |w| {
            w.evict(1);
        });
        let killed = w.kill(0, |ts| ts.life.end(1, |_| true));
        reader.join().unwrap();
        evicts.join().unwrap();
        w.settle();
        assert!(!killed || w.is_freed(0));
        assert_eq!(w.is_freed(0), w.shards[0].is_empty());
    });
}

/// STK-7: two hold an entry and kill it, and it is evicted: one of the three
/// frees it, and whoever says so has (INV-114).
#[test]
fn two_kills_and_eviction() {
    explore("two_kills_and_eviction", None, || {
        let w = World::new(1, &[(7, NOW + 50)], NEVER).shared();
        w.store(0, 0);
        let _ = w.life(0).take();
        let killer = spawn(&w, |w| {
            w.kill(0, |ts| ts.life.end(1, |_| true));
        });
        let evicts = spawn(&w, |w| {
            w.evict(1);
        });
        w.kill(0, |ts| ts.life.end(1, |_| true));
        killer.join().unwrap();
        evicts.join().unwrap();
        w.settle();
        assert!(w.is_freed(0), "two gave it back, and the last one frees it");
    });
}

/// Somebody creates a key that another one kills: what is stored lives.
#[test]
fn a_creation_against_a_kill_of_its_key() {
    explore("a_creation_against_a_kill_of_its_key", None, || {
        let w = World::new(1, &[(7, NOW + 50), (7, NOW + 50)], NEVER).shared();
        w.store(0, 0);
        let creator = spawn(&w, |w| {
            let ts = w.store(0, 1);
            w.release(ts);
        });
        w.kill(0, |ts| ts.life.end(1, |_| true));
        creator.join().unwrap();
        w.settle();
        let ts = w.lookup(MAIN, 7);
        assert!(ts.is_null() == w.shards[0].is_empty());
        assert_eq!(
            w.shards[0].len(),
            usize::from(!w.is_freed(0) || ts == w.entry(1))
        );
    });
}

/// INV-94 (STK-14): two create one key; both get the one that is stored.
#[test]
fn two_creators_of_one_key() {
    explore("two_creators_of_one_key", None, || {
        let w = World::new(1, &[(7, NOW + 50), (7, NOW + 50)], NEVER).shared();
        let got = Arc::new(Mutex::new(core::ptr::null_mut()));
        let other = {
            let (w, got) = (w.clone(), got.clone());
            thread::spawn(move || *got.lock() = w.store(0, 1))
        };
        let mine = w.store(0, 0);
        other.join().unwrap();
        assert_eq!(mine, *got.lock(), "two entries of one key");
        assert_eq!(w.shards[0].len(), 1);
        let (stored, free) = (w.id(mine), 1 - w.id(mine));
        assert_eq!(w.life(stored).count(), 2, "a reference each (INV-92)");
        assert_eq!(w.life(free).count(), 0, "the loser still owns its own");
        assert_eq!(w.lookup(MAIN, 7), mine);
    });
}

/// A look without a lock against the creation: what it finds is complete.
#[test]
fn a_lookup_against_a_creation() {
    explore("a_lookup_against_a_creation", Some(3), || {
        let w = World::new(1, &[(7, NOW + 50), (8, NOW + 50)], NEVER).shared();
        w.put(0, 0);
        // It splits the only chain, too.
        let creator = spawn(&w, |w| w.put(0, 1));
        let ts = w.lookup(MAIN, 7);
        assert!(!ts.is_null(), "a hit is lost while chains are split");
        w.release(ts);
        w.look_and_release(MAIN, 8);
        creator.join().unwrap();
        w.look_and_release(MAIN, 8);
        assert!(!w.lookup(MAIN, 8).is_null());
    });
}

/// The shard is emptied and gives the index's memory back while somebody looks.
#[test]
fn a_lookup_while_the_shard_is_tidied() {
    explore("a_lookup_while_the_shard_is_tidied", Some(2), || {
        let w = World::new(1, &[(7, NOW + 50), (8, NOW + 50)], NEVER).shared();
        w.put(0, 0);
        w.put(0, 1);
        assert_eq!(w.shards[0].buckets(), 2);
        let reader = spawn(&w, |w| {
            w.look_and_release(ONE, 7);
            w.look_and_release(ONE, 8);
        });
        let killed = [0, 1].map(|id| w.kill(id, |ts| ts.life.end(0, |_| true)));
        w.shards[0].tidy(&w.readers);
        w.shards[0].tidy(&w.readers);
        reader.join().unwrap();
        w.settle();
        if killed == [true; 2] {
            w.shards[0].tidy(&w.readers);
            assert_eq!(w.shards[0].buckets(), 1);
        }
    });
}

// --- updates ---------------------------------------------------------------

/// INV-90 (STK-5, 6, 8): who reads the updates takes references under their
/// lock alone, while the handler, eviction and a kill remove entries.
#[test]
fn a_reader_of_updates_against_removals() {
    const HOW: [fn(&World); 3] = [
        |w| {
            w.toy.begin();
            w.expire(NOW);
        },
        |w| {
            w.evict(1);
        },
        |w| {
            w.kill(0, |ts| ts.life.end(0, |_| true));
        },
    ];
    for (k, remove) in HOW.into_iter().enumerate() {
        let name = ["handler", "eviction", "kill"][k];
        explore(name, None, move || {
            let w = World::new(1, &[(7, NOW)], NEVER).shared();
            w.store(0, 0);
            w.publish(0, true);
            w.release(w.entry(0));
            let remover = spawn(&w, remove);
            if let Some((ts, number)) = w.update_after(0, 1) {
                w.touch(ts);
                assert_eq!(number, 1);
                w.release(ts);
            }
            remover.join().unwrap();
            w.settle();
            assert_eq!(w.is_freed(0), w.shards[0].is_empty());
            // What is gone has left the updates, and only that.
            let left = w.numbers_of(0, 1);
            assert_eq!(left.is_empty(), w.is_freed(0));
        });
    }
}

/// INV-104, 105 (STK-9, 10, 12): two touch one entry, a local and a remote
/// change; it has one place, a local one.
#[test]
fn a_local_and_a_remote_touch() {
    explore("a_local_and_a_remote_touch", None, || {
        let w = World::new(1, &[(7, NOW + 50)], NEVER).shared();
        w.store(0, 0);
        let _ = w.life(0).take();
        let peer = spawn(&w, |w| {
            w.publish(0, false);
            w.release(w.entry(0));
        });
        w.publish(0, true);
        peer.join().unwrap();
        let [update, local] = [0, 1].map(|k| w.numbers[k].load(Ordering::Relaxed));
        assert_eq!(update, local, "the local change came last, or was kept");
        assert_eq!(w.numbers_of(0, local), [(0, local)]);
        assert_eq!(w.numbers_of(local, update.wrapping_add(1 << 31)), []);
    });
}

/// Two local touches of two entries, and a reader meanwhile: numbers are given
/// once, and nothing is announced twice.
#[test]
fn two_touches_and_a_reader() {
    explore("two_touches_and_a_reader", None, || {
        let w = World::new(1, &[(7, NOW + 50), (8, NOW + 50)], NEVER).shared();
        w.store(0, 0);
        w.store(0, 1);
        let other = spawn(&w, |w| w.publish(1, true));
        let reader = spawn(&w, |w| {
            let seen = w.numbers_of(0, 2);
            assert!(seen.len() <= 2 && (seen.len() < 2 || seen[0].0 != seen[1].0));
        });
        w.publish(0, true);
        other.join().unwrap();
        reader.join().unwrap();
        let mut all = w.numbers_of(0, 2);
        all.sort_unstable();
        assert!([[(0, 1), (1, 2)], [(0, 2), (1, 1)]].contains(&all.as_slice().try_into().unwrap()));
    });
}

// --- the index -------------------------------------------------------------

/// An index with hashes of the model's own.
struct Chains {
    index: Index,
    lock: Mutex<()>,
    readers: Readers,
    world: World,
    hashes: &'static [u64],
    /// Written before an entry is linked, read by who finds it.
    contents: Vec<UnsafeCell<bool>>,
}

unsafe impl Send for Chains {}
unsafe impl Sync for Chains {}

impl Chains {
    fn new(hashes: &'static [u64]) -> Arc<Self> {
        let keys: Vec<_> = (0..hashes.len() as u32).map(|k| (k, NOW)).collect();
        Arc::new(Self {
            index: Index::new().unwrap(),
            lock: Mutex::new(()),
            readers: Readers::new(),
            world: World::new(1, &keys, NEVER),
            hashes,
            contents: hashes.iter().map(|_| UnsafeCell::new(false)).collect(),
        })
    }

    fn insert(&self, id: usize) {
        model_point();
        self.contents[id].with_mut(|c| unsafe { *c = true });
        let _lock = self.lock.lock();
        unsafe { self.index.insert(self.world.entry(id), self.hashes[id]) };
    }

    fn grow(&self, len: usize) {
        model_point();
        let _lock = self.lock.lock();
        let hash_of = |ts| {
            model_point();
            self.hashes[self.world.id(ts)]
        };
        unsafe { self.index.grow(len, hash_of) };
    }

    fn remove(&self, id: usize) {
        model_point();
        let _lock = self.lock.lock();
        unsafe { self.index.remove(self.world.entry(id), self.hashes[id]) };
    }

    fn shrink(&self) -> Option<(Stamp, Segments)> {
        model_point();
        let _lock = self.lock.lock();
        let gone = unsafe { self.index.shrink() };
        gone.map(|segments| (self.readers.stamp(), segments))
    }

    /// What was unlinked is freed, if nobody can see it.
    fn free(&self, id: usize) {
        model_point();
        if self.readers.is_over(self.readers.stamp()) {
            self.world.blocks[id]
                .freed
                .with_mut(|f| unsafe { *f = true });
        }
    }

    fn find(&self, tid: usize, id: usize) -> Find {
        model_point();
        let _looking = self.readers.look(tid);
        let wanted = self.world.entry(id);
        unsafe {
            self.index.find(self.hashes[id], |ts| {
                model_point();
                self.world.touch(ts);
                self.contents[self.world.id(ts)].with(|c| assert!(*c, "not complete"));
                ts == wanted
            })
        }
    }
}

fn with(c: &Arc<Chains>, f: impl FnOnce(&Chains) + 'static) -> thread::JoinHandle<()> {
    let c = c.clone();
    thread::spawn(move || f(&c))
}

/// While its chain is split an entry that is there is not missed, wherever it
/// goes; a miss that is not certain says so.
#[test]
fn a_look_during_a_split() {
    // They stay, they go, by turns and both at once.
    const CASES: [&[u64]; 3] = [&[0, 1, 0], &[1, 0, 1], &[1, 1, 0]];
    for hashes in CASES {
        explore("a_look_during_a_split", Some(3), move || {
            let c = Chains::new(hashes);
            (0..3).for_each(|id| c.insert(id));
            let split = with(&c, |c| c.grow(3));
            for id in [0, 2] {
                match c.find(MAIN, id) {
                    Find::Found(ts) => assert_eq!(c.world.id(ts), id),
                    Find::Absent => panic!("entry {id} is missed"),
                    Find::Unsure => {}
                }
            }
            split.join().unwrap();
            for id in 0..3 {
                assert!(matches!(c.find(MAIN, id), Find::Found(_)));
            }
        });
    }
}

/// The next segment comes, with the second split.
#[test]
fn a_look_during_two_splits() {
    explore("a_look_during_two_splits", Some(2), || {
        let c = Chains::new(&[2, 0, 3]);
        (0..3).for_each(|id| c.insert(id));
        let split = with(&c, |c| {
            c.grow(3);
            c.grow(3);
        });
        assert_ne!(c.find(MAIN, 0), Find::Absent);
        assert_ne!(c.find(MAIN, 2), Find::Absent);
        split.join().unwrap();
        assert_eq!(c.index.buckets(), 3);
        for id in 0..3 {
            assert!(matches!(c.find(MAIN, id), Find::Found(_)));
        }
    });
}

/// What is found was complete before it was linked; what is unlinked is freed
/// behind everybody who looks.
#[test]
fn a_look_during_insertion_and_removal() {
    explore("a_look_during_insertion_and_removal", Some(3), || {
        let c = Chains::new(&[0, 0, 0]);
        c.insert(0);
        c.insert(1);
        let other = with(&c, |c| {
            c.insert(2);
            c.remove(1);
            c.free(1);
        });
        assert_ne!(c.find(MAIN, 0), Find::Absent);
        let _ = c.find(MAIN, 2);
        other.join().unwrap();
        assert!(matches!(c.find(MAIN, 2), Find::Found(_)));
        assert_eq!(c.find(MAIN, 1), Find::Absent);
    });
}

/// An emptied index gives its segments back while somebody looks: not before
/// the look is over, and what is stored next is found.
#[test]
fn a_look_while_the_index_shrinks() {
    explore("a_look_while_the_index_shrinks", Some(3), || {
        let c = Chains::new(&[1, 1]);
        c.insert(0);
        c.grow(2);
        c.remove(0);
        let other = with(&c, |c| {
            let gone = c.shrink();
            c.insert(1);
            let (stamp, segments) = gone.unwrap();
            if c.readers.is_over(stamp) {
                drop(segments);
            } else {
                core::mem::forget(segments);
            }
        });
        let _ = c.find(MAIN, 0);
        let before = c.find(MAIN, 1);
        other.join().unwrap();
        assert!(
            matches!(c.find(MAIN, 1), Find::Found(_)),
            "after {before:?}"
        );
    });
}

/// A key that was there all the time is found while the index shrinks and
/// grows anew, if the look ends after it came.
#[test]
fn a_look_while_the_index_shrinks_and_grows() {
    explore("a_look_while_the_index_shrinks_and_grows", Some(3), || {
        let c = Chains::new(&[1, 1, 0]);
        c.insert(0);
        c.grow(2);
        c.remove(0);
        let ready = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let other = {
            let (c, ready) = (c.clone(), ready.clone());
            thread::spawn(move || {
                core::mem::forget(c.shrink());
                c.insert(1);
                ready.store(true, Ordering::Release);
                c.insert(2);
                c.grow(2);
            })
        };
        if ready.load(Ordering::Acquire) {
            assert_ne!(c.find(MAIN, 1), Find::Absent);
        } else {
            let _ = c.find(MAIN, 1);
        }
        other.join().unwrap();
        assert!(matches!(c.find(MAIN, 1), Find::Found(_)));
    });
}

/// What a holder did with an entry comes before its burial, whichever way it
/// gave its reference back.
// SHOWS: INV-90, INV-91
#[test]
fn a_burial_comes_after_what_holders_did() {
    fn bury(entry: &(Life, UnsafeCell<i32>)) {
        if entry.0.end(1, |_| true) == Bury::Buried {
            // SAFETY: buried, which frees it; loom checks.
            entry.1.with_mut(|data| unsafe { *data = 2 });
        }
    }
    let ways: [fn(&(Life, UnsafeCell<i32>)); 3] = [
        |entry| {
            let _ = entry.0.touch(NOW as u32 + 60, true);
        },
        |entry| {
            let _ = entry.0.release();
        },
        bury,
    ];
    for leave in ways {
        explore("a_burial_comes_after_what_holders_did", None, move || {
            let entry = Arc::new((Life::new(NOW as u32), UnsafeCell::new(0)));
            for _ in 0..2 {
                assert_eq!(entry.0.take(), Take::Held);
            }
            let held = entry.clone();
            let holder = thread::spawn(move || {
                // SAFETY: who holds it may use it, under a lock that its data
                // has; loom checks. The other one does not.
                held.1.with_mut(|data| unsafe { *data = 1 });
                leave(&held);
                model_point();
            });
            model_point();
            bury(&entry);
            holder.join().unwrap();
        });
    }
}
