//! The server's side of one TLS connection: bytes in, bytes out, no socket.

use std::sync::Arc;

use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{AlertDescription, Error, ProtocolVersion};

use super::config::Configs;
use super::Details;

/// A handshake is a few kilobytes, most of it the client's certificates where it shows some.
const MAX_HANDSHAKE_LEN: usize = 64 << 10;
/// What a record may hold, and what it adds to that at most.
const RECORD_LEN: usize = 16 << 10;
const RECORD_OVERHEAD: usize = 64;
/// Told to who speaks HTTP where TLS is spoken.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 55\r\nConnection: close\r\n\r\nThis port speaks HTTPS. Use https:// instead of http://";

/// Why a connection must end. What explains it to the other side was put out already.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// It spoke HTTP without TLS.
    PlainHttp,
    /// It broke the protocol, or nothing could be agreed on.
    Tls(Error),
    /// Its connection ended.
    Lost(std::io::ErrorKind),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Tls(error)
    }
}

enum Stage {
    /// The client has not said all of its first message.
    Hello(Box<Acceptor>, Arc<Configs>),
    Speaking(Box<UnbufferedServerConnection>),
    Failed,
}

/// One connection. Holds little while no record is under way.
pub struct Session {
    stage: Stage,
    /// Bytes of a record or a handshake message of which not all has arrived.
    partial: Vec<u8>,
    established: bool,
    peer_closed: bool,
    server_name: Option<String>,
}

impl Session {
    /// Wait for a client's first message.
    pub fn new(configs: Arc<Configs>) -> Self {
        Self {
            stage: Stage::Hello(Box::default(), configs),
            partial: Vec::new(),
            established: false,
            peer_closed: false,
            server_name: None,
        }
    }

    /// Whether the handshake is done.
    pub fn established(&self) -> bool {
        self.established
    }

    /// Whether the client has ended its side in due form.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Say what was agreed on.
    pub fn details(&self) -> Details {
        let mut details = Details { server_name: self.server_name.clone(), ..Details::default() };
        if let Stage::Speaking(connection) = &self.stage {
            details.version = match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "",
            };
            let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
            details.cipher = suite.and_then(|suite| suite.as_str()).unwrap_or_default().into();
            details.alpn = connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        }
        details
    }

    /// Put what is left of the last input at the front of `input`, where what is read next belongs behind it; gives
    /// its length. Call `receive` with both after that.
    pub fn begin_input(&mut self, input: &mut [u8]) -> usize {
        let count = self.partial.len();
        input[..count].copy_from_slice(&self.partial);
        count
    }

    /// The most that `begin_input` may put.
    pub const MAX_PARTIAL: usize = MAX_HANDSHAKE_LEN;

    /// Take `input`, all of it; append what the client said to `plain`, and what must be sent to it to `out`.
    ///
    /// # Errors
    /// The connection must end, after `out` was sent.
    pub fn receive(&mut self, input: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let fresh = self.partial.len();
        if let Stage::Hello(acceptor, configs) = &mut self.stage {
            if input.first().is_some_and(u8::is_ascii_alphabetic) {
                out.extend_from_slice(PLAIN_HTTP);
                self.stage = Stage::Failed;
                return Err(Fault::PlainHttp);
            }
            match hello(acceptor, &input[fresh..], out) {
                Err(error) => {
                    self.stage = Stage::Failed;
                    return Err(error.into());
                }
                Ok(None) => return self.keep(input, 0),
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    self.server_name = hello.server_name().map(str::to_owned);
                    let connection = UnbufferedServerConnection::new(configs.choose(&hello))?;
                    self.stage = Stage::Speaking(Box::new(connection));
                }
            }
        }
        let used = self.speak(input, plain, out)?;
        self.keep(input, used)
    }

    /// Append `plain`, sealed, to `out`.
    ///
    /// # Errors
    /// The handshake is not done, or the connection has failed.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.write(out, plain.len() + (plain.len() / RECORD_LEN + 1) * RECORD_OVERHEAD, |traffic, room| {
            traffic.encrypt(plain, room)
        })
    }

    /// Append the end of our side to `out`; nothing may be sealed after it.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if self.established {
            // A connection that cannot be closed in due form has failed, and is told by its end.
            let _ = self.write(out, RECORD_OVERHEAD, |traffic, room| traffic.queue_close_notify(room));
        }
    }

    fn keep(&mut self, input: &[u8], used: usize) -> Result<(), Fault> {
        let rest = &input[used..];
        if rest.len() > MAX_HANDSHAKE_LEN {
            self.stage = Stage::Failed;
            return Err(Error::PeerMisbehaved(rustls::PeerMisbehaved::TooMuchEarlyDataReceived).into());
        }
        if rest.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Let TLS work on `input`; says how much of it is done with.
    fn speak(&mut self, input: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<usize, Fault> {
        let Stage::Speaking(connection) = &mut self.stage else { return Err(failed()) };
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = connection.process_tls_records(&mut input[used..]);
            let mut waits = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => append(out, RECORD_LEN, |room| data.encode(room))?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.established = true;
                    waits = true;
                }
                Ok(_) => waits = true,
                Err(error) => {
                    put_alert(connection, &mut input[used + discard..], out);
                    self.stage = Stage::Failed;
                    return Err(error.into());
                }
            }
            used += discard;
            if waits {
                return Ok(used);
            }
        }
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        mut put: impl FnMut(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<(), Fault> {
        let Stage::Speaking(connection) = &mut self.stage else { return Err(failed()) };
        loop {
            // It counts on seeing what it has not done with, and on nothing else.
            let UnbufferedStatus { discard, state } = connection.process_tls_records(&mut self.partial);
            match state? {
                ConnectionState::WriteTraffic(mut traffic) => return append(out, room, |room| put(&mut traffic, room)),
                ConnectionState::EncodeTlsData(mut data) => append(out, RECORD_LEN, |room| data.encode(room))?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => return Err(failed()),
            }
            self.partial.drain(..discard);
        }
    }
}

