//! One table: what the C functions do.

use super::batch::Batch;
use super::entry::{Entry, Layout};
use super::expiry::{Expiry, NEVER};
use super::head::Head;
use super::key::{Keys, Kind};
use super::life::{Bury, NO_DATE, Take, Touched};
use super::limbo::Limbo;
use super::readers::Readers;
use super::shard::{Dead, HORIZON, Rules, Shard, Times};
use super::updates::{Counters, Update, Updates};
use crate::pool;
use crate::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, ThreadSet};
use crate::sys::{memory, random};
use crate::task::{Caller, Task, Tasks, flags, tick};
use crate::wheel::List;
use core::ptr;

/// Visits of one run of the expiry task, and of those in one shard.
const PASS: usize = 1000;
const PASS_SHARD: usize = 250;
/// When an expired entry that is in use is looked at again, ms.
const RECHECK: (u64, u64) = (10, 1000);
/// Entries that make another shard worth its 20 KB.
const SHARD_SIZE: usize = 4096;
const MAX_SHARDS: usize = 64;
/// Entries evicted at once, at most.
const MAX_BATCH: usize = 100;

/// Who calls, and what with.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// The thread, and the date.
    pub by: Caller<'a>,
    /// Where tables' tasks are; none before `init`.
    pub tasks: Option<&'a Tasks>,
    /// Where entries come from.
    pub pools: &'static pool::Registry,
    /// Who looks something up.
    pub readers: &'a Readers,
}

/// The engine behind a [`Head`].
pub struct Table {
    head: *const Head,
    keys: Keys,
    /// As many as `mask` + 1.
    shards: *mut Shard,
    mask: usize,
    data: usize,
    /// Bytes of an entry's update; settled with the pool.
    update: AtomicUsize,
    /// NULL before the first entry.
    pool: AtomicPtr<pool::Head>,
    settle: Mutex<()>,
    task: *mut Task,
    expiry: Expiry,
    updates: Updates,
    limbo: Limbo,
    /// With which shard the next walk begins.
    turn: AtomicUsize,
    /// The date at which all entries were found in use.
    all_held: AtomicU64,
}

// SAFETY: shards are Sync; `head` and `task` outlive the table.
unsafe impl Sync for Table {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Table {}

/// How an entry is touched.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// Changed here, and to be taught; else it was learned.
    pub local: bool,
    /// The date that it gets; none: it keeps what it has.
    pub expire: Option<u32>,
    /// Gives the caller's reference back.
    pub release: bool,
}

impl Table {
    /// The engine of `head`, whose key, size and data are settled; `task`
    /// expires its entries. `None`: no memory.
    pub fn new(head: &Head, task: *mut Task, env: &Env) -> Option<*mut Self> {
        let threads = env.tasks.map_or(1, Tasks::nbthread);
        let useful = head.size.load(Ordering::Relaxed) as usize / SHARD_SIZE;
        let n = useful.clamp(1, (4 * threads).min(MAX_SHARDS));
        let n = (n + 1).next_power_of_two() / 2;
        let area: *mut Table = memory::alloc(size_of::<Self>(), align_of::<Self>()).cast();
        let shards: *mut Shard =
            memory::alloc_zeroed(n * size_of::<Shard>(), align_of::<Shard>()).cast();
        let mut built = 0;
        if !area.is_null() && !shards.is_null() {
            while built < n {
                let Some(shard) = Shard::new(env.by.now) else {
                    break;
                };
                // SAFETY: the area holds n shards.
                unsafe { shards.add(built).write(shard) };
                built += 1;
            }
        }
        if built < n {
            // SAFETY: nobody has seen any of it.
            unsafe {
                (0..built).for_each(|k| shards.add(k).drop_in_place());
                memory::free(shards.cast());
                memory::free(area.cast());
            }
            return None;
        }
        let kind = Kind {
            of: head.key_type,
            size: head.key_size,
        };
        // SAFETY: the area is a table's.
        unsafe {
            area.write(Self {
                head,
                keys: Keys::new(kind, random::secret()),
                shards,
                mask: n - 1,
                data: (head.data_size as usize).next_multiple_of(8),
                update: AtomicUsize::new(0),
                pool: AtomicPtr::new(ptr::null_mut()),
                settle: Mutex::new(()),
                task,
                expiry: Expiry::new(),
                updates: Updates::new(),
                limbo: Limbo::new(),
                turn: AtomicUsize::new(0),
                all_held: AtomicU64::new(NEVER),
            });
        }
        Some(area)
    }

