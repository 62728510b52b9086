//! keel/stick_table.h: tables of keys and counters whose entries expire.
//!
//! A table maps a key (an address, an integer, a string, bytes) to counters and
//! rates. An entry lives until it was not touched for the table's time, or until
//! a full table needs its place; while somebody holds a reference it stays.
//! Functions that return an entry return a reference with it, which the caller
//! gives back: stktable_release(), or the decrefcnt argument of others. Data are
//! read under stksess_rdlock() and written under stksess_wrlock(), by whoever
//! holds a reference.
//!
//! All functions may be called by any thread at any time unless they say
//! otherwise; registered threads find entries without a lock. In the child of a
//! fork() of several threads tables must not be used, and no entry expires.

use crate::runtime::{tables, wake};
use crate::stick_table::catalog::{self, Catalog};
use crate::stick_table::dump::dump;
use crate::stick_table::entry::Entry;
use crate::stick_table::head::Head;
use crate::stick_table::life::Bury;
use crate::stick_table::table::{Env, Table, Touch};
use crate::stick_table::tables::Fault;
use crate::stick_table::{key, line};
use crate::sync::atomic::{AtomicPtr, Ordering};
use crate::sys::{self, memory};
use crate::task::{Task, tick};
use core::ffi::{CStr, c_char, c_int, c_uint, c_ulong, c_void};
use core::mem::offset_of;
use core::ptr;

use super::task::task;

/// Keys: integers, 4 bytes in native order.
pub const SMP_T_SINT: c_uint = 2;
/// Keys: IPv4 addresses, 4 bytes in network order.
pub const SMP_T_IPV4: c_uint = 4;
/// Keys: IPv6 addresses, 16 bytes in network order.
pub const SMP_T_IPV6: c_uint = 5;
/// Keys: strings, of which key_size bytes less one count.
pub const SMP_T_STR: c_uint = 6;
/// Keys: key_size bytes.
pub const SMP_T_BIN: c_uint = 7;

/// No error.
pub const PE_NONE: c_int = 0;
/// The type of data does not exist.
pub const PE_ENUM_OOR: c_int = 1;
/// It is stored already, or something is that it excludes.
pub const PE_EXIST: c_int = 2;
/// It wants an argument.
pub const PE_ARG_MISSING: c_int = 3;
/// It takes no argument.
pub const PE_ARG_NOT_USED: c_int = 4;
/// The argument cannot be read.
pub const PE_ARG_INVC: c_int = 5;
/// The argument is out of range.
pub const PE_ARG_VALUE_OOR: c_int = 8;

/// Standard types: int.
pub const STD_T_SINT: c_int = 0;
/// unsigned int.
pub const STD_T_UINT: c_int = 1;
/// unsigned long long.
pub const STD_T_ULL: c_int = 2;
/// struct freq_ctr.
pub const STD_T_FRQP: c_int = 3;
/// A pointer to a string that the user keeps.
pub const STD_T_DICT: c_int = 4;

/// Types of data take no argument,
pub const ARG_T_NONE: c_int = 0;
/// an integer,
pub const ARG_T_INT: c_int = 1;
/// or a period in milliseconds.
pub const ARG_T_DELAY: c_int = 2;

