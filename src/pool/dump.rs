//! The 'show pools' table.

use super::MEM_F_SHARED;
use super::head::Head;
use super::registry::Registry;
use crate::sync::atomic::Ordering;
use crate::sys::file::Writer;
use core::fmt::{self, Write};
use core::ptr;

/// The last line.
#[derive(Default)]
struct Totals {
    pools: u64,
    allocated: u64,
    used: u64,
    cached: u64,
}

impl Registry {
    /// Writes one line per pool and one of totals: bytes written, or a
    /// negative errno. As in HAProxy, `used` includes what threads cache.
    pub fn dump(&self, fd: i32) -> i32 {
        let mut out = Writer::new(fd);
        // An error stays in the writer, which reports it at the end.
        let _ = self.write_table(&mut out);
        out.finish()
    }

    pub(super) fn write_table(&self, out: &mut impl Write) -> fmt::Result {
        let mut totals = Totals::default();
        let mut result = writeln!(out, "Dumping pools usage.");
        self.visit(|pool| {
            if result.is_ok() {
                result = pool.write_line(out, self.users(pool), &mut totals);
            }
        });
        result?;
        writeln!(
            out,
            "Total: {} pools, {} bytes allocated, {} used (~{} by thread caches).",
            totals.pools, totals.allocated, totals.used, totals.cached
        )
    }
}

impl Head {
    fn write_line(&self, out: &mut impl Write, users: u32, totals: &mut Totals) -> fmt::Result {
        let (allocated, used) = self.snapshot();
        let used = used.min(allocated);
        let cached = self.cached_by_all().min(used);
        let size = u64::from(self.size());
        totals.pools += 1;
        totals.allocated += allocated * size;
        totals.used += used * size;
        totals.cached += cached * size;
        writeln!(
            out,
            "  - Pool {} ({size} bytes) : {allocated} allocated ({} bytes), {used} used \
             (~{cached} by thread caches), needed_avg {}, {} failures, {users} users, @{:p}{}",
            self.name(),
            allocated * size,
            self.needed_avg(),
            self.counters.failed.load(Ordering::Relaxed),
            ptr::from_ref(self),
            if self.mem_flags & MEM_F_SHARED != 0 {
                " [SHARED]"
            } else {
                ""
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pool_has_its_line() {
        let registry = Registry::new();
        let pool = registry.create(b"first", 100, 0, MEM_F_SHARED).unwrap();
        registry.create(b"second", 100, 0, MEM_F_SHARED).unwrap();
        for i in 0..1000 {
            registry.create(b"many", 1000 + i, 0, 0).unwrap();
        }
        // SAFETY: the pool exists; the object is freed below.
        let object = unsafe { registry.alloc(pool.as_ref(), None, 0) };
        let mut text = String::new();
        registry.write_table(&mut text).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1003);
        assert!(lines[1].starts_with(
            "  - Pool first (112 bytes) : 1 allocated (112 bytes), 1 used \
             (~0 by thread caches), needed_avg 1, 0 failures, 2 users, @0x"
        ));
        assert!(lines[1].ends_with(" [SHARED]"));
        assert_eq!(
            lines[1002],
            "Total: 1001 pools, 112 bytes allocated, 112 used (~0 by thread caches)."
        );
        // SAFETY: freed once; nobody else uses the registry.
        unsafe {
            registry.free(pool.as_ref(), None, object);
            registry.destroy_all(None);
        }
    }

    #[test]
    fn a_bad_descriptor_is_an_error() {
        assert_eq!(Registry::new().dump(-1), -crate::sys::EBADF);
    }
}
