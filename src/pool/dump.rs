//! The 'show pools' table.

use super::MEM_F_SHARED;
use super::head::{Head, Name};
use super::registry::Registry;
use crate::sync::atomic::Ordering;
use crate::sys::file::Writer;
use crate::sys::{self, memory};
use core::cmp::{Ordering as Order, Reverse};
use core::fmt::{self, Write};
use core::mem;
use core::ptr;

/// Which pools are wanted, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct View<'a> {
    sort: Sort,
    prefix: &'a [u8],
    detailed: bool,
    /// Lines at most.
    max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// The registry's own order: smallest objects first.
    None,
    Name,
    Size,
    Usage,
}

impl<'a> View<'a> {
    const PLAIN: Self = Self {
        sort: Sort::None,
        prefix: b"",
        detailed: false,
        max: u64::MAX,
    };

    /// None where a word is unknown, or "match" lacks its prefix.
    fn parse(words: &'a [u8]) -> Option<Self> {
        let mut view = Self::PLAIN;
        let mut words = words
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            match word {
                b"byname" => view.sort = Sort::Name,
                b"bysize" => view.sort = Sort::Size,
                b"byusage" => view.sort = Sort::Usage,
                b"detailed" => view.detailed = true,
                b"match" => view.prefix = words.next()?,
                // parse() alone would take a sign.
                _ if word.iter().all(u8::is_ascii_digit) => {
                    let max = core::str::from_utf8(word).ok()?.parse().ok()?;
                    view.max = if max == 0 { u64::MAX } else { max };
                }
                _ => return None,
            }
        }
        Some(view)
    }

    /// Whether a pool is among those that are asked for.
    fn selects(&self, row: &Row) -> bool {
        row.name.begins_with(self.prefix) && (self.sort != Sort::Usage || row.allocated > 0)
    }
}

/// A pool's figures at one moment, so that an order by them holds.
#[derive(Clone, Copy)]
struct Row {
    /// Pinned.
    pool: *const Head,
    /// Its place in the registry's list.
    place: usize,
    name: Name,
    size: u64,
    allocated: u64,
    used: u64,
    cached: u64,
    needed: u64,
    failed: u64,
    users: u32,
    shared: bool,
}

impl Row {
    /// As in HAProxy, `used` includes what threads cache.
    fn new(pool: &Head, users: u32, place: usize) -> Self {
        let (allocated, used) = pool.snapshot();
        let used = used.min(allocated);
        Self {
            pool,
            place,
            name: pool.name(),
            size: pool.size().into(),
            allocated,
            used,
            cached: pool.cached_by_all().min(used),
            needed: pool.needed_avg(),
            failed: pool.counters.failed.load(Ordering::Relaxed),
            users,
            shared: pool.mem_flags & MEM_F_SHARED != 0,
        }
    }

    fn compare(&self, other: &Self, sort: Sort) -> Order {
        let by_key = match sort {
            Sort::None => Order::Equal,
            Sort::Name => self.name.bytes().cmp(other.name.bytes()),
            Sort::Size => Reverse(self.size).cmp(&Reverse(other.size)),
            Sort::Usage => Reverse(self.bytes()).cmp(&Reverse(other.bytes())),
        };
        by_key.then(self.place.cmp(&other.place))
    }

    // KEEPS: INV-21
    fn bytes(&self) -> u64 {
        self.allocated.saturating_mul(self.size)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  - Pool {} ({} bytes) : {} allocated ({} bytes), {} used (~{} by thread caches), \
             needed_avg {}, {} failures, {} users, @{:p}{}",
            self.name,
            self.size,
            self.allocated,
            self.bytes(),
            self.used,
            self.cached,
            self.needed,
            self.failed,
            self.users,
            self.pool,
            if self.shared { " [SHARED]" } else { "" },
        )
    }
}

/// A table in the making.
struct Table<'a, W> {
    out: &'a mut W,
    view: &'a View<'a>,
    lines: u64,
    pools: u64,
    allocated: u64,
    used: u64,
    cached: u64,
}

impl<'a, W: Write> Table<'a, W> {
    fn begin(out: &'a mut W, view: &'a View<'a>) -> Result<Self, fmt::Error> {
        writeln!(out, "Dumping pools usage.")?;
        Ok(Self {
            out,
            view,
            lines: 0,
            pools: 0,
            allocated: 0,
            used: 0,
            cached: 0,
        })
    }

