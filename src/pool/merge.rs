//! Which existing pool may serve a creation.

use super::debug::{self, Settings};
use super::head::{Head, Links};
use super::list::List;
use super::requests::{Request, Spare};
use super::shape::Shape;
use super::{MEM_F_EXACT, MEM_F_SHARED, MEM_F_UAF};
use crate::sync::atomic::Ordering;
use crate::sys::memory;
use core::mem;
use core::ptr::{self, NonNull};

/// What a caller of create asks for, and what that amounts to.
pub(super) struct Want {
    request: Request,
    shape: Shape,
    debug: u32,
    poison: u8,
}

impl Want {
    /// None if the sizes are beyond reason.
    pub(super) fn new(request: Request, settings: &Settings) -> Option<Self> {
        let mut debug = settings.flags;
        if request.flags & MEM_F_UAF != 0 {
            debug |= debug::UAF | debug::NO_CACHE;
        }
        Some(Self {
            request,
            shape: Shape::new(request.size, request.align, request.flags, debug)?,
            debug,
            poison: settings.poison,
        })
    }

    /// A new pool; None for lack of memory.
    // KEEPS: INV-20
    pub(super) fn build(&self) -> Option<NonNull<Head>> {
        let area = memory::alloc_zeroed(size_of::<Head>(), mem::align_of::<Head>());
        let pool = NonNull::new(area.cast::<Head>())?;
        // SAFETY: all-zero bytes are a valid Head: empty rings, counters and
        // list; nobody else knows it yet.
        let head = unsafe { &mut *pool.as_ptr() };
        head.name = self.request.name;
        head.debug = self.debug;
        head.mem_flags = self.request.flags;
        head.poison = self.poison;
        // SAFETY: as above.
        head.links
            .with_mut(|links| unsafe { links.write(Links::NONE) });
        head.set_shape(self.shape);
        Some(pool)
    }
}

impl List {
    /// Adds a pool that was built for `want`, as its first user.
    pub(super) fn found(&mut self, pool: NonNull<Head>, want: &Want, spare: &mut Spare) {
        let pool = pool.as_ptr();
        self.insert(pool);
        self.count(pool, want, spare);
    }

    fn count(&mut self, pool: *mut Head, want: &Want, spare: &mut Spare) {
        let links = self.links(pool);
        links.users += 1;
        links.requests.add(want.request, spare);
    }

    /// Finds the pool that serves `want` best, makes it as large as is wanted,
    /// and counts one user more.
    // KEEPS: INV-18
    pub(super) fn join(&mut self, want: &Want, spare: &mut Spare) -> Option<NonNull<Head>> {
        let mut best: Option<(Fit, *mut Head)> = None;
        let mut pool = self.next_alive(ptr::null_mut());
        while !pool.is_null() {
            if let Some(fit) = self.fit(pool, want) {
                if best.is_none_or(|(best, _)| fit < best) {
                    best = Some((fit, pool));
                }
            }
            pool = self.next_alive(pool);
        }
        let (_, pool) = best?;
        // SAFETY: in the list.
        let head = unsafe { &*pool };
        if !head.frozen.load(Ordering::Relaxed) {
            let size = head.size().max(want.shape.size);
            let align = head.align().max(want.shape.align);
            let grown = size > head.size();
            // Both sizes are rounded already.
            head.set_shape(Shape::new(size, align, MEM_F_EXACT, head.debug)?);
            if grown {
                self.put_in_place(pool);
            }
        }
        self.count(pool, want, spare);
        NonNull::new(pool)
    }

    /// Takes over the use of a declaration like `want` that was unloaded.
    pub(super) fn claim(&mut self, want: &Want) -> Option<NonNull<Head>> {
        let mut pool = self.next_alive(ptr::null_mut());
        while !pool.is_null() {
            // SAFETY: in the list.
            let head = unsafe { &*pool };
            if head.debug == want.debug && self.links(pool).requests.claim(&want.request) {
                return NonNull::new(pool);
            }
            pool = self.next_alive(pool);
        }
        None
    }

