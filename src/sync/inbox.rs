//! The one multi-producer single-consumer hand-over: wakeups and tasklets
//! reach another thread's scheduler through it.
//!
//! Producers push on a stack; the owner takes the whole stack and reverses
//! it, so items come out in the order in which they were pushed. Nobody ever
//! pops a single element, hence no ABA problem: a producer's exchange only
//! says "this is still the top", never "what lies below it is still there".

use super::UnsafeCell;
use super::atomic::{AtomicPtr, Ordering};
use core::ptr;

/// The intrusive link of an item that can travel through an [`Inbox`].
///
/// An item is in at most one inbox at a time; whose turn it is to push it is
/// decided elsewhere (the QUEUED ticket of a task).
#[derive(Debug)]
#[repr(C)]
pub struct Link {
    next: UnsafeCell<*mut Link>,
}

impl Link {
    /// A link that is in no inbox.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self {
            next: UnsafeCell::new(ptr::null_mut()),
        }
    }

    /// A link that is in no inbox.
    #[cfg(model)]
    pub fn new() -> Self {
        Self {
            next: UnsafeCell::new(ptr::null_mut()),
        }
    }

    /// The item after this one in a batch that [`Inbox::take`] returned.
    ///
    /// # Safety
    /// The caller owns the batch.
    #[inline]
    pub unsafe fn next(&self) -> *mut Link {
        // SAFETY: the batch's owner is the only one who touches its links.
        self.next.with(|p| unsafe { *p })
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

/// Many threads push, one takes everything.
#[derive(Debug)]
pub struct Inbox {
    head: AtomicPtr<Link>,
}

impl Inbox {
    /// An empty inbox.
    #[cfg(not(model))]
    pub const fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// An empty inbox.
    #[cfg(model)]
    pub fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Adds `item`. True if the inbox was empty: the consumer may be asleep.
    ///
    /// # Safety
    /// The caller alone may use `item`'s link until the consumer takes it,
    /// and `item` outlives its stay.
    pub unsafe fn push(&self, item: *mut Link) -> bool {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: the link is ours until the exchange below publishes it.
            unsafe { (*item).next.with_mut(|p| *p = head) };
            // PAIRS: take's Acquire; publishes the link and the item.
            match self
                .head
                .compare_exchange_weak(head, item, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return head.is_null(),
                Err(now) => head = now,
            }
        }
    }

    /// Whether nothing was pushed since the last take. A hint for everyone
    /// but a thread that has issued [`full_fence`](super::full_fence) after
    /// announcing that it sleeps.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Takes all items, oldest first; NULL when there are none. Walk them
    /// with [`Link::next`].
    ///
    /// # Safety
    /// Whoever takes items owns them: usually only the inbox's owner calls
    /// this; two calls at once would get different items.
    pub unsafe fn take(&self) -> *mut Link {
        if self.is_empty() {
            return ptr::null_mut();
        }
        // PAIRS: push's Release.
        let mut item = self.head.swap(ptr::null_mut(), Ordering::Acquire);
        let mut first = ptr::null_mut();
        while !item.is_null() {
            // SAFETY: the swap made the chain ours.
            item = unsafe {
                (*item).next.with_mut(|p| {
                    let below = *p;
                    *p = first;
                    first = item;
                    below
                })
            };
        }
        first
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}