/// Types of data; the numbers are those of data_ofs[] and its like.
pub const STKTABLE_DT_SERVER_ID: c_int = 0;
/// General purpose tag.
pub const STKTABLE_DT_GPT0: c_int = 1;
/// General purpose counter.
pub const STKTABLE_DT_GPC0: c_int = 2;
/// Its rate.
pub const STKTABLE_DT_GPC0_RATE: c_int = 3;
/// Connections.
pub const STKTABLE_DT_CONN_CNT: c_int = 4;
/// Their rate.
pub const STKTABLE_DT_CONN_RATE: c_int = 5;
/// Connections now.
pub const STKTABLE_DT_CONN_CUR: c_int = 6;
/// Sessions.
pub const STKTABLE_DT_SESS_CNT: c_int = 7;
/// Their rate.
pub const STKTABLE_DT_SESS_RATE: c_int = 8;
/// Requests.
pub const STKTABLE_DT_HTTP_REQ_CNT: c_int = 9;
/// Their rate.
pub const STKTABLE_DT_HTTP_REQ_RATE: c_int = 10;
/// Clients' errors.
pub const STKTABLE_DT_HTTP_ERR_CNT: c_int = 11;
/// Their rate.
pub const STKTABLE_DT_HTTP_ERR_RATE: c_int = 12;
/// Bytes from clients.
pub const STKTABLE_DT_BYTES_IN_CNT: c_int = 13;
/// Their rate.
pub const STKTABLE_DT_BYTES_IN_RATE: c_int = 14;
/// Bytes to clients.
pub const STKTABLE_DT_BYTES_OUT_CNT: c_int = 15;
/// Their rate.
pub const STKTABLE_DT_BYTES_OUT_RATE: c_int = 16;
/// Second general purpose counter.
pub const STKTABLE_DT_GPC1: c_int = 17;
/// Its rate.
pub const STKTABLE_DT_GPC1_RATE: c_int = 18;
/// A server's name.
pub const STKTABLE_DT_SERVER_KEY: c_int = 19;
/// Servers' failures.
pub const STKTABLE_DT_HTTP_FAIL_CNT: c_int = 20;
/// Their rate.
pub const STKTABLE_DT_HTTP_FAIL_RATE: c_int = 21;
/// General purpose tags, an array.
pub const STKTABLE_DT_GPT: c_int = 22;
/// General purpose counters, an array.
pub const STKTABLE_DT_GPC: c_int = 23;
/// Their rates.
pub const STKTABLE_DT_GPC_RATE: c_int = 24;
/// Protocol oddities.
pub const STKTABLE_DT_GLITCH_CNT: c_int = 25;
/// Their rate.
pub const STKTABLE_DT_GLITCH_RATE: c_int = 26;
/// Types that always exist.
pub const STKTABLE_STATIC_DATA_TYPES: c_int = 27;
/// Types that stktable_register_data_store() can add.
pub const STKTABLE_EXTRA_DATA_TYPES: c_int = 16;
/// All types.
pub const STKTABLE_DATA_TYPES: c_int = 43;

/// stktable_types[]: the line's word "len" may follow.
pub const STK_F_CUSTOM_KEYSIZE: c_int = 1;

/// An argument of a type of data.
#[repr(C)]
pub union stktable_data_arg {
    /// As an integer.
    pub i: c_int,
    /// As a period in milliseconds.
    pub u: c_uint,
    /// As a pointer.
    pub p: *mut c_void,
}

/// A table. Fill in id, type, key_size, size, nopurge and expire, zero the rest,
/// call stktable_alloc_data_type() for each datum, then stktable_init(); or have
/// keel_stktable_new() do all that. It must stay where it is.
#[repr(C)]
pub struct stktable {
    /// The name; NULL: it cannot be found by one. The user's to free.
    pub id: *mut c_char,
    /// The name on the wire; the user's.
    pub nid: *mut c_char,
    /// The user's: the next table in its list.
    pub next: *mut stktable,
    /// SMP_T_*.
    pub r#type: c_ulong,
    /// Bytes of a key; of a string with its NUL.
    pub key_size: usize,
    /// The most entries; 0: the table is not used. May be changed later.
    pub size: c_uint,
    /// Non-zero: a full table refuses new entries instead of evicting old ones.
    pub nopurge: c_int,
    /// Milliseconds that an entry lives after it was touched; 0: for ever.
    pub expire: c_int,
    /// How many entries there are, stored or not. Read only, as what follows.
    pub current: c_uint,
    /// The task that expires entries; NULL where expire was 0.
    pub exp_task: *mut task,
    /// The user's: woken (TASK_WOKEN_MSG) by local touches. Set it before the
    /// first entry is made: only then do entries have room for updates.
    pub sync_task: *mut task,
    /// The user's: non-zero while peers use the table, which then cannot be freed.
    /// Non-zero when the first entry is made, entries have room for updates.
    pub refcnt: c_uint,
    /// Bytes of data in an entry.
    pub data_size: c_int,
    /// Where each type's first element is, from the entry's address; 0: not stored.
    pub data_ofs: [c_int; 43],
    /// How many elements of each type are stored.
    pub data_nbelem: [c_uint; 43],
    /// Each type's argument.
    pub data_arg: [stktable_data_arg; 43],
    /// The number of the last update, in a ring of 2^32.
    pub update: c_uint,
    /// The number of the last local update.
    pub localupdate: c_uint,
    /// The user's: up to where all peers have all updates.
    pub commitupdate: c_uint,
    /// The library's.
    pub keel_private: [u64; 9],
}

/// An entry. Its data lie below this address, its key follows.
#[repr(C)]
pub struct stksess {
    /// When it expires, in ticks; where expire is 0, when it was last touched.
    /// Read it atomically; change it by touching, or follow a change by
    /// stktable_requeue_exp().
    pub expire: c_uint,
    /// References to it; with the highest bit set it has left the table.
    pub ref_cnt: c_uint,
    /// The library's.
    pub keel_private: [c_uint; 3],
    /// The first bytes of the key.
    pub keel_key: [c_uint; 1],
}

