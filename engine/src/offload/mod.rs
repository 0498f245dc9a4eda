//! Super-segments: what a kernel hands over and takes in one piece, and the packets that it stands for.
//!
//! A TCP segment of up to 64 KiB costs the kernel as much as one of 1,280 bytes. `cut` makes packets out of it on the
//! way to the tunnel, `Coalescer` makes it out of packets on the way back. Everything here is IPv6 without extension
//! headers, as nothing else travels inside the tunnel. Pure code.

mod checksum;
mod coalesce;
mod cut;
mod header;
mod segment;

pub use coalesce::{Coalescer, MAX_PIECES};
pub use cut::cut;
pub use header::{Header, HEADER};
pub use segment::{renumber, reset, reset_for, unreachable, Segment, ACK, FIN, RST, SYN};

#[cfg(test)]
mod tests;
