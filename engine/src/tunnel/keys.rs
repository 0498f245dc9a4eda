//! The keys that one handshake resulted in, and how far they are used up.

use std::time::{Duration, Instant};

use super::handshake::Secrets;
use super::replay::Window;
use crate::aead;

/// Whoever began the handshake renews its keys when they are this old, when it sends.
const REKEY_AFTER: Duration = Duration::from_secs(120);
/// Nobody uses keys that are this old.
const REJECT_AFTER: Duration = Duration::from_secs(180);
/// Whoever began the handshake renews keys when they are this old and it only receives: what it would send to keep the
/// session alive (10 s) and a handshake (5 s) must fit in before they end.
const REKEY_RECEIVING_AFTER: Duration = Duration::from_secs(165);
/// Keys are renewed after so many messages, and never used for more than so many.
pub(super) const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
pub(super) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// The keys of one handshake.
pub struct Keys {
    /// The number that the peer addresses, and ours for the peer.
    pub local: u32,
    pub remote: u32,
    pub sealing: aead::Key,
    pub opening: aead::Key,
    /// The number of the next message that we send.
    pub counter: u64,
    window: Window,
    /// When the handshake was completed. `None` when that was before this machine's clock began: they are too old.
    born: Option<Instant>,
    /// Whether we began the handshake.
    initiator: bool,
}

impl Keys {
    pub fn new(now: Instant, local: u32, secrets: Secrets, initiator: bool) -> Box<Self> {
        let Secrets { sealing, opening, remote } = secrets;
        let (counter, window, born) = (0, Window::new(), Some(now));
        Box::new(Self { local, remote, sealing, opening, counter, window, born, initiator })
    }

    /// How long ago the handshake was completed.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.born.map(|born| now.saturating_duration_since(born))
    }

    fn older(&self, now: Instant, age: Duration) -> bool {
        self.age(now).is_none_or(|own| own >= age)
    }

    pub fn expired(&self, now: Instant) -> bool {
        self.older(now, REJECT_AFTER)
    }

    /// Take numbers for messages; `None` when the keys are used up.
    pub fn take(&mut self, now: Instant, count: u64) -> Option<u64> {
        let first = self.counter;
        let next = first.checked_add(count).filter(|next| *next <= REJECT_AFTER_MESSAGES && !self.expired(now))?;
        self.counter = next;
        Some(first)
    }

    /// Note a message that came; false when it came before.
    pub fn accept(&mut self, now: Instant, counter: u64) -> bool {
        counter < REJECT_AFTER_MESSAGES && !self.expired(now) && self.window.accept(counter)
    }

    /// Whether new keys should be agreed on, now that something is sent.
    pub fn worn_by_sending(&self, now: Instant) -> bool {
        self.counter >= REKEY_AFTER_MESSAGES || (self.initiator && self.older(now, REKEY_AFTER))
    }

    /// Whether new keys should be agreed on, now that something came.
    pub fn worn_by_receiving(&self, now: Instant) -> bool {
        self.initiator && self.older(now, REKEY_RECEIVING_AFTER)
    }

    /// The machine slept, and the clock of `now` stood still.
    pub fn slept(&mut self, slept: Duration) {
        self.born = self.born.and_then(|born| born.checked_sub(slept));
    }
}
