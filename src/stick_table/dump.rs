//! 'show table'.

use super::catalog::{Catalog, FRQP, MAX_ELEMENTS, SINT, TYPES, ULL, size_of_std};
use super::entry::Entry;
use super::filter::{self, Filter};
use super::freq_ctr::{Clock, FreqCtr};
use super::head::Head;
use super::line::Store;
use super::show;
use super::table::{Env, Table};
use crate::sync::atomic::Ordering;
use crate::sys::{self, file::Writer};
use core::ffi::{CStr, c_char};

/// The date of the dump, for its rates.
#[derive(Clone, Copy)]
struct Date(u32);

impl Clock for Date {
    fn near(&self) -> Option<u32> {
        Some(self.0)
    }

    fn common(&self) -> u32 {
        self.0
    }
}

/// Writes the table's line and those of the entries that `filter` lets through
/// to `fd`: the bytes written, or a negative errno.
///
/// # Safety
/// The table's id is NULL or a string.
pub unsafe fn dump(t: &Head, fd: i32, filter: &[u8], catalog: &Catalog, env: &Env) -> i32 {
    let Some(filter) = filter::parse(filter, t.key_type, t.key_size, catalog) else {
        return -sys::EINVAL;
    };
    if matches!(filter, Filter::NoMemory) {
        return -sys::ENOMEM;
    }
    if !filter.suits(&|index, element| t.datum(index, element).is_some()) {
        return -sys::EINVAL;
    }
    let mut stores = [Store {
        data_type: 0,
        nbelem: 0,
        arg: 0,
    }; TYPES];
    let mut n = 0;
    for data_type in (0..TYPES).filter(|&k| t.datum(k, 0).is_some()) {
        stores[n] = Store {
            data_type,
            nbelem: t.data_nbelem[data_type],
            arg: t.data_arg[data_type] as u32,
        };
        n += 1;
    }
    let dump = Dump {
        t,
        stores: &stores[..n],
        catalog,
        now: env.by.now as u32,
    };
    let mut out = Writer::new(fd);
    // SAFETY: by this function's contract.
    let id = unsafe { (!t.id.is_null()).then(|| CStr::from_ptr(t.id)) };
    let id = id.map_or(&b""[..], CStr::to_bytes);
    let size = t.size.load(Ordering::Relaxed);
    let used = t.current.load(Ordering::Relaxed);
    // An error stays in the writer, which reports it at the end.
    let _ = show::header(&mut out, id, t.key_type, size, used);
    let mut complete = true;
    if let Some(table) = t.table() {
        if let Some(key) = filter.key() {
            let ts = table.lookup(key, env);
            if !ts.is_null() {
                dump.entry(&mut out, table, ts, &filter);
                // SAFETY: the lookup took a reference.
                unsafe { table.kill_if_expired(ts, 1, env) };
            }
        } else {
            complete = table.for_each(|ts| dump.entry(&mut out, table, ts, &filter));
        }
    }
    match out.finish() {
        written if complete || written < 0 => written,
        _ => -sys::ENOMEM,
    }
}

struct Dump<'a> {
    t: &'a Head,
    stores: &'a [Store],
    catalog: &'a Catalog,
    now: u32,
}

impl Dump<'_> {
    // The caller holds a reference. False: no more can be written.
    fn entry(&self, out: &mut Writer, table: &Table, ts: *mut Entry, filter: &Filter) -> bool {
        // SAFETY: held, so that it lives and its key does not change.
        let (entry, key) = unsafe { (&*ts, table.kind().of_entry(ts)) };
        // What is shown is what was tested: read once, and no lock is held
        // while it is written.
        let mut values = Values::new();
        // KEEPS: INV-106
        entry.lock.read();
        let read = |index, element| self.read(ts, index, element);
        let shown = filter.matches(&|index, element| Some(read(index, element)? as i64));
        if shown {
            values.fill(self.stores, &read);
        }
        entry.lock.end_read();
        if !shown {
            return true;
        }
        let left = entry.life.expire().wrapping_sub(self.now) as i32;
        let expires = self.t.expire.load(Ordering::Relaxed) != 0;
        let view = show::View {
            address: ts as usize,
            key,
            key_type: self.t.key_type,
            uses: entry.life.count() - 1,
            exp: if expires { left.max(0) as u32 } else { 0 },
            stores: self.stores,
            read: &|index, element| values.get(self.stores, index, element),
        };
        show::entry(out, &view, self.catalog).is_ok()
    }

    fn read(&self, ts: *mut Entry, index: usize, element: u32) -> Option<u64> {
        let offset = self.t.datum(index, element)?;
        let info = self.catalog.get(index)?;
        let at = ts.wrapping_byte_offset(offset);
        // SAFETY: a stored datum of this type; data are aligned to 4 alone.
        unsafe {
            Some(match info.std_type {
                FRQP => {
                    let period = self.t.data_arg[index] as u32;
                    (*at.cast::<FreqCtr>()).rate(period, Date(self.now)).into()
                }
                ULL => at.cast::<u64>().read_unaligned(),
                // A filter compares it with its sign.
                SINT => i64::from(at.cast::<i32>().read_unaligned()) as u64,
                _ if size_of_std(info.std_type) == 4 => at.cast::<u32>().read_unaligned().into(),
                _ => at.cast::<*const c_char>().read_unaligned() as u64,
            })
        }
    }
}

/// The data of one entry: one element of each type, and more of the three that
/// are arrays.
struct Values([u64; TYPES + 3 * MAX_ELEMENTS as usize]);

impl Values {
    const fn new() -> Self {
        Self([0; TYPES + 3 * MAX_ELEMENTS as usize])
    }

    fn fill(&mut self, stores: &[Store], read: &dyn Fn(usize, u32) -> Option<u64>) {
        let all = stores
            .iter()
            .flat_map(|s| (0..s.nbelem).map(|element| (s.data_type, element)));
        for (slot, (index, element)) in self.0.iter_mut().zip(all) {
            *slot = read(index, element).unwrap_or(0);
        }
    }

    fn get(&self, stores: &[Store], index: usize, element: u32) -> u64 {
        let before = stores.iter().take_while(|s| s.data_type != index);
        let at = before.map(|s| s.nbelem).sum::<u32>() + element;
        self.0.get(at as usize).copied().unwrap_or(0)
    }
}
