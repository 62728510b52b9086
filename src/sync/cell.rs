//! An `UnsafeCell` with loom's interface, so that models see every access.

/// Interior mutability whose accesses models check for races.
#[derive(Debug)]
#[repr(transparent)]
pub struct UnsafeCell<T>(Inner<T>);

#[cfg(not(model))]
type Inner<T> = core::cell::UnsafeCell<T>;
#[cfg(loom)]
type Inner<T> = loom::cell::UnsafeCell<T>;
#[cfg(shuttle)]
type Inner<T> = watched::UnsafeCell<T>;

impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    #[cfg(not(model))]
    pub const fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    /// Wraps `value`.
    #[cfg(model)]
    pub fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    /// Gives `f` a pointer for reading. Dereferencing it is the caller's
    /// promise that nobody writes meanwhile.
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        #[cfg(not(model))]
        {
            f(self.0.get())
        }
        #[cfg(model)]
        {
            self.0.with(f)
        }
    }

    /// Gives `f` a pointer for writing. Dereferencing it is the caller's
    /// promise that nobody else reads or writes meanwhile.
    #[inline(always)]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(not(model))]
        {
            f(self.0.get())
        }
        #[cfg(model)]
        {
            self.0.with_mut(f)
        }
    }
}

/// Shuttle has no cell. In this one an access lasts until others had a turn,
/// so that two which exclude each other by nothing meet, sooner or later.
#[cfg(shuttle)]
mod watched {
    use core::cell;

    const WRITTEN: usize = usize::MAX;

    #[derive(Debug)]
    pub struct UnsafeCell<T> {
        value: cell::UnsafeCell<T>,
        /// How many read, or that one writes. Shuttle runs one thread at a time.
        users: cell::Cell<usize>,
    }

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> Self {
            Self {
                value: cell::UnsafeCell::new(value),
                users: cell::Cell::new(0),
            }
        }

        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            let users = self.users.get();
            assert_ne!(users, WRITTEN, "read while somebody writes");
            self.users.set(users + 1);
            crate::sync::model_point();
            let r = f(self.value.get());
            self.users.set(self.users.get() - 1);
            r
        }

        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            let users = self.users.replace(WRITTEN);
            assert_ne!(users, WRITTEN, "written while somebody writes");
            assert_eq!(users, 0, "written while somebody reads");
            crate::sync::model_point();
            let r = f(self.value.get());
            self.users.set(0);
            r
        }
    }
}
