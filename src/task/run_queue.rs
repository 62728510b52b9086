//! The order in which a thread's runnable tasks start: virtual time.
//!
//! A task's key is the number of the insertion plus its nice value times the
//! run queue's depth, so that a nice task waits for that many others at the
//! most (INV-51). Keys of nice 0 come in growing order and stay in a plain
//! list. The others are put into buckets of keys, none wider than a step of
//! nice: first in, first out among those that are so close. A bucket
//! is found by its number, the first one that holds anything by two bitmaps.
//! The smaller of the two first keys wins (INV-43). Every step takes constant
//! time.
//!
//! No new key is below the insertions' number. A bucket that this has passed
//! is appended to a list that goes before all buckets, and its place serves
//! keys to come.

use super::item::{Kind, task_of_rq};
use crate::sys::memory;
use crate::wheel::{List, Node};
use core::ptr;

const NICE_MAX: i64 = 1024;

/// Places for buckets, one for each bit of as many words as one word has bits.
const PLACES: usize = 64 * 64;

/// One thread's runnable tasks.
pub struct RunQueue {
    lane: List,
    /// Those with a nice value whose keys the insertions have passed.
    overdue: List,
    /// NULL until the first task with a nice value comes.
    niced: *mut Buckets,
    /// The number of the first bucket.
    base: u64,
    niced_len: u32,
    /// Bits of a key that a bucket's number leaves out.
    shift: u32,
    ticks: u64,
    depth: u64,
    len: u32,
}

/// All-zero is valid, and empty.
struct Buckets {
    /// Which words have a bit set.
    summary: u64,
    /// Which lists have a node.
    words: [u64; PLACES / 64],
    lists: [List; PLACES],
}

impl RunQueue {
    /// Empty. `depth`, up to 2^20, weighs nice values.
    pub const fn new(depth: u32) -> Self {
        // As narrow as the places allow for all keys from the first to the
        // last, and a power of two.
        let span = (2 * NICE_MAX as u64 + 1) * depth as u64;
        let mut shift = 0;
        while (span >> shift) > PLACES as u64 - 2 {
            shift += 1;
        }
        Self {
            lane: List::new(),
            overdue: List::new(),
            niced: ptr::null_mut(),
            base: 0,
            niced_len: 0,
            shift,
            ticks: 0,
            depth: depth as u64,
            len: 0,
        }
    }

    /// Gives the memory of an empty or abandoned queue back.
    pub fn release(&mut self) {
        // SAFETY: ours alone; no node is kept in it.
        unsafe { memory::free(self.niced.cast()) };
        self.niced = ptr::null_mut();
    }

    /// How many tasks wait.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether tasks with a nice value wait.
    #[inline]
    pub fn has_niced(&self) -> bool {
        self.niced_len != 0
    }

    /// Adds a task by its run-queue node.
    ///
    /// # Safety
    /// The caller holds the task's ticket and the node is unlinked.
    // KEEPS: INV-51
    #[inline]
    pub unsafe fn insert(&mut self, node: *mut Node) {
        self.ticks += 1;
        self.len += 1;
        // SAFETY: the ticket's holder may read nice and write the node.
        unsafe {
            let nice = i64::from((*task_of_rq(node)).nice).clamp(-NICE_MAX, NICE_MAX);
            let key = self.ticks + (nice + NICE_MAX) as u64 * self.depth;
            (*node).set_time(key);
            if self.niced_len != 0 {
                self.move_base();
            }
            // Without memory for buckets everybody is equal.
            if nice == 0 || !self.has_buckets() {
                (*node).tag = Kind::TaskInLane as u8;
                self.lane.push_back(node);
            } else {
                (*node).tag = Kind::TaskInBucket as u8;
                self.add_niced(node, key >> self.shift);
            }
        }
    }

    fn has_buckets(&mut self) -> bool {
        if self.niced.is_null() {
            self.niced = memory::alloc_zeroed(size_of::<Buckets>(), 64).cast();
        }
        !self.niced.is_null()
    }

    /// Empties the buckets that no new key can be for.
    unsafe fn move_base(&mut self) {
        while self.base < self.ticks >> self.shift {
            // SAFETY: a task with a nice value waits, so there are buckets;
            // the nodes in them are the owner's.
            unsafe {
                let buckets = &mut *self.niced;
                let place = self.base as usize % PLACES;
                if !buckets.lists[place].is_empty() {
                    self.overdue.append(&mut buckets.lists[place]);
                    buckets.clear(place);
                }
            }
            self.base += 1;
        }
    }

    unsafe fn add_niced(&mut self, node: *mut Node, bucket: u64) {
        if self.niced_len == 0 {
            self.base = self.ticks >> self.shift;
        }
        self.niced_len += 1;
        // SAFETY: has_buckets() said so; the node is unlinked.
        unsafe {
            let buckets = &mut *self.niced;
            let place = bucket as usize % PLACES;
            buckets.lists[place].push_back(node);
            buckets.words[place / 64] |= 1 << (place % 64);
            buckets.summary |= 1 << (place / 64);
        }
    }

    /// Takes the task that is to start next, NULL if there is none.
    ///
    /// # Safety
    /// Only the owner thread calls this.
    #[inline]
    pub unsafe fn pop(&mut self) -> *mut Node {
        // SAFETY: by this function's contract.
        let node = unsafe {
            if self.niced_len == 0 {
                self.lane.pop_front()
            } else {
                self.pop_first()
            }
        };
        self.len -= u32::from(!node.is_null());
        node
    }

