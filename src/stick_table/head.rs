//! A table as C sees it: fields that it fills in and reads, then the engine.

use super::catalog::TYPES;
use super::table::Table;
use crate::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};
use crate::task::Task;
use core::ffi::{c_char, c_int, c_uint, c_ulong};

/// `struct stktable`. All zeroes but for what its user fills in.
#[repr(C)]
pub struct Head {
    /// The local name.
    pub id: *mut c_char,
    /// The name on the wire.
    pub nid: *mut c_char,
    /// The user's: the next in its list.
    pub next: *mut Head,
    /// SMP_T_*.
    pub key_type: c_ulong,
    /// Bytes of a key; of a string with the NUL.
    pub key_size: usize,
    /// The most entries.
    pub size: AtomicU32,
    /// Refuse new entries instead of evicting old ones.
    pub nopurge: AtomicI32,
    /// Milliseconds that an entry lives after a touch; 0: for ever.
    pub expire: AtomicI32,
    /// Entries allocated.
    pub current: AtomicU32,
    /// The expiry task.
    pub exp_task: *mut Task,
    /// Woken by local updates.
    pub sync_task: AtomicPtr<Task>,
    /// Uses by peers.
    pub refcnt: c_uint,
    /// Bytes of data.
    pub data_size: c_int,
    /// Where each type's first element is, from the entry; 0: not stored.
    pub data_ofs: [c_int; TYPES],
    /// Elements of each type.
    pub data_nbelem: [c_uint; TYPES],
    /// Each type's argument.
    pub data_arg: [u64; TYPES],
    /// The number of the last update.
    pub update: AtomicU32,
    /// The number of the last local update.
    pub localupdate: AtomicU32,
    /// The number up to which all peers have everything.
    pub commitupdate: AtomicU32,
    /// The engine; NULL before init and after deinit.
    pub(super) table: AtomicPtr<Table>,
    /// Links of [`Tables`](super::tables::Tables).
    pub(super) after: AtomicPtr<Head>,
    /// Whether it can be found by its id.
    pub(super) named: c_int,
    /// Whether `keel_stktable_new` allocated it.
    pub(super) owned: c_int,
    /// Runs of the expiry task, which may be the scheduler's doing: the table
    /// is not freed under them.
    pub(super) runs: AtomicU32,
    /// Bytes of one element of each type.
    pub(super) data_bytes: [u8; TYPES],
}

impl Head {
    /// The engine, if the table was initialised and has a size.
    #[inline(always)]
    pub fn table(&self) -> Option<&Table> {
        // PAIRS, UNSEEN: init's Release.
        // SAFETY: deinit frees it when nobody uses the table any more.
        unsafe { self.table.load(Ordering::Acquire).as_ref() }
    }

    /// Whether the library allocated it.
    pub fn is_owned(&self) -> bool {
        self.owned != 0
    }

    /// Where an element is, from the entry; `None`: not stored.
    // KEEPS: INV-111
    #[inline(always)]
    pub fn datum(&self, index: usize, element: c_uint) -> Option<isize> {
        let offset = *self.data_ofs.get(index)? as isize;
        if element == 0 {
            return (offset != 0).then_some(offset);
        }
        (element < self.data_nbelem[index])
            .then(|| offset + element as isize * (self.data_bytes[index] as isize))
    }
}
