//! Pools declared by records of static storage: made before main() runs, and
//! again whenever the library starts anew after it destroyed them.
//!
//! The record says where the pool's address is to be stored; that place alone
//! tells whether the pool exists. A module that is unloaded takes its records
//! along, but not its pools: at the end of a process threads may still be
//! using them. The next module that declares the same gets them.

use super::head::Head;
use super::list::bury;
use super::merge::Want;
use super::registry::Registry;
use super::requests::{Request, cut};
use crate::sys;
use core::ffi::{CStr, c_char};
use core::ptr::{self, NonNull};

/// What a declaration says, in C's `struct keel_pool_registration`.
#[repr(C)]
pub struct Declaration {
    /// Where the pool's address goes.
    pub pool: *mut *mut Head,
    /// The arguments of [`Registry::create`].
    pub name: *const c_char,
    /// As above; more than 32 bits are refused.
    pub size: usize,
    /// As above.
    pub align: u32,
    /// As above.
    pub flags: u32,
    next: *mut Declaration,
}

impl Declaration {
    /// None if the size is beyond reason.
    fn request(&self) -> Option<Request> {
        // SAFETY: by the contract of declare, a C string that stays.
        let name = unsafe { CStr::from_ptr(self.name) };
        Some(Request {
            name: cut(name.to_bytes()),
            size: u32::try_from(self.size).ok()?,
            align: self.align,
            flags: self.flags,
        })
    }

    fn pool(&self) -> *mut Head {
        // SAFETY: by the contract of declare, a place that stays.
        unsafe { self.pool.read() }
    }

    fn set(&self, pool: *mut Head) {
        // SAFETY: as above.
        unsafe { self.pool.write(pool) }
    }
}

/// The records, in the order of their coming.
pub(super) struct Declarations {
    first: *mut Declaration,
}

// SAFETY: records belong to the list from declare() to undeclare().
unsafe impl Send for Declarations {}

impl Declarations {
    pub(super) const NONE: Self = Self {
        first: ptr::null_mut(),
    };

    /// The place of `record` in the list, or that behind the last one (NULL).
    fn place_of(&mut self, record: *const Declaration) -> *mut *mut Declaration {
        let mut at: *mut *mut Declaration = &raw mut self.first;
        // SAFETY: the list's records exist.
        unsafe {
            while !(*at).is_null() && !ptr::eq(*at, record) {
                at = &raw mut (**at).next;
            }
        }
        at
    }

    fn each(&self) -> impl Iterator<Item = &Declaration> {
        // SAFETY: the list's records exist.
        let step = |at: *mut Declaration| unsafe { at.as_ref() };
        core::iter::successors(step(self.first), move |record| step(record.next))
    }
}

impl Registry {
    /// Makes the pool that `record` describes, and keeps the record: 0,
    /// -EALREADY, -EINVAL or -ENOMEM.
    ///
    /// # Safety
    /// The record, the place and the name that it points to stay where they
    /// are until [`undeclare`](Self::undeclare).
    pub unsafe fn declare(&self, record: NonNull<Declaration>) -> i32 {
        let mut records = self.declared.lock();
        let place = records.place_of(record.as_ptr());
        // SAFETY: the list's own place; the caller's record.
        unsafe {
            if !(*place).is_null() {
                return -sys::EALREADY;
            }
            if let Err(errno) = self.make_declared(record.as_ref()) {
                return -errno;
            }
            (*record.as_ptr()).next = ptr::null_mut();
            *place = record.as_ptr();
        }
        0
    }

    fn make_declared(&self, record: &Declaration) -> Result<(), i32> {
        let want: Want = self.want(record.request().ok_or(sys::EINVAL)?)?;
        let claimed = self.list.lock().claim(&want);
        let pool = match claimed {
            Some(pool) => pool,
            None => self.serve(&want)?,
        };
        record.set(pool.as_ptr());
        Ok(())
    }