    /// Frees the table with all its entries, held or not, and its task: whom
    /// to wake.
    ///
    /// # Safety
    /// `this` came from [`new`](Self::new); nobody uses the table, nor an entry
    /// of it, now or later.
    pub unsafe fn free(this: *mut Self, env: &Env) -> ThreadSet {
        // SAFETY: by this function's contract.
        let table = unsafe { &*this };
        let rules = table.rules();
        let mut dead = Dead::default();
        table
            .shards()
            .iter()
            .for_each(|s| s.clear(&rules, &mut dead));
        table.bury(&mut dead, env, true);
        // A thread may be looking something up elsewhere meanwhile.
        let none = &mut Dead::default();
        while !table.limbo.is_empty() {
            table.free_list(table.limbo.pass(none, env.readers, true), env);
            crate::sync::spin_hint();
        }
        let mut wakes = ThreadSet::EMPTY;
        // SAFETY: as above; the task and the pool are this table's.
        unsafe {
            if let (Some(tasks), false) = (env.tasks, table.task.is_null()) {
                wakes = tasks.destroy_task(table.task, env.by);
            }
            if let Some(pool) = ptr::NonNull::new(table.pool.load(Ordering::Relaxed)) {
                env.pools.destroy(pool, env.by.local);
            }
            for k in 0..=table.mask {
                table.shards.add(k).drop_in_place();
            }
            memory::free(table.shards.cast());
            this.drop_in_place();
            memory::free(this.cast());
        }
        wakes
    }

    #[inline(always)]
    fn head(&self) -> &Head {
        // SAFETY: its owner frees it after the table.
        unsafe { &*self.head }
    }

    fn shards(&self) -> &[Shard] {
        // SAFETY: made by new.
        unsafe { core::slice::from_raw_parts(self.shards, self.mask + 1) }
    }

    #[inline(always)]
    fn shard(&self, hash: u64) -> &Shard {
        // The index uses the low bits.
        // SAFETY: not more than the mask.
        unsafe { &*self.shards.add((hash >> 48) as usize & self.mask) }
    }

    #[inline]
    fn rules(&self) -> Rules {
        Rules {
            keys: self.keys,
            layout: Layout {
                update: self.update.load(Ordering::Relaxed),
                data: self.data,
                key: self.keys.kind.size,
                mark: self.keys.kind.mark(),
            },
        }
    }

    /// What its keys are.
    #[inline(always)]
    pub fn kind(&self) -> Kind {
        self.keys.kind
    }

    fn lifetime(&self) -> u64 {
        self.head().expire.load(Ordering::Relaxed).max(0) as u64
    }

    // KEEPS: INV-109
    fn times(&self, now: u64) -> Times {
        let lifetime = self.lifetime();
        Times {
            now,
            recheck: now + lifetime.clamp(RECHECK.0, RECHECK.1),
            horizon: if lifetime == 0 { HORIZON } else { 0 },
        }
    }

    /// The date of an entry that is touched now.
    #[inline(always)]
    pub fn date_from(&self, now: u64) -> u32 {
        match (now + self.lifetime()) as u32 {
            NO_DATE => 1,
            tick => tick,
        }
    }