/// A key that is looked for. A string ends at its first NUL, after key_len bytes
/// or after the table's key_size less one, whichever comes first; of all other
/// types the table's key_size bytes are read, whatever key_len says.
#[repr(C)]
pub struct stktable_key {
    /// Its first byte. It is not changed, and need not be aligned.
    pub key: *mut c_void,
    /// Its length.
    pub key_len: usize,
}

/// A tracked counter: see stkctr_entry().
#[repr(C)]
pub struct stkctr {
    /// The entry's address, and flags.
    pub entry: c_ulong,
    /// Its table.
    pub table: *mut stktable,
}

/// A type of keys.
#[repr(C)]
pub struct stktable_type {
    /// Its word; NULL: no such keys.
    pub kw: *const c_char,
    /// STK_F_*.
    pub flags: c_int,
    /// The key_size where nothing else is said.
    pub default_size: usize,
}

const _: () = {
    assert!(size_of::<stktable>() == size_of::<Head>());
    assert!(offset_of!(stktable, r#type) == offset_of!(Head, key_type));
    assert!(offset_of!(stktable, current) == offset_of!(Head, current));
    assert!(offset_of!(stktable, exp_task) == offset_of!(Head, exp_task));
    assert!(offset_of!(stktable, refcnt) == offset_of!(Head, refcnt));
    assert!(offset_of!(stktable, data_ofs) == offset_of!(Head, data_ofs));
    assert!(offset_of!(stktable, data_arg) == offset_of!(Head, data_arg));
    assert!(offset_of!(stktable, commitupdate) == offset_of!(Head, commitupdate));
    assert!(size_of::<stksess>() == size_of::<Entry>());
    assert!(STKTABLE_DATA_TYPES as usize == catalog::TYPES);
    assert!(STKTABLE_STATIC_DATA_TYPES as usize == catalog::STATIC);
    // struct stktable_data_type is in parts/: it has bit-fields.
    assert!(size_of::<Catalog>() == 24 * catalog::TYPES);
    assert!(SMP_T_SINT as u64 == key::SMP_T_SINT && SMP_T_IPV4 as u64 == key::SMP_T_IPV4);
    assert!(SMP_T_IPV6 as u64 == key::SMP_T_IPV6 && SMP_T_STR as u64 == key::SMP_T_STR);
    assert!(SMP_T_BIN as u64 == key::SMP_T_BIN);
};

#[unsafe(no_mangle)]
static stktables_list: AtomicPtr<Head> = AtomicPtr::new(ptr::null_mut());

#[unsafe(no_mangle)]
static stktable_data_types: Catalog = Catalog::new();

// Indexed by SMP_T_*.
#[unsafe(no_mangle)]
static stktable_types: KeyTypes = KeyTypes::new();

#[repr(transparent)]
struct KeyTypes([stktable_type; 9]);

// SAFETY: constants.
unsafe impl Sync for KeyTypes {}

impl KeyTypes {
    const fn new() -> Self {
        const NONE: stktable_type = stktable_type {
            kw: ptr::null(),
            flags: 0,
            default_size: 0,
        };
        let mut types = [NONE; 9];
        // The aliases come last, and are left out.
        let mut k = catalog::KEY_TYPES.len();
        while k > 0 {
            k -= 1;
            let t = &catalog::KEY_TYPES[k];
            types[t.key_type as usize] = stktable_type {
                kw: t.name.as_ptr(),
                flags: t.custom_size as c_int * STK_F_CUSTOM_KEYSIZE,
                default_size: t.default_size,
            };
        }
        Self(types)
    }
}

// The engine behind a table, if it is in use.
#[inline(always)]
fn the(t: *mut stktable, what: &str) -> Option<&'static Table> {
    if t.is_null() {
        null(what, "table");
    }
    // SAFETY: the caller's tables are valid.
    unsafe { (*t.cast::<Head>()).table() }
}

#[inline(always)]
fn entry(ts: *mut stksess, what: &str) -> *mut Entry {
    if ts.is_null() {
        null(what, "entry");
    }
    ts.cast()
}

#[cold]
fn null(what: &str, object: &str) -> ! {
    panic!("{what}: the {object} is NULL");
}

// The canonical form of a caller's key.
#[inline(always)]
unsafe fn canonical<'a>(table: &Table, key: *mut stktable_key) -> Option<&'a [u8]> {
    // SAFETY: the caller's keys are valid.
    unsafe {
        let key = key.as_ref()?;
        (!key.key.is_null()).then(|| table.kind().canonical(key.key.cast(), key.key_len))
    }
}

#[inline(always)]
fn env() -> Env<'static> {
    tables::env()
}

