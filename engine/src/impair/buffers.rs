//! Buffers that are used again: a fresh 64 KiB for every read costs more than the read.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

/// What is shorter than this is copied: an acknowledgement must not hold 64 KiB for as long as it is under way.
const COPY_LEN: usize = 8 << 10;
/// Buffers kept for later; more are given back to the system.
const SPARE_LIMIT: usize = 1024;

type Spare = Rc<RefCell<Vec<Box<[u8]>>>>;

/// Where buffers come from and return to.
pub struct Pool {
    spare: Spare,
    current: Box<[u8]>,
}

/// Bytes of one read; a large buffer returns to its pool.
#[derive(Debug)]
pub struct Bytes {
    buffer: Box<[u8]>,
    len: usize,
    home: Option<Spare>,
}

impl Pool {
    /// Make a pool of buffers of this length.
    pub fn new(len: usize) -> Self {
        Self { spare: Spare::default(), current: vec![0; len].into_boxed_slice() }
    }

    /// Where the next read goes.
    pub fn next(&mut self) -> &mut [u8] {
        &mut self.current
    }

    /// Take what was read.
    pub fn keep(&mut self, len: usize) -> Bytes {
        if len <= COPY_LEN {
            return Bytes { buffer: self.current[..len].into(), len, home: None };
        }
        let spare = self.spare.borrow_mut().pop();
        let fresh = spare.unwrap_or_else(|| vec![0; self.current.len()].into_boxed_slice());
        let buffer = std::mem::replace(&mut self.current, fresh);
        Bytes { buffer, len, home: Some(Rc::clone(&self.spare)) }
    }

    /// How many buffers wait to be used again.
    #[cfg(test)]
    pub fn spare(&self) -> usize {
        self.spare.borrow().len()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        let Some(home) = &self.home else { return };
        let mut spare = home.borrow_mut();
        if spare.len() < SPARE_LIMIT {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}
