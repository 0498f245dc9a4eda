//! A TCP connection to a relay, with TLS where the map asks for it; nothing here blocks.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion};
use socket2::SockRef;

use super::proxy::{self, Proxy};

/// Plain bytes are handed to TLS in pieces of this size, so that little is encrypted before it can leave.
const PIECE: usize = 64 << 10;
/// Bytes read in one go, so that one busy relay does not starve the rest.
const READ_LIMIT: usize = 512 << 10;

/// A connection with what waits to be written.
pub struct Stream {
    tcp: TcpStream,
    to: SocketAddr,
    /// A proxy that has not opened the way yet.
    tunnel: Option<Tunnel>,
    tls: Option<Box<ClientConnection>>,
    out: Vec<u8>,
    sent: usize,
}

/// The way through a proxy.
#[derive(Debug, Clone, Default)]
pub struct Tunnel {
    /// How people know the proxy.
    pub proxy: String,
    /// What is left to say to it.
    pub request: Vec<u8>,
    answer: Vec<u8>,
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
    pub fn connect(
        to: SocketAddr,
        tunnel: Option<Tunnel>,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> io::Result<Self> {
        let tcp = TcpStream::connect(to)?;
        let tls = match tls {
            None => None,
            Some((config, name)) => {
                let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
                connection.set_buffer_limit(None);
                Some(Box::new(connection))
            }
        };
        Ok(Self { tcp, to, tunnel, tls, out: Vec::new(), sent: 0 })
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    /// Which of our addresses it comes from, and where it goes; `None` where the kernel does not tell.
    pub fn ends(&self) -> Option<(IpAddr, SocketAddr)> {
        let from = self.tcp.local_addr().ok()?.ip();
        (!from.is_unspecified()).then_some((from, self.to))
    }

    /// Have the kernel forget what it could not deliver yet: nobody is there to take it.
    pub fn abandon(&self) {
        let _ = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)); // else it goes on trying for minutes
    }

    /// Whether the TCP connection stands; an error if it cannot.
    pub fn connected(&self) -> io::Result<bool> {
        if let Some(error) = self.tcp.take_error()? {
            return Err(error);
        }
        match self.tcp.peer_addr() {
            Ok(_) => {
                let _ = self.tcp.set_nodelay(true); // speed only
                Ok(true)
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::EINPROGRESS)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Go on with the proxy's tunnel and the TLS handshake; says whether all is done.
    pub fn handshaken(&mut self) -> io::Result<bool> {
        if let Some(tunnel) = &mut self.tunnel {
            match tunnel.turn(&mut self.tcp) {
                Ok(()) => self.tunnel = None,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        loop {
            self.flush()?;
            let Some(tls) = &mut self.tls else { return Ok(true) };
            if !tls.is_handshaking() {
                return Ok(true);
            }
            match tls.read_tls(&mut self.tcp) {
                Ok(0) => return Err(io::Error::other("the connection was closed in the middle of the TLS handshake")),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            if let Err(error) = tls.process_new_packets() {
                let _ = tls.write_tls(&mut self.tcp); // the alert that says why, if it fits
                return Err(in_words(error));
            }
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
                None if self.sent == self.out.len() => return Ok(()),
                None => self.tcp.write(&self.out[self.sent..]).map(|count| self.sent += count),
                Some(tls) => {
                    if !tls.wants_write() && !tls.is_handshaking() {
                        let end = self.out.len().min(self.sent + PIECE);
                        tls.writer().write_all(&self.out[self.sent..end])?;
                        self.sent = end;
                    }
                    if !tls.wants_write() {
                        return Ok(());
                    }
                    tls.write_tls(&mut self.tcp).map(drop)
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
                None => read_some(&mut self.tcp, into),
                Some(tls) => read_tls(tls, &mut self.tcp, into),
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
    pub fn new(proxy: &Proxy, host: &str, port: u16) -> Self {
        Self { proxy: proxy.name(), request: proxy.connect_request(host, port).into_bytes(), answer: Vec::new() }
    }

    /// Ask for the way and read the answer; `WouldBlock` while it is not there.
    fn turn(&mut self, tcp: &mut TcpStream) -> io::Result<()> {
        while !self.request.is_empty() {
            let written = tcp.write(&self.request)?;
            self.request.drain(..written);
        }
        let mut piece = [0; 4096];
        while self.answer.len() < proxy::MAX_ANSWER {
            // Nothing follows the answer before we speak again, so that nothing of the relay's can be lost here.
            match tcp.read(&mut piece)? {
                0 => return Err(self.failed("closed the connection")),
                count => self.answer.extend_from_slice(&piece[..count]),
            }
            if let Some(end) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") {
                return proxy::check_answer(&self.proxy, &self.answer[..end]).map_err(io::Error::other);
            }
        }
        Err(self.failed("gives an answer without end"))
    }

    fn failed(&self, how: &str) -> io::Error {
        io::Error::other(format!("the proxy {} {how}", self.proxy))
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

fn read_tls(tls: &mut ClientConnection, tcp: &mut TcpStream, into: &mut Vec<u8>) -> io::Result<bool> {
    let buffered = read_plain(tls, into)?;
    let count = match tls.read_tls(tcp) {
        Err(error) if buffered && error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        result => result?,
    };
    let state = tls.process_new_packets().map_err(|error| {
        let _ = tls.write_tls(tcp); // the alert that says why, if it fits
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