// A function's string, if there is one.
unsafe fn text<'a>(s: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the caller's strings are valid.
    (!s.is_null()).then(|| unsafe { CStr::from_ptr(s) })
}

/// Makes a table of HAProxy's words, as "type ip size 1m expire 30s store
/// conn_cnt,conn_rate(10s),gpc(4)": type integer, ip, ipv6, string or binary,
/// the latter two with "len BYTES"; size with k, m, g; expire in us, ms, s, m,
/// h, d (ms by default); nopurge. `id` is copied; NULL: no name. keel_init()
/// comes first where entries expire; keel_deinit() frees what is left.
///
/// Returns the table, or NULL with *err (if err is not NULL) set to a sentence
/// that says what is wrong, which the caller gives to free().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_stktable_new(
    id: *const c_char,
    line: *const c_char,
    err: *mut *mut c_char,
) -> *mut stktable {
    // SAFETY: strings and err are the caller's, and valid.
    unsafe {
        let order = tables::Order {
            id: text(id),
            line: text(line),
            catalog: &stktable_data_types,
            list: &stktables_list,
            process: expire_task,
        };
        match tables::make(&order) {
            Ok(head) => head.cast(),
            Err(sentence) => {
                if !err.is_null() {
                    *err = memory::copy_string(sentence.as_bytes());
                }
                ptr::null_mut()
            }
        }
    }
}

/// Frees a table of keel_stktable_new() with all its entries. NULL is fine.
/// Nobody uses the table or an entry any more. A table whose refcnt is not 0,
/// or that keel_stktable_new() did not make, is a panic.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_stktable_free(t: *mut stktable) {
    if t.is_null() {
        return;
    }
    let head: *mut Head = t.cast();
    // SAFETY: the caller's tables are valid.
    unsafe {
        assert!(
            (*head).is_owned(),
            "keel_stktable_free: keel_stktable_new() did not make table {t:p}"
        );
        unused(head, "keel_stktable_free");
        tables::tables().unlist(head, &stktables_list);
        tables::deinit(head);
    }
}

/// The end of the library: its tables leave the user's list.
pub(super) fn unpublish() {
    let tables = tables::tables();
    // SAFETY: the list's tables live, the library's until deinit.
    unsafe {
        while let Some(head) = tables.first_owned(&stktables_list) {
            tables.unlist(head, &stktables_list);
        }
    }
}

// Panics if peers use the table.
// KEEPS: INV-113
unsafe fn unused(head: *mut Head, what: &str) {
    // SAFETY: the caller's tables are valid.
    let uses = unsafe { (*head).refcnt };
    assert!(uses == 0, "{what}: table {head:p} has a refcnt of {uses}");
}

/// Initialises a table that was filled in, and its expiry task if expire is not
/// 0, for which keel_init() comes first. A table of size 0 is not used: it finds
/// and creates nothing.
///
/// Returns 1, or 0 with errno EINVAL (a type of keys that does not exist or does
/// not suit key_size, a negative expire, a size beyond 2^31, no keel_init()),
/// EALREADY (it is initialised), or ENOMEM.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_init(t: *mut stktable) -> c_int {
    if t.is_null() {
        null("stktable_init", "table");
    }
    // SAFETY: the caller's tables are valid.
    match unsafe { tables::init(t.cast(), expire_task) } {
        Ok(()) => 1,
        Err(fault) => {
            sys::set_errno(match fault {
                Fault::Key | Fault::Bounds | Fault::TooEarly => sys::EINVAL,
                Fault::Again => sys::EALREADY,
                Fault::Memory => sys::ENOMEM,
            });
            0
        }
    }
}

/// Frees what stktable_init() made, and all entries; the structure is the
/// caller's, and may be initialised again. Nobody uses the table or an entry any
/// more. A table whose refcnt is not 0 is a panic.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_deinit(t: *mut stktable) {
    if t.is_null() {
        null("stktable_deinit", "table");
    }
    // SAFETY: the caller's tables are valid.
    unsafe {
        unused(t.cast(), "stktable_deinit");
        assert!(
            !(*t.cast::<Head>()).is_owned(),
            "stktable_deinit: table {t:p} is keel_stktable_free()'s"
        );
        tables::deinit(t.cast());
    }
}

/// Lets an initialised table be found by its id, which must not change any more.
/// Of two of the same id the first one is found. keel_stktable_new() does it.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_store_name(t: *mut stktable) {
    if the(t, "stktable_store_name").is_some() {
        // SAFETY: the caller's tables are valid.
        unsafe { tables::tables().name(t.cast()) };
    }
}

