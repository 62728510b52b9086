//! What a callout is filed with: when, and whether before what else is due.

use super::time::Window;
use crate::wheel::Node;

/// The tag of nodes that want to run first (C_DIRECT_EXEC).
pub(super) const DIRECT: u8 = 1;

/// When to run, and whether before what else is due.
#[derive(Clone, Copy, Debug)]
pub struct Arming {
    /// The granules in which to start.
    pub window: Window,
    /// C_DIRECT_EXEC.
    pub direct: bool,
}

impl Arming {
    #[inline]
    pub(super) const fn tag(self) -> u8 {
        if self.direct { DIRECT } else { 0 }
    }

    /// What `node` was filed with.
    ///
    /// # Safety
    /// The lock of its cpu is held.
    pub(super) const unsafe fn of(node: *const Node) -> Self {
        // SAFETY: by this function's contract.
        unsafe {
            Self {
                window: Window {
                    time: (*node).time(),
                    window: (*node).window(),
                },
                direct: (*node).tag == DIRECT,
            }
        }
    }
}
