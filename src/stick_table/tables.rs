//! All tables of the process: who they are, what their names are, who looks
//! something up in any of them.

use super::catalog::{self, Info, TYPES};
use super::head::Head;
use super::key::{SMP_T_BIN, SMP_T_IPV4, SMP_T_IPV6, SMP_T_SINT, SMP_T_STR};
use super::line::MAX_SIZE;
use super::readers::Readers;
use super::table::{Env, Table};
use crate::sync::atomic::{AtomicPtr, Ordering};
use crate::sync::{Mutex, ThreadSet};
use crate::task::{Process, Task, tick};
use core::ffi::CStr;
use core::ptr;

/// The tables. A plain value; the process has one.
pub struct Tables {
    /// Who looks something up.
    pub readers: Readers,
    /// The initialised ones, by their `after` links.
    first: Mutex<AtomicPtr<Head>>,
}

/// What is wrong with a table that its user has filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The type of the key is none, or its size does not suit.
    Key,
    /// `expire` is negative, or `size` beyond what can be counted.
    Bounds,
    /// It has been initialised.
    Again,
    /// Entries are to expire, and there are no tasks before `init`.
    TooEarly,
    /// Memory lacks.
    Memory,
}

/// Keys and data of one entry, at most.
const MAX_KEY: usize = 1 << 20;

impl Tables {
    /// None.
    pub const fn new() -> Self {
        Self {
            readers: Readers::new(),
            first: Mutex::new(AtomicPtr::new(ptr::null_mut())),
        }
    }

    /// Whether keys of type `of` can have `size` bytes.
    pub fn is_key(of: u64, size: usize) -> bool {
        match of {
            SMP_T_SINT | SMP_T_IPV4 => size == 4,
            SMP_T_IPV6 => size == 16,
            SMP_T_STR => (2..=MAX_KEY).contains(&size),
            SMP_T_BIN => (1..=MAX_KEY).contains(&size),
            _ => false,
        }
    }

    /// Makes the engine of a table that its user has filled in. `process` is
    /// its expiry task's handler, which gets `head` as its context.
    ///
    /// # Safety
    /// `head` is valid, stays where it is until [`deinit`](Self::deinit), and
    /// nobody else uses it yet.
    pub unsafe fn init(&self, head: *mut Head, process: Process, env: &Env) -> Result<(), Fault> {
        // SAFETY: by this function's contract.
        let t = unsafe { &mut *head };
        if t.table().is_some() {
            return Err(Fault::Again);
        }
        let expire = t.expire.load(Ordering::Relaxed);
        if expire < 0 || u64::from(t.size.load(Ordering::Relaxed)) > MAX_SIZE {
            return Err(Fault::Bounds);
        }
        if t.size.load(Ordering::Relaxed) == 0 {
            // Not used: nothing to make.
            return Ok(());
        }
        if !Self::is_key(t.key_type, t.key_size) {
            return Err(Fault::Key);
        }
        let mut task = ptr::null_mut();
        if expire != 0 {
            let tasks = env.tasks.ok_or(Fault::TooEarly)?;
            task = tasks.new_task(tasks.all(), env.by);
            if task.is_null() {
                return Err(Fault::Memory);
            }
            // SAFETY: new, and nobody else's. Whatever thread queues it.
            unsafe {
                (*task).head.process = Some(process);
                (*task).head.context = head.cast();
                (*task).head.state.set(crate::task::flags::SHARED_WQ);
                (*task).expire.store(tick::ETERNITY, Ordering::Relaxed);
            }
        }
        let Some(table) = Table::new(t, task, env) else {
            if let (Some(tasks), false) = (env.tasks, task.is_null()) {
                // SAFETY: new, and nobody else's.
                let _ = unsafe { tasks.destroy_task(task, env.by) };
            }
            return Err(Fault::Memory);
        };
        t.exp_task = task;
        let first = self.first.lock();
        t.after
            .store(first.load(Ordering::Relaxed), Ordering::Relaxed);
        first.store(head, Ordering::Relaxed);
        // PAIRS: Head::table's Acquire.
        // UNSEEN: a program hands a table over by means of its own.
        t.table.store(table, Ordering::Release);
        Ok(())
    }

    /// Frees what [`init`](Self::init) has made, and all entries: whom to wake.
    ///
    /// # Safety
    /// As [`Table::free`].
    pub unsafe fn deinit(&self, head: *mut Head, env: &Env) -> ThreadSet {
        // SAFETY: by this function's contract.
        let t = unsafe { &mut *head };
        let table = t.table.swap(ptr::null_mut(), Ordering::Relaxed);
        if table.is_null() {
            return ThreadSet::EMPTY;
        }
        {
            let first = self.first.lock();
            let mut link: &AtomicPtr<Head> = &first;
            loop {
                let at = link.load(Ordering::Relaxed);
                // SAFETY: tables in the list live.
                let after = unsafe { &(*at).after };
                if at == head {
                    link.store(after.load(Ordering::Relaxed), Ordering::Relaxed);
                    break;
                }
                link = after;
            }
        }
        // From here on the expiry task finds no table. A run of a bounded
        // number of entries may be under way on another thread.
        // PAIRS: end_run's Release.
        // UNSEEN: a run seldom ends just then, here and there.
        while t.runs.load(Ordering::Acquire) != 0 {
            crate::sync::spin_hint();
        }
        t.named = 0;
        t.exp_task = ptr::null_mut();
        // SAFETY: by this function's contract.
        let wakes = unsafe { Table::free(table, env) };
        t.current.store(0, Ordering::Relaxed);
        wakes
    }