    /// Forgets a record. Its pool stays, for the next one that declares the
    /// same or until all pools are destroyed.
    ///
    /// # Safety
    /// As for [`declare`](Self::declare). An unknown record is fine.
    pub unsafe fn undeclare(&self, record: NonNull<Declaration>) {
        let mut records = self.declared.lock();
        let place = records.place_of(record.as_ptr());
        // SAFETY: the list's own place; a record found in the list exists.
        let record = unsafe {
            let Some(record) = (*place).as_ref() else {
                return;
            };
            *place = record.next;
            record
        };
        let mut list = self.list.lock();
        let pool = record.pool();
        if let Some(request) = record.request().filter(|_| list.contains(pool)) {
            list.links(pool).requests.leave(&request);
        }
    }

    /// Makes the declared pools that do not exist: 0, or -ENOMEM with some of
    /// them missing.
    pub fn make_declared_pools(&self) -> i32 {
        let records = self.declared.lock();
        for record in records.each().filter(|record| record.pool().is_null()) {
            if let Err(errno) = self.make_declared(record) {
                return -errno;
            }
        }
        0
    }

    /// Empties the places of declared pools that exist no more.
    pub(super) fn clear_declared(&self) {
        let records = self.declared.lock();
        let mut list = self.list.lock();
        for record in records.each() {
            if !list.contains(record.pool()) {
                record.set(ptr::null_mut());
            }
        }
    }