/// Returns the table of this name, or NULL.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_find_by_name(name: *const c_char) -> *mut stktable {
    // SAFETY: the caller's strings are valid.
    match unsafe { text(name) } {
        Some(name) => tables::tables().find(name).cast(),
        None => ptr::null_mut(),
    }
}

/// Reserves room in each entry for a datum of this type (STKTABLE_DT_*), before
/// the table is initialised. For arrays `sa` is the number of elements (1 to
/// 100) and `sa2` the argument, for others `sa` is the argument; NULL: none.
/// Periods are times as in keel_stktable_new(), 2 ms at least.
///
/// Returns PE_NONE; PE_ENUM_OOR: there is no such type; PE_EXIST: the table has
/// it, or is initialised; or PE_ARG_*.
///
/// Thread rule: *any thread*, one at a time for a table.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_alloc_data_type(
    t: *mut stktable,
    r#type: c_int,
    sa: *const c_char,
    sa2: *const c_char,
) -> c_int {
    if t.is_null() {
        null("stktable_alloc_data_type", "table");
    }
    let index = r#type as usize;
    let Some(info) = stktable_data_types.get(index) else {
        return PE_ENUM_OOR;
    };
    // SAFETY: the caller's table and strings are valid.
    unsafe {
        let head = &mut *t.cast::<Head>();
        if head.table().is_some() || head.data_ofs[index] != 0 {
            return PE_EXIST;
        }
        let (sa, sa2) = (text(sa), text(sa2));
        match catalog::arguments(&info, sa.map(CStr::to_bytes), sa2.map(CStr::to_bytes)) {
            Ok((n, arg)) => {
                head.add_data(index, &info, n, arg);
                PE_NONE
            }
            Err(pe) => pe,
        }
    }
}

/// Returns the number of the type of data with this name, or -1.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_get_data_type(name: *const c_char) -> c_int {
    // SAFETY: the caller's strings are valid.
    let found = unsafe { text(name) }.and_then(|name| stktable_data_types.find(name.to_bytes()));
    found.map_or(-1, |index| index as c_int)
}

/// Adds a type of data: in slot `idx`, or in the first free one if that is
/// negative. `name` is not copied, and must stay.
///
/// Returns the number of the type, or -1: no free slot, the name is in use, or
/// STD_T_* or ARG_T_* does not exist.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_register_data_store(
    idx: c_int,
    name: *const c_char,
    std_type: c_int,
    arg_type: c_int,
) -> c_int {
    // SAFETY: the caller's string stays.
    unsafe { stktable_data_types.register(idx, name, std_type, arg_type) }
}

/// Reads a type of keys from words that end with a NULL, from args[*idx] on:
/// "ip", "string len 64"; sets *type and *key_size, and moves *idx past them.
///
/// Returns 0, or 1 where the words are no type: then nothing is set.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_parse_type(
    args: *mut *mut c_char,
    idx: *mut c_int,
    r#type: *mut c_ulong,
    key_size: *mut usize,
) -> c_int {
    if args.is_null() || idx.is_null() || r#type.is_null() || key_size.is_null() {
        return 1;
    }
    // SAFETY: the caller's words end with a NULL, behind which nothing is read:
    // a word is asked for only if the one before it is there.
    unsafe {
        let first = args.offset(*idx as isize);
        let word = |k: usize| {
            let there = (0..=k).all(|k| !(*first.add(k)).is_null());
            there.then(|| CStr::from_ptr(*first.add(k)).to_bytes())
        };
        match line::parse_type(word) {
            Ok(key) => {
                *r#type = key.key_type as c_ulong;
                *key_size = key.key_size;
                *idx += key.words as c_int;
                0
            }
            Err(_) => 1,
        }
    }
}

/// Finds the entry with this key, expired or not.
///
/// Returns it with a reference, or NULL.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_lookup_key(
    t: *mut stktable,
    key: *mut stktable_key,
) -> *mut stksess {
    let Some(table) = the(t, "stktable_lookup_key") else {
        return ptr::null_mut();
    };
    // SAFETY: the caller's.
    match unsafe { canonical(table, key) } {
        Some(key) => table.lookup(key, &env()).cast(),
        None => ptr::null_mut(),
    }
}

/// Finds the entry that has the key of `ts`, an entry of this or another table.
///
/// Returns it with a reference, or NULL; also where the other table's type or
/// key_size differs, or keys of 8 KiB or more cannot be told apart.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_lookup(t: *mut stktable, ts: *mut stksess) -> *mut stksess {
    let ts = entry(ts, "stktable_lookup");
    let Some(table) = the(t, "stktable_lookup") else {
        return ptr::null_mut();
    };
    // SAFETY: the caller holds ts.
    unsafe { table.lookup_like(ts, &env()).cast() }
}

