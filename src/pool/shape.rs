//! What an object's memory consists of.

use super::MEM_F_EXACT;
use super::debug;
use super::head::Head;
use super::shared::{CLUSTER_MAX, Item};
use crate::sync::atomic::Ordering;

/// What the system's allocator aligns to anyway.
const DEFAULT_ALIGN: u32 = 16;

/// Sizes of a pool's objects.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) size: u32,
    pub(super) align: u32,
    pub(super) real: u32,
}

impl Shape {
    /// None if the figures are beyond reason (a real size over 32 bits).
    pub(super) fn new(size: u32, align: u32, flags: u32, debug: u32) -> Option<Self> {
        let word = size_of::<usize>() as u32;
        let align = match align {
            0 => DEFAULT_ALIGN,
            n => n.checked_next_power_of_two()?.max(word),
        };
        let tag = if debug & debug::TAG != 0 { word } else { 0 };
        // With a tag no more than a word: it has to notice small overruns.
        let step = if tag != 0 { word } else { 16 };
        let size = if flags & MEM_F_EXACT != 0 {
            size
        } else {
            size.max(1).checked_next_multiple_of(step)?
        };
        // A free object holds the links of the shared list (INV-8).
        let real = size.checked_add(tag)?.max(size_of::<Item>() as u32);
        Some(Self { size, align, real })
    }
}

impl Head {
    pub(super) fn set_shape(&self, shape: Shape) {
        self.size.store(shape.size, Ordering::Relaxed);
        self.align.store(shape.align, Ordering::Relaxed);
        self.real.store(shape.real, Ordering::Relaxed);
        // At least what an object costs, or tiny ones would be cached without
        // bound.
        let links = size_of::<Item>() as u32;
        let weight = shape.size.max(links);
        self.weight.store(weight, Ordering::Relaxed);
        // More of small ones, whose way would cost more than they do.
        let cluster = (8192 / weight).clamp(8, CLUSTER_MAX as u32);
        self.cluster.store(cluster, Ordering::Relaxed);
        // Short of the debugging marks behind the object.
        let slots = shape.size.saturating_sub(links) / size_of::<*mut u8>() as u32;
        let slots = slots.min(CLUSTER_MAX as u32 - 1);
        self.slots.store(slots, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_15_links_and_tags_fit_every_size() {
        for debug in [0, debug::TAG] {
            for flags in [0, MEM_F_EXACT] {
                for size in 0..100 {
                    let shape = Shape::new(size, 0, flags, debug).unwrap();
                    assert!(shape.size >= size);
                    assert!(flags == 0 || shape.size == size);
                    assert!(shape.real as usize >= size_of::<Item>());
                    assert!(debug == 0 || shape.real >= shape.size + 8);
                }
            }
        }
    }
}
