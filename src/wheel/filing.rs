//! Where a node goes: arithmetic only.
//!
//! With g = 8^level, a date more than 16·g away is rounded up to a multiple
//! of g, hence by less than a sixteenth of its distance. If that stays inside
//! the window the node is *final*: due there. Else it is filed at the
//! multiple of g *before* its date, to be filed again from there, where at
//! most g = 64·8^(level-2) is left: two levels lower at least.

/// Slots of one level.
pub(super) const SLOTS: u64 = 128;
/// The coarsest level.
pub(super) const TOP: usize = 9;
/// Final rings of levels 0 to 9, rings to refile of levels 1 to 9, far ring.
pub(super) const ROWS: usize = 20;
/// The row of the far ring, which has one slot.
pub(super) const FAR_ROW: usize = ROWS - 1;
/// The slot of the far ring.
pub(super) const FAR: u16 = (FAR_ROW as u16) << 7;
/// All slots.
pub(super) const RINGS: usize = FAR as usize + 1;
/// The first slot whose nodes are filed again.
pub(super) const FIRST_REFILED: u16 = (TOP as u16 + 1) << 7;
/// The far ring is looked through this long before its first date: a node
/// then lands on the top level wherever its neighbours are.
pub(super) const FAR_LEAD: u64 = 64 << shift(TOP);

/// log2 of the granularity of `level`.
#[inline]
pub(super) const fn shift(level: usize) -> u32 {
    3 * level as u32
}

/// The level of a row below [`FAR_ROW`].
#[inline]
pub(super) const fn level_of(row: usize) -> usize {
    if row <= TOP { row } else { row - TOP }
}

/// The row of final nodes of `level`.
#[inline]
pub(super) const fn final_row(level: usize) -> usize {
    level
}

/// The row of nodes to refile of `level`, which is not 0.
#[inline]
pub(super) const fn refile_row(level: usize) -> usize {
    TOP + level
}

/// The slot of a row below [`FAR_ROW`] whose boundary is at `edge`.
#[inline]
pub(super) const fn slot_at(row: usize, edge: u64) -> u16 {
    let index = (edge >> shift(level_of(row))) % SLOTS;
    (row as u64 * SLOTS + index) as u16
}

/// A slot, and the date at which it has to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filing {
    pub slot: u16,
    pub edge: u64,
}

impl Filing {
    /// Whether the node is due at the edge.
    #[inline]
    pub fn is_final(self) -> bool {
        self.slot < FIRST_REFILED
    }
}

/// How far `time` lies before the next multiple of the level's granularity.
#[inline]
fn lateness(time: u64, level: usize) -> u64 {
    time.wrapping_neg() & ((1 << shift(level)) - 1)
}

/// Whether a node that lies on `level` may be due at the end of its slot.
#[inline]
fn rounds_up(time: u64, window: u32, level: usize) -> bool {
    let late = lateness(time, level);
    late <= window as u64 && time.checked_add(late).is_some()
}

/// Steps of `level` from the base's slot to the end of the date's.
#[inline]
fn distance(base: u64, time: u64, level: usize) -> u64 {
    let up = (lateness(time, level) != 0) as u64;
    (time >> shift(level)) + up - (base >> shift(level))
}

/// Where a node belongs. `time` lies after `base`.
#[inline]
pub(super) fn file(base: u64, time: u64, window: u32) -> Filing {
    debug_assert!(time > base);
    // The smallest level whose 128 slots are as long as the delay; the base's
    // place in its own slot may cost one level more.
    let bits = 64 - (time - base - 1).leading_zeros() as usize;
    let mut level = (bits.max(7) - 5) / 3;
    level += (distance(base, time, level) > SLOTS) as usize;
    if level > TOP {
        let edge = (time >> shift(TOP) << shift(TOP)) - FAR_LEAD;
        return Filing { slot: FAR, edge };
    }
    let shift = shift(level);
    let (row, edge) = if rounds_up(time, window, level) {
        (final_row(level), time + lateness(time, level))
    } else {
        (refile_row(level), time >> shift << shift)
    };
    Filing {
        slot: slot_at(row, edge),
        edge,
    }
}

/// The date at which a node filed at `base` becomes due, through all
/// refilings: each happens with the base at the edge of the slot it was in.
#[inline]
pub(super) fn fire_date(base: u64, time: u64, window: u32) -> u64 {
    if window == 0 {
        return time;
    }
    let mut base = base;
    loop {
        let filing = file(base, time, window);
        if filing.is_final() {
            return filing.edge;
        }
        if filing.slot == FAR {
            return far_fire_date(time, window);
        }
        base = filing.edge;
    }
}

/// As [`fire_date`] for a node of the far ring: from wherever it is looked
/// at, it comes back on the top level.
#[inline]
pub(super) fn far_fire_date(time: u64, window: u32) -> u64 {
    if rounds_up(time, window, TOP) {
        time + lateness(time, TOP)
    } else {
        fire_date(time >> shift(TOP) << shift(TOP), time, window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule of the specification, word for word, with a loop.
    fn level_by_rule(base: u64, time: u64) -> usize {
        (0..)
            .find(|&n| {
                let g = 1u128 << (3 * n);
                (time as u128).div_ceil(g) - base as u128 / g <= 128
            })
            .unwrap()
    }

    fn dates() -> impl Iterator<Item = u64> {
        (0..64).flat_map(|bit| {
            [0u64, 1, 2, 7, 8, 9, 127]
                .into_iter()
                .flat_map(move |d| [(1u64 << bit).wrapping_add(d), (1u64 << bit).wrapping_sub(d)])
        })
    }

    #[test]
    fn level_is_the_smallest_that_fits() {
        for base in dates() {
            for delay in dates().flat_map(|d| [d, d.wrapping_mul(5)]) {
                let Some(time) = base.checked_add(delay).filter(|&t| t > base) else {
                    continue;
                };
                let f = file(base, time, 0);
                let expected = level_by_rule(base, time);
                if expected > TOP {
                    assert_eq!(f.slot, FAR);
                    assert!(f.edge > base && f.edge < time);
                } else {
                    let level = level_of(f.slot as usize / 128);
                    assert_eq!(level, expected, "{base} {time}");
                    assert!(f.edge > base && (f.edge == time) == f.is_final());
                    assert!((f.edge >> shift(level)) - (base >> shift(level)) <= 128);
                }
            }
        }
    }

    #[test]
    fn final_only_inside_the_window() {
        for base in dates() {
            for delay in dates() {
                let Some(time) = base.checked_add(delay).filter(|&t| t > base) else {
                    continue;
                };
                for window in [0, 1, 7, 63, 64, (delay / 16).min(1 << 31) as u32, u32::MAX] {
                    let f = file(base, time, window);
                    if f.is_final() {
                        assert!(f.edge >= time && f.edge - time <= window as u64);
                    } else {
                        assert!(f.edge <= time && f.edge > base);
                    }
                    let fire = fire_date(base, time, window);
                    assert!(fire >= time && fire - time <= window as u64);
                }
            }
        }
    }

    #[test]
    fn a_sixteenth_is_enough_to_be_final() {
        for base in dates() {
            for delay in dates().filter(|&d| d < 1 << 30) {
                if delay != 0 && base.checked_add(2 * delay).is_some() {
                    let window = (delay / 16 + 1).next_power_of_two() as u32;
                    assert!(file(base, base + delay, window).is_final());
                }
            }
        }
    }
}
