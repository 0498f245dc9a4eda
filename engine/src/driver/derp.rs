//! One connection to a relay, from the first byte of HTTP to frames.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use ring::digest;

use super::random;
use super::stream::{Progress, Stream};
use super::websocket;
use crate::wire::derp::{self, ClientInfo, Decoder, Frame};
use crate::wire::keys::{Key, SharedKey};

/// From the first packet to the login, everything must be done within this.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A relay that says nothing for this long is gone: it sends a keepalive each minute.
const SILENCE_LIMIT: Duration = Duration::from_secs(120);
/// An answer to the upgrade with longer headers is not from a relay.
const MAX_RESPONSE: usize = 16 << 10;
/// So much of an error's body is quoted.
const MAX_QUOTE: usize = 200;
/// Above this backlog nothing more should be offered.
const FULL: usize = 256 << 10;
/// Above this backlog packets are dropped.
const OVERFULL: usize = 4 << 20;

/// Something a relay connection has to report; packets stand in `Arrivals::bytes`.
#[derive(Debug)]
pub enum Note {
    Open,
    Packet { from: Key, span: Range<usize> },
    PeerGone { key: Key },
    Pong,
}

/// What one turn of a connection brought.
#[derive(Debug, Default)]
pub struct Arrivals {
    pub bytes: Vec<u8>,
    pub notes: Vec<Note>,
}

/// Why a connection ended.
#[derive(Debug)]
pub struct Ended {
    pub reason: String,
    /// The relay, or a proxy before it, wants WebSocket: why.
    pub websocket_reason: Option<String>,
    /// When the relay asked us to come back.
    pub reconnect_in: Option<Duration>,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::because(error.to_string())
    }
}

impl From<derp::Malformed> for Ended {
    fn from(error: derp::Malformed) -> Self {
        Self::because(format!("the relay broke the protocol: {error}"))
    }
}

impl Ended {
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), websocket_reason: None, reconnect_in: None }
    }

    fn wants_websocket(reason: String) -> Self {
        Self { reason: reason.clone(), websocket_reason: Some(reason), reconnect_in: None }
    }
}

/// What is said to a relay when a connection begins.
#[derive(Debug, Clone)]
pub struct Hello {
    pub host: String,
    pub headers: Vec<(String, String)>,
    pub websocket: bool,
    pub private_key: Key,
    pub public_key: Key,
}

enum Stage {
    Connecting,
    Upgrading { response: Vec<u8>, accept: Option<String> },
    Greeting,
    LoggingIn,
    Open,
}

/// A connection to a relay.
pub struct Link {
    stream: Stream,
    stage: Stage,
    hello: Hello,
    decoder: Decoder,
    frames: Option<websocket::Decoder>,
    shared: Option<SharedKey>,
    started_at: Instant,
    heard_at: Instant,
    scratch: Vec<u8>,
    home: bool,
    /// When a packet was last sent.
    pub used_at: Instant,
    /// Packets dropped because the relay takes them too slowly.
    pub dropped: u64,
}

impl Link {
    pub fn new(now: Instant, stream: Stream, hello: Hello, home: bool) -> Self {
        Self {
            stream,
            stage: Stage::Connecting,
            frames: hello.websocket.then(websocket::Decoder::default),
            hello,
            decoder: Decoder::new(),
            shared: None,
            started_at: now,
            heard_at: now,
            scratch: Vec::new(),
            home,
            used_at: now,
            dropped: 0,
        }
    }

    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub fn open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Whether it should be given a rest.
    pub fn full(&self) -> bool {
        self.stream.backlog() > FULL
    }

    /// Send a packet to a peer through the relay; `flush` makes it leave.
    pub fn send(&mut self, now: Instant, to: Key, packet: &[u8]) {
        self.used_at = now;
        if self.stream.backlog() > OVERFULL {
            self.dropped += 1;
        } else {
            self.write(&Frame::SendPacket { to, packet });
        }
    }

