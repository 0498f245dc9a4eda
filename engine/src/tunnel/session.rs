//! One peer's session: which keys are used, when they are renewed, and what waits for them.
//!
//! Up to three pairs of keys are held. `current` is what we send with. `previous` still opens what is on its way.
//! `next` is of a handshake that the peer began: it is used once the peer has used it, which proves that our response
//! arrived.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cookie::{self, Cookie, COOKIE_AGE, COOKIE_REPLY};
use super::handshake::{self, Initiated, Initiation, INITIATION, RESPONSE};
use super::identity::{Identity, Stamp};
use super::keys::Keys;
use super::{inner_length, DataHeader, Opened, HEADER, OVERHEAD};
use crate::aead;

/// A handshake that is not answered is begun anew after this and up to as much more, chosen at random, so that two
/// peers that begin at once do not do so for ever.
const RETRY_AFTER: Duration = Duration::from_secs(5);
const JITTER_MILLISECONDS: u32 = 333;
/// After this long without an answer there is no peer; what waited for it is dropped.
const GIVE_UP_AFTER: Duration = Duration::from_secs(90);
/// So it is after this when nothing more is to be sent: a peer that left is not looked for, and what is sent next begins
/// anew. A server has thousands of peers that leave without a word.
const ASK_FOR: Duration = Duration::from_secs(15);
/// Whoever got data and had nothing to send says so after this, with an empty packet.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
/// Whoever sent data and heard nothing for this long begins a handshake.
const SILENCE_AFTER: Duration = Duration::from_secs(15);
/// A peer's initiations are looked at no closer together than this.
const INITIATIONS_APART: Duration = Duration::from_millis(20);
/// So many packets wait for keys; then the oldest makes room.
pub(super) const MOST_WAITING: usize = 256;
/// A retry that is this late was not made by `tick`, because nobody called it.
const UNTENDED: Duration = Duration::from_secs(2);
/// Responses to one initiation that do not open, before no more are looked at: each costs two multiplications.
const MOST_FORGERIES: u8 = 16;

/// A handshake that we began and that was not answered yet.
struct Pending {
    handshake: Initiated,
    index: u32,
    /// When the first of all these tries was made.
    begun_at: Instant,
    /// Nobody asked for it: the peer is silent.
    for_silence: bool,
    retry_at: Instant,
    /// Whether the same message may be sent a second time: a peer takes it only once, whichever arrives.
    repeatable: bool,
    forgeries: u8,
}

/// Numbers taken for data packets, and what else is needed to seal them.
pub struct Sending<'a> {
    pub key: &'a aead::Key,
    /// What the packets are addressed to.
    pub receiver: u32,
    /// The number of the first; the others follow.
    pub first: u64,
}

/// When something is due, whatever comes in between not counted.
#[derive(Default)]
struct Timers {
    /// Say that we are there.
    keepalive_at: Option<Instant>,
    /// More data came since that was set.
    keepalive_again: bool,
    /// Data was sent and nothing came: begin a handshake.
    silence_at: Option<Instant>,
    /// The keys are worn.
    rekey: bool,
}

impl Timers {
    fn sent(&mut self, now: Instant, data: bool) {
        self.keepalive_at = None;
        if data {
            self.silence_at.get_or_insert(now + SILENCE_AFTER);
        }
    }

    fn received(&mut self, now: Instant, data: bool) {
        self.silence_at = None;
        if data {
            self.keepalive_again = self.keepalive_at.is_some();
            self.keepalive_at.get_or_insert(now + KEEPALIVE_AFTER);
        }
    }
}

/// The keys we share with one peer, and the handshakes that renew them.
pub struct Session {
    identity: Arc<Identity>,
    peer: [u8; 32],
    index: u32,
    generation: u8,
    previous: Option<Box<Keys>>,
    current: Option<Box<Keys>>,
    next: Option<Box<Keys>>,
    pending: Option<Box<Pending>>,
    waiting: VecDeque<Vec<u8>>,
    timers: Timers,
    /// The date of the last initiation that we answered, and when that was.
    answered: Stamp,
    answered_at: Option<Instant>,
    /// When we looked at one that may be anybody's.
    looked_at: Option<Instant>,
    /// The first MAC of our last response.
    response_mac: [u8; 16],
    cookie: Option<Box<(Cookie, Instant)>>,
}

impl Session {
    /// Make a session that has no keys yet; `index` is the 24-bit number by which the peer addresses it.
    pub fn new(identity: Arc<Identity>, peer: &[u8; 32], index: u32) -> Self {
        Self {
            identity,
            peer: *peer,
            index: index & 0x00ff_ffff,
            generation: 0,
            previous: None,
            current: None,
            next: None,
            pending: None,
            waiting: VecDeque::new(),
            timers: Timers::default(),
            answered: [0; 12],
            answered_at: None,
            looked_at: None,
            response_mac: [0; 16],
            cookie: None,
        }
    }

