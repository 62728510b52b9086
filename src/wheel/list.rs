//! Rings of nodes, known by their first one.

use super::node::Node;
use core::ptr;

/// An intrusive list. It holds no pointer to itself, so it can be moved and
/// made in a constant; the nodes cannot.
#[derive(Debug)]
pub struct List {
    head: *mut Node,
}

// SAFETY: a list only names its nodes; every access to one goes through an
// unsafe function whose caller answers for the thread it is on.
unsafe impl Send for List {}

impl List {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
        }
    }

    /// Whether the list has no node.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// The first node, or NULL.
    #[inline]
    pub const fn first(&self) -> *mut Node {
        self.head
    }

    /// The last node, or NULL.
    ///
    /// # Safety
    /// The list's nodes are alive and nobody else's at the moment, here and
    /// in every function below.
    #[inline]
    pub unsafe fn last(&self) -> *mut Node {
        if self.head.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: a list's head is alive.
        unsafe { (*self.head).prev }
    }

    /// The node after `node`, which is on a list; after the last one the
    /// first.
    ///
    /// # Safety
    /// As [`last`](Self::last).
    #[inline]
    pub unsafe fn after(node: *mut Node) -> *mut Node {
        // SAFETY: by this function's contract.
        unsafe { (*node).next }
    }

    /// Links `node` at the end.
    ///
    /// # Safety
    /// As [`last`](Self::last); `node` is on no list and stays in place
    /// until it is unlinked.
    #[inline]
    pub unsafe fn push_back(&mut self, node: *mut Node) {
        // SAFETY: by this function's contract; in a ring the place after the
        // last node is the place before the first.
        unsafe {
            debug_assert!((*node).prev.is_null(), "a node is linked twice");
            if self.head.is_null() {
                (*node).next = node;
                (*node).prev = node;
                self.head = node;
            } else {
                link_after((*self.head).prev, node);
            }
        }
    }

    /// Links `node` at the beginning.
    ///
    /// # Safety
    /// As [`push_back`](Self::push_back).
    #[inline]
    pub unsafe fn push_front(&mut self, node: *mut Node) {
        // SAFETY: by this function's contract.
        unsafe { self.push_back(node) };
        self.head = node;
    }

    /// Links `node` behind `at`.
    ///
    /// # Safety
    /// As [`push_back`](Self::push_back); `at` is on this list.
    #[inline]
    pub unsafe fn insert_after(&mut self, at: *mut Node, node: *mut Node) {
        // SAFETY: by this function's contract.
        unsafe {
            debug_assert!((*node).prev.is_null(), "a node is linked twice");
            link_after(at, node);
        }
    }

    /// Unlinks and returns the first node, or NULL.
    ///
    /// # Safety
    /// As [`last`](Self::last).
    #[inline]
    pub unsafe fn pop_front(&mut self) -> *mut Node {
        let node = self.head;
        if !node.is_null() {
            // SAFETY: a list's head is alive and on that list.
            unsafe { self.remove(node) };
        }
        node
    }

    /// Unlinks `node`.
    ///
    /// # Safety
    /// As [`last`](Self::last); `node` is on this list.
    #[inline]
    pub unsafe fn remove(&mut self, node: *mut Node) {
        // SAFETY: by this function's contract.
        let rest = unsafe { unlink(node) };
        self.replace_head(node, rest);
    }

    /// Moves all nodes of `other` to the end, in their order.
    ///
    /// # Safety
    /// As [`last`](Self::last), for both lists.
    #[inline]
    pub unsafe fn append(&mut self, other: &mut List) {
        let moved = other.head;
        if moved.is_null() {
            return;
        }
        other.head = ptr::null_mut();
        if self.head.is_null() {
            self.head = moved;
            return;
        }
        // SAFETY: both rings are alive and not empty; this closes them into one.
        unsafe {
            let last = (*self.head).prev;
            let moved_last = (*moved).prev;
            (*last).next = moved;
            (*moved).prev = last;
            (*moved_last).next = self.head;
            (*self.head).prev = moved_last;
        }
    }

    /// After [`unlink`]: true if `node` was this list's first.
    #[inline]
    pub(super) fn replace_head(&mut self, node: *mut Node, rest: *mut Node) -> bool {
        let was_head = self.head == node;
        if was_head {
            self.head = rest;
        }
        was_head
    }
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