    /// The same while a task with a nice value waits, without the count.
    // KEEPS: INV-43
    unsafe fn pop_first(&mut self) -> *mut Node {
        // SAFETY: a task with a nice value waits, so there are buckets; the
        // queue's nodes are the owner's, and stay valid while they are in it.
        unsafe {
            let buckets = &mut *self.niced;
            let (list, place) = if self.overdue.is_empty() {
                let place = buckets.first_from(self.base as usize % PLACES);
                (&raw mut buckets.lists[place], Some(place))
            } else {
                (&raw mut self.overdue, None)
            };
            let lane = self.lane.first();
            if !lane.is_null() && (*lane).time() <= (*(*list).first()).time() {
                return self.lane.pop_front();
            }
            self.niced_len -= 1;
            let node = (*list).pop_front();
            match place {
                Some(place) if (*list).is_empty() => buckets.clear(place),
                _ => {}
            }
            node
        }
    }

    /// Takes a waiting task out.
    ///
    /// # Safety
    /// The node is in this queue; only the owner thread calls this.
    pub unsafe fn remove(&mut self, node: *mut Node) {
        self.len -= 1;
        // SAFETY: by this function's contract.
        unsafe {
            if Kind::of(&*node) == Kind::TaskInLane {
                return self.lane.remove(node);
            }
            self.niced_len -= 1;
            let bucket = (*node).time() >> self.shift;
            if bucket < self.base {
                return self.overdue.remove(node);
            }
            let buckets = &mut *self.niced;
            let place = bucket as usize % PLACES;
            buckets.lists[place].remove(node);
            if buckets.lists[place].is_empty() {
                buckets.clear(place);
            }
        }
    }
}

impl Buckets {
    /// Marks a place as empty.
    fn clear(&mut self, place: usize) {
        let word = place / 64;
        self.words[word] &= !(1 << (place % 64));
        if self.words[word] == 0 {
            self.summary &= !(1 << word);
        }
    }

    /// The first place that is not empty, from `place` on and around; there is
    /// one.
    fn first_from(&self, place: usize) -> usize {
        let word = place / 64;
        let here = self.words[word] & (!0 << (place % 64));
        if here != 0 {
            return word * 64 + here.trailing_zeros() as usize;
        }
        // Around, the first word comes again, this time whole.
        let later = self.summary & (!0 << word) & !(1 << word);
        let bits = if later != 0 { later } else { self.summary };
        let word = bits.trailing_zeros() as usize;
        word * 64 + self.words[word].trailing_zeros() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Task;

    /// Pops come in the order of the keys, first in first out in a bucket,
    /// whatever is inserted between them (INV-43, INV-51; TASK-26, TASK-27).
    // SHOWS: INV-43, INV-51, TASK-26, TASK-27
    #[test]
    fn order_is_that_of_a_sorted_list() {
        for depth in [1, 3, 17, 200, 280, 1 << 20] {
            order_with(depth);
        }
    }

    fn order_with(depth: u32) {
        let mut seed = 88_172_645_463_325_252u64;
        let mut random = move |n: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % n
        };
        for spread in [1u64, 3, 50, 2049] {
            let mut queue = RunQueue::new(depth);
            // key, number of insertion, task
            let mut model: Vec<(u64, u64, usize)> = Vec::new();
            let mut tasks: Vec<Box<Task>> = Vec::new();
            let mut idle: Vec<usize> = Vec::new();
            let mut inserted = 0u64;
            for i in 0..300 {
                let mut task = Box::<Task>::new_uninit();
                // SAFETY: the box has a task's size.
                unsafe { Task::init(task.as_mut_ptr(), 1) };
                // SAFETY: just initialised.
                tasks.push(unsafe { task.assume_init() });
                idle.push(i);
            }
            for _ in 0..20_000 {
                let what = random(10);
                if what < 5 && !idle.is_empty() {
                    let i = idle.swap_remove(random(idle.len() as u64) as usize);
                    let nice = random(spread) as i64 - (spread as i64) / 2;
                    tasks[i].nice = nice as i16;
                    inserted += 1;
                    let key = inserted + (nice + NICE_MAX) as u64 * u64::from(depth);
                    model.push((key, inserted, i));
                    // SAFETY: the task is in no queue.
                    unsafe { queue.insert(&raw mut tasks[i].rq) };
                } else if what < 6 && !model.is_empty() {
                    let (_, _, i) = model.remove(random(model.len() as u64) as usize);
                    idle.push(i);
                    // SAFETY: the task is in this queue.
                    unsafe { queue.remove(&raw mut tasks[i].rq) };
                } else {
                    // SAFETY: this thread owns the queue.
                    let node = unsafe { queue.pop() };
                    if model.is_empty() {
                        assert!(node.is_null());
                        continue;
                    }
                    let got = tasks
                        .iter()
                        .position(|t| core::ptr::eq(&raw const **t, task_of_rq(node)))
                        .unwrap();
                    let nice = |i: usize| tasks[i].nice != 0;
                    let lane = model.iter().filter(|&&(_, _, i)| !nice(i)).min();
                    let bucket = |&&(key, n, _): &&(u64, u64, usize)| (key >> queue.shift, n);
                    let niced = model
                        .iter()
                        .filter(|&&(_, _, i)| nice(i))
                        .min_by_key(bucket);
                    let first = match (lane, niced) {
                        (Some(l), Some(n)) if n.0 < l.0 => n,
                        (l, n) => l.or(n).unwrap(),
                    };
                    assert_eq!(first.2, got, "spread {spread}");
                    model.retain(|&(_, _, i)| i != got);
                    idle.push(got);
                }
                assert_eq!(queue.len() as usize, model.len());
                let niced = model.iter().any(|&(_, _, i)| tasks[i].nice != 0);
                assert_eq!(queue.has_niced(), niced);
            }
            queue.release();
        }
    }
}
