//! Every interleaving of the self-locked shared list: threads take a cluster,
//! take all, and put back, while what they do not put back is scribbled over
//! at once, as by a system that reuses or unmaps what it gets. Loom reports
//! whoever still reads it (POOL-1), whoever never gets the head (POOL-2), and
//! the counts at the end show what was lost or doubled (POOL-3).
//!
//! Where threads contend, the store that unlocks the head is an exchange, and
//! who has waited looks with one, or loom would let waiters starve (publish()
//! and look() in src/pool/shared.rs). The exchange carries on what earlier
//! pushes released; that the store does so too has a model of its own.
//!
//! Run: RUSTFLAGS="--cfg loom" cargo test --release --test loom_pool
#![cfg(loom)]

use keel::pool::shared::{CLUSTER_MAX, Cluster, Item, SharedList};
use keel::sync::UnsafeCell as Slot;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

/// Pointers behind the links: a cluster of three has a second leader.
const SLOTS: usize = 1;

/// An object: its links and slots, and what a user wrote in it.
#[repr(C)]
struct Object {
    item: Item,
    slots: [Slot<*mut u8>; SLOTS],
    data: UnsafeCell<u32>,
}

impl Object {
    fn new() -> Self {
        Self {
            item: Item::new(),
            slots: std::array::from_fn(|_| Slot::new(std::ptr::null_mut())),
            data: UnsafeCell::new(0),
        }
    }
}

struct World {
    list: SharedList,
    objects: Vec<Object>,
}

// SAFETY: objects belong to whoever took them from the list, which is what
// the models check.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    /// A list of clusters of the given sizes.
    fn new(clusters: &[usize]) -> Arc<Self> {
        Self::with_spares(clusters, 0)
    }

    /// The same, and objects that belong to nobody yet: the last ones.
    fn with_spares(clusters: &[usize], spares: usize) -> Arc<Self> {
        Self::around(SharedList::new(), clusters, spares)
    }

    fn around(list: SharedList, clusters: &[usize], spares: usize) -> Arc<Self> {
        let count = clusters.iter().sum::<usize>() + spares;
        let world = Self {
            list,
            objects: (0..count).map(|_| Object::new()).collect(),
        };
        let mut at = 0;
        for &size in clusters {
            world.put(&(at..at + size).collect::<Vec<_>>());
            at += size;
        }
        Arc::new(world)
    }

    /// The number of an object.
    fn number(&self, item: *mut Item) -> usize {
        self.objects
            .iter()
            .position(|o| std::ptr::eq(std::ptr::from_ref(o).cast(), item))
            .expect("a link that leads to no object")
    }

    fn numbers(&self, cluster: Cluster) -> Vec<usize> {
        let mut items = [std::ptr::null_mut(); CLUSTER_MAX];
        // SAFETY: put() tied it.
        let n = unsafe { cluster.untie(SLOTS, &mut items) };
        items[..n]
            .iter()
            .map(|&item| self.number(item.cast()))
            .collect()
    }

    /// Takes a cluster and uses its objects.
    fn pop(&self) -> Vec<usize> {
        let taken = self.list.pop().map_or(Vec::new(), |c| self.numbers(c));
        self.write(&taken);
        taken
    }

    /// Takes all and uses the objects.
    fn take_all(&self) -> Vec<usize> {
        let mut taken = Vec::new();
        for cluster in self.list.take_all() {
            taken.extend(self.numbers(cluster));
        }
        self.write(&taken);
        taken
    }

    /// A user's writes: a race with another user, or with the last one, shows.
    fn write(&self, numbers: &[usize]) {
        for &n in numbers {
            // SAFETY: loom checks that nobody else is here.
            self.objects[n].data.with_mut(|p| unsafe { *p += 1 });
        }
    }

    /// Puts objects that the caller owns into the list, as one cluster.
    fn put(&self, numbers: &[usize]) {
        let at = |&n: &usize| (&raw const self.objects[n]).cast_mut().cast();
        let items: Vec<*mut u8> = numbers.iter().map(at).collect();
        // SAFETY: the caller's objects.
        self.list.push(unsafe { Cluster::tie(&items, SLOTS) });
    }

    /// Gives objects that the caller owns to the system.
    fn free(&self, numbers: &[usize]) {
        for &n in numbers {
            // SAFETY: the caller's objects.
            unsafe {
                self.objects[n].item.scribble();
                for slot in &self.objects[n].slots {
                    slot.with_mut(|p| *p = std::ptr::null_mut());
                }
            }
        }
    }

    /// Nobody lost, nobody twice: all objects are in `seen` or in the list.
    fn check(&self, seen: Vec<Vec<usize>>) {
        let mut all: Vec<usize> = seen.into_iter().flatten().collect();
        all.extend(self.take_all());
        all.sort_unstable();
        assert_eq!(all, (0..self.objects.len()).collect::<Vec<_>>());
        // The list is as good as new.
        assert!(self.list.pop().is_none());
        self.put(&[0]);
        assert_eq!(self.pop(), [0]);
    }
}