/// # Safety
/// `at` is on a ring; `node` is alive and on none.
#[inline]
unsafe fn link_after(at: *mut Node, node: *mut Node) {
    // SAFETY: by this function's contract; a ring's neighbours are alive.
    unsafe {
        let next = (*at).next;
        (*node).next = next;
        (*node).prev = at;
        (*at).next = node;
        (*next).prev = node;
    }
}

/// Takes `node` off its ring, whichever that is, and returns the node after
/// it, NULL if it was alone. The list that it headed needs
/// [`List::replace_head`].
///
/// # Safety
/// `node` is on a ring.
#[inline]
pub(super) unsafe fn unlink(node: *mut Node) -> *mut Node {
    // SAFETY: by this function's contract; a ring's neighbours are alive.
    unsafe {
        let next = (*node).next;
        let prev = (*node).prev;
        debug_assert!(!prev.is_null(), "a node that is not linked is unlinked");
        (*prev).next = next;
        (*next).prev = prev;
        (*node).next = ptr::null_mut();
        (*node).prev = ptr::null_mut();
        if next == node { ptr::null_mut() } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(n: u8) -> Vec<Node> {
        (0..n).map(Node::new).collect()
    }

    unsafe fn drain(list: &mut List) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            // SAFETY: the nodes of the test are alive and its own.
            let node = unsafe { list.pop_front() };
            if node.is_null() {
                return out;
            }
            // SAFETY: as above.
            unsafe {
                assert!(!(*node).is_linked());
                out.push((*node).tag);
            }
        }
    }

    #[test]
    fn order_of_linking() {
        let mut n = nodes(5);
        let p: Vec<*mut Node> = n.iter_mut().map(|n| &raw mut *n).collect();
        let mut list = List::new();
        // SAFETY: the nodes of the test are alive and its own.
        unsafe {
            assert!(list.pop_front().is_null() && list.last().is_null());
            list.push_back(p[1]);
            list.push_front(p[0]);
            list.push_back(p[4]);
            list.insert_after(p[1], p[2]);
            list.insert_after(p[2], p[3]);
            assert_eq!((list.first(), list.last()), (p[0], p[4]));
            assert_eq!(drain(&mut list), [0, 1, 2, 3, 4]);
            list.push_front(p[0]);
            list.insert_after(p[0], p[1]);
            assert_eq!(list.last(), p[1]);
            assert_eq!(drain(&mut list), [0, 1]);
        }
    }

    #[test]
    fn remove_first_middle_last_only() {
        let mut n = nodes(4);
        let p: Vec<*mut Node> = n.iter_mut().map(|n| &raw mut *n).collect();
        let mut list = List::new();
        // SAFETY: the nodes of the test are alive and its own.
        unsafe {
            p.iter().for_each(|&p| list.push_back(p));
            list.remove(p[0]);
            list.remove(p[2]);
            list.remove(p[3]);
            assert_eq!((list.first(), list.last()), (p[1], p[1]));
            list.remove(p[1]);
            assert!(list.is_empty() && p.iter().all(|&p| !(*p).is_linked()));
        }
    }

    #[test]
    fn append_in_every_case_of_emptiness() {
        let mut n = nodes(4);
        let p: Vec<*mut Node> = n.iter_mut().map(|n| &raw mut *n).collect();
        let (mut a, mut b) = (List::new(), List::new());
        // SAFETY: the nodes of the test are alive and its own.
        unsafe {
            a.append(&mut b);
            assert!(a.is_empty());
            b.push_back(p[0]);
            b.push_back(p[1]);
            a.append(&mut b);
            assert!(b.is_empty());
            a.append(&mut b);
            b.push_back(p[2]);
            b.push_back(p[3]);
            a.append(&mut b);
            assert_eq!(a.last(), p[3]);
            assert_eq!(drain(&mut a), [0, 1, 2, 3]);
        }
    }
}
