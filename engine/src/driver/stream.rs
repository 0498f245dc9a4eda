//! A connection to a relay: through a proxy where there is one, with TLS where the map asks for it; nothing here blocks.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use rustls::{ClientConnection, ProtocolVersion};
use socket2::SockRef;

use super::carrier::{session, shake_hands, Carrier, Secured};
use super::proxy::Handshake;

/// Plain bytes are handed to TLS in pieces of this size, so that little is encrypted before it can leave.
const PIECE: usize = 64 << 10;
/// Bytes read in one go, so that one busy relay does not starve the rest.
const READ_LIMIT: usize = 512 << 10;

/// A connection with what waits to be written.
pub struct Stream {
    carrier: Carrier,
    to: SocketAddr,
    /// A proxy that has not opened the way yet.
    tunnel: Option<Tunnel>,
    tls: Option<Box<ClientConnection>>,
    out: Vec<u8>,
    sent: usize,
}

/// The way through a proxy.
pub struct Tunnel {
    /// How people know the proxy.
    pub proxy: String,
    /// For a proxy that is itself reached by TLS.
    pub secured: Option<Secured>,
    pub handshake: Handshake,
}

/// Whether there may be more to read.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Progress {
    /// The socket has no more for now.
    Drained,
    /// The limit for one turn was reached.
    More,
    /// The other side has ended the stream.
    Ended,
}

impl Stream {
    /// Begin to connect, to the relay or to the proxy before it.
    pub fn connect(to: SocketAddr, mut tunnel: Option<Tunnel>, tls: Option<Secured>) -> io::Result<Self> {
        let secured = tunnel.as_mut().and_then(|tunnel| tunnel.secured.take());
        let carrier = Carrier::new(TcpStream::connect(to)?, secured)?;
        let tls = tls.map(session).transpose()?;
        Ok(Self { carrier, to, tunnel, tls, out: Vec::new(), sent: 0 })
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.carrier.tcp
    }

    /// The proxy that has not opened the way yet.
    pub fn waits_for(&self) -> Option<&str> {
        self.tunnel.as_ref().map(|tunnel| tunnel.proxy.as_str())
    }

    /// Which of our addresses it comes from, and where it goes; `None` where the kernel does not tell.
    pub fn ends(&self) -> Option<(IpAddr, SocketAddr)> {
        let from = self.carrier.tcp.local_addr().ok()?.ip();
        (!from.is_unspecified()).then_some((from, self.to))
    }

    /// Have the kernel forget what it could not deliver yet: nobody is there to take it.
    pub fn abandon(&self) {
        let _ = SockRef::from(&self.carrier.tcp).set_linger(Some(Duration::ZERO));
        // else it goes on trying for minutes
    }

