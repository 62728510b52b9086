//! The order in which a thread's runnable tasks start: virtual time.
//!
//! A task's key is the number of the insertion plus its nice value times the
//! run queue's depth, so that a nice task waits for that many others at the
//! most (INV-51). Keys of nice 0 come in growing order and stay in a plain
//! list; the others are filed in a wheel that counts virtual ticks. The
//! smaller of the two first keys wins, so both merge exactly (INV-43).

use super::item::{Kind, task_of_rq};
use crate::wheel::{List, Node, Wheel};
use core::ptr;

const NICE_MAX: i64 = 1024;

/// One thread's runnable tasks.
pub struct RunQueue {
    lane: List,
    niced: Wheel,
    ticks: u64,
    depth: u64,
    len: u32,
}

impl RunQueue {
    /// Empty. `depth` weighs nice values.
    pub const fn new(depth: u32) -> Self {
        Self {
            lane: List::new(),
            niced: Wheel::new(0),
            ticks: 0,
            depth: depth as u64,
            len: 0,
        }
    }

    /// How many tasks wait.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether tasks with a nice value wait.
    #[inline]
    pub fn has_niced(&self) -> bool {
        !self.niced.is_empty()
    }

    /// Adds a task by its run-queue node.
    ///
    /// # Safety
    /// The caller holds the task's ticket and the node is unlinked.
    pub unsafe fn insert(&mut self, node: *mut Node) {
        self.ticks += 1;
        self.len += 1;
        // SAFETY: the ticket's holder may read nice and write the node.
        unsafe {
            let nice = i64::from((*task_of_rq(node)).nice).clamp(-NICE_MAX, NICE_MAX);
            let key = self.ticks + (nice + NICE_MAX) as u64 * self.depth;
            if nice == 0 {
                (*node).tag = Kind::TaskInLane as u8;
                (*node).set_time(key);
                self.lane.push_back(node);
            } else {
                if self.niced.is_empty() {
                    self.niced.reset(self.ticks);
                }
                (*node).tag = Kind::TaskInTree as u8;
                self.niced.add(node, key, 0);
            }
        }
    }

    // The smallest key of the wheel. What is due already may be older than
    // the wheel's clock, which the last pop has advanced.
    fn first_niced(&mut self) -> Option<u64> {
        // SAFETY: nodes in the wheel stay valid while they are in it.
        match unsafe { self.niced.peek_due().as_ref() } {
            Some(due) => Some(due.time()),
            None => self.niced.next(),
        }
    }

    /// Takes the task that is to start next, NULL if there is none.
    ///
    /// # Safety
    /// Only the owner thread calls this.
    pub unsafe fn pop(&mut self) -> *mut Node {
        let niced = self.first_niced();
        // SAFETY: nodes in the lane stay valid while they are in it.
        let lane = unsafe { self.lane.first().as_ref() }.map(Node::time);
        // SAFETY: the queue's nodes are the owner's.
        let node = unsafe {
            match (lane, niced) {
                (None, None) => return ptr::null_mut(),
                (Some(l), n) if n.is_none_or(|n| l <= n) => self.lane.pop_front(),
                (_, Some(n)) => {
                    while self.niced.advance(n, usize::MAX) {}
                    self.niced.pop_due()
                }
                (Some(_), None) => unreachable!("a lane without rival was popped above"),
            }
        };
        self.len -= 1;
        node
    }

    /// Takes a waiting task out.
    ///
    /// # Safety
    /// The node is in this queue; only the owner thread calls this.
    pub unsafe fn remove(&mut self, node: *mut Node) {
        // SAFETY: by this function's contract.
        unsafe {
            match Kind::of(&*node) {
                Kind::TaskInLane => self.lane.remove(node),
                _ => self.niced.remove(node),
            }
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Task;

    /// Pops come in the order of the keys, first in first out among equals,
    /// whatever is inserted between them (INV-43, INV-51; TASK-26, TASK-27).
    #[test]
    fn order_is_that_of_a_sorted_list() {
        const DEPTH: u32 = 200;
        let mut seed = 88_172_645_463_325_252u64;
        let mut random = move |n: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % n
        };
        for spread in [1u64, 3, 50, 2049] {
            let mut queue = RunQueue::new(DEPTH);
            let mut model: Vec<(u64, usize)> = Vec::new();
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
                    let key = inserted + (nice + NICE_MAX) as u64 * u64::from(DEPTH);
                    model.push((key, i));
                    model.sort_by_key(|&(k, _)| k);
                    // SAFETY: the task is in no queue.
                    unsafe { queue.insert(&raw mut tasks[i].rq) };
                } else if what < 6 && !model.is_empty() {
                    let (_, i) = model.remove(random(model.len() as u64) as usize);
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
                    let (key, _) = model[0];
                    let place = model.iter().position(|&(_, i)| i == got).unwrap();
                    assert_eq!(model[place].0, key, "spread {spread}");
                    model.remove(place);
                    idle.push(got);
                }
                assert_eq!(queue.len() as usize, model.len());
            }
        }
    }
}
