//! What a caller embeds: one callout.

use super::live::Live;
use super::lock::Lock;
use super::migrate::Home;
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use crate::wheel::Node;
use core::ffi::c_void;

/// A handler, or what an asynchronous drain calls.
pub type Func = unsafe extern "C" fn(*mut c_void);

/// Softclock tries the associated lock instead of waiting for it.
pub const CALLOUT_TRYLOCK: u8 = 0x01;
/// The handler frees the associated lock itself.
pub const CALLOUT_RETURNUNLOCKED: u8 = 0x10;
/// It can be told whether the associated lock is held; the callout's own.
const OWNED: u8 = 0x80;

/// What a handler is called with.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The handler; none before the first arming.
    pub func: Option<Func>,
    /// Its argument.
    pub arg: *mut c_void,
}

/// Where a callout waits for its date.
// KEEPS: CINV-2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Queue {
    /// Nowhere: it is not pending.
    Nowhere = 0,
    /// In the wheel of its cpu, due or not.
    Wheel = 1,
    /// In the slot that runs it, to be moved to another cpu afterwards.
    Deferred = 2,
}

/// One callout. All zeroes is an idle one without a lock, on cpu 0.
///
/// Its first 40 bytes are what stopping touches, and 56 what arming does: the
/// former lie in one cache line where malloc's alignment is all there is.
#[repr(C)]
#[derive(Debug)]
pub struct Callout {
    /// Under the lock of `cpus[home]`, as `queue`, `call` and `shut`.
    // Not loom's cell: the wheel finds the callout by its node's address.
    node: core::cell::UnsafeCell<Node>,
    pub(super) home: Home,
    queue: AtomicU8,
    active: AtomicU8,
    shut: AtomicU8,
    /// Written by init alone, as `lock`.
    pub(super) flags: u8,
    pub(super) call: UnsafeCell<Call>,
    pub(super) lock: Lock,
    live: Live,
    /// Which execution was its last; 0: none.
    pub(super) execution: AtomicU64,
    _reserved: [u64; 4],
}

#[cfg(not(model))]
const _: () = assert!(size_of::<Callout>() == 128 && align_of::<Callout>() == 8);

impl Callout {
    /// An idle callout.
    pub fn new(lock: Lock, flags: u8) -> Self {
        Self {
            node: core::cell::UnsafeCell::new(Node::new(0)),
            home: Home::new(),
            queue: AtomicU8::new(Queue::Nowhere as u8),
            active: AtomicU8::new(0),
            shut: AtomicU8::new(0),
            flags: flags | if lock.can_tell() { OWNED } else { 0 },
            call: UnsafeCell::new(Call {
                func: None,
                arg: core::ptr::null_mut(),
            }),
            lock,
            live: Live::new(),
            execution: AtomicU64::new(0),
            _reserved: [0; 4],
        }
    }

    /// Makes the memory an idle callout.
    ///
    /// # Safety
    /// The memory is the caller's, and no callout that is in use.
    // KEEPS: CINV-31
    pub unsafe fn init(c: *mut Self, lock: Lock, flags: u8) {
        // SAFETY: by this function's contract. What is read may be garbage,
        // which does not by chance call itself a callout at this address.
        unsafe {
            if cfg!(debug_assertions) && (*c).live.is_settled(c as usize) && (*c).is_pending() {
                panic!("callout_init: callout {c:p} is pending");
            }
            c.write(Self::new(lock, flags));
            (*c).live.settle_down(c as usize);
        }
    }

    /// Panics in debug builds if this is not the callout that it was.
    #[inline]
    pub(super) fn check_live(&self, whence: &str) {
        self.live.check(&raw const *self as usize, whence);
    }

    /// Whether the callout has a date. Exact under the associated lock.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.queue.load(Ordering::Relaxed) != Queue::Nowhere as u8
    }

    #[inline]
    pub(super) fn queue(&self) -> Queue {
        match self.queue.load(Ordering::Relaxed) {
            0 => Queue::Nowhere,
            1 => Queue::Wheel,
            _ => Queue::Deferred,
        }
    }

    #[inline]
    pub(super) fn set_queue(&self, queue: Queue) {
        self.queue.store(queue as u8, Ordering::Relaxed);
    }

    /// The caller's own mark: set by arming, cleared by stopping and by
    /// [`deactivate`](Self::deactivate).
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) != 0
    }

    // A word of its own: there is nothing beside the mark that a store could
    // overwrite (CINV-5, M-13).
    // KEEPS: CINV-5
    #[inline]
    pub(super) fn activate(&self) {
        self.active.store(1, Ordering::Relaxed);
    }

    /// Clears the caller's mark.
    #[inline]
    pub fn deactivate(&self) {
        self.active.store(0, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed) != 0
    }

    /// Refuses every later arming. Under the lock, or without a core.
    // KEEPS: DEV-11
    pub(crate) fn shut(&self) {
        self.shut.store(1, Ordering::Relaxed);
    }

    /// # Safety
    /// The lock of the callout's cpu is held, here and below.
    #[inline]
    pub(super) unsafe fn call(&self) -> Call {
        // SAFETY: by this function's contract.
        self.call.with(|p| unsafe { *p })
    }

    /// # Safety
    /// As [`call`](Self::call).
    #[inline]
    pub(super) unsafe fn set_call(&self, call: Call) {
        // SAFETY: by this function's contract.
        self.call.with_mut(|p| unsafe { *p = call });
    }

    /// Whether the calling thread holds the associated lock, if that can be
    /// told.
    ///
    /// # Safety
    /// The lock exists.
    #[inline]
    pub(super) unsafe fn is_owned(&self) -> Option<bool> {
        if self.flags & OWNED == 0 {
            return None;
        }
        // SAFETY: by this function's contract.
        unsafe { self.lock.owned() }
    }

    /// Its place in a wheel.
    #[inline]
    pub(super) fn node(&self) -> *mut Node {
        self.node.get()
    }

    /// The callout that `node` is in.
    ///
    /// # Safety
    /// It is in one.
    #[inline]
    pub(super) unsafe fn of<'a>(node: *mut Node) -> &'a Self {
        const { assert!(core::mem::offset_of!(Callout, node) == 0) };
        // SAFETY: the node comes first.
        unsafe { &*node.cast::<Self>() }
    }
}
