//! Where something stands in a buffer that is passed along beside it.

/// From `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// How many bytes it covers.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// As what slices are indexed by.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.end
    }
}
