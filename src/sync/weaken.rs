//! Atomics of which a run can weaken one: `KEEL_WEAKEN=FILE:LINE:COLUMN:HALF` in
//! the environment takes `acquire`, `release` or `all` from the ordering of the
//! call that stands there (`failure`: from the second one of an exchange), or
//! leaves out the fence. `tools/orderings.sh` walks all of them, and sees which
//! test misses what. In models and in builds for ThreadSanitizer alone.

#[cfg(tsan)]
use core::sync::atomic as inner;
use core::sync::atomic::{AtomicPtr as Word, Ordering::Relaxed};
#[cfg(loom)]
use loom::sync::atomic as inner;

pub use inner::Ordering;

use core::panic::Location;
use core::ptr;

/// NULL before the first look, NOBODY where nothing is to be weakened, else the
/// variable's text, which is not freed: the environment is the test's.
static TARGET: Word<u8> = Word::new(ptr::null_mut());
static mut NOBODY: u8 = 0;

fn look() -> *mut u8 {
    let found = crate::sys::environment::value(c"KEEL_WEAKEN");
    let target = found.map_or(&raw mut NOBODY, |text| text.as_ptr().cast_mut());
    TARGET.store(target, Relaxed);
    target
}

/// What is to be taken from the call at `here`, if it is the one.
#[inline]
fn wanted(here: &Location<'_>) -> Option<&'static [u8]> {
    let mut target = TARGET.load(Relaxed);
    if target.is_null() {
        target = look();
    }
    if target == &raw mut NOBODY {
        return None;
    }
    // SAFETY: text that ends with a 0, as look says.
    let mut text = unsafe { core::ffi::CStr::from_ptr(target.cast()) }.to_bytes();
    text = text.strip_prefix(here.file().as_bytes())?;
    for place in [here.line(), here.column()] {
        text = text.strip_prefix(b":")?;
        let digits = text.iter().take_while(|c| c.is_ascii_digit()).count();
        let number = text[..digits]
            .iter()
            .fold(0, |n, &c| n * 10 + u32::from(c - b'0'));
        text = (number == place).then_some(&text[digits..])?;
    }
    text.strip_prefix(b":")
}

fn weakened(order: Ordering, half: &[u8]) -> Ordering {
    match (order, half) {
        (Ordering::AcqRel | Ordering::SeqCst, b"acquire") => Ordering::Release,
        (Ordering::AcqRel | Ordering::SeqCst, b"release") => Ordering::Acquire,
        (_, b"failure") => order,
        _ => Ordering::Relaxed,
    }
}

#[inline]
fn at(here: &Location<'_>, order: Ordering) -> Ordering {
    wanted(here).map_or(order, |half| weakened(order, half))
}

/// Whether the fence at `here` is to be left out.
#[inline]
pub fn no_fence(here: &Location<'_>) -> bool {
    wanted(here).is_some()
}

macro_rules! atomic {
    ($name:ident$(<$t:ident>)?, $value:ty, $($update:ident)*) => {
        /// The atomic of this name.
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name$(<$t>)?(inner::$name$(<$t>)?);

        #[allow(missing_docs)]
        impl$(<$t>)? $name$(<$t>)? {
            #[cfg(tsan)]
            pub const fn new(value: $value) -> Self {
                Self(inner::$name::new(value))
            }
            #[cfg(loom)]
            pub fn new(value: $value) -> Self {
                Self(inner::$name::new(value))
            }
            #[cfg(tsan)]
            pub const fn as_ptr(&self) -> *mut $value {
                self.0.as_ptr()
            }
            #[cfg(tsan)]
            pub fn get_mut(&mut self) -> &mut $value {
                self.0.get_mut()
            }
            #[inline]
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                self.0.load(at(Location::caller(), order))
            }
            #[inline]
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, at(Location::caller(), order));
            }
            #[inline]
            #[track_caller]
            pub fn compare_exchange(
                &self, old: $value, new: $value, order: Ordering, failure: Ordering,
            ) -> Result<$value, $value> {
                let (order, failure) = both(Location::caller(), order, failure);
                self.0.compare_exchange(old, new, order, failure)
            }
            #[inline]
            #[track_caller]
            pub fn compare_exchange_weak(
                &self, old: $value, new: $value, order: Ordering, failure: Ordering,
            ) -> Result<$value, $value> {
                let (order, failure) = both(Location::caller(), order, failure);
                self.0.compare_exchange_weak(old, new, order, failure)
            }
            #[inline]
            #[track_caller]
            pub fn fetch_update(
                &self, order: Ordering, failure: Ordering, f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let (order, failure) = both(Location::caller(), order, failure);
                self.0.fetch_update(order, failure, f)
            }
            $(
                #[inline]
                #[track_caller]
                pub fn $update(&self, value: $value, order: Ordering) -> $value {
                    self.0.$update(value, at(Location::caller(), order))
                }
            )*
        }
    };
}

#[inline]
fn both(here: &Location<'_>, order: Ordering, failure: Ordering) -> (Ordering, Ordering) {
    match wanted(here) {
        None => (order, failure),
        Some(b"failure") => (order, Ordering::Relaxed),
        Some(half) => (weakened(order, half), failure),
    }
}

atomic!(AtomicBool, bool, swap fetch_and fetch_or);
atomic!(AtomicPtr<T>, *mut T, swap);
atomic!(AtomicI32, i32, swap fetch_add fetch_sub fetch_and fetch_or fetch_max);
atomic!(AtomicU8, u8, swap fetch_add fetch_sub fetch_and fetch_or fetch_max);
atomic!(AtomicU32, u32, swap fetch_add fetch_sub fetch_and fetch_or fetch_max);
atomic!(AtomicU64, u64, swap fetch_add fetch_sub fetch_and fetch_or fetch_max);
atomic!(AtomicUsize, usize, swap fetch_add fetch_sub fetch_and fetch_or fetch_max);
