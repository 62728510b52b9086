//! The bits of a task's state word, with HAProxy 2.6's values.

/// A handler runs, or a thread briefly examines the timer.
pub const RUNNING: u32 = 0x1;
/// In a run queue, or being put there: the ticket of whoever set it.
pub const QUEUED: u32 = 0x4;
/// Other threads may move the timer: it lives in a locked wait queue.
pub const SHARED_WQ: u32 = 0x8;
/// Was seen waking itself: runs in the bulk class.
pub const SELF_WAKING: u32 = 0x10;
/// To be freed by the scheduler, unrun.
pub const KILLED: u32 = 0x20;
/// Very expensive: few per scheduler call.
pub const HEAVY: u32 = 0x80;
/// Woken because its date has come.
pub const WOKEN_TIMER: u32 = 0x200;
/// Woken by a message.
pub const WOKEN_MSG: u32 = 0x1000;
/// Woken for a reason without a bit of its own.
pub const WOKEN_OTHER: u32 = 0x4000;
/// All reasons: INIT, TIMER, IO, SIGNAL, MSG, RES, OTHER.
pub const WOKEN_ANY: u32 = 0x7f00;
/// This is a tasklet.
pub const F_TASKLET: u32 = 0x8000;
/// The application's own flag.
pub const F_USR1: u32 = 0x10000;
/// What a run keeps; everything else is consumed by its start.
pub const PERSISTENT: u32 = SHARED_WQ | SELF_WAKING | KILLED | HEAVY | F_TASKLET | F_USR1;