    // What entries come from, and with it whether they have room for updates:
    // settled by the first one.
    fn pool(&self, env: &Env) -> Option<&'static pool::Head> {
        // PAIRS: the Release below.
        let mut pool = self.pool.load(Ordering::Acquire);
        if pool.is_null() {
            let _settle = self.settle.lock();
            pool = self.pool.load(Ordering::Relaxed);
            if pool.is_null() {
                let head = self.head();
                let synced = !head.sync_task.load(Ordering::Relaxed).is_null() || head.refcnt > 0;
                let room = if synced { size_of::<Update>() } else { 0 };
                self.update.store(room, Ordering::Relaxed);
                let size = self.rules().layout.size() as u32;
                let flags = pool::MEM_F_SHARED | pool::MEM_F_EXACT;
                let made = env.pools.create(b"sticktables", size, 0, flags).ok()?;
                pool = made.as_ptr();
                // PAIRS: the Acquire above; the room for updates.
                self.pool.store(pool, Ordering::Release);
            }
        }
        // SAFETY: the table counts as a user until it is freed.
        Some(unsafe { &*pool })
    }

    /// Bytes that one entry costs: what the allocator takes for it, its part
    /// of the buckets, and of the shards.
    pub fn cost(&self) -> usize {
        let block = self.rules().layout.size();
        let chunk = (block + 8).next_multiple_of(16).max(32);
        let size = (self.head().size.load(Ordering::Relaxed) as usize).max(1);
        chunk + 7 + (self.mask + 1) * size_of::<Shard>() / size
    }

    /// Finds the entry with a canonical key: a reference, or NULL. An expired
    /// one that is still there is found.
    #[inline(always)]
    pub fn lookup(&self, key: &[u8], env: &Env) -> *mut Entry {
        let hash = self.keys.hash(key);
        self.lookup_hashed(key, hash, env)
    }

    /// Finds the entry with the key of `ts`, which may be another table's: none
    /// where that has other keys, or such as are too large to tell.
    ///
    /// # Safety
    /// `ts` lives during the call.
    // KEEPS: INV-112
    pub unsafe fn lookup_like(&self, ts: *mut Entry, env: &Env) -> *mut Entry {
        let kind = self.keys.kind;
        // SAFETY: by this function's contract; the same mark, the same keys.
        unsafe {
            if (*ts).lock.beside != kind.mark() || kind.mark() == 0 {
                return ptr::null_mut();
            }
            self.lookup(kind.of_entry(ts), env)
        }
    }

    #[inline(always)]
    fn lookup_hashed(&self, key: &[u8], hash: u64, env: &Env) -> *mut Entry {
        let shard = self.shard(hash);
        if let Some(tid) = env.by.tid {
            let looking = env.readers.look(tid);
            // SAFETY: this thread looks.
            let found = unsafe { shard.find(self.keys.kind, key, hash) };
            drop(looking);
            if let Some(ts) = found {
                return ts;
            }
        }
        shard.find_locked(self.keys.kind, key, hash)
    }

    /// Finds the entry with this key, or creates it: a reference and whom to
    /// wake, or NULL where the table is full or memory lacks.
    #[inline]
    pub fn get(&self, key: &[u8], env: &Env) -> (*mut Entry, ThreadSet) {
        let hash = self.keys.hash(key);
        let ts = self.lookup_hashed(key, hash, env);
        if !ts.is_null() {
            return (ts, ThreadSet::EMPTY);
        }
        self.get_new(key, hash, env)
    }

    #[cold]
    fn get_new(&self, key: &[u8], hash: u64, env: &Env) -> (*mut Entry, ThreadSet) {
        let new = self.create(Some(key), env);
        if new.is_null() {
            return (new, ThreadSet::EMPTY);
        }
        // SAFETY: new, and nobody else's.
        let (ts, wakes) = unsafe { self.store(new, hash, env) };
        if ts != new {
            // SAFETY: still not stored.
            unsafe { self.discard(new, env) };
        }
        (ts, wakes)
    }

    /// An entry that is not stored; NULL where the table is full or memory
    /// lacks.
    // KEEPS: INV-108
    pub fn create(&self, key: Option<&[u8]>, env: &Env) -> *mut Entry {
        let Some(pool) = self.pool(env) else {
            return ptr::null_mut();
        };
        if !self.reserve(env) {
            return ptr::null_mut();
        }
        // SAFETY: the pool is the registry's; `local` is the caller's.
        let block = unsafe { env.pools.alloc(pool, env.by.local, 0) };
        if block.is_null() {
            self.head().current.fetch_sub(1, Ordering::Relaxed);
            return ptr::null_mut();
        }
        let rules = self.rules();
        // SAFETY: the pool's objects have the layout's size.
        unsafe {
            let ts = rules.layout.build(block, self.date_from(env.by.now));
            if rules.layout.update != 0 {
                rules.layout.update::<Update>(ts).write(Update::new());
            }
            if let Some(key) = key {
                rules.keys.kind.set(ts, key);
            }
            ts
        }
    }

    // Counts one entry more, if there is room or can be.
    // KEEPS: INV-93, INV-103
    fn reserve(&self, env: &Env) -> bool {
        let head = self.head();
        let mut n = head.current.load(Ordering::Relaxed);
        loop {
            if n < head.size.load(Ordering::Relaxed) {
                match head.current.compare_exchange_weak(
                    n,
                    n + 1,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return true,
                    Err(seen) => n = seen,
                }
            } else if head.nopurge.load(Ordering::Relaxed) != 0 || !self.make_room(env) {
                return false;
            } else {
                n = head.current.load(Ordering::Relaxed);
            }
        }
    }

    /// Frees an entry that is not stored.
    ///
    /// # Safety
    /// `ts` came from [`create`](Self::create), and is nobody else's.
    pub unsafe fn discard(&self, ts: *mut Entry, env: &Env) {
        let layout = self.rules().layout;
        // SAFETY: by this function's contract.
        unsafe {
            if (*layout.node(ts)).is_linked() || (*ts).life.is_buried() {
                panic!("stksess_free: entry {ts:p} is stored in the table, or was removed from it");
            }
        }
        self.head().current.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { self.free_entry(ts, env) };
    }

    unsafe fn free_entry(&self, ts: *mut Entry, env: &Env) {
        // SAFETY: there is an entry, so the pool is settled; the rest is the
        // caller's contract.
        unsafe {
            let pool = &*self.pool.load(Ordering::Relaxed);
            let block = self.rules().layout.block(ts);
            env.pools.free(pool, env.by.local, block);
        }
    }

    /// Writes the key of an entry that is not stored.
    ///
    /// # Safety
    /// As [`discard`](Self::discard).
    pub unsafe fn set_key(&self, ts: *mut Entry, key: &[u8]) {
        // SAFETY: by this function's contract.
        unsafe { self.keys.kind.set(ts, key) };
    }

    /// Stores `ts` unless its key is there: a reference to the one that is
    /// stored, and whom to wake.
    ///
    /// # Safety
    /// As [`discard`](Self::discard); `ts` has its key.
    pub unsafe fn set(&self, ts: *mut Entry, env: &Env) -> (*mut Entry, ThreadSet) {
        // SAFETY: by this function's contract.
        unsafe { self.store(ts, self.keys.hash_of(ts), env) }
    }

    unsafe fn store(&self, ts: *mut Entry, hash: u64, env: &Env) -> (*mut Entry, ThreadSet) {
        let rules = self.rules();
        let times = self.times(env.by.now);
        // SAFETY: by this function's contract.
        unsafe {
            let stored = self.shard(hash).store(&rules, ts, hash, &times);
            if stored != ts {
                return (stored, ThreadSet::EMPTY);
            }
            (ts, self.arm(times.date(&*ts), env))
        }
    }

    // After filing an entry under the shard's lock.
    #[inline]
    fn arm(&self, date: u64, env: &Env) -> ThreadSet {
        let (Some(tasks), false) = (env.tasks, self.task.is_null()) else {
            return ThreadSet::EMPTY;
        };
        // SAFETY: the task lives as long as the table.
        let queue = || unsafe { tasks.schedule(self.task, tick::wrap(date), env.by) };
        self.expiry.arm(date, queue).unwrap_or(ThreadSet::EMPTY)
    }

    /// Touches an entry: whom to wake.
    ///
    /// # Safety
    /// `ts` is of this table, and the caller holds a reference.
    // KEEPS: INV-105
    #[inline(always)]
    pub unsafe fn touch(&self, ts: *mut Entry, touch: Touch, env: &Env) -> ThreadSet {
        // SAFETY: by this function's contract.
        let entry = unsafe { &*ts };
        let tracked = self.update.load(Ordering::Relaxed) != 0;
        let mut filed = false;
        if let Some(expire) = touch.expire {
            // Later than it was: the handler will find out. Earlier: its place
            // in the wheel may be too late now.
            if let Touched::Later { free } = entry.life.touch(expire, touch.release && !tracked) {
                if !tracked {
                    if free {
                        self.freed();
                    }
                    return ThreadSet::EMPTY;
                }
                filed = true;
            }
        }
        let mut wakes = ThreadSet::EMPTY;
        // SAFETY: by this function's contract.
        unsafe {
            // Without a date: the user may have written one itself.
            if !filed {
                wakes = self.requeue(ts, env);
            }
            if tracked {
                wakes = wakes.and(self.publish(ts, touch.local, env));
            }
        }
        if touch.release {
            self.release(entry);
        }
        wakes
    }

    /// Gives a reference back.
    #[inline(always)]
    pub fn release(&self, entry: &Entry) {
        if entry.life.release() {
            self.freed();
        }
    }

    // Not everything is in use any more.
    #[inline(always)]
    fn freed(&self) {
        // WINDOW(all-held): who has just found everything in use may say so after this
        // look; it is believed for a millisecond.
        if self.all_held.load(Ordering::Relaxed) != NEVER {
            self.all_held.store(NEVER, Ordering::Relaxed);
        }
    }

    // Notes a change for the peers.
    #[cold]
    unsafe fn publish(&self, ts: *mut Entry, local: bool, env: &Env) -> ThreadSet {
        let head = self.head();
        let peer = head.sync_task.load(Ordering::Relaxed);
        if peer.is_null() {
            return ThreadSet::EMPTY;
        }
        let counters = Counters {
            update: &head.update,
            local: &head.localupdate,
            commit: &head.commitupdate,
        };
        // SAFETY: the room for updates is there, and initialised; the task is
        // the user's, and lives while it is in the table.
        unsafe {
            let update = &*self.rules().layout.update::<Update>(ts);
            if local {
                self.updates.local(update, counters);
                if let Some(tasks) = env.tasks {
                    return tasks.wakeup(peer, flags::WOKEN_MSG, env.by);
                }
            } else {
                self.updates.remote(update, counters);
            }
        }
        ThreadSet::EMPTY
    }

    /// The first update after `from`, up to `to`: a reference to its entry and
    /// its number.
    pub fn update_after(&self, from: u32, to: u32) -> Option<(*mut Entry, u32)> {
        let layout = self.rules().layout;
        if layout.update == 0 {
            return None;
        }
        let take = |update| {
            // SAFETY: a place is forgotten before its entry is freed.
            let entry = unsafe { &*layout.of_update::<Update>(update) };
            entry.life.take() == Take::Held
        };
        let (update, number) = self.updates.after(from, to, take)?;
        Some((layout.of_update(update), number))
    }

    /// Makes sure that the expiry comes by for `ts` by its date: whom to wake.
    ///
    /// # Safety
    /// As [`touch`](Self::touch).
    pub unsafe fn requeue(&self, ts: *mut Entry, env: &Env) -> ThreadSet {
        let rules = self.rules();
        // SAFETY: by this function's contract.
        unsafe {
            let shard = self.shard(rules.keys.hash_of(ts));
            match shard.refile(&rules, ts, &self.times(env.by.now)) {
                Some(date) => self.arm(date, env),
                None => ThreadSet::EMPTY,
            }
        }
    }

    /// Buries a stored entry by `bury` and removes it: whether it did.
    ///
    /// # Safety
    /// `ts` is of this table, and alive during the call: the caller holds a
    /// reference, or knows that nobody else removes it.
    pub unsafe fn kill(
        &self,
        ts: *mut Entry,
        bury: impl FnOnce(&Entry) -> Bury,
        env: &Env,
    ) -> bool {
        let rules = self.rules();
        let mut dead = Dead::default();
        // SAFETY: by this function's contract.
        let killed = unsafe {
            let shard = self.shard(rules.keys.hash_of(ts));
            shard.kill(&rules, ts, bury, &mut dead)
        };
        if killed {
            self.bury(&mut dead, env, false);
        }
        killed
    }

    // Whether an entry with this tick has expired.
    // KEEPS: INV-109
    fn has_passed(&self, tick: u32, now: u64) -> bool {
        let passed = tick.wrapping_sub(now as u32) as i32 <= 0;
        passed && tick != NO_DATE && self.lifetime() != 0
    }

    /// Gives `own` references of the caller's back (0 or 1), and removes the
    /// entry if it has expired and nobody else holds it: whether it did.
    ///
    /// # Safety
    /// As [`kill`](Self::kill).
    pub unsafe fn kill_if_expired(&self, ts: *mut Entry, own: u32, env: &Env) -> bool {
        let passed = |tick| self.has_passed(tick, env.by.now);
        // SAFETY: by this function's contract.
        unsafe {
            if passed((*ts).life.expire()) {
                return self.kill(ts, |entry| entry.life.end(own, passed), env);
            }
            if own != 0 {
                self.release(&*ts);
            }
        }
        false
    }

    // Counts, forgets and some time frees what was buried.
    // KEEPS: INV-93, INV-105
    fn bury(&self, dead: &mut Dead, env: &Env, now: bool) {
        let layout = self.rules().layout;
        self.head()
            .current
            .fetch_sub(dead.len as u32, Ordering::Relaxed);
        if layout.update != 0 {
            dead.for_each(|node| {
                // SAFETY: the room for updates is there, and initialised.
                unsafe {
                    let update = layout.update::<Update>(layout.of_node(node));
                    self.updates.forget(&*update);
                }
            });
        }
        self.free_list(self.limbo.pass(dead, env.readers, now), env);
    }

    fn free_list(&self, mut list: List, env: &Env) {
        let layout = self.rules().layout;
        loop {
            // SAFETY: nobody sees these entries any more.
            unsafe {
                let node = list.pop_front();
                if node.is_null() {
                    return;
                }
                self.free_entry(layout.of_node(node), env);
            }
        }
    }

    fn walk(&self) -> impl Iterator<Item = &Shard> {
        let from = self.turn.fetch_add(1, Ordering::Relaxed);
        let shards = self.shards();
        (0..shards.len()).map(move |k| &shards[(from + k) & self.mask])
    }

    /// One run of the expiry task: frees what has expired and is not in use,
    /// a bounded number of entries, and sets the task's date: whom to wake.
    pub fn expire(&self, env: &Env) -> ThreadSet {
        if self.task.is_null() {
            return ThreadSet::EMPTY;
        }
        self.expiry.begin();
        let rules = self.rules();
        let times = self.times(env.by.now);
        let mut dead = Dead::default();
        let mut left = PASS;
        let mut next = NEVER;
        for shard in self.walk() {
            let pass = shard.expire(&rules, &times, left.min(PASS_SHARD), &mut dead);
            left -= pass.visits;
            next = next.min(pass.next);
            if pass.next == NEVER {
                shard.tidy(env.readers);
            }
            if left == 0 {
                // There may be shards that nobody looked at.
                next = times.now;
                break;
            }
        }
        self.bury(&mut dead, env, true);
        self.expiry.finish(next, |date| {
            let tick = if date == NEVER {
                tick::ETERNITY
            } else {
                tick::wrap(date)
            };
            // SAFETY: the task lives as long as the table.
            unsafe {
                (*self.task).expire.store(tick, Ordering::Relaxed);
                // Nothing new where the task itself is running; but anybody
                // may call its handler.
                match env.tasks {
                    Some(tasks) if date != NEVER => tasks.schedule(self.task, tick, env.by),
                    _ => ThreadSet::EMPTY,
                }
            }
        })
    }

    /// Evicts up to `n` entries, those first that were not touched for
    /// longest, expired or not: how many. At most twice as many are looked at.
    pub fn trash(&self, n: usize, env: &Env) -> usize {
        let mut dead = Dead::default();
        let mut left = n.saturating_mul(2);
        self.evict(env, |shard, rules, times| {
            let wanted = n - dead.len;
            left -= shard.evict(rules, times, wanted, left, &mut dead);
            dead.len >= n || left == 0
        });
        let freed = dead.len;
        self.bury(&mut dead, env, false);
        freed
    }

    // Evicts something so that a new entry has room: false where all is in use.
    // KEEPS: INV-102
    fn make_room(&self, env: &Env) -> bool {
        let size = self.head().size.load(Ordering::Relaxed) as usize;
        let batch = (size / 256 + 1).min(MAX_BATCH);
        let mut dead = Dead::default();
        let mut some = |budget: usize| {
            self.evict(env, |shard, rules, times| {
                shard.evict(rules, times, batch, budget, &mut dead);
                dead.len > 0
            });
            dead.len > 0
        };
        if !some(2 * batch) {
            // Everything, but not again and again while nobody lets go (STK-27).
            let now = env.by.now;
            if self.all_held.load(Ordering::Relaxed) == now {
                return false;
            }
            if !some(usize::MAX) {
                self.all_held.store(now, Ordering::Relaxed);
                return false;
            }
        }
        self.bury(&mut dead, env, false);
        true
    }

    fn evict(&self, env: &Env, mut visit: impl FnMut(&Shard, &Rules, &Times) -> bool) {
        let rules = self.rules();
        let mut times = self.times(env.by.now);
        // What is in use counts as touched now.
        // Not so late that its date would seem to be yet to come then.
        let lifetime = match self.lifetime() {
            0 => HORIZON,
            ms => ms.min(HORIZON),
        };
        times.recheck = env.by.now + lifetime;
        for shard in self.walk() {
            if visit(shard, &rules, &times) {
                return;
            }
        }
    }

    /// Calls `f` with all entries, some at a time, without a lock and with a
    /// reference to each. Entries that come or go during the walk may be
    /// missed; none comes twice. Ends early where `f` says no. False: memory
    /// lacks.
    pub fn for_each(&self, mut f: impl FnMut(*mut Entry) -> bool) -> bool {
        let mut batch = Batch::new();
        for shard in self.shards() {
            let then = shard.buckets();
            for b in 0..then {
                if !batch.add(shard, b, then) {
                    return false;
                }
                if batch.is_large() || b + 1 == then {
                    while let Some(ts) = batch.last() {
                        if !f(ts) {
                            return true;
                        }
                        batch.release();
                    }
                }
            }
        }
        true
    }
}
