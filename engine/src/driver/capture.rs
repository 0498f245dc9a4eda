//! Inner packets as a pcap file (link type raw IP), for tcpdump and Wireshark.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

const MAGIC: u32 = 0xa1b2_c3d4;
const SNAP_LENGTH: u32 = 65_535;
const LINK_TYPE_RAW: u32 = 101;

/// Where captured packets go. A reader that is too slow loses packets; it never slows the tunnel.
pub struct Capture {
    file: File,
}

impl Capture {
    /// Begin a capture.
    pub fn new(fd: OwnedFd) -> Self {
        let mut file = File::from(fd);
        let mut head = Vec::with_capacity(24);
        head.extend_from_slice(&MAGIC.to_le_bytes());
        head.extend_from_slice(&[2, 0, 4, 0]); // version 2.4
        head.extend_from_slice(&[0; 8]);
        head.extend_from_slice(&SNAP_LENGTH.to_le_bytes());
        head.extend_from_slice(&LINK_TYPE_RAW.to_le_bytes());
        let _ = file.write_all(&head); // a reader that has gone sees nothing either way
        Self { file }
    }

    /// Write one packet, if there is room for it.
    pub fn packet(&mut self, bytes: &[u8]) {
        let mut poll = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: one valid pollfd, and a count of one.
        if unsafe { libc::poll(&mut poll, 1, 0) } != 1 || poll.revents & libc::POLLOUT == 0 {
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = (bytes.len() as u32).to_le_bytes();
        let mut record = Vec::with_capacity(16 + bytes.len());
        record.extend_from_slice(&(since.as_secs() as u32).to_le_bytes());
        record.extend_from_slice(&since.subsec_micros().to_le_bytes());
        record.extend_from_slice(&length);
        record.extend_from_slice(&length);
        record.extend_from_slice(bytes);
        let _ = self.file.write_all(&record); // as above
    }
}
