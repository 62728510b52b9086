//! A stick table that eight threads look things up in, store, date, kill, evict
//! and expire, and whose updates they read; see tests/common/table.rs.
#![cfg(shuttle)]
#![allow(clippy::undocumented_unsafe_blocks)] // the cells check every access

#[path = "common/shuttle.rs"]
mod common;
#[path = "common/table.rs"]
mod table;

use common::{THREADS, any, explore, together};
use keel::stick_table::entry::Entry;
use keel::stick_table::expiry::NEVER;
use shuttle::sync::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use table::{NOW, World};

const KEYS: usize = 3;
/// How many entries each thread may store.
const EACH: usize = 2;

struct Crowd {
    table: World,
    /// The scheduler runs the table's task on one thread at a time.
    task: Mutex<()>,
    /// Kills that said that they have freed something.
    killed: AtomicUsize,
}

unsafe impl Sync for Crowd {}
unsafe impl Send for Crowd {}

impl Crowd {
    fn new() -> Arc<Self> {
        let entry = |n: usize| ((n % KEYS) as u32, NOW + any(60) as u64);
        let entries: Vec<_> = (0..THREADS * EACH).map(entry).collect();
        Arc::new(Self {
            table: World::new(1, &entries, NEVER),
            task: Mutex::new(()),
            killed: AtomicUsize::new(0),
        })
    }

    /// What was built and is stored under another's address is freed at once.
    fn store(&self, id: usize) -> *mut Entry {
        let stored = self.table.store(0, id);
        if stored != self.table.entry(id) {
            self.drop_unstored(id);
        }
        stored
    }

    fn drop_unstored(&self, id: usize) {
        let freed = &self.table.blocks[id].freed;
        freed.with_mut(|f| unsafe { *f = true });
    }

    fn live(&self, me: usize) {
        let table = &self.table;
        let mut held: Vec<*mut Entry> = Vec::new();
        let mut stored = 0;
        for _ in 0..10 {
            match any(16) {
                0..=3 if stored < EACH => {
                    held.push(self.store(me * EACH + stored));
                    stored += 1;
                }
                4..=6 => {
                    let ts = table.lookup(me, any(KEYS) as u32);
                    held.extend((!ts.is_null()).then_some(ts));
                }
                7 if !held.is_empty() => {
                    table.lower(0, table.id(held[any(held.len())]), NOW + any(90) as u64)
                }
                8 if !held.is_empty() => {
                    let ts = held.swap_remove(any(held.len()));
                    let killed = table.kill(table.id(ts), |ts| ts.life.end(1, |_| true));
                    self.killed.fetch_add(usize::from(killed), Relaxed);
                }
                9 if !held.is_empty() => {
                    table.publish(table.id(held[any(held.len())]), any(2) == 0)
                }
                10 => held.extend(table.update_after(0, 1 << 16).map(|(ts, _)| ts)),
                11 => {
                    table.evict(1);
                }
                12 | 13 => {
                    if let Ok(_running) = self.task.try_lock() {
                        table.expire(NOW + any(50) as u64);
                    }
                }
                _ => held.drain(..).for_each(|ts| table.release(ts)),
            }
        }
        held.drain(..).for_each(|ts| table.release(ts));
        (stored..EACH).for_each(|n| self.drop_unstored(me * EACH + n));
    }

    /// No key is there twice.
    fn unique(&self) {
        let stored = (0..KEYS).filter(|&key| {
            let ts = self.table.lookup(0, key as u32);
            if !ts.is_null() {
                self.table.release(ts);
            }
            !ts.is_null()
        });
        assert_eq!(stored.count(), self.table.shards[0].len());
    }
}

/// SHOWS: INV-90, INV-91, INV-92, INV-94, INV-96, INV-97, INV-98, INV-104, INV-114, STK-1, STK-7
#[test]
fn entries_are_freed_once_unheld_and_the_table_never_loses_its_date() {
    explore(|| {
        let w = Crowd::new();
        together(&w, Crowd::live);
        w.unique();
        let freed = (0..THREADS * EACH).filter(|&id| w.table.is_freed(id));
        let freed = freed.count() + w.table.limbo.lock().unwrap().len();
        assert!(w.killed.load(Relaxed) <= freed, "killed and not freed");
        w.table.run_out();
    });
}
