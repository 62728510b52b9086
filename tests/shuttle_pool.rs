//! The shared lists of free objects under eight threads, which take, use, put
//! back, give to the system and take from there again, flush and trim.
#![cfg(shuttle)]

#[path = "common/shuttle.rs"]
mod common;

use common::{THREADS, any, explore, together};
use keel::pool::buckets::Buckets;
use keel::pool::shared::{CLUSTER_MAX, Cluster, Item, SharedList};
use keel::sync::UnsafeCell;
use shuttle::sync::Mutex;
use std::sync::Arc;

/// Pointers behind the links: a cluster of three has a second leader.
const SLOTS: usize = 1;
const BUCKETS: usize = 4;
const OBJECTS: usize = 12;

#[repr(C)]
struct Object {
    item: Item,
    slots: [UnsafeCell<*mut u8>; SLOTS],
    /// Its user's alone.
    data: UnsafeCell<u32>,
}

enum Lists {
    One(SharedList),
    Many(Buckets),
}

struct World {
    lists: Lists,
    objects: Vec<Object>,
    /// What the system has: scribbled over.
    system: Mutex<Vec<usize>>,
}

// SAFETY: an object is whose it is by the lists, which is what is shown here.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    fn new(lists: Lists) -> Arc<Self> {
        let object = |_| Object {
            item: Item::new(),
            slots: std::array::from_fn(|_| UnsafeCell::new(std::ptr::null_mut())),
            data: UnsafeCell::new(0),
        };
        Arc::new(Self {
            lists,
            objects: (0..OBJECTS).map(object).collect(),
            system: Mutex::new((0..OBJECTS).collect()),
        })
    }

    fn untie(&self, cluster: Cluster) -> Vec<usize> {
        let mut items = [std::ptr::null_mut(); CLUSTER_MAX];
        // SAFETY: put() tied it.
        let n = unsafe { cluster.untie(SLOTS, &mut items) };
        let number = |&item: &*mut u8| {
            let is = |o: &Object| std::ptr::eq(&raw const *o, item.cast());
            self.objects.iter().position(is).expect("no object")
        };
        items[..n].iter().map(number).collect()
    }

    fn pop(&self, me: usize) -> Vec<usize> {
        let cluster = match &self.lists {
            Lists::One(list) => list.pop(),
            Lists::Many(buckets) => buckets.pop(BUCKETS, me).map(|(_, cluster)| cluster),
        };
        self.have(cluster)
    }

    fn pop_from(&self, bucket: usize) -> Vec<usize> {
        self.have(match &self.lists {
            Lists::One(list) => list.pop(),
            Lists::Many(buckets) => buckets.pop_from(bucket),
        })
    }

    fn take_all(&self) -> Vec<usize> {
        match &self.lists {
            Lists::One(list) => list.take_all().flat_map(|c| self.have([c])).collect(),
            Lists::Many(all) => all.take_all().flat_map(|c| self.have([c])).collect(),
        }
    }

    /// The caller has these objects now, and uses them.
    fn have(&self, clusters: impl IntoIterator<Item = Cluster>) -> Vec<usize> {
        let numbers: Vec<_> = clusters.into_iter().flat_map(|c| self.untie(c)).collect();
        self.write(&numbers);
        numbers
    }

    fn write(&self, numbers: &[usize]) {
        for &n in numbers {
            // SAFETY: nobody else has it, or the cell says so.
            self.objects[n].data.with_mut(|d| unsafe { *d += 1 });
        }
    }

    fn put(&self, numbers: &[usize], bucket: usize) {
        self.write(numbers);
        let at = |&n: &usize| (&raw const self.objects[n]).cast_mut().cast();
        let items: Vec<*mut u8> = numbers.iter().map(at).collect();
        // SAFETY: the caller's objects.
        let cluster = unsafe { Cluster::tie(&items, SLOTS) };
        match &self.lists {
            Lists::One(list) => list.push(cluster),
            Lists::Many(buckets) => buckets.push(BUCKETS, bucket, cluster),
        }
    }

    /// To the system, which does with them what it wants.
    fn give(&self, numbers: Vec<usize>) {
        self.write(&numbers);
        for &n in &numbers {
            // SAFETY: the caller's objects.
            unsafe {
                self.objects[n].item.scribble();
                self.objects[n].slots[0].with_mut(|p| *p = std::ptr::dangling_mut());
            }
        }
        self.system.lock().unwrap().extend(numbers);
    }

    /// What a thread does; what it has in the end.
    fn live(&self, me: usize) -> Vec<usize> {
        let mut mine = Vec::new();
        for _ in 0..10 {
            match any(10) {
                0..=2 => mine.extend(self.pop(me)),
                3 => {
                    let new = self.system.lock().unwrap().pop();
                    self.write(new.as_slice());
                    mine.extend(new);
                }
                4..=6 if !mine.is_empty() => {
                    let some = mine.split_off(mine.len() - 1 - any(mine.len().min(4)));
                    self.put(&some, me + any(2));
                }
                7 => self.give(std::mem::take(&mut mine)),
                8 => self.give(self.take_all()),
                _ => {
                    let bucket = any(BUCKETS);
                    let mut taken = self.pop_from(bucket);
                    let kept = taken.split_off(taken.len() / 2);
                    self.give(taken);
                    self.put(&kept, bucket);
                }
            }
        }
        mine
    }

    /// Every object is somebody's, and nobody's twice.
    fn check(&self, kept: Vec<Vec<usize>>) {
        let mut all: Vec<usize> = kept.into_iter().flatten().collect();
        all.extend(self.take_all());
        all.extend(&*self.system.lock().unwrap());
        all.sort_unstable();
        assert_eq!(all, (0..OBJECTS).collect::<Vec<_>>());
        // No head was left held.
        for bucket in 0..BUCKETS {
            assert_eq!(self.pop_from(bucket), []);
            self.put(&[bucket], bucket);
            assert_eq!(self.pop_from(bucket), [bucket]);
        }
    }
}

fn conserved(lists: fn() -> Lists) {
    explore(move || {
        let world = World::new(lists());
        for n in 0..THREADS {
            world.system.lock().unwrap().retain(|&m| m != n);
            world.put(&[n], n);
        }
        let kept = together(&world, World::live);
        world.check(kept);
    });
}

/// SHOWS: INV-1, INV-2, INV-3, INV-5, INV-26
#[test]
fn one_list_loses_nothing_and_reads_nothing_freed() {
    conserved(|| Lists::One(SharedList::new()));
}

/// SHOWS: INV-1, INV-2, INV-3, INV-5, INV-26
#[test]
fn buckets_lose_nothing_and_read_nothing_freed() {
    conserved(|| Lists::Many(Buckets::new()));
}
