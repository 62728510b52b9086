//! A set of thread ids, and the debt that comes with it.

/// Thread ids 0 to 63 as bits. Engines return one to say which threads their
/// caller has yet to wake; dropping it would lose a wake-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "these threads still have to be woken"]
pub struct ThreadSet(pub u64);

impl ThreadSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// The set of `tid` alone.
    pub const fn one(tid: usize) -> Self {
        Self(1 << tid)
    }

    /// The members of either set.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Calls `f` with each member, lowest first.
    pub fn for_each(self, mut f: impl FnMut(usize)) {
        let mut left = self.0;
        while left != 0 {
            f(left.trailing_zeros() as usize);
            left &= left - 1;
        }
    }
}
