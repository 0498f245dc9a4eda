//! One connection to a relay, from the first byte of HTTP to frames.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::base64::base64;
use super::random;
use super::stream::{Progress, Stream};
use super::upgrade::{accept_for, check_upgrade, find};
use super::websocket;
use crate::wire::derp::{self, ClientInfo, Decoder, Frame};
use crate::wire::keys::{Key, SharedKey};

/// From the first packet to the login, everything must be done within this.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A relay that says nothing for this long is asked for a sign of life: it should send a keepalive each minute.
const SILENCE: Duration = Duration::from_secs(65);
/// So it is after this when we sent something and heard nothing at all since: an answer is likely to be missing.
const QUIET: Duration = Duration::from_secs(1);
/// It has this long to answer.
const PING_LIMIT: Duration = Duration::from_secs(2);
/// When the network under it changed, or it slept, it has so many of its round trips, but never less than this.
const RETURN_ROUNDS: u32 = 8;
const RETURN_LIMIT: Duration = Duration::from_millis(500);
/// Meanwhile another connection is begun, after a head start of so many round trips and no less than this: one that
/// still works is kept.
const HEAD_START_ROUNDS: u32 = 2;
const HEAD_START: Duration = Duration::from_millis(100);
/// An answer to the upgrade with longer headers is not from a relay.
const MAX_RESPONSE: usize = 16 << 10;
/// Above this backlog nothing more should be offered.
const FULL: usize = 256 << 10;
/// Above this backlog packets are dropped.
const OVERFULL: usize = 4 << 20;

/// Something a relay connection has to report; packets stand in `Arrivals::bytes`.
#[derive(Debug)]
pub enum Note {
    Open,
    Packet {
        from: Key,
        span: Range<usize>,
    },
    PeerGone {
        key: Key,
    },
    /// The relay will close soon, and wants us back after this.
    Restarting {
        reconnect_in: Duration,
    },
}

/// What one turn of a connection brought.
#[derive(Debug, Default)]
pub struct Arrivals {
    pub bytes: Vec<u8>,
    pub notes: Vec<Note>,
}

impl Arrivals {
    /// Whether the connection was opened in this turn.
    pub fn opened(&self) -> bool {
        self.notes.iter().any(|note| matches!(note, Note::Open))
    }

    /// What peers sent, with their keys.
    pub fn packets(&self) -> impl Iterator<Item = (&Key, &[u8])> {
        self.notes.iter().filter_map(|note| match note {
            Note::Packet { from, span } => Some((from, &self.bytes[span.clone()])),
            _ => None,
        })
    }
}

/// Why a connection ended.
#[derive(Debug)]
pub struct Ended {
    pub reason: String,
    /// The relay, or a proxy before it, wants WebSocket: why.
    pub websocket_reason: Option<String>,
    /// The upgrade may have been stripped or refused on the way: WebSocket is worth a try.
    pub suspicious: bool,
    /// When the relay asked us to come back.
    pub reconnect_in: Option<Duration>,
    pub cost: Cost,
}