    /// How well `pool` can serve `want`, if it can.
    // KEEPS: INV-18
    fn fit(&mut self, pool: *mut Head, want: &Want) -> Option<Fit> {
        // SAFETY: in the list.
        let head = unsafe { &*pool };
        let flags = want.request.flags;
        if head.mem_flags & flags & MEM_F_SHARED == 0
            || (head.mem_flags ^ flags) & MEM_F_UAF != 0
            || head.debug != want.debug
            || want.debug & debug::POISON != 0 && head.poison != want.poison
            || want.debug & debug::DONT_MERGE != 0 && head.name != want.request.name
        {
            return None;
        }
        // Relaxed: the lock that freezes is held here.
        let used = head.frozen.load(Ordering::Relaxed);
        if used && want.shape.align > head.align() {
            return None;
        }
        let (size, have) = (want.shape.size, head.size());
        if size == have {
            return Some(Fit::Exact);
        }
        let requests = &self.links(pool).requests;
        // Who asked for an exact size keeps it: the pool may not grow, nor an
        // exact request be served by a larger one.
        if used || flags & MEM_F_EXACT != 0 || size > have && requests.any_exact() {
            return None;
        }
        // Compared as asked, before rounding; all times n, to stay exact.
        let (sum, n) = requests.sizes();
        let distance = u64::from(want.request.size).saturating_mul(n).abs_diff(sum);
        if distance.saturating_mul(100) >= sum && distance >= n.saturating_mul(16) {
            return None;
        }
        let distance = distance / n.max(1);
        Some(match size < have {
            true => Fit::Enough(distance),
            false => Fit::MustGrow(distance),
        })
    }
}

