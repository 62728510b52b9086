//! Figures for operators.

use super::engine::Tasks;
use super::profile::{Sum, Sums};
use super::scheduler::NEVER;
use crate::pool;
use crate::sys::{file, symbol};
use core::fmt::{self, Write};

/// Nanoseconds as people read them, four digits.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0..1_000 => return write!(f, "{:>5}ns", self.0),
            1_000..1_000_000 => (1_000, "us"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let (whole, thousandths) = (self.0 / unit, self.0 % unit / (unit / 1000));
        match whole {
            0..10 => write!(f, "{whole}.{thousandths:03}{name:>2}"),
            10..100 => write!(f, "{whole}.{:02}{name:>2}", thousandths / 10),
            _ => write!(f, "{whole}.{}{name:>2}", thousandths / 100),
        }
    }
}

/// A handler, by name or by its place in a file, for addr2line; 0: the others.
struct Function(usize);

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("(others)");
        }
        let place = symbol::place(self.0);
        // A name that begins elsewhere is a neighbour's.
        match (place.function, place.file) {
            (Some((name, 0)), _) => f.write_str(name),
            (_, Some((file, offset))) => write!(f, "{file}+{offset:#x}"),
            _ => write!(f, "{:#x}", self.0),
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.calls.max(1);
        write!(
            f,
            "{:>12}  {}  {}  {}  {}  {}",
            self.calls,
            Time(self.time),
            Time(self.time / calls),
            Time(self.latency / calls),
            Time(self.longest_latency),
            Function(self.function)
        )
    }
}

impl Tasks {
    /// The pools of tasks and of tasklets.
    pub fn pool_heads(&self) -> (&'static pool::Head, &'static pool::Head) {
        (self.pools.tasks, self.pools.tasklets)
    }

    /// Runnable items on all threads; racy.
    pub fn runnable(&self) -> u64 {
        (0..self.nbthread())
            .map(|k| self.sched(k).counters.runnable.get())
            .sum()
    }

    /// Tasks and tasklets that exist; racy.
    pub fn allocated(&self) -> u64 {
        self.pools.tasks.stats().used + self.pools.tasklets.stats().used
    }

    /// Writes a line a thread to `fd`, and with profiling one a handler: bytes
    /// written or a negative errno.
    pub fn dump(&self, fd: i32) -> i32 {
        let mut w = file::Writer::new(fd);
        // What the writer meets is told by finish.
        let _ = writeln!(
            w,
            "Tasks: {} tasks, {} tasklets, {} runnable",
            self.pools.tasks.stats().used,
            self.pools.tasklets.stats().used,
            self.runnable()
        );
        for k in 0..self.nbthread() {
            let sched = self.sched(k);
            let c = &sched.counters;
            let shared = sched.shared.lock().len();
            let _ = writeln!(
                w,
                "  - thread {k}: {} runnable, {} private timers, {shared} shared timers{}; \
                 ran {} items ({} tasks), expired {}, empty {}, long {}",
                c.runnable.get(),
                c.armed.get(),
                if sched.next_shared() == NEVER {
                    ""
                } else {
                    " (armed)"
                },
                c.items.get(),
                c.tasks.get(),
                c.expired.get(),
                c.empty_rq.get(),
                c.long_rq.get(),
            );
        }
        let _ = self.write_handlers(&mut w);
        w.finish()
    }

    // Items that are queued cannot be told by handler: only their thread can
    // walk its queues.
    fn write_handlers(&self, w: &mut impl Write) -> fmt::Result {
        if !self.profiles.are_on() {
            return Ok(());
        }
        let Some(mut sums) = Sums::new(&self.profiles) else {
            return writeln!(w, "Handlers: no memory to add them up");
        };
        let sums = sums.each();
        writeln!(w, "Handlers: {}, by the time that they took", sums.len())?;
        writeln!(
            w,
            "{:>12}  {:>7}  {:>7}  {:>7}  {:>7}  handler",
            "calls", "cpu_tot", "cpu_avg", "lat_avg", "lat_max"
        )?;
        sums.iter().try_for_each(|sum| writeln!(w, "{sum}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_four_digits() {
        for (ns, text) in [
            (0, "    0ns"),
            (999, "  999ns"),
            (1_000, "1.000us"),
            (12_349, "12.34us"),
            (999_999, "999.9us"),
            (5_050_000, "5.050ms"),
            (1_000_000_000, "1.000 s"),
            (86_400_012_000_000, "86400.0 s"),
        ] {
            assert_eq!(Time(ns).to_string(), text);
        }
        let longest = Time(u64::MAX).to_string();
        assert_eq!(longest, "18446744073.7 s");
    }

    #[test]
    fn handlers_have_names_or_places() {
        assert_eq!(Function(0).to_string(), "(others)");
        let variable = 0u8;
        let address = (&raw const variable).addr();
        assert_eq!(Function(address).to_string(), format!("{address:#x}"));
        // A function of this program, which exports none.
        let text = Function(times_have_four_digits as fn() as usize).to_string();
        assert!(text.contains("+0x"), "{text}");
    }

    #[test]
    fn a_line_has_averages() {
        let sum = Sum {
            function: 0,
            calls: 4,
            time: 20_000,
            latency: 2_000_000,
            longest_latency: 1_500_000,
        };
        let text = sum.to_string();
        let columns = "           4  20.00us  5.000us  500.0us  1.500ms  (others)";
        assert_eq!(text, columns);
    }
}