    /// Makes the declared pools anew that nobody has used yet, so that the
    /// debugging words in force act on them: as
    /// [`make_declared_pools`](Self::make_declared_pools).
    ///
    /// # Safety
    /// Nobody uses a declared pool meanwhile, nor keeps its address elsewhere.
    pub unsafe fn remake_declared_pools(&self) -> i32 {
        let records = self.declared.lock();
        for record in records.each() {
            let pool = record.pool();
            let same = || records.each().filter(move |r| ptr::eq(r.pool(), pool));
            let users = same().count();
            let ended = self.list.lock().end_unused(pool, users);
            if let Some(dead) = ended {
                same().for_each(|r| r.set(ptr::null_mut()));
                // SAFETY: out of the list, unpinned and unused.
                unsafe { bury(dead) };
            }
        }
        drop(records);
        self.make_declared_pools()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::MEM_F_SHARED;

    fn record(place: &mut *mut Head, name: &'static CStr, size: usize) -> Declaration {
        Declaration {
            pool: place,
            name: name.as_ptr(),
            size,
            align: 0,
            flags: MEM_F_SHARED,
            next: ptr::null_mut(),
        }
    }

    fn declare(registry: &Registry, record: &mut Declaration) -> i32 {
        // SAFETY: the tests' records outlive their use of the registry.
        unsafe { registry.declare(NonNull::from(record)) }
    }

    fn undeclare(registry: &Registry, record: &mut Declaration) {
        // SAFETY: as above.
        unsafe { registry.undeclare(NonNull::from(record)) }
    }

    fn destroy_all(registry: &Registry) -> usize {
        // SAFETY: nobody else knows the registry.
        unsafe { registry.destroy_all(None) }
    }

    fn count(registry: &Registry) -> usize {
        let mut n = 0;
        registry.visit(|_| n += 1);
        n
    }

    #[test]
    fn declared_pools_come_back() {
        let registry = Registry::new();
        let (mut a, mut b, mut c) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        let mut one = record(&mut a, c"one", 64);
        let mut two = record(&mut b, c"two", 64);
        let mut three = record(&mut c, c"three", 640);
        for record in [&mut one, &mut two, &mut three] {
            assert_eq!(declare(&registry, record), 0);
        }
        assert_eq!(declare(&registry, &mut two), -sys::EALREADY);
        assert!(!one.pool().is_null());
        assert_eq!(one.pool(), two.pool());
        assert_ne!(one.pool(), three.pool());
        assert_eq!(destroy_all(&registry), 0);
        assert!(one.pool().is_null() && two.pool().is_null() && three.pool().is_null());
        undeclare(&registry, &mut two);
        assert_eq!(registry.make_declared_pools(), 0);
        assert!(!one.pool().is_null() && two.pool().is_null() && !three.pool().is_null());
        let was = three.pool();
        assert_eq!(registry.make_declared_pools(), 0);
        assert_eq!((three.pool(), count(&registry)), (was, 2));
        undeclare(&registry, &mut three);
        undeclare(&registry, &mut one);
        undeclare(&registry, &mut one);
        assert_eq!(destroy_all(&registry), 0);
        assert_eq!(registry.make_declared_pools(), 0);
        assert_eq!(count(&registry), 0);
    }

    #[test]
    fn a_declared_pool_in_use_survives() {
        let registry = Registry::new();
        let mut a = ptr::null_mut();
        let mut one = record(&mut a, c"one", 64);
        assert_eq!(declare(&registry, &mut one), 0);
        let pool = one.pool();
        // SAFETY: the pool exists; the object is freed once.
        let object = unsafe { registry.alloc(&*pool, None, 0) };
        assert_eq!(destroy_all(&registry), 1);
        assert_eq!(one.pool(), pool);
        assert_eq!(registry.make_declared_pools(), 0);
        assert_eq!((one.pool(), count(&registry)), (pool, 1));
        // SAFETY: as above.
        unsafe { registry.free(&*pool, None, object) };
        assert_eq!(destroy_all(&registry), 0);
        assert!(one.pool().is_null());
    }

    #[test]
    fn a_module_that_returns_gets_its_pool_back() {
        let registry = Registry::new();
        let (mut a, mut b) = (ptr::null_mut(), ptr::null_mut());
        let mut first = record(&mut a, c"plugin", 64);
        let mut other = record(&mut b, c"another", 64);
        other.flags = 0;
        for _ in 0..3 {
            assert_eq!(declare(&registry, &mut first), 0);
            assert_eq!(declare(&registry, &mut other), 0);
            assert_eq!(count(&registry), 2);
            undeclare(&registry, &mut first);
            undeclare(&registry, &mut other);
        }
        // Others with the same size are others.
        let mut stranger = record(&mut b, c"stranger", 64);
        stranger.flags = 0;
        assert_eq!(declare(&registry, &mut stranger), 0);
        assert_eq!(count(&registry), 3);
        let mut seen = Vec::new();
        // SAFETY: the pool exists.
        registry.each_request(unsafe { &*first.pool() }, |_, times| seen.push(times));
        assert_eq!(seen, [1]);
        undeclare(&registry, &mut stranger);
        assert_eq!(destroy_all(&registry), 0);
    }

    #[test]
    fn words_reach_declared_pools_that_are_new() {
        let registry = Registry::new();
        let (mut a, mut b, mut c) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        let mut one = record(&mut a, c"new", 64);
        let mut two = record(&mut b, c"used", 640);
        let mut three = record(&mut c, c"foreign", 6400);
        for record in [&mut one, &mut two, &mut three] {
            assert_eq!(declare(&registry, record), 0);
        }
        // SAFETY: the pool exists; the object is freed once.
        unsafe {
            let pool = &*two.pool();
            registry.free(pool, None, registry.alloc(pool, None, 0));
        }
        let foreign = registry.create(b"foreign", 6400, 0, MEM_F_SHARED).unwrap();
        assert_eq!(foreign.as_ptr(), three.pool());
        assert_eq!(registry.debug(b"no-cache"), 0);
        let old = two.pool();
        // SAFETY: nobody else knows the registry.
        assert_eq!(unsafe { registry.remake_declared_pools() }, 0);
        assert_eq!((two.pool(), three.pool()), (old, foreign.as_ptr()));
        // SAFETY: the pools exist.
        let words = |record: &Declaration| unsafe { (*record.pool()).debug };
        assert_eq!(words(&two), 0);
        assert_eq!(words(&three), 0);
        assert_eq!(words(&one), crate::pool::debug::NO_CACHE);
        assert_eq!(count(&registry), 3);
        for record in [&mut one, &mut two, &mut three] {
            undeclare(&registry, record);
        }
        assert_eq!(destroy_all(&registry), 0);
    }

    #[test]
    fn what_cannot_be_made_is_not_kept() {
        let registry = Registry::new();
        let mut a = ptr::null_mut();
        for size in [u32::MAX as usize, (1 << 32) + 64] {
            let mut one = record(&mut a, c"huge", size);
            assert_eq!(declare(&registry, &mut one), -sys::EINVAL);
            assert!(one.pool().is_null());
        }
        assert_eq!(registry.make_declared_pools(), 0);
        assert_eq!(destroy_all(&registry), 0);
    }
}
