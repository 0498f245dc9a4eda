//! Inner packets in one buffer: those that wait, and a batch on its way out.

use crate::span::Span;

/// Inner packets one after the other in one buffer, on their way out.
#[derive(Default)]
pub struct Batch {
    buffer: Vec<u8>,
    used: usize,
    spans: Vec<Span>,
}

impl Batch {
    /// Forget what is in it; the buffer stays.
    pub fn clear(&mut self) {
        self.used = 0;
        self.spans.clear();
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How many bytes of packets are in it.
    pub fn len(&self) -> usize {
        self.used
    }

    /// The packets, in order.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| &self.buffer[span.start..span.end])
    }

    /// Make room for one more packet.
    pub fn append(&mut self, length: usize) -> &mut [u8] {
        let start = self.used;
        self.used += length;
        if self.buffer.len() < self.used {
            self.buffer.resize(self.used.next_power_of_two(), 0);
        }
        self.spans.push(Span { start, end: self.used });
        &mut self.buffer[start..self.used]
    }
}