fn failed() -> Fault {
    Fault::Tls(Error::HandshakeNotComplete)
}

/// Give the acceptor what is new of the client's first message.
fn hello(
    acceptor: &mut Acceptor,
    mut fresh: &[u8],
    out: &mut Vec<u8>,
) -> Result<Option<rustls::server::Accepted>, Error> {
    while !fresh.is_empty() {
        if acceptor.read_tls(&mut fresh).unwrap_or(0) == 0 {
            return Err(Error::InvalidMessage(rustls::InvalidMessage::HandshakePayloadTooLarge));
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(Some(accepted)),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let _ = alert.write_all(out); // into memory
                return Err(error);
            }
        }
    }
    Ok(None)
}

/// Put the alert that explains an error, where there is one. It wants to see the same input once more.
fn put_alert(connection: &mut UnbufferedServerConnection, input: &mut [u8], out: &mut Vec<u8>) {
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = connection.process_tls_records(input).state {
        // An alert is small, and who does not get it is closed without a word.
        let _ = append(out, RECORD_LEN, |room| data.encode(room));
    }
}

/// Errors of rustls that name the room they lack.
trait Lacking {
    fn lacking(&self) -> Option<usize>;
}

impl Lacking for EncodeError {
    fn lacking(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl Lacking for EncryptError {
    fn lacking(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(size) => Some(size.required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Let `put` write behind what is in `out`, in as much room as it needs.
fn append<E: Lacking>(
    out: &mut Vec<u8>,
    mut room: usize,
    mut put: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), Fault> {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match put(&mut out[start..]) {
            Ok(count) => {
                out.truncate(start + count);
                return Ok(());
            }
            Err(error) => {
                out.truncate(start);
                match error.lacking() {
                    Some(size) if size > room => room = size,
                    _ => return Err(Error::AlertReceived(AlertDescription::InternalError).into()),
                }
            }
        }
    }
}
