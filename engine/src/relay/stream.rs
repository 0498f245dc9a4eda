//! The socket of a relay's connection, under TLS or not. Nothing here blocks.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};

use socket2::Socket;

use crate::tls::Session;

/// One turn of one connection: large enough for a batch of packets, small enough for the others to get theirs.
pub const READ_LEN: usize = 128 << 10;
/// Sealed in one go: what does not leave at once has to be kept, beside the same bytes unsealed.
const SEAL_LEN: usize = 128 << 10;

/// Space that all connections of a thread share.
pub struct Scratch {
    /// As read.
    input: Vec<u8>,
    /// What came of it.
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Scratch {
    /// Make the space.
    pub fn new() -> Self {
        Self { input: vec![0; Session::MAX_PARTIAL + READ_LEN], plain: Vec::new(), sealed: Vec::new() }
    }
}

/// What a write came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// This much is on its way for good.
    Bytes(usize),
    /// The socket took something of what was sealed before, but not all.
    Some,
}

/// A connection.
pub struct Stream {
    socket: Socket,
    tls: Option<Box<Tls>>,
}

struct Tls {
    session: Session,
    /// Sealed, and not yet taken by the socket.
    out: Vec<u8>,
    sent: usize,
    /// How many bytes of the caller's are in `out`.
    covered: usize,
}

impl Stream {
    /// Speak plainly.
    pub fn plain(socket: Socket) -> Self {
        Self { socket, tls: None }
    }

    /// Go on with a TLS connection; `out` is sealed already and goes first.
    pub fn tls(socket: Socket, session: Session, out: Vec<u8>) -> Self {
        Self { socket, tls: Some(Box::new(Tls { session, out, sent: 0, covered: 0 })) }
    }

    /// Read once. `None` at the end; what came may be empty, of a record that is not complete.
    ///
    /// # Errors
    /// As sockets have them; `InvalidData` where TLS was broken.
    pub fn read<'a>(&mut self, scratch: &'a mut Scratch) -> io::Result<Option<&'a mut [u8]>> {
        let Some(tls) = &mut self.tls else {
            let count = self.socket.read(&mut scratch.input[..READ_LEN])?;
            return Ok((count > 0).then_some(&mut scratch.input[..count]));
        };
        scratch.plain.clear();
        if tls.session.peer_closed() {
            return Ok(None);
        }
        let start = tls.session.begin_input(&mut scratch.input);
        let count = self.socket.read(&mut scratch.input[start..start + READ_LEN])?;
        if count == 0 {
            return Ok(None);
        }
        let result = tls.session.receive(&mut scratch.input[..start + count], &mut scratch.plain, &mut tls.out);
        if result.is_err() {
            // The alert that says why, if it fits.
            let _ = self.socket.send(&tls.out[tls.sent..]);
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(Some(&mut scratch.plain[..]))
    }

    /// Whether something waits that the caller knows nothing of.
    pub fn pending(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.sent < tls.out.len())
    }

    /// Write some of `bytes`; the caller must come with the same bytes again until they are said to be on their way.
    ///
    /// # Errors
    /// As sockets have them.
    pub fn write(&mut self, bytes: &[u8], scratch: &mut Scratch) -> io::Result<Written> {
        let Some(tls) = &mut self.tls else { return self.socket.send(bytes).map(Written::Bytes) };
        if tls.sent == tls.out.len() {
            tls.clear();
            let part = &bytes[..bytes.len().min(SEAL_LEN)];
            scratch.sealed.clear();
            tls.session.seal(part, &mut scratch.sealed).map_err(|_| ErrorKind::InvalidData)?;
            let count = match self.socket.send(&scratch.sealed) {
                Ok(count) => count,
                // What was sealed cannot be sealed again.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
                Err(error) => return Err(error),
            };
            if count == scratch.sealed.len() {
                return Ok(Written::Bytes(part.len()));
            }
            tls.out.extend_from_slice(&scratch.sealed[count..]);
            tls.covered = part.len();
            return Ok(Written::Some);
        }
        tls.sent += self.socket.send(&tls.out[tls.sent..])?;
        if tls.sent < tls.out.len() {
            return Ok(Written::Some);
        }
        let covered = tls.covered;
        tls.clear();
        Ok(Written::Bytes(covered))
    }

    /// End our side behind what was written; the other side may still be read.
    pub fn end(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.session.close(&mut tls.out);
            let _ = self.socket.send(&tls.out[tls.sent..]);
            tls.clear();
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Read once, for nobody; says whether there may be more.
    ///
    /// # Errors
    /// As sockets have them.
    pub fn discard(&mut self, scratch: &mut Scratch) -> io::Result<bool> {
        self.socket.read(&mut scratch.input).map(|count| count > 0)
    }

    /// End both sides, without waiting for anything.
    pub fn close(&mut self) {
        self.end();
        // Someone else may hold the same socket for a moment: closing our descriptor alone would not end it.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Tls {
    fn clear(&mut self) {
        self.out = Vec::new();
        self.sent = 0;
        self.covered = 0;
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