/// Finds the entry with this key, or creates it; the date of one that is there
/// does not change. A full table evicts others, or refuses (nopurge).
///
/// Returns it with a reference; NULL: the key is NULL, the table is full of
/// entries that are in use or may not be evicted, or memory lacks.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_get_entry(
    t: *mut stktable,
    key: *mut stktable_key,
) -> *mut stksess {
    let Some(table) = the(t, "stktable_get_entry") else {
        return ptr::null_mut();
    };
    // SAFETY: the caller's.
    match unsafe { canonical(table, key) } {
        Some(key) => {
            let (ts, wakes) = table.get(key, &env());
            wake(wakes);
            ts.cast()
        }
        None => ptr::null_mut(),
    }
}

/// Finds or creates the entry with this key, and touches it as
/// stktable_touch_local() does.
///
/// Returns it without a reference, as a sign of success: it may be gone at any
/// time. NULL as stktable_get_entry().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_update_key(
    t: *mut stktable,
    key: *mut stktable_key,
) -> *mut stksess {
    // SAFETY: the caller's.
    unsafe {
        let ts = stktable_get_entry(t, key);
        if !ts.is_null() {
            stktable_touch_local(t, ts, 1);
        }
        ts
    }
}

/// Makes an entry that is not stored, with zeroed data, held by nobody. `key`
/// may be NULL: stksess_setkey() then goes before stktable_set_entry().
///
/// Returns it, or NULL as stktable_get_entry().
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stksess_new(t: *mut stktable, key: *mut stktable_key) -> *mut stksess {
    let Some(table) = the(t, "stksess_new") else {
        return ptr::null_mut();
    };
    // SAFETY: the caller's.
    table
        .create(unsafe { canonical(table, key) }, &env())
        .cast()
}

/// Gives an entry that is not stored its key, cut off where it is too long.
///
/// Thread rule: *owner thread only*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stksess_setkey(
    t: *mut stktable,
    ts: *mut stksess,
    key: *mut stktable_key,
) {
    let ts = entry(ts, "stksess_setkey");
    if let Some(table) = the(t, "stksess_setkey") {
        // SAFETY: the caller's.
        unsafe {
            if let Some(key) = canonical(table, key) {
                table.set_key(ts, key);
            }
        }
    }
}

/// Returns the key of an entry: key_size bytes, which the caller does not change.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_stksess_key(ts: *mut stksess) -> *mut c_void {
    Entry::key_at(entry(ts, "keel_stksess_key")).cast()
}

/// Frees an entry that was never stored. A stored one, or one that has left the
/// table, is a panic. NULL is fine.
///
/// Thread rule: *owner thread only*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stksess_free(t: *mut stktable, ts: *mut stksess) {
    let table = the(t, "stksess_free");
    if let Some(table) = table.filter(|_| !ts.is_null()) {
        // SAFETY: the caller's.
        unsafe { table.discard(ts.cast(), &env()) };
    }
}

/// Stores `nts`, unless the table has an entry with its key.
///
/// Returns the one that is stored, with a reference. If that is another one, the
/// caller still owns `nts`.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_set_entry(t: *mut stktable, nts: *mut stksess) -> *mut stksess {
    let nts = entry(nts, "stktable_set_entry");
    let Some(table) = the(t, "stktable_set_entry") else {
        return ptr::null_mut();
    };
    // SAFETY: the caller's.
    let (ts, wakes) = unsafe { table.set(nts, &env()) };
    wake(wakes);
    ts.cast()
}

// Buries what nobody holds, or what the caller alone does.
fn bury(entry: &Entry, decrefcnt: c_int) -> Bury {
    entry.life.end(u32::from(decrefcnt != 0), |_| true)
}

/// Removes an entry and frees it, if nobody holds a reference; with `decrefcnt`
/// the caller's own is given back first, and its pointer is dead afterwards.
///
/// Returns 1 if it is gone, or 0: others hold it.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stksess_kill(
    t: *mut stktable,
    ts: *mut stksess,
    decrefcnt: c_int,
) -> c_int {
    let ts = entry(ts, "stksess_kill");
    let Some(table) = the(t, "stksess_kill") else {
        return 0;
    };
    // SAFETY: the caller's.
    unsafe {
        table
            .kill(ts, |entry| bury(entry, decrefcnt), &env())
            .into()
    }
}

/// stksess_kill() without giving a reference back: for who knows that the entry
/// is there.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __stksess_kill(t: *mut stktable, ts: *mut stksess) -> c_int {
    // SAFETY: the caller's.
    unsafe { stksess_kill(t, ts, 0) }
}

