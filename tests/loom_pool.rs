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

use keel::pool::buckets::Buckets;
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

/// What few threads share, and what many do.
enum Lists {
    One(SharedList),
    Two(Buckets),
}

struct World {
    lists: Lists,
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
        Self::around(Lists::One(SharedList::new()), clusters, spares)
    }

    /// Two buckets: the clusters lie in the first and the second by turns.
    fn buckets(clusters: &[usize], spares: usize) -> Arc<Self> {
        Self::around(Lists::Two(Buckets::new()), clusters, spares)
    }

    fn around(lists: Lists, clusters: &[usize], spares: usize) -> Arc<Self> {
        let count = clusters.iter().sum::<usize>() + spares;
        let world = Self {
            lists,
            objects: (0..count).map(|_| Object::new()).collect(),
        };
        let mut at = 0;
        for (i, &size) in clusters.iter().enumerate() {
            world.put(&(at..at + size).collect::<Vec<_>>(), i);
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

    /// Takes a cluster and uses its objects; `me` looks into its bucket first.
    fn pop(&self, me: usize) -> Vec<usize> {
        let cluster = match &self.lists {
            Lists::One(list) => list.pop(),
            Lists::Two(buckets) => buckets.pop(2, me).map(|(bucket, cluster)| {
                assert!(bucket < 2);
                cluster
            }),
        };
        let taken = cluster.map_or(Vec::new(), |c| self.numbers(c));
        self.write(&taken);
        taken
    }

    /// Takes a cluster from this bucket and no other, as gc does.
    fn pop_from(&self, bucket: usize) -> Vec<usize> {
        let cluster = match &self.lists {
            Lists::One(list) => list.pop(),
            Lists::Two(buckets) => buckets.pop_from(bucket),
        };
        let taken = cluster.map_or(Vec::new(), |c| self.numbers(c));
        self.write(&taken);
        taken
    }

    /// Takes all and uses the objects.
    fn take_all(&self) -> Vec<usize> {
        let numbers = |c| self.numbers(c);
        let taken: Vec<usize> = match &self.lists {
            Lists::One(list) => list.take_all().flat_map(numbers).collect(),
            Lists::Two(buckets) => buckets.take_all().flat_map(numbers).collect(),
        };
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

    /// Puts objects that the caller owns into the list, as one cluster;
    /// where there are buckets, into this one if it is free.
    fn put(&self, numbers: &[usize], bucket: usize) {
        let at = |&n: &usize| (&raw const self.objects[n]).cast_mut().cast();
        let items: Vec<*mut u8> = numbers.iter().map(at).collect();
        // SAFETY: the caller's objects.
        let cluster = unsafe { Cluster::tie(&items, SLOTS) };
        match &self.lists {
            Lists::One(list) => list.push(cluster),
            Lists::Two(buckets) => buckets.push(2, bucket % 2, cluster),
        }
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
        // The lists are as good as new.
        for bucket in 0..2 {
            assert_eq!(self.pop(bucket), []);
            self.put(&[0], bucket);
            assert_eq!(self.pop_from(bucket), [0]);
        }
    }
}

/// What the thread of that number does; it returns what it keeps.
type Thread = fn(&World, usize) -> Vec<usize>;

/// Runs each function on a thread of its own.
fn run(world: &Arc<World>, threads: &[Thread]) {
    let start = |(me, &f): (usize, &Thread)| {
        let world = world.clone();
        thread::spawn(move || f(&world, me))
    };
    let handles: Vec<_> = threads.iter().enumerate().map(start).collect();
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

fn pop_and_free(world: &World, me: usize) -> Vec<usize> {
    let taken = world.pop(me);
    world.free(&taken);
    taken
}

fn pop_and_put(world: &World, me: usize) -> Vec<usize> {
    let taken = world.pop(me);
    world.put(&taken, me + 1);
    Vec::new()
}

/// One object for the caller, who has no cache for the others.
fn pop_one(world: &World, me: usize) -> Vec<usize> {
    let mut taken = world.pop(me);
    if !taken.is_empty() {
        world.put(&taken.split_off(1), me);
    }
    world.free(&taken);
    taken
}

fn flush(world: &World, _: usize) -> Vec<usize> {
    let taken = world.take_all();
    world.free(&taken);
    taken
}

/// What gc does in each bucket.
fn trim(world: &World, _: usize) -> Vec<usize> {
    let buckets = match world.lists {
        Lists::One(_) => 1,
        Lists::Two(_) => 2,
    };
    let mut freed = Vec::new();
    for bucket in 0..buckets {
        let mut taken = world.pop_from(bucket);
        let kept = taken.split_off(taken.len() / 2);
        world.free(&taken);
        world.put(&kept, bucket);
        freed.extend(taken);
    }
    freed
}

fn put_last(world: &World, me: usize) -> Vec<usize> {
    world.put(&[world.objects.len() - 1], me);
    Vec::new()
}

fn put_last_and_pop(world: &World, me: usize) -> Vec<usize> {
    put_last(world, me);
    pop_and_free(world, me)
}

fn pop_twice(world: &World, me: usize) -> Vec<usize> {
    let mut taken = pop_and_free(world, me);
    taken.extend(pop_and_free(world, me));
    taken
}

/// The hazard of story 1: both read the first object's link, and one of them
/// gives that object to the system.
// SHOWS: INV-3, INV-5
#[test]
fn pool_1_two_pops_two_threads() {
    model(None, || {
        run(&World::new(&[1, 1]), &[pop_and_free, pop_and_free])
    });
}

// SHOWS: INV-3
#[test]
fn pool_1_pop_of_the_last_object() {
    model(None, || {
        run(&World::new(&[1]), &[pop_and_free, pop_and_free])
    });
}

// SHOWS: INV-3
#[test]
fn pool_2_two_flushes_and_then_a_user() {
    model(None, || {
        // check() uses the list afterwards: it must not be left BUSY.
        run(&World::new(&[2]), &[flush, flush]);
    });
}

// SHOWS: INV-3
#[test]
fn pool_2_pop_and_flush() {
    model(None, || run(&World::new(&[1]), &[pop_and_put, flush]));
}

// SHOWS: INV-1, INV-26
#[test]
fn pool_3_flush_and_push() {
    model(None, || {
        run(&World::with_spares(&[1], 1), &[flush, put_last]);
    });
}

/// One thread pushes two objects, another pops one, a third gets what
/// the second's unlock left, and sees what the first wrote. They come one
/// after the other, but nothing except the list orders them.
// SHOWS: INV-4
#[test]
fn inv_4_the_unlocking_store_publishes() {
    model(Some(3), || {
        let world = World::around(Lists::One(SharedList::with_plain_unlock()), &[], 2);
        let turn = Arc::new(AtomicUsize::new(0));
        let stages: [Thread; 3] = [
            |world, _| {
                world.write(&[0, 1]);
                world.put(&[0], 0);
                world.put(&[1], 0);
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
                    let kept = stages[i](&world, i);
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

// SHOWS: INV-4
#[test]
fn pop_and_push() {
    model(None, || {
        run(&World::with_spares(&[1], 1), &[pop_and_free, put_last]);
    });
}

// SHOWS: INV-5
#[test]
fn trim_and_pop() {
    model(None, || run(&World::new(&[2, 1]), &[trim, pop_and_free]));
}

// SHOWS: INV-2
#[test]
fn three_pops() {
    model(Some(1), || {
        run(
            &World::new(&[1, 1]),
            &[pop_and_free, pop_and_put, pop_and_free],
        );
    });
}

// SHOWS: INV-26
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

/// Clusters of two and three: one and two of their objects hold pointers.
// SHOWS: INV-2
#[test]
fn clusters_pass_whole() {
    model(None, || run(&World::new(&[3, 2]), &[pop_one, pop_and_put]));
}

// SHOWS: INV-26
#[test]
fn alloc_alloc_and_flush() {
    model(None, || run(&World::new(&[1, 1]), &[pop_twice, flush]));
}

#[test]
fn alloc_alloc_and_free() {
    model(None, || {
        run(&World::with_spares(&[1], 1), &[pop_twice, put_last]);
    });
}

// SHOWS: INV-5
#[test]
fn alloc_alloc_and_gc() {
    model(None, || run(&World::new(&[2, 1]), &[pop_twice, trim]));
}

// SHOWS: INV-5, INV-26
#[test]
fn gc_and_flush() {
    model(None, || run(&World::new(&[2, 2]), &[trim, flush]));
}

#[test]
fn gc_and_gc() {
    model(None, || run(&World::new(&[2, 2]), &[trim, trim]));
}

// SHOWS: INV-26
#[test]
fn free_alloc_and_flush() {
    model(None, || {
        run(&World::with_spares(&[1], 1), &[flush, put_last_and_pop]);
    });
}

#[test]
fn three_alloc_alloc_free_gc() {
    model(Some(1), || {
        run(
            &World::with_spares(&[2, 1], 1),
            &[pop_twice, put_last, trim],
        );
    });
}

#[test]
fn three_one_of_many_flush_gc() {
    model(Some(1), || {
        run(&World::new(&[3, 2]), &[pop_one, flush, trim]);
    });
}

/// Each bucket's objects reach threads that look elsewhere first.
// SHOWS: INV-17
#[test]
fn inv_17_an_empty_bucket_is_not_the_end() {
    model(None, || {
        let world = World::buckets(&[1], 0);
        assert_eq!(world.pop(1), [0]);
        world.put(&[0], 1);
        assert_eq!(world.pop(0), [0]);
        world.put(&[0], 0);
        world.check(Vec::new());
    });
}

#[test]
fn buckets_pop_and_pop() {
    model(None, || {
        run(&World::buckets(&[1, 1], 0), &[pop_and_free, pop_and_free]);
    });
}

/// Both in one bucket: one finds it held, looks elsewhere, and comes back.
// SHOWS: INV-3, INV-17
#[test]
fn buckets_two_at_one_head() {
    model(None, || {
        let world = World::buckets(&[1], 1);
        run(&world, &[pop_and_free, |world, _| put_last(world, 0)]);
    });
}

// SHOWS: INV-26
#[test]
fn buckets_pop_and_flush() {
    model(None, || {
        run(&World::buckets(&[2, 1], 0), &[pop_and_put, flush]);
    });
}

#[test]
fn buckets_free_and_gc() {
    model(None, || {
        run(&World::buckets(&[2, 1], 1), &[put_last, trim]);
    });
}

#[test]
fn buckets_three_pop_free_flush() {
    model(Some(1), || {
        run(&World::buckets(&[1, 1], 1), &[pop_and_put, put_last, flush]);
    });
}

#[test]
fn buckets_three_pop_pop_gc() {
    model(Some(1), || {
        run(&World::buckets(&[2, 2], 0), &[pop_one, pop_and_free, trim]);
    });
}
