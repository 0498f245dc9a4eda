//! What smoltcp takes for a network card: packets that wait in one buffer, and a batch that fills another.

use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Where a packet stands in a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

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

    /// How many packets are in it.
    pub fn spans_len(&self) -> usize {
        self.spans.len()
    }

    /// How many bytes of packets are in it.
    pub fn len(&self) -> usize {
        self.used
    }

    /// The packets, in order.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| &self.buffer[span.start..span.end])
    }

    /// Keep only the packets from the one with number `from` on for which `keep` says so.
    pub fn retain(&mut self, from: usize, mut keep: impl FnMut(&[u8]) -> bool) {
        let mut kept = from;
        for index in from..self.spans.len() {
            let span = self.spans[index];
            if keep(&self.buffer[span.start..span.end]) {
                self.spans[kept] = span;
                kept += 1;
            }
        }
        self.spans.truncate(kept);
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

/// The card for one turn of one flow.
pub struct Card<'a> {
    pub slab: &'a [u8],
    pub waiting: &'a [Span],
    pub out: &'a mut Batch,
    /// Stop sending when `out` holds this much; answers to what arrives are sent all the same.
    pub budget: usize,
    pub mtu: usize,
}

pub struct Received<'a>(&'a [u8]);
pub struct Sending<'a>(&'a mut Batch);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        f(self.0.append(length))
    }
}

impl Device for Card<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sending<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let (span, rest) = self.waiting.split_first()?;
        self.waiting = rest;
        Some((Received(&self.slab[span.start..span.end]), Sending(self.out)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        (self.out.used < self.budget).then_some(Sending(self.out))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // WireGuard has authenticated what arrives: its sums need no second look.
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}
