//! Models of stick tables: the date of the expiry task, references against
//! removal, the index under the eyes of readers. Each explores the parts that
//! ship; what stands for the table around them is `World`, in tests/common/table.rs.
#![cfg(loom)]
#![allow(clippy::undocumented_unsafe_blocks)] // loom checks every access

#[path = "common/table.rs"]
mod table;

use core::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};
use keel::stick_table::expiry::NEVER;
use keel::stick_table::index::{Find, Index, Segments};
use keel::stick_table::life::{Bury, Life, Take};
use keel::stick_table::readers::{Readers, Stamp};
use keel::sync::{Mutex, UnsafeCell, model_point};
use loom::sync::Arc;
use loom::thread;
use table::*;

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

impl World {
    fn shared(self) -> Arc<Self> {
        Arc::new(self)
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
// SHOWS: INV-97, INV-98, STK-1, STK-2, STK-3, STK-4
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
// SHOWS: INV-97, INV-98
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
// SHOWS: INV-97, INV-98
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
// SHOWS: INV-96, INV-97
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
// SHOWS: INV-90
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
// SHOWS: INV-97
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
// SHOWS: INV-97, INV-98
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
// SHOWS: INV-90
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

/// A look-up, the handler and somebody who kills what
/// it holds. Freed once, and not while anybody holds it.
// SHOWS: INV-90, INV-91, STK-5, STK-6, STK-7
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
// SHOWS: INV-90, INV-91, STK-6, STK-7
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

/// Two hold an entry and kill it, and it is evicted: one of the three
/// frees it, and whoever says so has.
// SHOWS: INV-91, INV-114, STK-7
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
// SHOWS: INV-90, INV-94
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

/// Two create one key; both get the one that is stored.
// SHOWS: INV-92, INV-94, STK-14
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
// SHOWS: INV-90
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
// SHOWS: INV-90
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

/// Who reads the updates takes references under their
/// lock alone, while the handler, eviction and a kill remove entries.
// SHOWS: INV-90, INV-105, STK-5, STK-6, STK-8
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

/// Two touch one entry, a local and a remote
/// change; it has one place, a local one.
// SHOWS: INV-104, INV-105, STK-9, STK-10, STK-12
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
// SHOWS: INV-104
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
// SHOWS: INV-94
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
// SHOWS: INV-90
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

/// What stands behind a removed entry was complete as well, for who gets there
/// by the removal's link alone.
// SHOWS: INV-94
#[test]
fn a_look_past_a_removal() {
    explore("a_look_past_a_removal", Some(3), || {
        let c = Chains::new(&[0, 0]);
        let other = with(&c, |c| {
            c.insert(0);
            c.insert(1);
            c.remove(1);
            model_point();
        });
        let _ = c.find(MAIN, 0);
        other.join().unwrap();
        assert!(matches!(c.find(MAIN, 0), Find::Found(_)));
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
