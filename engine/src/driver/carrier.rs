//! What carries a connection to a relay: TCP, and TLS to a proxy around everything where the proxy wants it.

use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// Encrypted in one go, so that little is encrypted before it can leave.
const PIECE: usize = 64 << 10;

/// How to make TLS, and with whom.
pub type Secured = (Arc<ClientConfig>, ServerName<'static>);

/// Reads and writes do not block, and are as those of a socket.
pub struct Carrier {
    pub tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Carrier {
    pub fn new(tcp: TcpStream, secured: Option<Secured>) -> io::Result<Self> {
        Ok(Self { tcp, tls: secured.map(session).transpose()? })
    }

    /// Go on with the TLS handshake with the proxy; says whether it is done.
    pub fn handshaken(&mut self) -> io::Result<bool> {
        self.tls.as_mut().map_or(Ok(true), |tls| shake_hands(tls, &mut self.tcp))
    }
}

/// Begin a TLS session.
pub fn session((config, name): Secured) -> io::Result<Box<ClientConnection>> {
    let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
    tls.set_buffer_limit(None);
    Ok(Box::new(tls))
}

/// Go on with a TLS handshake over `io`; says whether it is done. An error that is TLS' own has it inside.
pub fn shake_hands(tls: &mut ClientConnection, io: &mut (impl Read + Write)) -> io::Result<bool> {
    loop {
        match push(tls, io) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            result => result?,
        }
        if !tls.is_handshaking() {
            return Ok(true);
        }
        match tls.read_tls(io) {
            Ok(0) => return Err(io::Error::other("the connection was closed in the middle of the TLS handshake")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if let Err(error) = tls.process_new_packets() {
            let _ = push(tls, io); // the alert that says why, if it fits
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
}

/// Write what TLS has encrypted.
fn push(tls: &mut ClientConnection, io: &mut (impl Read + Write)) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(io) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => drop(result?),
        }
    }
    io.flush()
}

impl Read for Carrier {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.tcp.read(into) };
        loop {
            match tls.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What is inside says itself where it ends.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if tls.read_tls(&mut self.tcp)? == 0 {
                return Ok(0);
            }
            let judged = tls.process_new_packets().map(drop);
            // An answer to a new key, or the alert that says why; `flush` sends what does not fit now.
            let _ = push(tls, &mut self.tcp);
            judged.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }
}

impl Write for Carrier {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.tcp.write(from) };
        push(tls, &mut self.tcp)?;
        let count = from.len().min(PIECE);
        tls.writer().write_all(&from[..count])?;
        match push(tls, &mut self.tcp) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(count), // it is taken: `flush` goes on
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| push(tls, &mut self.tcp))
    }
}