    /// Begins a run of a table's expiry task, which the scheduler may have
    /// picked before the table was freed: false if it was. `head` is compared
    /// alone, before it is known to live.
    pub fn begin_run(&self, head: *mut Head, task: *mut Task) -> bool {
        let first = self.first.lock();
        let mut at = first.load(Ordering::Relaxed);
        // SAFETY: tables in the list live.
        unsafe {
            while !at.is_null() {
                if at == head && (*at).exp_task == task {
                    (*at).runs.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
                at = (*at).after.load(Ordering::Relaxed);
            }
        }
        false
    }

    /// Ends it.
    ///
    /// # Safety
    /// [`begin_run`](Self::begin_run) was true.
    pub unsafe fn end_run(&self, head: *mut Head) {
        // PAIRS, UNSEEN: deinit's Acquire; what the run has read and written.
        // SAFETY: by this function's contract.
        unsafe { (*head).runs.fetch_sub(1, Ordering::Release) };
    }

    /// Lets `head` be found by its id and puts it in the user's list: false if
    /// another table has the id.
    ///
    /// # Safety
    /// As [`name`](Self::name).
    pub unsafe fn list(&self, head: *mut Head, list: &AtomicPtr<Head>) -> bool {
        // SAFETY: by this function's contract.
        unsafe {
            if !self.name(head) {
                return false;
            }
            let _lock = self.first.lock();
            (*head).owned = 1;
            (*head).next = list.load(Ordering::Relaxed);
            list.store(head, Ordering::Relaxed);
        }
        true
    }

    /// Takes `head` out of the user's list, if it is there.
    ///
    /// # Safety
    /// The list's tables live.
    pub unsafe fn unlist(&self, head: *mut Head, list: &AtomicPtr<Head>) {
        let _lock = self.first.lock();
        let mut at = list.load(Ordering::Relaxed);
        // SAFETY: by this function's contract.
        unsafe {
            if at == head {
                list.store((*head).next, Ordering::Relaxed);
                return;
            }
            while !at.is_null() {
                if (*at).next == head {
                    (*at).next = (*head).next;
                    return;
                }
                at = (*at).next;
            }
        }
    }

    /// The first one in the user's list that `keel_stktable_new` made.
    ///
    /// # Safety
    /// As [`unlist`](Self::unlist).
    pub unsafe fn first_owned(&self, list: &AtomicPtr<Head>) -> Option<*mut Head> {
        let _lock = self.first.lock();
        let mut at = list.load(Ordering::Relaxed);
        // SAFETY: by this function's contract.
        unsafe {
            while !at.is_null() && !(*at).is_owned() {
                at = (*at).next;
            }
        }
        (!at.is_null()).then_some(at)
    }

    /// Any table that is left.
    pub fn any(&self) -> *mut Head {
        self.first.lock().load(Ordering::Relaxed)
    }

    /// Lets `head` be found by its id, unless another one is.
    ///
    /// # Safety
    /// `head` is initialised.
    pub unsafe fn name(&self, head: *mut Head) -> bool {
        let first = self.first.lock();
        // SAFETY: by this function's contract.
        unsafe {
            if (*head).id.is_null() {
                return true;
            }
            let there = Self::find_in(&first, CStr::from_ptr((*head).id));
            if there.is_null() {
                (*head).named = 1;
            }
            there.is_null() || there == head
        }
    }

    /// The table of this name, or NULL.
    pub fn find(&self, id: &CStr) -> *mut Head {
        Self::find_in(&self.first.lock(), id)
    }

    fn find_in(first: &AtomicPtr<Head>, id: &CStr) -> *mut Head {
        let mut at = first.load(Ordering::Relaxed);
        // SAFETY: tables in the list live, and named ones have an id.
        unsafe {
            while !at.is_null() {
                if (*at).named != 0 && !(*at).id.is_null() && CStr::from_ptr((*at).id) == id {
                    return at;
                }
                at = (*at).after.load(Ordering::Relaxed);
            }
        }
        at
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

impl Head {
    /// Reserves room for `n` elements of a type in each entry, with an
    /// argument: false if it has some, or there are entries already.
    pub fn add_data(&mut self, index: usize, info: &Info, n: u32, arg: u32) -> bool {
        if index >= TYPES || self.data_ofs[index] != 0 || self.table().is_some() {
            return false;
        }
        let bytes = n as usize * catalog::size_of_std(info.std_type);
        self.data_size += bytes as i32;
        self.data_ofs[index] = -self.data_size;
        self.data_nbelem[index] = n;
        self.data_bytes[index] = catalog::size_of_std(info.std_type) as u8;
        self.data_arg[index] = u64::from(arg);
        true
    }
}
