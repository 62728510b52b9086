//! What a person at the terminal wants to know about callouts.

use super::callouts::Callouts;
use super::time::{Sbt, granule};
use crate::sys::file::Writer;
use core::fmt::Write;

/// Writes a line per cpu to `fd`: the bytes written, or a negative errno.
pub fn dump(callouts: &Callouts, now: Sbt, fd: i32) -> i32 {
    let mut w = Writer::new(fd);
    for cpu in 0..callouts.count() {
        let r = callouts.report(cpu);
        let _ = write!(
            w,
            "callout cpu {cpu}: {}, {} pending",
            if r.open { "open" } else { "closed" },
            r.pending
        );
        if let Some(next) = r.next {
            let ms = next.saturating_sub(granule(now)) * 1000 / 16384;
            let _ = write!(w, ", next in {ms} ms");
        }
        let c = r.counts;
        let _ = write!(
            w,
            ", {} armed, {} started, {} removed, {} came from other cpus, {} retried, {} refiled, {} slow",
            c.armed, c.started, c.removed, c.arrived, c.retried, r.refilings, c.slow
        );
        if let Some(last) = r.last {
            let verb = if r.executing {
                "executes"
            } else {
                "last executed"
            };
            let _ = write!(w, ", {verb} {last}");
        }
        let _ = writeln!(w);
    }
    w.finish()
}