/// What an attempt that failed cost the relay.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// There is no way to it from here.
    #[default]
    Nothing,
    /// Nothing listens there: one packet each way.
    Refusal,
    /// Or nobody answers, which may be because it has too much to do.
    More,
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
        let reason = reason.into();
        Self { reason, websocket_reason: None, suspicious: false, reconnect_in: None, cost: Cost::More }
    }

    /// The TCP connection could not be made.
    fn unreached(error: &io::Error) -> Self {
        let cost = match error.kind() {
            io::ErrorKind::ConnectionRefused => Cost::Refusal,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Cost::Nothing,
            _ => Cost::More,
        };
        Self { cost, ..Self::because(error.to_string()) }
    }

    pub(super) fn wants_websocket(reason: String) -> Self {
        Self { websocket_reason: Some(reason.clone()), ..Self::because(reason) }
    }

    pub(super) fn suspicious(reason: impl Into<String>) -> Self {
        Self { suspicious: true, ..Self::because(reason) }
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

/// A sign of life is awaited.
struct Doubt {
    /// By when something must be heard.
    limit: Instant,
    /// When another connection is begun meanwhile, unless it is under way.
    second_at: Option<Instant>,
    /// Only an answer counts: what comes may have been sent before, and what we send may not arrive.
    strict: bool,
}

/// A connection to a relay.
pub struct Link {
    stream: Stream,
    stage: Stage,
    /// The TCP connection was made.
    stands: bool,
    hello: Hello,
    decoder: Decoder,
    frames: Option<websocket::Decoder>,
    shared: Option<SharedKey>,
    started_at: Instant,
    heard_at: Instant,
    scratch: Vec<u8>,
    home: bool,
    /// When a packet was last sent or received.
    pub used_at: Instant,
    /// Since when packets were sent and nothing was heard.
    unanswered_since: Option<Instant>,
    doubt: Option<Doubt>,
    /// We slept: packets are from before that, until the relay answers or this moment comes.
    past_until: Option<Instant>,
    /// When a question was asked that the relay itself answers: the login, or a ping.
    asked_at: Option<Instant>,
    /// How long the last answer to one took.
    round_trip: Duration,
    /// Packets dropped because the relay takes them too slowly.
    pub dropped: u64,
}

impl Link {
    pub fn new(now: Instant, stream: Stream, hello: Hello, home: bool) -> Self {
        Self {
            stream,
            stage: Stage::Connecting,
            stands: false,
            frames: hello.websocket.then(websocket::Decoder::default),
            hello,
            decoder: Decoder::new(),
            shared: None,
            started_at: now,
            heard_at: now,
            scratch: Vec::new(),
            home,
            used_at: now,
            unanswered_since: None,
            doubt: None,
            past_until: None,
            asked_at: None,
            round_trip: Duration::ZERO,
            dropped: 0,
        }
    }

    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    pub fn open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Whether the TCP connection was made.
    pub fn stands(&self) -> bool {
        self.stands
    }

    /// Which of our addresses it comes from, and where it goes: to the relay, or to the proxy before it.
    pub fn ends(&self) -> Option<(IpAddr, SocketAddr)> {
        self.stream.ends()
    }

    /// Have the kernel forget what it could not deliver yet.
    pub fn abandon(&self) {
        self.stream.abandon();
    }

    /// Whether frames travel in WebSocket messages.
    pub fn websocket(&self) -> bool {
        self.hello.websocket
    }

    /// Whether it should be given a rest.
    pub fn full(&self) -> bool {
        self.stream.backlog() > FULL
    }

    /// Send a packet to a peer through the relay; `flush` makes it leave.
    pub fn send(&mut self, now: Instant, to: Key, packet: &[u8]) {
        self.used_at = now;
        self.unanswered_since.get_or_insert(now);
        if self.stream.backlog() > OVERFULL {
            self.dropped += 1;
        } else {
            self.write(&Frame::SendPacket { to, packet });
        }
    }

    /// Ask the relay for a sign of life: the network changed, or we slept.
    pub fn prove(&mut self, now: Instant) {
        self.ask(now, RETURN_LIMIT.max(self.round_trip * RETURN_ROUNDS), true);
    }

    fn ask(&mut self, now: Instant, limit: Duration, strict: bool) {
        self.write(&Frame::Ping(random::bytes()));
        self.asked_at = Some(now);
        let head_start = HEAD_START.max(self.round_trip * HEAD_START_ROUNDS);
        self.doubt = Some(Doubt { limit: now + limit, second_at: Some(now + head_start), strict });
    }

    /// Take no packets that were sent before now, as far as the order of what comes tells: handshakes among them would
    /// make keys that the peer has given up. Call after `prove`.
    pub fn skip_the_past(&mut self, now: Instant) {
        self.past_until = Some(now + RETURN_LIMIT);
    }

    /// Give it no head start: a new connection would take another way.
    pub fn doubt_more(&mut self, now: Instant) {
        if let Some(doubt) = &mut self.doubt {
            doubt.second_at = Some(now);
        }
    }

    /// Whether a sign of life is awaited.
    pub fn doubted(&self) -> bool {
        self.doubt.is_some()
    }

    /// Say once whether another connection should be begun, in case this one is dead.
    pub fn take_second(&mut self, now: Instant) -> bool {
        let due = |doubt: &mut Doubt| doubt.second_at.take_if(|at| *at <= now).is_some();
        self.doubt.as_mut().is_some_and(due)
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

    /// Fail when a deadline has passed, and doubt a relay that is silent; says whether there is something to flush.
    pub fn tick(&mut self, now: Instant) -> Result<bool, Ended> {
        if !self.open() {
            let late = now.duration_since(self.started_at) > CONNECT_LIMIT;
            return if late { Err(self.late()) } else { Ok(false) };
        }
        match &self.doubt {
            Some(doubt) if doubt.limit <= now => Err(Ended::because("the relay does not answer")),
            None if self.doubtful_at() <= now => {
                self.ask(now, PING_LIMIT, false);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// When `tick` has something to do.
    pub fn poll_timeout(&self) -> Instant {
        if self.open() {
            let doubt = self.doubt.as_ref().map(|doubt| doubt.second_at.unwrap_or(doubt.limit).min(doubt.limit));
            doubt.unwrap_or_else(|| self.doubtful_at())
        } else {
            self.started_at + CONNECT_LIMIT
        }
    }

    fn doubtful_at(&self) -> Instant {
        let silent = self.heard_at + SILENCE;
        self.unanswered_since.map_or(silent, |since| silent.min(since + QUIET))
    }

    /// The relay did not do what we asked for: where that was the upgrade, something on the way may have eaten it.
    fn unanswered(&self, reason: impl Into<String>) -> Ended {
        match &self.stage {
            Stage::Upgrading { accept: None, .. } => Ended::suspicious(reason),
            _ => Ended::because(reason),
        }
    }

    fn late(&self) -> Ended {
        match self.stream.waits_for() {
            Some(proxy) => Ended::because(format!("the proxy {proxy} did not open a tunnel to the relay within 10 s")),
            None => self.unanswered("the relay did not answer within 10 s"),
        }
    }

    /// Do what the socket allows; says whether it must be called again without waiting.
    pub fn turn(&mut self, now: Instant, arrivals: &mut Arrivals) -> Result<bool, Ended> {
        if matches!(self.stage, Stage::Connecting) {
            if !self.stream.connected().map_err(|error| Ended::unreached(&error))? {
                return Ok(false);
            }
            self.stands = true;
            if !self.stream.handshaken()? {
                return Ok(false);
            }
            self.request(now)?;
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let progress = self.stream.read(&mut bytes).map_err(|error| self.unanswered(error.to_string()))?;
        if !bytes.is_empty() {
            self.note_heard(now);
            self.take(&bytes, arrivals)?;
        }
        self.scratch = bytes;
        self.flush()?;
        if progress == Progress::Ended {
            return Err(self.unanswered("the relay closed the connection"));
        }
        Ok(progress == Progress::More)
    }

    /// Ask for the upgrade; with the relay's key known from TLS, log in at once and expect no answer.
    fn request(&mut self, now: Instant) -> Result<(), Ended> {
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
            Some(key) => self.log_in(now, &key),
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
                let room = self.stream.backlog() <= FULL;
                for payload in notes.pongs.iter().filter(|_| room) {
                    websocket::pong(payload, random::bytes(), self.stream.out());
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
            (Stage::Greeting, Frame::ServerKey { key }) => self.log_in(self.heard_at, key),
            (Stage::Greeting, _) => return Err(Ended::because("the relay did not greet us")),
            (Stage::LoggingIn, Frame::ServerInfo { sealed }) => {
                if let Some(shared) = &self.shared {
                    derp::open_server_info(shared, sealed)?;
                }
                self.stage = Stage::Open;
                self.note_answer();
                arrivals.notes.push(Note::Open);
                if self.home {
                    self.write(&Frame::NotePreferred { home: true });
                }
            }
            (_, Frame::RecvPacket { .. }) if self.past_until.is_some_and(|until| self.heard_at < until) => {}
            (_, Frame::RecvPacket { from, packet }) => {
                let start = arrivals.bytes.len();
                arrivals.bytes.extend_from_slice(packet);
                self.used_at = self.heard_at;
                arrivals.notes.push(Note::Packet { from: *from, span: start..arrivals.bytes.len() });
            }
            (_, Frame::PeerGone { key, .. }) => arrivals.notes.push(Note::PeerGone { key: *key }),
            // One that pings and does not read what it gets is not answered for ever.
            (_, Frame::Ping(payload)) if !self.full() => self.write(&Frame::Pong(*payload)),
            (_, Frame::Pong(_)) => self.note_answer(),
            (_, Frame::Restarting { reconnect_in_ms, .. }) => {
                let reconnect_in = Duration::from_millis(u64::from(*reconnect_in_ms));
                arrivals.notes.push(Note::Restarting { reconnect_in });
            }
            _ => {}
        }
        Ok(())
    }

    fn note_heard(&mut self, now: Instant) {
        (self.heard_at, self.unanswered_since) = (now, None);
        self.doubt.take_if(|doubt| !doubt.strict);
        if let Some(doubt) = &mut self.doubt {
            doubt.limit = doubt.limit.max(now + PING_LIMIT);
        }
    }

    /// The relay answered what was asked last.
    fn note_answer(&mut self) {
        (self.doubt, self.past_until) = (None, None);
        if let Some(at) = self.asked_at.take() {
            self.round_trip = self.heard_at.saturating_duration_since(at);
        }
    }

    fn log_in(&mut self, now: Instant, relay: &Key) {
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
        self.asked_at = Some(now);
    }
}