/// stksess_kill() if the entry has expired; else gives the reference back, if
/// `decrefcnt` says so.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stksess_kill_if_expired(
    t: *mut stktable,
    ts: *mut stksess,
    decrefcnt: c_int,
) {
    let ts = entry(ts, "stksess_kill_if_expired");
    if let Some(table) = the(t, "stksess_kill_if_expired") {
        // SAFETY: the caller's.
        unsafe { table.kill_if_expired(ts, u32::from(decrefcnt != 0), &env()) };
    }
}

/// Gives a reference back. NULL is fine.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_release(t: *mut stktable, ts: *mut stksess) {
    // SAFETY: the caller holds a reference.
    if let Some(entry) = unsafe { ts.cast::<Entry>().as_ref() } {
        match the(t, "stktable_release") {
            Some(table) => table.release(entry),
            None => {
                entry.life.release();
            }
        }
    }
}

#[inline(always)]
unsafe fn touch(
    t: *mut stktable,
    ts: *mut stksess,
    what: &str,
    touch: impl FnOnce(&Table, u64) -> Touch,
) {
    let ts = entry(ts, what);
    if let Some(table) = the(t, what) {
        let env = env();
        // SAFETY: the caller holds a reference.
        wake(unsafe { table.touch(ts, touch(table, env.by.now), &env) });
    }
}

/// Touches an entry: it lives for the table's time from now on, and is a local
/// update, for which the sync_task is woken. With `decrefcnt` the reference is
/// given back.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_touch_local(
    t: *mut stktable,
    ts: *mut stksess,
    decrefcnt: c_int,
) {
    // SAFETY: the caller's.
    unsafe {
        touch(t, ts, "stktable_touch_local", |table, now| Touch {
            local: true,
            expire: Some(table.date_from(now)),
            release: decrefcnt != 0,
        });
    }
}

/// Notes that an entry was learned from a peer. Its date stays what it is, or
/// what the caller has just written. With `decrefcnt` the reference is given back.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_touch_remote(
    t: *mut stktable,
    ts: *mut stksess,
    decrefcnt: c_int,
) {
    // SAFETY: the caller's.
    unsafe {
        touch(t, ts, "stktable_touch_remote", |_, _| Touch {
            local: false,
            expire: None,
            release: decrefcnt != 0,
        });
    }
}

/// As stktable_touch_local(), with a date of the caller's, in ticks: it may be
/// earlier than the entry's; with TICK_ETERNITY the entry does not expire.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_touch_with_exp(
    t: *mut stktable,
    ts: *mut stksess,
    decrefcnt: c_int,
    expire: c_int,
) {
    // SAFETY: the caller's.
    unsafe {
        touch(t, ts, "stktable_touch_with_exp", |_, _| Touch {
            local: true,
            expire: Some(expire as c_uint),
            release: decrefcnt != 0,
        });
    }
}

/// Makes sure that the entry will be looked at by its date, which the caller has
/// changed, and holds a reference.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_requeue_exp(t: *mut stktable, ts: *const stksess) {
    let ts = entry(ts.cast_mut(), "stktable_requeue_exp");
    if let Some(table) = the(t, "stktable_requeue_exp") {
        // SAFETY: the caller's.
        wake(unsafe { table.requeue(ts, &env()) });
    }
}

/// The handler of a table's exp_task, whose context is the table: frees entries
/// that have expired and are not in use, at most about a thousand, and sets the
/// task's next date. Returns the task.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn process_table_expire(
    task: *mut task,
    context: *mut c_void,
    _state: c_uint,
) -> *mut task {
    if let Some(table) = the(context.cast(), "process_table_expire") {
        wake(table.expire(&env()));
    }
    task
}

// Whether a task with this handler belongs to a table.
pub(super) fn is_expiry(handler: crate::task::Process) -> bool {
    handler as usize == expire_task as *const () as usize
        || handler as usize == process_table_expire as *const () as usize
}

// The same for the scheduler, whose run nobody can tell from a table's last.
unsafe extern "C" fn expire_task(task: *mut Task, context: *mut c_void, state: u32) -> *mut Task {
    if tables::are_lost() {
        // SAFETY: the scheduler runs it.
        unsafe { (*task).expire.store(tick::ETERNITY, Ordering::Relaxed) };
        return task;
    }
    let head = context.cast();
    if tables::tables().begin_run(head, task) {
        // SAFETY: the same layouts; the table stays until the run ends.
        unsafe {
            process_table_expire(task.cast(), context, state);
            tables::tables().end_run(head);
        }
    }
    task
}