type Thread = fn(&World) -> Vec<usize>;

/// Runs each function on a thread of its own; they return what they keep.
fn run(world: &Arc<World>, threads: &[Thread]) {
    let handles: Vec<_> = threads
        .iter()
        .map(|&f| {
            let world = world.clone();
            thread::spawn(move || f(&world))
        })
        .collect();
    let kept = handles.into_iter().map(|h| h.join().unwrap()).collect();
    world.check(kept);
}

/// Every interleaving, or those with up to `bound` preemptions.
fn model(bound: Option<usize>, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 20_000;
    builder.check(f);
}

fn pop_and_free(world: &World) -> Vec<usize> {
    let taken = world.pop();
    world.free(&taken);
    taken
}

fn pop_and_put(world: &World) -> Vec<usize> {
    let taken = world.pop();
    world.put(&taken);
    Vec::new()
}

fn flush(world: &World) -> Vec<usize> {
    let taken = world.take_all();
    world.free(&taken);
    taken
}

fn trim(world: &World) -> Vec<usize> {
    let mut taken = world.pop();
    let kept = taken.split_off(taken.len() / 2);
    world.free(&taken);
    world.put(&kept);
    taken
}

fn put_last(world: &World) -> Vec<usize> {
    world.put(&[world.objects.len() - 1]);
    Vec::new()
}

/// The hazard of story 1: both read the first object's link, and one of them
/// gives that object to the system.
#[test]
fn pool_1_two_pops_two_threads() {
    model(None, || {
        run(&World::new(&[1, 1]), &[pop_and_free, pop_and_free])
    });
}

#[test]
fn pool_1_pop_of_the_last_object() {
    model(None, || {
        run(&World::new(&[1]), &[pop_and_free, pop_and_free])
    });
}

#[test]
fn pool_2_two_flushes_and_then_a_user() {
    model(None, || {
        // check() uses the list afterwards: it must not be left BUSY.
        run(&World::new(&[2]), &[flush, flush]);
    });
}

#[test]
fn pool_2_pop_and_flush() {
    model(None, || run(&World::new(&[1]), &[pop_and_put, flush]));
}

#[test]
fn pool_3_flush_and_push() {
    model(None, || {
        run(&World::with_spares(&[1], 1), &[flush, put_last]);
    });
}

/// INV-4: one thread pushes two objects, another pops one, a third gets what
/// the second's unlock left, and sees what the first wrote. They come one
/// after the other, but nothing except the list orders them.
#[test]
fn inv_4_the_unlocking_store_publishes() {
    model(Some(3), || {
        let world = World::around(SharedList::with_plain_unlock(), &[], 2);
        let turn = Arc::new(AtomicUsize::new(0));
        let stages: [Thread; 3] = [
            |world| {
                world.write(&[0, 1]);
                world.put(&[0]);
                world.put(&[1]);
                Vec::new()
            },
            pop_and_free,
            pop_and_free,
        ];
        let handles: Vec<_> = (0..stages.len())
            .map(|i| {
                let (world, turn) = (world.clone(), turn.clone());
                thread::spawn(move || {
                    if turn.load(Relaxed) != i {
                        return Vec::new();
                    }
                    let kept = stages[i](&world);
                    turn.store(i + 1, Relaxed);
                    kept
                })
            })
            .collect();
        let kept: Vec<_> = handles.into_iter().map(|h| h.join().unwrap()).collect();
        if turn.load(Relaxed) > 0 {
            world.check(kept);
        }
    });
}

#[test]
fn pop_and_push() {
    model(None, || {
        run(&World::with_spares(&[1], 1), &[pop_and_free, put_last]);
    });
}

#[test]
fn trim_and_pop() {
    model(None, || run(&World::new(&[2, 1]), &[trim, pop_and_free]));
}

#[test]
fn three_pops() {
    model(Some(1), || {
        run(
            &World::new(&[1, 1]),
            &[pop_and_free, pop_and_put, pop_and_free],
        );
    });
}

#[test]
fn three_pop_flush_push() {
    model(Some(1), || {
        run(
            &World::with_spares(&[1, 1], 1),
            &[pop_and_free, flush, put_last],
        );
    });
}

#[test]
fn three_pop_trim_flush() {
    model(Some(1), || {
        run(&World::new(&[2, 1]), &[pop_and_put, trim, flush]);
    });
}
