//! Which poller the threads wait with.

use super::core_state::core;
use crate::fd::Kind;
use crate::sync::atomic::{AtomicBool, Ordering};
use core::fmt::{self, Write};

static DISABLED: [AtomicBool; Kind::ALL.len()] =
    [const { AtomicBool::new(false) }; Kind::ALL.len()];

fn each() -> impl Iterator<Item = (Kind, &'static AtomicBool)> {
    Kind::ALL.into_iter().zip(&DISABLED)
}

fn usable() -> impl Iterator<Item = Kind> {
    each()
        .filter(|(kind, disabled)| !disabled.load(Ordering::Relaxed) && kind.works())
        .map(|(kind, _)| kind)
}

/// Keeps the next `init` from using the poller of that name; whether there is
/// one.
pub fn disable(name: &[u8]) -> bool {
    match each().find(|(kind, _)| kind.name().as_bytes() == name) {
        Some((_, disabled)) => {
            disabled.store(true, Ordering::Relaxed);
            true
        }
        None => false,
    }
}

/// The best that is left, if any is.
pub(super) fn best() -> Option<Kind> {
    usable().next()
}

/// A line per poller, and which one is used.
pub fn list(out: &mut impl Write) -> fmt::Result {
    writeln!(out, "Pollers, best first:")?;
    for (kind, disabled) in each() {
        let can = match (disabled.load(Ordering::Relaxed), kind.works()) {
            (true, _) => "disabled",
            (false, true) => "usable",
            (false, false) => "not on this system",
        };
        writeln!(
            out,
            "  {}: preference {}, {can}",
            kind.name(),
            kind.preference()
        )?;
    }
    let used = core().map(|core| core.fds.kind()).or_else(best);
    write!(out, "{} of {} usable", usable().count(), Kind::ALL.len())?;
    match used {
        Some(kind) => writeln!(out, "; {} is used", kind.name()),
        None => writeln!(out),
    }
}