    // KEEPS: INV-28
    fn row(&mut self, registry: &Registry, row: &Row) -> fmt::Result {
        if !self.view.selects(row) {
            return Ok(());
        }
        self.pools += 1;
        self.allocated = self.allocated.saturating_add(row.bytes());
        let bytes = |n: u64| n.saturating_mul(row.size);
        self.used = self.used.saturating_add(bytes(row.used));
        self.cached = self.cached.saturating_add(bytes(row.cached));
        if self.lines == self.view.max {
            return Ok(());
        }
        self.lines += 1;
        writeln!(self.out, "{row}")?;
        if !self.view.detailed {
            return Ok(());
        }
        let mut result = Ok(());
        // SAFETY: rows are written while their pool is pinned.
        registry.each_request(unsafe { &*row.pool }, |request, times| {
            if result.is_ok() {
                result = writeln!(
                    self.out,
                    "      > {} : size={} flags={:#x} align={} times={times}",
                    Name::new(request.name),
                    request.size,
                    request.flags,
                    request.align,
                );
            }
        });
        result
    }

    // KEEPS: INV-28
    fn end(self) -> fmt::Result {
        if self.lines < self.pools {
            writeln!(self.out, "  (limited to the first {} entries)", self.lines)?;
        }
        writeln!(
            self.out,
            "Total: {} pools, {} bytes allocated, {} used (~{} by thread caches).",
            self.pools, self.allocated, self.used, self.cached
        )
    }
}

/// All pools, pinned until this is dropped.
struct Rows<'a> {
    registry: &'a Registry,
    area: *mut Row,
    len: usize,
}

impl<'a> Rows<'a> {
    /// None for lack of memory.
    fn new(registry: &'a Registry) -> Option<Self> {
        let mut room = 0;
        loop {
            let area: *mut Row = match room {
                0 => ptr::null_mut(),
                _ => memory::alloc(room * size_of::<Row>(), mem::align_of::<Row>()).cast(),
            };
            if room > 0 && area.is_null() {
                return None;
            }
            let len = registry.pin_all(room, |place, pool, users| {
                // SAFETY: `place` is below `room`, the area's size.
                unsafe {
                    let row = area.add(place);
                    (&raw mut (*row).pool).write(pool);
                    (&raw mut (*row).users).write(users);
                }
            });
            if len <= room {
                // The figures, which take longer, without the lock.
                for place in 0..len {
                    // SAFETY: these rows have their pool and users, and the
                    // pools are pinned.
                    unsafe {
                        let row = area.add(place);
                        row.write(Row::new(&*(*row).pool, (*row).users, place));
                    }
                }
                return Some(Self {
                    registry,
                    area,
                    len,
                });
            }
            // SAFETY: ours, and its rows have nothing to drop.
            unsafe { memory::free(area.cast()) };
            room = len + len / 8;
        }
    }

    fn sort(&mut self, sort: Sort) {
        if self.len > 0 {
            // SAFETY: the area's first `len` rows were written.
            let rows = unsafe { core::slice::from_raw_parts_mut(self.area, self.len) };
            rows.sort_unstable_by(|a, b| a.compare(b, sort));
        }
    }

    fn each(&self) -> impl Iterator<Item = &Row> {
        // SAFETY: as above.
        (0..self.len).map(|i| unsafe { &*self.area.add(i) })
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        self.each()
            .for_each(|row| self.registry.unpin(row.pool.cast_mut()));
        // SAFETY: ours, and its rows have nothing to drop.
        unsafe { memory::free(self.area.cast()) };
    }
}

impl Registry {
    /// Writes one line per pool and one of totals: bytes written, or a
    /// negative errno.
    pub fn dump(&self, fd: i32) -> i32 {
        self.dump_with(fd, b"")
    }

    /// As [`dump`](Self::dump), of the pools and in the order that the words
    /// of 'show pools' say; -EINVAL for others, -ENOMEM if sorting lacks
    /// memory, both with nothing written.
    pub fn dump_with(&self, fd: i32, words: &[u8]) -> i32 {
        let Some(view) = View::parse(words) else {
            return -sys::EINVAL;
        };
        let mut out = Writer::new(fd);
        match self.write_table(&mut out, &view) {
            // An error stays in the writer, which reports it at the end.
            Ok(_) => out.finish(),
            Err(NoMemory) => -sys::ENOMEM,
        }
    }

    fn write_table(&self, out: &mut impl Write, view: &View) -> Result<fmt::Result, NoMemory> {
        let sorted = match view.sort {
            Sort::None => None,
            sort => {
                let mut rows = Rows::new(self).ok_or(NoMemory)?;
                rows.sort(sort);
                Some(rows)
            }
        };
        Ok(self.write_rows(out, view, sorted))
    }

    fn write_rows(&self, out: &mut impl Write, view: &View, sorted: Option<Rows>) -> fmt::Result {
        let mut table = Table::begin(out, view)?;
        let mut result = Ok(());
        match sorted {
            Some(rows) => result = rows.each().try_for_each(|row| table.row(self, row)),
            // Needs no memory: it may be the lack of it that is looked into.
            None => self.visit(|pool| {
                if result.is_ok() {
                    result = table.row(self, &Row::new(pool, self.users(pool), 0));
                }
            }),
        }
        result?;
        table.end()
    }
}

