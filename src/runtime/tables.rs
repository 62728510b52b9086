//! Stick tables for the C face: the process's tables, the clock, waking.

use super::hooks::WARNING;
use super::{HOOKS, core, here, pools, wake};
use crate::stick_table::catalog::Catalog;
use crate::stick_table::head::Head;
use crate::stick_table::line::{self, Sentence};
use crate::stick_table::table::Env;
use crate::stick_table::tables::{Fault, Tables};
use crate::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use crate::sys::{clock, memory};
use crate::task::{Caller, Process};
use core::ffi::CStr;

static TABLES: Tables = Tables::new();

// In the child of a fork of several threads any of them may be locked for ever.
static LOST: AtomicBool = AtomicBool::new(false);

/// Whether nobody may look into the tables: no entry of theirs expires.
pub fn are_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

pub(super) fn lose() {
    LOST.store(true, Ordering::Relaxed);
}

/// The process's tables; they exist before `init`.
#[inline(always)]
pub fn tables() -> &'static Tables {
    &TABLES
}

/// Who calls, and what with.
#[inline(always)]
pub fn env() -> Env<'static> {
    let core = core();
    Env {
        by: match here() {
            Some(t) => t.caller(),
            None => Caller {
                tid: None,
                local: None,
                now: core.map_or_else(|| clock::monotonic_ns() / 1_000_000, |c| c.now_ms()),
            },
        },
        tasks: core.map(|c| &c.tasks),
        pools: pools(),
        readers: &TABLES.readers,
    }
}

/// What a table is to be made of.
pub struct Order<'a> {
    /// Its name.
    pub id: Option<&'a CStr>,
    /// HAProxy's words.
    pub line: Option<&'a CStr>,
    /// The types of data.
    pub catalog: &'a Catalog,
    /// The user's list of tables.
    pub list: &'a AtomicPtr<Head>,
    /// The handler of the expiry task.
    pub process: Process,
}

/// Makes a table, or says why not.
pub fn make(order: &Order) -> Result<*mut Head, Sentence> {
    let text = order
        .line
        .ok_or(Sentence::new(format_args!("the line is NULL")))?;
    let line = line::parse(text.to_bytes(), order.catalog)?;
    let lack = || Sentence::new(format_args!("not enough memory"));
    // The name stands behind the table.
    let name = order.id.map_or(&[][..], CStr::to_bytes_with_nul);
    let size = size_of::<Head>() + name.len();
    let area = memory::alloc_zeroed(size, align_of::<Head>());
    let head: *mut Head = area.cast();
    if head.is_null() {
        return Err(lack());
    }
    // SAFETY: the area is ours, all zeroes are a table that was not filled in,
    // and the name has its place.
    let made = unsafe {
        let t = &mut *head;
        if order.id.is_some() {
            let id = area.add(size_of::<Head>());
            id.copy_from_nonoverlapping(name.as_ptr(), name.len());
            t.id = id.cast();
            t.nid = t.id;
        }
        t.key_type = line.key_type;
        t.key_size = line.key_size;
        t.size.store(line.size, Ordering::Relaxed);
        t.expire.store(line.expire, Ordering::Relaxed);
        t.nopurge.store(line.nopurge.into(), Ordering::Relaxed);
        for store in line.store() {
            if let Some(info) = order.catalog.get(store.data_type) {
                t.add_data(store.data_type, &info, store.nbelem, store.arg);
            }
        }
        init(head, order.process).map_err(|fault| match fault {
            Fault::TooEarly => Sentence::new(format_args!(
                "entries that expire need keel_init() to be called first"
            )),
            _ => lack(),
        })
    };
    // SAFETY: nobody else has seen the table.
    unsafe {
        if let Err(sentence) = made {
            memory::free(area);
            return Err(sentence);
        }
        if !TABLES.list(head, order.list) {
            deinit(head);
            memory::free(area);
            return Err(Sentence::new(format_args!(
                "there is a table with this name already"
            )));
        }
    }
    Ok(head)
}

/// Makes a table's engine; see [`Tables::init`].
///
/// # Safety
/// As there.
pub unsafe fn init(head: *mut Head, process: Process) -> Result<(), Fault> {
    // SAFETY: by this function's contract.
    unsafe { TABLES.init(head, process, &env()) }
}

/// Frees a table's engine, and the table if the library allocated it.
///
/// # Safety
/// As [`Tables::deinit`].
pub unsafe fn deinit(head: *mut Head) {
    // SAFETY: by this function's contract; only `keel_stktable_new` owns.
    unsafe {
        wake(TABLES.deinit(head, &env()));
        if (*head).is_owned() {
            memory::free(head.cast());
        }
    }
}

/// The end of the library: no table is left.
pub(super) fn deinit_all() {
    let mut n = 0;
    loop {
        let head = TABLES.any();
        if head.is_null() {
            break;
        }
        n += 1;
        // SAFETY: nobody uses the library any more.
        unsafe { deinit(head) };
    }
    if n > 0 {
        HOOKS.log(
            WARNING,
            format_args!("keel_deinit: {n} stick tables were left and are gone now"),
        );
    }
    LOST.store(false, Ordering::Relaxed);
}