    /// Ask the relay for a sign of life.
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.write(&Frame::Ping(payload));
    }

    /// Tell the relay whether it is our home.
    pub fn set_home(&mut self, home: bool) {
        if self.open() && self.home != home {
            self.write(&Frame::NotePreferred { home });
        }
        self.home = home;
    }

    fn write(&mut self, frame: &Frame<'_>) {
        if self.frames.is_none() {
            derp::encode(self.stream.out(), frame);
            return;
        }
        self.scratch.clear();
        derp::encode(&mut self.scratch, frame);
        websocket::binary(&self.scratch, random::bytes(), self.stream.out());
    }

    /// Write what waits, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<(), Ended> {
        if matches!(self.stage, Stage::Connecting) {
            return Ok(());
        }
        Ok(self.stream.flush()?)
    }

    /// Fail when a deadline has passed.
    pub fn check(&self, now: Instant) -> Result<(), Ended> {
        if !self.open() && now.duration_since(self.started_at) > CONNECT_LIMIT {
            return Err(Ended::because("the relay did not answer within 10 s"));
        }
        if now.duration_since(self.heard_at) > SILENCE_LIMIT {
            return Err(Ended::because("the relay has said nothing for 2 minutes"));
        }
        Ok(())
    }

    /// Do what the socket allows; says whether it must be called again without waiting.
    pub fn turn(&mut self, now: Instant, arrivals: &mut Arrivals) -> Result<bool, Ended> {
        if matches!(self.stage, Stage::Connecting) {
            if !self.stream.connected()? {
                return Ok(false);
            }
            if !self.stream.handshaken()? {
                return Ok(false);
            }
            self.request()?;
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let progress = self.stream.read(&mut bytes)?;
        if !bytes.is_empty() {
            self.heard_at = now;
            self.take(&bytes, arrivals)?;
        }
        self.scratch = bytes;
        self.flush()?;
        if progress == Progress::Ended {
            return Err(Ended::because("the relay closed the connection"));
        }
        Ok(progress == Progress::More)
    }

    /// Ask for the upgrade; with the relay's key known from TLS, log in at once and expect no answer.
    fn request(&mut self) -> Result<(), Ended> {
        if self.stream.alpn() == Some(b"h2") {
            let reason = "The server wanted us to use HTTP/2, but DERP requires Upgrade which needs HTTP/1.1";
            return Err(Ended::wants_websocket(reason.into()));
        }
        let key = self.stream.relay_key().filter(|_| !self.hello.websocket);
        let mut text = format!("GET /derp HTTP/1.1\r\nHost: {}\r\n", self.hello.host);
        for (name, value) in &self.hello.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let accept = if self.hello.websocket {
            let nonce = base64(&random::bytes::<16>());
            text.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
            text.push_str(&format!("Sec-WebSocket-Protocol: derp\r\nSec-WebSocket-Key: {nonce}\r\n\r\n"));
            Some(accept_for(&nonce))
        } else {
            text.push_str("Upgrade: DERP\r\nConnection: Upgrade\r\n");
            text.push_str(if key.is_some() { "Derp-Fast-Start: 1\r\n\r\n" } else { "\r\n" });
            None
        };
        self.stream.out().extend_from_slice(text.as_bytes());
        match key {
            Some(key) => self.log_in(&key),
            None => self.stage = Stage::Upgrading { response: Vec::new(), accept },
        }
        self.flush()
    }

    fn take(&mut self, bytes: &[u8], arrivals: &mut Arrivals) -> Result<(), Ended> {
        if let Stage::Upgrading { response, accept } = &mut self.stage {
            response.extend_from_slice(bytes);
            let Some(end) = find(response, b"\r\n\r\n") else {
                let long = response.len() > MAX_RESPONSE;
                return if long { Err(Ended::because("the relay's answer has no end")) } else { Ok(()) };
            };
            check_upgrade(&response[..end], &response[end + 4..], accept.as_deref())?;
            let rest = response.split_off(end + 4);
            self.stage = Stage::Greeting;
            return if rest.is_empty() { Ok(()) } else { self.take(&rest, arrivals) };
        }
        match &mut self.frames {
            None => self.decoder.feed(bytes),
            Some(frames) => {
                let mut data = Vec::with_capacity(bytes.len());
                let notes = frames.feed(bytes, &mut data).map_err(|broken| Ended::because(broken.0))?;
                // Who asks without end and reads no answer gets none: answers must not fill the memory.
                for payload in &notes.pongs {
                    if self.stream.backlog() < FULL {
                        websocket::pong(payload, random::bytes(), self.stream.out());
                    }
                }
                self.decoder.feed(&data);
                if notes.closed {
                    return Err(Ended::because("the relay closed the WebSocket"));
                }
            }
        }
        self.frames_in(arrivals)
    }

    fn frames_in(&mut self, arrivals: &mut Arrivals) -> Result<(), Ended> {
        let mut decoder = std::mem::take(&mut self.decoder);
        let result = loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    if let Err(ended) = self.frame(&frame, arrivals) {
                        break Err(ended);
                    }
                }
                Ok(None) => break Ok(()),
                Err(malformed) => break Err(malformed.into()),
            }
        };
        self.decoder = decoder;
        result
    }

    fn frame(&mut self, frame: &Frame<'_>, arrivals: &mut Arrivals) -> Result<(), Ended> {
        match (&self.stage, frame) {
            (Stage::Greeting, Frame::ServerKey { key }) => self.log_in(key),
            (Stage::Greeting, _) => return Err(Ended::because("the relay did not greet us")),
            (Stage::LoggingIn, Frame::ServerInfo { sealed }) => {
                if let Some(shared) = &self.shared {
                    derp::open_server_info(shared, sealed)?;
                }
                self.stage = Stage::Open;
                arrivals.notes.push(Note::Open);
                if self.home {
                    self.write(&Frame::NotePreferred { home: true });
                }
            }
            (_, Frame::RecvPacket { from, packet }) => {
                let start = arrivals.bytes.len();
                arrivals.bytes.extend_from_slice(packet);
                arrivals.notes.push(Note::Packet { from: *from, span: start..arrivals.bytes.len() });
            }
            (_, Frame::PeerGone { key, .. }) => arrivals.notes.push(Note::PeerGone { key: *key }),
            (_, Frame::Ping(payload)) if !self.full() => self.write(&Frame::Pong(*payload)),
            (_, Frame::Pong(_)) => arrivals.notes.push(Note::Pong),
            (_, Frame::Restarting { reconnect_in_ms, .. }) => {
                let reconnect_in = Duration::from_millis(u64::from(*reconnect_in_ms));
                let reason = "the relay restarts".into();
                return Err(Ended { reason, websocket_reason: None, reconnect_in: Some(reconnect_in) });
            }
            _ => {}
        }
        Ok(())
    }

    fn log_in(&mut self, relay: &Key) {
        let shared = SharedKey::new(&self.hello.private_key, relay);
        let info = ClientInfo { version: derp::PROTOCOL_VERSION, can_ack_pings: true, ..ClientInfo::default() };
        let mut login = Vec::new();
        derp::put_client_info(&mut login, &shared, &self.hello.public_key, &random::bytes(), &info);
        if self.frames.is_some() {
            websocket::binary(&login, random::bytes(), self.stream.out());
        } else {
            self.stream.out().extend_from_slice(&login);
        }
        self.shared = Some(shared);
        self.stage = Stage::LoggingIn;
    }
}

