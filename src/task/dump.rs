//! Figures for operators.

use super::engine::Tasks;
use super::scheduler::NEVER;
use crate::pool;
use crate::sys::file;
use core::fmt::Write;

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

    /// Writes a line a thread to `fd`: bytes written or a negative errno.
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
        w.finish()
    }
}
