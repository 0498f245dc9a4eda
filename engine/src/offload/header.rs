//! The header that a virtual device puts before each packet (`virtio_net_hdr`, Virtual I/O Device 1.2 §5.1.6).

/// Length of the header without its optional fields, in this machine's order of bytes.
pub const HEADER: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_ECN: u8 = 0x80;

/// What is left to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// The sum is missing: it goes over everything from the first offset, to the second counted from the first.
    pub checksum: Option<(usize, usize)>,
    /// It is a TCP super-segment whose packets carry this many bytes each.
    pub segment: Option<usize>,
    /// Only the first of its packets says that the sender slowed down (RFC 3168, CWR).
    pub ecn: bool,
    /// Length of all headers; a hint.
    pub headers: usize,
}

impl Header {
    /// Read a header; `None` for a kind that nobody asked the device for.
    pub fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let field = |at: usize| usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        let segment = match bytes[1] & !GSO_ECN {
            0 => None,
            GSO_TCP_V6 if field(4) > 0 => Some(field(4)),
            _ => return None,
        };
        let checksum = (bytes[0] & NEEDS_CHECKSUM != 0).then(|| (field(6), field(8)));
        Some(Self { checksum, segment, ecn: bytes[1] & GSO_ECN != 0, headers: field(2) })
    }

    /// Write the header.
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |at: usize, value: usize| bytes[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
        put(2, self.headers);
        put(4, self.segment.unwrap_or(0));
        let (start, offset) = self.checksum.unwrap_or_default();
        put(6, start);
        put(8, offset);
        bytes[0] = if self.checksum.is_some() { NEEDS_CHECKSUM } else { 0 };
        bytes[1] = if self.segment.is_some() { GSO_TCP_V6 } else { 0 };
        if self.segment.is_some() && self.ecn {
            bytes[1] |= GSO_ECN;
        }
        bytes
    }

    /// The same for a packet that stands `before` bytes further into a frame.
    pub fn behind(&self, before: usize) -> Self {
        Self {
            checksum: self.checksum.map(|(start, offset)| (start + before, offset)),
            headers: self.headers + before,
            ..*self
        }
    }

    /// The same without `before` bytes at the start of the frame; `None` when the sum begins among them.
    pub fn without(&self, before: usize) -> Option<Self> {
        let checksum = match self.checksum {
            Some((start, offset)) => Some((start.checked_sub(before)?, offset)),
            None => None,
        };
        Some(Self { checksum, headers: self.headers.saturating_sub(before), ..*self })
    }
}