    /// Whether the TCP connection stands; an error if it cannot.
    pub fn connected(&self) -> io::Result<bool> {
        let tcp = &self.carrier.tcp;
        let unreachable = |error: io::Error| match self.waits_for() {
            Some(proxy) => io::Error::other(format!("the proxy {proxy} cannot be reached: {error}")),
            None => error,
        };
        if let Some(error) = tcp.take_error()? {
            return Err(unreachable(error));
        }
        match tcp.peer_addr() {
            Ok(_) => {
                let _ = tcp.set_nodelay(true); // speed only
                Ok(true)
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::EINPROGRESS)) => Ok(false),
            Err(error) => Err(unreachable(error)),
        }
    }

    /// Go on with the proxy's tunnel and the TLS handshake; says whether all is done.
    pub fn handshaken(&mut self) -> io::Result<bool> {
        if let Some(tunnel) = &mut self.tunnel {
            if !tunnel.turn(&mut self.carrier)? {
                return Ok(false);
            }
            self.tunnel = None;
        }
        match &mut self.tls {
            None => self.flush().map(|()| true),
            Some(tls) => shake_hands(tls, &mut self.carrier).map_err(|error| match tls_error(error) {
                Ok(error) => in_words(error),
                Err(error) => error,
            }),
        }
    }

    /// The relay's key, where its TLS certificates tell it and the fast start is allowed (TLS 1.3).
    pub fn relay_key(&self) -> Option<[u8; 32]> {
        let tls = self.tls.as_ref().filter(|tls| tls.protocol_version() == Some(ProtocolVersion::TLSv1_3))?;
        super::tls::relay_key(tls.peer_certificates()?)
    }

    /// The protocol that TLS agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.as_ref().and_then(|tls| tls.alpn_protocol())
    }

    /// Bytes that wait to be written.
    pub fn backlog(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Where to append what is to be written; `flush` sends it.
    pub fn out(&mut self) -> &mut Vec<u8> {
        if self.sent > 0 && self.sent >= self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        &mut self.out
    }

    /// Write as much as the socket takes.
    pub fn flush(&mut self) -> io::Result<()> {
        loop {
            let written = match &mut self.tls {
                None if self.sent == self.out.len() => return flushed(&mut self.carrier),
                None => self.carrier.write(&self.out[self.sent..]).map(|count| self.sent += count),
                Some(tls) => {
                    if !tls.wants_write() && !tls.is_handshaking() {
                        let end = self.out.len().min(self.sent + PIECE);
                        tls.writer().write_all(&self.out[self.sent..end])?;
                        self.sent = end;
                    }
                    if !tls.wants_write() {
                        return flushed(&mut self.carrier);
                    }
                    tls.write_tls(&mut self.carrier).map(drop)
                }
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Append what arrived to `into`.
    pub fn read(&mut self, into: &mut Vec<u8>) -> io::Result<Progress> {
        let limit = into.len() + READ_LIMIT;
        while into.len() < limit {
            let progress = match &mut self.tls {
                None => read_some(&mut self.carrier, into),
                Some(tls) => read_tls(tls, &mut self.carrier, into),
            };
            match progress {
                Ok(true) => {}
                Ok(false) => return Ok(Progress::Ended),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Drained),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Progress::More)
    }
}

impl Tunnel {
    /// Have the proxy open the way; says whether it has.
    fn turn(&mut self, carrier: &mut Carrier) -> io::Result<bool> {
        if !carrier.handshaken().map_err(|error| self.explained(error))? {
            return Ok(false);
        }
        match self.talk(carrier) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Say what is to be said and hear the answer; `WouldBlock` while it is not there.
    fn talk(&mut self, carrier: &mut Carrier) -> io::Result<()> {
        loop {
            while !self.handshake.to_send().is_empty() {
                let written = carrier.write(self.handshake.to_send()).map_err(|error| self.lost(error))?;
                self.handshake.note_sent(written);
            }
            carrier.flush().map_err(|error| self.lost(error))?;
            let mut piece = [0; 4096];
            let wanted = self.handshake.wanted().min(piece.len());
            let count = carrier.read(&mut piece[..wanted]).map_err(|error| self.lost(error))?;
            if count == 0 {
                return Err(io::Error::other(format!("the proxy {} closed the connection", self.proxy)));
            }
            if self.handshake.take(&piece[..count]).map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }

    fn lost(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::WouldBlock {
            return error;
        }
        io::Error::other(format!("the connection to the proxy {} was lost: {error}", self.proxy))
    }

    /// Say what went wrong with TLS to the proxy.
    fn explained(&self, error: io::Error) -> io::Error {
        let proxy = &self.proxy;
        io::Error::other(match tls_error(error) {
            Ok(rustls::Error::General(sentence)) => format!("the proxy {proxy} cannot be used: {sentence}"),
            Ok(rustls::Error::InvalidMessage(_)) => {
                format!("{proxy} does not speak TLS: if it is an HTTP proxy, write http:// before its name")
            }
            Ok(error) => format!("TLS with the proxy {proxy} failed: {error}"),
            Err(error) => format!("the proxy {proxy} cannot be used: {error}"),
        })
    }
}

/// TLS' own error inside of one of I/O, if that is what it is.
fn tls_error(error: io::Error) -> Result<rustls::Error, io::Error> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => Ok(inner.clone()),
        None => Err(error),
    }
}

/// Have what the carrier holds leave, as far as it can now.
fn flushed(carrier: &mut Carrier) -> io::Result<()> {
    match carrier.flush() {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// Read once; `false` at the end of the stream.
fn read_some(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<bool> {
    let start = into.len();
    into.resize(start + PIECE, 0);
    let result = from.read(&mut into[start..]);
    into.truncate(start + *result.as_ref().unwrap_or(&0));
    result.map(|count| count > 0)
}

fn read_tls(tls: &mut ClientConnection, carrier: &mut Carrier, into: &mut Vec<u8>) -> io::Result<bool> {
    let buffered = read_plain(tls, into)?;
    let count = match tls.read_tls(carrier) {
        Err(error) if buffered && error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        result => result?,
    };
    let state = tls.process_new_packets().map_err(|error| {
        let _ = tls.write_tls(carrier); // the alert that says why, if it fits
        io::Error::new(io::ErrorKind::InvalidData, error)
    })?;
    let closed = state.peer_has_closed();
    read_plain(tls, into)?;
    Ok(count > 0 && !closed)
}

/// Say what went wrong with TLS.
fn in_words(error: rustls::Error) -> io::Error {
    match error {
        rustls::Error::General(sentence) => io::Error::other(sentence),
        rustls::Error::InvalidMessage(_) => {
            io::Error::other("the relay, or what answers in its place, does not speak TLS")
        }
        other => io::Error::other(format!("TLS with the relay failed: {other}")),
    }
}

/// Append what TLS has decrypted; says whether there was any.
fn read_plain(tls: &mut ClientConnection, into: &mut Vec<u8>) -> io::Result<bool> {
    let plain = match tls.process_new_packets() {
        Ok(state) => state.plaintext_bytes_to_read(),
        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    let start = into.len();
    into.resize(start + plain, 0);
    tls.reader().read_exact(&mut into[start..])?;
    Ok(plain > 0)
}