/// Better ones first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Exact,
    Enough(u64),
    MustGrow(u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Registry;

    fn make(registry: &Registry, size: u32, align: u32, flags: u32) -> NonNull<Head> {
        registry.create(b"test", size, align, flags).unwrap()
    }

    fn size(pool: NonNull<Head>) -> u32 {
        // SAFETY: the tests' pools exist.
        unsafe { pool.as_ref() }.size()
    }

    fn touch(registry: &Registry, pool: NonNull<Head>) {
        // SAFETY: the pool exists; the object is freed once.
        unsafe {
            let object = registry.alloc(pool.as_ref(), None, 0);
            registry.free(pool.as_ref(), None, object);
        }
    }

    fn end(registry: &Registry) {
        // SAFETY: nobody else knows the registry.
        assert_eq!(unsafe { registry.destroy_all(None) }, 0);
        assert!(registry.list.lock().is_empty());
    }

    fn sizes(registry: &Registry) -> Vec<u32> {
        let mut sizes = Vec::new();
        registry.visit(|pool| sizes.push(pool.size()));
        sizes
    }

    #[test]
    fn sixteen_bytes_are_too_far_for_small_objects() {
        let registry = Registry::new();
        let a = make(&registry, 100, 0, MEM_F_SHARED);
        // 112 and 128 bytes: what was asked for differs by 16 and by 15.
        assert_ne!(a, make(&registry, 116, 0, MEM_F_SHARED));
        let b = make(&registry, 500, 0, MEM_F_SHARED);
        assert_eq!(b, make(&registry, 515, 0, MEM_F_SHARED));
        assert_eq!(size(b), 528);
        end(&registry);
    }

    #[test]
    fn one_percent_is_too_far_for_large_objects() {
        let registry = Registry::new();
        let a = make(&registry, 10_000, 0, MEM_F_SHARED);
        assert_ne!(a, make(&registry, 10_100, 0, MEM_F_SHARED));
        assert_ne!(a, make(&registry, 9_900, 0, MEM_F_SHARED));
        let b = make(&registry, 20_000, 0, MEM_F_SHARED);
        assert_eq!(b, make(&registry, 20_199, 0, MEM_F_SHARED));
        end(&registry);
    }

    #[test]
    fn the_average_of_the_users_counts() {
        let registry = Registry::new();
        let a = make(&registry, 10_000, 0, MEM_F_SHARED);
        for _ in 0..9 {
            assert_eq!(a, make(&registry, 10_000, 0, MEM_F_SHARED));
        }
        assert_eq!(a, make(&registry, 10_090, 0, MEM_F_SHARED));
        // Near the largest, too far from the average.
        assert_ne!(a, make(&registry, 10_150, 0, MEM_F_SHARED));
        end(&registry);
    }

    #[test]
    fn an_exact_size_wins_then_a_pool_that_is_large_enough() {
        let registry = Registry::new();
        let small = make(&registry, 10_000, 0, MEM_F_SHARED);
        let large = make(&registry, 10_100, 0, MEM_F_SHARED);
        assert_ne!(small, large);
        // 10,032 is nearer to the small one, which would have to grow.
        assert_eq!(large, make(&registry, 10_032, 0, MEM_F_SHARED));
        assert_eq!(small, make(&registry, 10_000, 0, MEM_F_SHARED));
        assert_eq!(size(small), 10_000);
        end(&registry);
    }

    // SHOWS: INV-18
    #[test]
    fn who_joins_with_an_exact_size_keeps_it() {
        let registry = Registry::new();
        let pool = make(&registry, 64, 0, MEM_F_SHARED);
        let exact = make(&registry, 64, 0, MEM_F_SHARED | MEM_F_EXACT);
        assert_eq!(pool, exact);
        assert_ne!(pool, make(&registry, 70, 0, MEM_F_SHARED));
        assert_eq!(size(pool), 64);
        // A smaller one changes nothing for it.
        let odd = make(&registry, 1001, 0, MEM_F_SHARED | MEM_F_EXACT);
        assert_eq!(odd, make(&registry, 990, 0, MEM_F_SHARED));
        assert_eq!(size(odd), 1001);
        end(&registry);
    }

    // SHOWS: INV-18
    #[test]
    fn a_pool_that_was_used_neither_grows_nor_takes_other_sizes() {
        let registry = Registry::new();
        let a = make(&registry, 4000, 0, MEM_F_SHARED);
        touch(&registry, a);
        assert_ne!(a, make(&registry, 4010, 0, MEM_F_SHARED));
        let b = make(&registry, 8000, 0, MEM_F_SHARED);
        touch(&registry, b);
        assert_ne!(b, make(&registry, 7980, 0, MEM_F_SHARED));
        assert_eq!(b, make(&registry, 8000, 0, MEM_F_SHARED));
        assert_eq!(size(a), 4000);
        end(&registry);
    }

    #[test]
    fn the_list_stays_ordered_when_a_pool_grows() {
        let registry = Registry::new();
        make(&registry, 1000, 0, MEM_F_SHARED);
        make(&registry, 1008, 0, 0);
        make(&registry, 1015, 0, MEM_F_SHARED);
        assert_eq!(sizes(&registry), [1008, 1024]);
        // One that is just being looked at moves afterwards.
        make(&registry, 5000, 0, MEM_F_SHARED);
        make(&registry, 5024, 0, 0);
        registry.visit(|pool| {
            if pool.size() == 5008 {
                make(&registry, 5040, 0, MEM_F_SHARED);
            }
        });
        assert_eq!(sizes(&registry), [1008, 1024, 5024, 5040]);
        end(&registry);
    }

    /// Who walks the list meets it twice; who pins all at once does not.
    // SHOWS: WINDOW(grown-pool-moves)
    #[test]
    fn a_pool_that_grows_behind_a_walk_is_met_again() {
        let two = || {
            let registry = Registry::new();
            make(&registry, 1000, 0, MEM_F_SHARED);
            make(&registry, 1008, 0, 0);
            registry
        };
        let registry = two();
        let mut met = Vec::new();
        registry.visit(|pool| {
            met.push(ptr::from_ref(pool));
            if met.len() == 2 {
                make(&registry, 1015, 0, MEM_F_SHARED);
            }
        });
        assert_eq!(met, [met[0], met[1], met[0]]);
        assert_eq!(sizes(&registry), [1008, 1024]);
        end(&registry);

        let registry = two();
        let mut pinned = Vec::new();
        assert_eq!(registry.pin_all(2, |_, pool, _| pinned.push(pool)), 2);
        make(&registry, 1015, 0, MEM_F_SHARED);
        assert_eq!(sizes(&registry), [1024, 1008]);
        for pool in pinned {
            registry.unpin(pool.cast_mut());
        }
        assert_eq!(sizes(&registry), [1008, 1024]);
        end(&registry);
    }

    #[test]
    fn poison_bytes_are_not_mixed() {
        let registry = Registry::new();
        assert_eq!(registry.debug(b"65"), 0);
        let a = make(&registry, 64, 0, MEM_F_SHARED);
        assert_eq!(registry.debug(b"66"), 0);
        assert_ne!(a, make(&registry, 64, 0, MEM_F_SHARED));
        end(&registry);
    }

    #[test]
    fn requests_are_remembered_and_equal_ones_counted() {
        let registry = Registry::new();
        let a = registry.create(b"first", 100, 0, MEM_F_SHARED).unwrap();
        for _ in 0..1000 {
            let again = registry.create(b"second", 104, 32, MEM_F_SHARED).unwrap();
            assert_eq!(a, again);
            // SAFETY: one of the uses, not the last one.
            assert!(unsafe { registry.destroy(a, None) });
        }
        let mut seen = Vec::new();
        // SAFETY: the pool exists.
        registry.each_request(unsafe { a.as_ref() }, |r, times| {
            seen.push((r.size, r.align, r.flags, times));
        });
        let shared = MEM_F_SHARED;
        assert_eq!(seen, [(100, 0, shared, 1), (104, 32, shared, 1000)]);
        end(&registry);
    }
}