struct NoMemory;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::MEM_F_EXACT;
    use core::ffi::c_char;

    fn table(registry: &Registry, words: &str) -> Vec<String> {
        let mut text = String::new();
        let view = View::parse(words.as_bytes()).unwrap();
        let written = registry.write_table(&mut text, &view);
        assert!(matches!(written, Ok(Ok(()))));
        text.lines().map(String::from).collect()
    }

    /// The names in the table, in order.
    fn names(registry: &Registry, words: &str) -> Vec<String> {
        let lines = table(registry, words);
        let names = lines
            .iter()
            .filter_map(|line| line.strip_prefix("  - Pool "));
        names
            .map(|line| line.split_once(' ').unwrap().0.to_string())
            .collect()
    }

    fn note(lines: &[String]) -> Option<&String> {
        lines.iter().find(|line| line.starts_with("  (limited to"))
    }

    fn make(registry: &Registry, name: &str, size: u32) -> *mut Head {
        let pool = registry.create(name.as_bytes(), size, 0, MEM_F_EXACT);
        pool.unwrap().as_ptr()
    }

    fn end(registry: &Registry) {
        // SAFETY: nobody else knows the registry.
        assert_eq!(unsafe { registry.destroy_all(None) }, 0);
        assert!(registry.list.lock().is_empty());
    }

    // SHOWS: INV-28
    #[test]
    fn pool_34_every_pool_has_its_line() {
        let registry = Registry::new();
        let pool = registry.create(b"first", 100, 0, MEM_F_SHARED).unwrap();
        registry.create(b"second", 100, 0, MEM_F_SHARED).unwrap();
        for i in 0..1000 {
            registry.create(b"many", 1000 + i, 0, 0).unwrap();
        }
        // SAFETY: the pool exists; the object is freed below.
        let object = unsafe { registry.alloc(pool.as_ref(), None, 0) };
        let lines = table(&registry, "");
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
        for words in ["byname", "bysize"] {
            let lines = table(&registry, words);
            assert_eq!(lines.len(), 1003);
            assert_eq!(note(&lines), None);
        }
        // SAFETY: freed once.
        unsafe { registry.free(pool.as_ref(), None, object) };
        end(&registry);
    }

    // SHOWS: INV-28
    #[test]
    fn pool_34_the_note_stands_where_something_was_left_out() {
        let registry = Registry::new();
        for (name, size) in [("aa", 10), ("ab", 20), ("b", 30)] {
            make(&registry, name, size);
        }
        for sort in ["", "byname", "bysize"] {
            for (words, shown, limited) in [
                ("1", 1, true),
                ("2", 2, true),
                ("3", 3, false),
                ("4", 3, false),
                ("0", 3, false),
                ("match a 1", 1, true),
                ("match a 2", 2, false),
                ("2 match b", 1, false),
                ("1 match c", 0, false),
            ] {
                let lines = table(&registry, &format!("{sort} {words}"));
                assert_eq!(lines.len(), 2 + shown + usize::from(limited), "{words}");
                let text = format!("  (limited to the first {shown} entries)");
                assert_eq!(note(&lines), limited.then_some(&text), "{words}");
            }
        }
        end(&registry);
    }

    // SHOWS: INV-28
    #[test]
    fn pool_37_every_order_with_every_filter() {
        let registry = Registry::new();
        let a = make(&registry, "beta", 300);
        make(&registry, "alpha", 20);
        let c = make(&registry, "gamma", 1000);
        make(&registry, "alpine", 20);
        let take = |pool: *mut Head, n| -> Vec<*mut u8> {
            // SAFETY: the pool exists; the objects are freed below.
            (0..n)
                .map(|_| unsafe { registry.alloc(&*pool, None, 0) })
                .collect()
        };
        let objects = [(a, take(a, 4)), (c, take(c, 1))];
        assert_eq!(names(&registry, ""), ["alpha", "alpine", "beta", "gamma"]);
        assert_eq!(
            names(&registry, "byname"),
            ["alpha", "alpine", "beta", "gamma"]
        );
        assert_eq!(
            names(&registry, "bysize"),
            ["gamma", "beta", "alpha", "alpine"]
        );
        assert_eq!(names(&registry, "byusage"), ["beta", "gamma"]);
        assert_eq!(names(&registry, "byusage 1"), ["beta"]);
        assert_eq!(names(&registry, "byusage match al"), [""; 0]);
        assert_eq!(names(&registry, "bysize match al 1"), ["alpha"]);
        assert_eq!(names(&registry, "byusage bysize 2"), ["gamma", "beta"]);
        assert_eq!(names(&registry, "match g"), ["gamma"]);
        assert_eq!(
            table(&registry, "match g 1").last().unwrap(),
            "Total: 1 pools, 1000 bytes allocated, 1000 used (~0 by thread caches)."
        );
        for (pool, objects) in objects {
            for object in objects {
                // SAFETY: freed once.
                unsafe { registry.free(&*pool, None, object) };
            }
        }
        end(&registry);
    }

    #[test]
    fn no_pool_at_all() {
        let registry = Registry::new();
        for words in ["", "byname", "bysize 1", "byusage detailed"] {
            assert_eq!(table(&registry, words).len(), 2);
        }
    }

    #[test]
    fn details_are_what_was_asked_for() {
        let registry = Registry::new();
        registry.create(b"one", 100, 0, MEM_F_SHARED).unwrap();
        registry.create(b"two", 104, 32, MEM_F_SHARED).unwrap();
        registry.create(b"two", 104, 32, MEM_F_SHARED).unwrap();
        for words in ["detailed", "byname detailed"] {
            let lines = table(&registry, words);
            assert_eq!(lines.len(), 5);
            assert_eq!(lines[2], "      > one : size=100 flags=0x1 align=0 times=1");
            assert_eq!(
                lines[3],
                "      > two : size=104 flags=0x1 align=32 times=2"
            );
        }
        end(&registry);
    }

    // SHOWS: INV-21, INV-28
    #[test]
    fn pool_33_figures_are_unsigned_and_64_bits_wide() {
        let registry = Registry::new();
        let mut name: [c_char; 12] = [0; 12];
        name[0] = b'x' as c_char;
        let row = Row {
            pool: ptr::null(),
            place: 0,
            name: Name::new(name),
            size: u64::from(u32::MAX),
            allocated: 3 << 30,
            used: u64::from(u32::MAX),
            cached: 1 << 31,
            needed: 1 << 33,
            failed: 1 << 34,
            users: u32::MAX,
            shared: false,
        };
        assert_eq!(
            row.to_string(),
            "  - Pool x (4294967295 bytes) : 3221225472 allocated (13835058052060938240 bytes), \
             4294967295 used (~2147483648 by thread caches), needed_avg 8589934592, \
             17179869184 failures, 4294967295 users, @0x0"
        );
        let (mut text, view) = (String::new(), View::PLAIN);
        let mut table = Table::begin(&mut text, &view).unwrap();
        table
            .row(
                &registry,
                &Row {
                    allocated: 1 << 20,
                    used: 1 << 20,
                    cached: 0,
                    size: 8192,
                    ..row
                },
            )
            .unwrap();
        table
            .row(
                &registry,
                &Row {
                    allocated: 1,
                    used: 0,
                    cached: 0,
                    size: 1,
                    ..row
                },
            )
            .unwrap();
        table.end().unwrap();
        let total = "Total: 2 pools, 8589934593 bytes allocated, 8589934592 used";
        assert!(text.contains(total), "{text}");
    }

    #[test]
    fn pools_come_and_go_while_they_are_dumped() {
        let registry = Registry::new();
        make(&registry, "doomed", 64);
        let rows = Rows::new(&registry).unwrap();
        end_all_users(&registry);
        make(&registry, "late", 64);
        assert_eq!(rows.len, 1);
        assert_eq!(rows.each().next().unwrap().name.to_string(), "doomed");
        drop(rows);
        assert_eq!(names(&registry, ""), ["late"]);
        end(&registry);
    }

    fn end_all_users(registry: &Registry) {
        // SAFETY: nobody else uses the registry; pins keep what they keep.
        assert_eq!(unsafe { registry.destroy_all(None) }, 0);
    }

    #[test]
    fn words_are_checked() {
        let parse = |words: &'static str| View::parse(words.as_bytes());
        assert_eq!(parse(""), Some(View::PLAIN));
        assert_eq!(parse(" \t\n"), Some(View::PLAIN));
        let view = parse("bysize match ab detailed 5 byname").unwrap();
        assert_eq!((view.sort, view.prefix), (Sort::Name, &b"ab"[..]));
        assert_eq!((view.detailed, view.max), (true, 5));
        for wrong in [
            "bycolour",
            "match",
            "byname,bysize",
            "-1",
            "+1",
            "1x",
            "BYNAME",
            "99999999999999999999",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(Registry::new().dump_with(-1, b"bycolour"), -sys::EINVAL);
    }

    #[test]
    fn a_bad_descriptor_is_an_error() {
        assert_eq!(Registry::new().dump(-1), -sys::EBADF);
        assert_eq!(Registry::new().dump_with(-1, b"byname"), -sys::EBADF);
    }
}
