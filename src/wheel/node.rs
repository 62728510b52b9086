//! What a caller embeds in an object that can be filed.

use core::mem::offset_of;
use core::ptr;

/// A place in a [`List`](super::List) or a [`Wheel`](super::Wheel).
///
/// `next` comes first so that the same word can serve as the link of an
/// [`Inbox`](crate::sync::Inbox) while the node is on no list. Such a trip
/// leaves a stale `next` behind, which the next filing overwrites.
#[derive(Debug)]
#[repr(C)]
pub struct Node {
    pub(super) next: *mut Node,
    pub(super) prev: *mut Node,
    pub(super) time: u64,
    pub(super) window: u32,
    /// Where the wheel filed it last; stale once spliced away.
    pub(super) slot: u16,
    /// The owner's: says what kind of object the node sits in.
    pub tag: u8,
    _reserved: u8,
}

const _: () = assert!(offset_of!(Node, next) == 0);
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Node>() == 32);

impl Node {
    /// A node that is nowhere.
    pub const fn new(tag: u8) -> Self {
        Self {
            next: ptr::null_mut(),
            prev: ptr::null_mut(),
            time: 0,
            window: 0,
            slot: 0,
            tag,
            _reserved: 0,
        }
    }

    /// Whether the node is on a list or in a wheel. One that travels through an
    /// [`Inbox`](crate::sync::Inbox) is not, and may be asked meanwhile: its
    /// first word, `next`, is another thread's then.
    #[inline]
    pub const fn is_linked(&self) -> bool {
        !self.prev.is_null()
    }

    /// The date at which the node is filed, or was last.
    #[inline]
    pub const fn time(&self) -> u64 {
        self.time
    }

    /// The lateness that the node tolerates, or did last.
    #[inline]
    pub const fn window(&self) -> u32 {
        self.window
    }

    /// Gives a node that is on no wheel a key of its owner's, for a sorted
    /// [`List`](super::List).
    #[inline]
    pub const fn set_time(&mut self, time: u64) {
        self.time = time;
    }

    /// Says that the node has come out of an [`Inbox`](crate::sync::Inbox),
    /// whose chain its link still names.
    #[inline]
    pub const fn left_inbox(&mut self) {
        self.next = ptr::null_mut();
    }
}