/// Evicts up to `to_batch` entries that nobody holds, those first that were not
/// touched for longest, expired or not, also of a nopurge table. Looks at twice
/// as many at most.
///
/// Returns how many.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_trash_oldest(t: *mut stktable, to_batch: c_int) -> c_int {
    match the(t, "stktable_trash_oldest") {
        Some(table) => table.trash(to_batch.max(0) as usize, &env()) as c_int,
        None => 0,
    }
}

/// Returns where an entry's datum of this type is (element 0 of an array), or
/// NULL if the table does not store it.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_data_ptr(
    t: *mut stktable,
    ts: *mut stksess,
    r#type: c_int,
) -> *mut c_void {
    // SAFETY: the caller's.
    unsafe { stktable_data_ptr_idx(t, ts, r#type, 0) }
}

/// Returns where an element of an array is, or NULL if the table does not store
/// it. What is no array has one element.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stktable_data_ptr_idx(
    t: *mut stktable,
    ts: *mut stksess,
    r#type: c_int,
    idx: c_uint,
) -> *mut c_void {
    if t.is_null() {
        null("stktable_data_ptr", "table");
    }
    // SAFETY: the caller's tables are valid.
    let head = unsafe { &*t.cast::<Head>() };
    if ts.is_null() {
        return ptr::null_mut();
    }
    match head.datum(r#type as usize, idx) {
        Some(offset) => ts.wrapping_byte_offset(offset).cast(),
        None => ptr::null_mut(),
    }
}

/// Waits until nobody reads or writes the entry's data.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stksess_wrlock(ts: *mut stksess) {
    // SAFETY: the caller holds a reference.
    unsafe { (*entry(ts, "stksess_wrlock")).lock.write() };
}

/// Waits until nobody writes the entry's data.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stksess_rdlock(ts: *mut stksess) {
    // SAFETY: the caller holds a reference.
    unsafe { (*entry(ts, "stksess_rdlock")).lock.read() };
}

/// Ends stksess_wrlock().
///
/// Thread rule: *owner thread only*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stksess_wrunlock(ts: *mut stksess) {
    // SAFETY: the caller holds a reference.
    unsafe { (*entry(ts, "stksess_wrunlock")).lock.end_write() };
}

/// Ends stksess_rdlock().
///
/// Thread rule: *owner thread only*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stksess_rdunlock(ts: *mut stksess) {
    // SAFETY: the caller holds a reference.
    unsafe { (*entry(ts, "stksess_rdunlock")).lock.end_read() };
}

/// The first update after number `from`, up to `to`, in the ring of 2^32: local
/// ones are numbered up to localupdate, remote ones from half a ring after the
/// first remote touch's number on, up to update + 2^31.
///
/// Returns its entry with a reference and sets *number (if it is not NULL), or
/// NULL.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_stktable_next_update(
    t: *mut stktable,
    from: c_uint,
    to: c_uint,
    number: *mut c_uint,
) -> *mut stksess {
    let found = the(t, "keel_stktable_next_update").and_then(|table| table.update_after(from, to));
    match found {
        Some((ts, n)) => {
            if !number.is_null() {
                // SAFETY: the caller's.
                unsafe { *number = n };
            }
            ts.cast()
        }
        None => ptr::null_mut(),
    }
}

/// Returns how many entries there are, stored or not.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_stktable_current(t: *mut stktable) -> c_uint {
    match the(t, "keel_stktable_current") {
        // SAFETY: the caller's tables are valid.
        Some(_) => unsafe { (*t.cast::<Head>()).current.load(Ordering::Relaxed) },
        None => 0,
    }
}

/// Returns about how many bytes of memory one entry of a well filled table
/// takes, its part of the index included. 0 where the table is not in use.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_stktable_cost(t: *mut stktable) -> c_uint {
    the(t, "keel_stktable_cost").map_or(0, |table| table.cost() as c_uint)
}

/// Writes what 'show table' shows to a descriptor: a line for the table and one
/// for each entry. `filter` is NULL or "": all; "key K": the one with that key;
/// "data.TYPE OP VALUE", OP being eq, ne, le, ge, lt or gt, also several of
/// them: those that meet all. No lock is held for more than a few entries.
///
/// Returns the bytes written, or a negative errno: -EINVAL: the filter is wrong,
/// or about a datum that is not stored, and nothing is written; -ENOMEM; or
/// write()'s.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_dump_stktable(
    t: *mut stktable,
    fd: c_int,
    filter: *const c_char,
) -> c_int {
    the(t, "keel_dump_stktable");
    // SAFETY: the caller's.
    unsafe {
        let filter = text(filter).map_or(&b""[..], CStr::to_bytes);
        dump(&*t.cast::<Head>(), fd, filter, &stktable_data_types, &env())
    }
}
