//! One connection under TLS: what is on its way between a client and the socket that Python holds.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::time::Instant;

use socket2::Socket;

use super::{Fault, Session};

/// One read of either side: a few records.
pub const READ_LEN: usize = 64 << 10;
/// A client that does not take what is for it is not read from any more past this.
const MAX_OUTBOUND: usize = 256 << 10;
/// Reads of one connection before others get their turn.
const READS: usize = 4;

/// A client, from its first byte on.
pub struct Connection {
    pub number: u64,
    pub tcp: Socket,
    pub peer: SocketAddr,
    pub session: Session,
    pub opened_at: Instant,
    /// Our end of the pair whose other end Python holds, from the end of the handshake on.
    pub plain: Option<Socket>,
    /// Said by the client, not yet taken by Python.
    pub inbound: Pending,
    /// Sealed, not yet taken by the client's socket.
    pub outbound: Pending,
    pub ready: Ready,
    /// The client has said all it will.
    pub tcp_ended: bool,
    /// Python has closed its end.
    pub plain_ended_at: Option<Instant>,
    pub scheduled: bool,
}

/// What a socket may do without blocking: epoll tells of news only.
#[derive(Debug, Default)]
pub struct Ready {
    pub tcp_read: bool,
    pub tcp_write: bool,
    pub plain_read: bool,
    pub plain_write: bool,
}

/// Bytes on their way into a socket. Holds no memory when there are none.
#[derive(Debug, Default)]
pub struct Pending {
    bytes: Vec<u8>,
    sent: usize,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Send as much as the socket takes; says whether it may take more.
    pub fn send_to(&mut self, socket: &Socket) -> io::Result<bool> {
        while !self.is_empty() {
            match send(socket, self.rest()) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        *self = Self::default();
        Ok(true)
    }
}

/// What a connection does next.
pub enum Turn {
    /// For news of its sockets.
    Waits,
    /// There may be more at once.
    Again,
    /// All is said.
    Over,
}

impl Connection {
    /// Carry what can be carried, both ways.
    pub fn turn(&mut self, now: Instant, input: &mut [u8]) -> Result<Turn, Fault> {
        for _ in 0..READS {
            self.flush().map_err(lost)?;
            let read = self.read_tcp(input)?;
            let written = self.read_plain(now, input)?;
            if !read && !written {
                self.flush().map_err(lost)?;
                return Ok(if self.over() { Turn::Over } else { Turn::Waits });
            }
        }
        Ok(Turn::Again)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.ready.tcp_write {
            self.ready.tcp_write = self.outbound.send_to(&self.tcp)?;
        }
        if let (Some(plain), true) = (&self.plain, self.ready.plain_write && !self.inbound.is_empty()) {
            match self.inbound.send_to(plain) {
                Ok(ready) => self.ready.plain_write = ready,
                // Python has closed: what the client says on top of that interests nobody.
                Err(_) => self.inbound = Pending::default(),
            }
        }
        Ok(())
    }

    /// Read from the client, unless it sends faster than Python takes; says whether there was something.
    fn read_tcp(&mut self, input: &mut [u8]) -> Result<bool, Fault> {
        if !self.ready.tcp_read || self.tcp_ended || !self.inbound.is_empty() {
            return Ok(false);
        }
        // Who has just got through the handshake is introduced to Python first, however soon it leaves.
        if self.outbound.rest().len() > MAX_OUTBOUND || (self.plain.is_none() && self.session.established()) {
            return Ok(false);
        }
        let start = self.session.begin_input(input);
        let count = match receive(&self.tcp, &mut input[start..start + READ_LEN]) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.tcp_read = false;
                return Ok(false);
            }
            Err(error) => return Err(lost(error)),
        };
        let result =
            self.session.receive(&mut input[..start + count], &mut self.inbound.bytes, &mut self.outbound.bytes);
        if let Err(fault) = result {
            // The last word explains it; whatever the client has said meanwhile would turn it into a reset.
            let _ = self.outbound.send_to(&self.tcp);
            let _ = receive(&self.tcp, input);
            return Err(fault);
        }
        if count == 0 || self.session.peer_closed() {
            self.tcp_ended = true;
        }
        if self.tcp_ended && !self.session.established() {
            return Err(lost(ErrorKind::UnexpectedEof.into()));
        }
        Ok(true)
    }

    /// Read what Python wrote, unless it writes faster than the client takes; says whether there was something.
    fn read_plain(&mut self, now: Instant, input: &mut [u8]) -> Result<bool, Fault> {
        let Some(plain) = &self.plain else { return Ok(false) };
        if self.tcp_ended && self.inbound.is_empty() {
            let _ = plain.shutdown(Shutdown::Write);
        }
        if !self.ready.plain_read || self.plain_ended_at.is_some() || !self.outbound.is_empty() {
            return Ok(false);
        }
        match receive(plain, &mut input[..READ_LEN]) {
            Ok(0) => self.end_plain(now),
            Ok(count) => self.session.seal(&input[..count], &mut self.outbound.bytes)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.plain_read = false;
                return Ok(false);
            }
            // It closed without reading all, which is no news to the client.
            Err(_) => self.end_plain(now),
        }
        Ok(true)
    }

    fn end_plain(&mut self, now: Instant) {
        self.plain_ended_at = Some(now);
        self.session.close(&mut self.outbound.bytes);
    }

    fn over(&self) -> bool {
        self.plain_ended_at.is_some() && self.outbound.is_empty()
    }
}

fn lost(error: io::Error) -> Fault {
    Fault::Lost(error.kind())
}

/// Send without a signal where the other side is gone.
fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    socket.send(bytes)
}

/// Read once.
pub fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: initialised bytes are valid as possibly uninitialised ones, and `recv` only ever writes them.
    let room = unsafe { &mut *(std::ptr::from_mut::<[u8]>(buffer) as *mut [MaybeUninit<u8>]) };
    socket.recv(room)
}