    /// The number by which the peer addresses this session.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Begin anew with no keys and another index: the peer restarted.
    pub fn restart(&mut self, index: u32) {
        *self = Self::new(self.identity.clone(), &self.peer, index);
    }

    /// Take `count` numbers for data packets of at least one byte, which count as sent from now on. `None` when there
    /// are no usable keys: then `seal` keeps a packet and begins a handshake.
    pub fn sending(&mut self, now: Instant, count: u64) -> Option<Sending<'_>> {
        self.take(now, count, true)
    }

    fn take(&mut self, now: Instant, count: u64, data: bool) -> Option<Sending<'_>> {
        let keys = self.current.as_deref_mut()?;
        let first = keys.take(now, count)?;
        self.timers.sent(now, data);
        self.timers.rekey |= keys.worn_by_sending(now);
        Some(Sending { key: &keys.sealing, receiver: keys.remote, first })
    }

    /// The key of messages that are addressed to this index (all 32 bits of it).
    pub fn receiving(&self, now: Instant, index: u32) -> Option<&aead::Key> {
        self.keys().find(|keys| keys.local == index && !keys.expired(now)).map(|keys| &keys.opening)
    }

    /// All that are held.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Keys> {
        [&self.current, &self.next, &self.previous].into_iter().flatten().map(|keys| &**keys)
    }

    /// Note a message that opened, and whether it was more than a keepalive; false when it came before or is too old.
    /// After this `next_waiting` may have something: the peer may have confirmed keys.
    pub fn received(&mut self, now: Instant, index: u32, counter: u64, data: bool) -> bool {
        let held = [&mut self.current, &mut self.next, &mut self.previous].into_iter().flatten();
        let Some(keys) = held.into_iter().find(|keys| keys.local == index) else { return false };
        if !keys.accept(now, counter) {
            return false;
        }
        if self.next.as_ref().is_some_and(|next| next.local == index) {
            self.previous = std::mem::replace(&mut self.current, self.next.take());
            self.agreed();
        }
        self.timers.received(now, data);
        let current = self.current.as_ref().filter(|keys| keys.local == index);
        self.timers.rekey |= current.is_some_and(|keys| keys.worn_by_receiving(now));
        true
    }

    /// Seal an inner packet into `out`; without keys, keep it and write a handshake initiation instead. An empty
    /// packet is a keepalive, and is not kept: a handshake says as much.
    ///
    /// `out` holds at least `packet.len() + OVERHEAD` bytes, and `MAX_CONTROL`. Returns what to send, if anything.
    pub fn seal(&mut self, now: Instant, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        let sending = if packet.is_empty() { self.take(now, 1, false) } else { self.sending(now, 1) };
        if let Some(sending) = sending {
            return write(&sending, packet, out);
        }
        if !packet.is_empty() {
            if self.waiting.len() >= MOST_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(packet.to_vec());
        }
        match self.pending.as_deref_mut() {
            Some(pending) if now < pending.retry_at + UNTENDED => None,
            Some(pending) => {
                if now.saturating_duration_since(pending.begun_at) >= GIVE_UP_AFTER {
                    pending.begun_at = now; // somebody wants to send: this is not the end of long trying in vain
                }
                self.begin(now, out)
            }
            None => self.begin(now, out),
        }
    }

    /// Open a datagram from the peer into `out`, which holds at least as much and `MAX_CONTROL`.
    pub fn open(&mut self, now: Instant, datagram: &[u8], out: &mut [u8]) -> Opened {
        let opened = match (datagram.first_chunk(), datagram.len()) {
            (Some([1, 0, 0, 0]), INITIATION) => self.handle_initiation(now, datagram, out),
            (Some([2, 0, 0, 0]), RESPONSE) => self.handle_response(now, datagram, out),
            (Some([3, 0, 0, 0]), COOKIE_REPLY) => self.handle_cookie(now, datagram),
            (Some([4, 0, 0, 0]), OVERHEAD..) => self.handle_data(now, datagram, out),
            _ => None,
        };
        opened.unwrap_or(Opened::Rejected)
    }

    /// Answer an initiation that was read before it was known whose it is.
    pub fn answer(&mut self, now: Instant, initiation: Initiation, out: &mut [u8]) -> Opened {
        self.handle_read(now, initiation, out).unwrap_or(Opened::Rejected)
    }

    fn handle_initiation(&mut self, now: Instant, datagram: &[u8], out: &mut [u8]) -> Option<Opened> {
        if !apart(self.looked_at, now) {
            return None;
        }
        self.looked_at = Some(now);
        let initiation = Initiation::read(&self.identity, datagram)?;
        self.handle_read(now, initiation, out)
    }

    fn handle_read(&mut self, now: Instant, initiation: Initiation, out: &mut [u8]) -> Option<Opened> {
        if *initiation.key() != self.peer || initiation.stamp <= self.answered || !apart(self.answered_at, now) {
            return None;
        }
        let (stamp, index) = (initiation.stamp, self.free_index());
        let (secrets, mac) = initiation.respond(index, self.cookie(now).as_ref(), out)?;
        (self.answered, self.answered_at, self.response_mac) = (stamp, Some(now), mac);
        self.next = Some(Keys::new(now, index, secrets, false));
        self.timers.received(now, false);
        self.timers.sent(now, false);
        Some(Opened::Reply(RESPONSE))
    }

    fn handle_response(&mut self, now: Instant, datagram: &[u8], out: &mut [u8]) -> Option<Opened> {
        let pending = self.pending.as_deref_mut()?;
        let ours = handshake::index(datagram, 8) == Some(pending.index) && pending.forgeries < MOST_FORGERIES;
        if !ours || !handshake::signed(datagram, &self.identity.mac_key) {
            return None;
        }
        let Some(secrets) = pending.handshake.finish(datagram) else {
            pending.forgeries += 1;
            return None;
        };
        let keys = Keys::new(now, pending.index, secrets, true);
        // The peer began one as well, and used its keys already where it got our response.
        self.previous = self.next.take().or(self.current.take());
        self.current = Some(keys);
        self.agreed();
        self.timers.received(now, false);
        // It proves to the peer that we have the keys.
        self.seal(now, &[], out).map(Opened::Reply)
    }

    /// A handshake is complete.
    fn agreed(&mut self) {
        self.pending = None;
        self.timers.rekey = false;
    }

    fn handle_cookie(&mut self, now: Instant, datagram: &[u8]) -> Option<Opened> {
        let index = handshake::index(datagram, 4)?;
        let initiated = self.pending.as_deref_mut().filter(|pending| pending.index == index);
        let mac = match &initiated {
            Some(pending) => *pending.handshake.mac(),
            None if self.next.as_ref().is_some_and(|next| next.local == index) => self.response_mac,
            None => return None,
        };
        let cookie = cookie::open(&self.peer, &mac, datagram)?;
        if let Some(pending) = initiated {
            pending.repeatable = false; // it would be asked for a cookie again
        }
        self.cookie = Some(Box::new((cookie, now)));
        Some(Opened::Nothing)
    }

    fn cookie(&self, now: Instant) -> Option<Cookie> {
        let (cookie, at) = self.cookie.as_deref()?;
        (now.saturating_duration_since(*at) < COOKIE_AGE).then_some(*cookie)
    }

    fn handle_data(&mut self, now: Instant, datagram: &[u8], out: &mut [u8]) -> Option<Opened> {
        let DataHeader { receiver, counter } = DataHeader::parse(datagram)?;
        let sealed = &datagram[HEADER..];
        let text = out.get_mut(..sealed.len())?;
        text.copy_from_slice(sealed);
        let length = self.receiving(now, receiver)?.open(counter, text)?;
        if !self.received(now, receiver, counter, length > 0) {
            return None;
        }
        match length {
            0 => Some(Opened::Nothing),
            _ => inner_length(&out[..length]).map(Opened::Packet),
        }
    }

    /// Whether a packet waited for keys that are here now.
    pub fn waits(&self, now: Instant) -> bool {
        !self.waiting.is_empty() && self.current.as_ref().is_some_and(|keys| !keys.expired(now))
    }

    /// Seal the next packet that waited for keys into `out`.
    pub fn next_waiting(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if !self.waits(now) {
            return None;
        }
        let packet = self.waiting.pop_front()?;
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new(); // most sessions never need it again
        }
        self.seal(now, &packet, out)
    }

    /// Renew keys, retry handshakes and send keepalives when they are due; call about once a second.
    pub fn tick(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        self.forget_the_old(now);
        if let Some(pending) = &self.pending {
            if now < pending.retry_at {
                return None;
            }
            let idle = pending.for_silence && self.waiting.is_empty() && self.timers.silence_at.is_none();
            if now.saturating_duration_since(pending.begun_at) < if idle { ASK_FOR } else { GIVE_UP_AFTER } {
                return self.begin(now, out);
            }
            self.give_up();
            return None;
        }
        let silence = self.timers.silence_at.is_some_and(|at| at <= now);
        if self.timers.rekey || silence {
            let for_silence = !self.timers.rekey;
            let length = self.begin(now, out);
            self.pending.iter_mut().for_each(|pending| pending.for_silence = for_silence);
            return length;
        }
        if self.timers.keepalive_at.is_some_and(|at| at <= now) {
            self.timers.keepalive_at = None;
            let again = std::mem::take(&mut self.timers.keepalive_again);
            let sealed = self.seal(now, &[], out);
            self.timers.keepalive_at = again.then_some(now + KEEPALIVE_AFTER);
            return sealed;
        }
        None
    }

    /// Drop what nobody may use any more. WireGuard keeps it for 540 s; it is of no use after 180 s, and what waits for a
    /// handshake ends with that.
    fn forget_the_old(&mut self, now: Instant) {
        for keys in [&mut self.previous, &mut self.current, &mut self.next] {
            keys.take_if(|keys| keys.expired(now));
        }
        self.cookie.take_if(|cookie| now.saturating_duration_since(cookie.1) >= COOKIE_AGE);
        if self.pending.is_none() && self.current.is_none() {
            self.waiting = VecDeque::new();
        }
    }

    fn give_up(&mut self) {
        (self.pending, self.waiting, self.timers) = (None, VecDeque::new(), Timers::default());
    }

    /// Write an initiation although one is under way: the earlier one may have been lost, or the peer may not have known
    /// us yet. The first time that is the same message, so that an answer to either completes the handshake; a new one
    /// would make the answer to the old one worthless, on a way that is just slow.
    pub fn initiate_again(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let pending = self.pending.as_deref_mut()?;
        if !std::mem::take(&mut pending.repeatable) {
            return self.begin(now, out);
        }
        out.get_mut(..INITIATION)?.copy_from_slice(&pending.handshake.message);
        Some(INITIATION)
    }

    /// Begin a handshake, in the place of one that is under way.
    pub(super) fn begin(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let earlier = self.pending.take();
        let (index, cookie) = (self.free_index(), self.cookie(now));
        let handshake = Initiated::new(&self.identity, &self.peer, index, cookie.as_ref())?;
        out.get_mut(..INITIATION)?.copy_from_slice(&handshake.message);
        let jitter = u32::from_le_bytes(self.identity.random()) % (JITTER_MILLISECONDS + 1);
        self.pending = Some(Box::new(Pending {
            handshake,
            index,
            begun_at: earlier.as_ref().map_or(now, |earlier| earlier.begun_at),
            for_silence: earlier.as_ref().is_some_and(|earlier| earlier.for_silence),
            retry_at: now + RETRY_AFTER + Duration::from_millis(u64::from(jitter)),
            repeatable: earlier.is_none(),
            forgeries: 0,
        }));
        self.timers.rekey = false;
        self.timers.silence_at = None;
        self.timers.sent(now, false);
        Some(INITIATION)
    }

    /// A number for the next handshake that nothing alive has.
    fn free_index(&mut self) -> u32 {
        loop {
            self.generation = self.generation.wrapping_add(1);
            let index = self.index << 8 | u32::from(self.generation);
            let pending = self.pending.as_ref().is_some_and(|pending| pending.index == index);
            if !pending && self.keys().all(|keys| keys.local != index) {
                return index;
            }
        }
    }

    /// How long ago the handshake completed whose keys are used.
    pub fn handshake_age(&self, now: Instant) -> Option<Duration> {
        self.current.as_ref().filter(|keys| !keys.expired(now))?.age(now)
    }

    /// The machine slept this long, and the clock of `now` stood still: the peer's did not, so keys are older than they
    /// seem.
    pub fn slept(&mut self, slept: Duration) {
        for keys in [&mut self.previous, &mut self.current, &mut self.next].into_iter().flatten() {
            keys.slept(slept);
        }
    }
}

/// Whether it is long enough after an earlier initiation to look at another.
fn apart(earlier: Option<Instant>, now: Instant) -> bool {
    earlier.is_none_or(|at| now.saturating_duration_since(at) >= INITIATIONS_APART)
}

/// Write a data message.
fn write(sending: &Sending<'_>, packet: &[u8], out: &mut [u8]) -> Option<usize> {
    let out = out.get_mut(..packet.len() + OVERHEAD)?;
    let (header, rest) = out.split_at_mut(HEADER);
    DataHeader { receiver: sending.receiver, counter: sending.first }.write(header);
    let (text, tag) = rest.split_at_mut(packet.len());
    text.copy_from_slice(packet);
    tag.copy_from_slice(&sending.key.seal(sending.first, text));
    Some(packet.len() + OVERHEAD)
}