/// Judge the answer to the upgrade.
pub(crate) fn check_upgrade(head: &[u8], body: &[u8], accept: Option<&str>) -> Result<(), Ended> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status: u16 = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| Ended::because("the relay's answer is not HTTP"))?;
    if status != 101 {
        let body = String::from_utf8_lossy(&body[..body.len().min(MAX_QUOTE)]);
        if accept.is_none() && (400..500).contains(&status) {
            return Err(Ended::wants_websocket(format!(
                "GET failed with status code {status} (a proxy could be disallowing the use of 'Upgrade: derp'): {}",
                body.trim()
            )));
        }
        return Err(Ended::because(format!("the relay answered {status} instead of upgrading: {}", body.trim())));
    }
    let Some(accept) = accept else { return Ok(()) };
    let header = |wanted: &str| {
        let mut found = head.split("\r\n").filter_map(|line| line.split_once(':'));
        found.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned())
    };
    if header("sec-websocket-accept").as_deref() != Some(accept) {
        return Err(Ended::because("the answer to the WebSocket handshake is not for ours"));
    }
    if header("sec-websocket-protocol").as_deref() != Some("derp") {
        return Err(Ended::because("the relay does not speak DERP over WebSocket"));
    }
    Ok(())
}

/// What a WebSocket server answers to a nonce (RFC 6455 §4.2.2).
fn accept_for(nonce: &str) -> String {
    let text = format!("{nonce}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let index = (number >> (18 - 6 * digit)) & 63;
            text.push(if digit > group.len() { '=' } else { char::from(DIGITS[index as usize]) });
        }
    }
    text
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6455_section_1_3_accept_value() {
        assert_eq!(accept_for("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn base64_pads() {
        assert_eq!(["", "a", "ab", "abc"].map(|text| base64(text.as_bytes())), ["", "YQ==", "YWI=", "YWJj"]);
    }

    #[test]
    fn a_4xx_asks_for_websocket_and_others_do_not() {
        let judge =
            |head: &str, accept| check_upgrade(head.as_bytes(), b"Invalid\n", accept).map_err(|e| e.websocket_reason);
        assert!(judge("HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP", None).is_ok());
        let reason =
            "GET failed with status code 400 (a proxy could be disallowing the use of 'Upgrade: derp'): Invalid";
        assert_eq!(judge("HTTP/1.1 400 Bad Request", None), Err(Some(reason.into())));
        assert_eq!(judge("HTTP/1.1 200 OK", None), Err(None));
        assert_eq!(judge("HTTP/1.1 502 Bad Gateway", None), Err(None));
        assert_eq!(judge("HTTP/1.1 400 Bad Request", Some("x")), Err(None));
        assert_eq!(judge("SSH-2.0-x", None), Err(None));
        assert!(judge("HTTP/1.1 101 x\r\nsec-websocket-accept: x\r\nSec-WebSocket-Protocol: derp", Some("x")).is_ok());
        assert_eq!(
            judge("HTTP/1.1 101 x\r\nsec-websocket-accept: y\r\nSec-WebSocket-Protocol: derp", Some("x")),
            Err(None)
        );
    }
}
