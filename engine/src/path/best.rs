//! The direct endpoint in use: how long it is trusted, and what its silence means.
//!
//! A direct path may die without a word. Silence counts only when an answer is owed: we sent something, heard nothing,
//! and then asked by a ping. From the ping on, in this order: data goes by the relay as well (`hedge`, a few packets, so
//! that the first repeats of TCP get through), the path is doubted (all data goes both ways, and people are told), the
//! path is given up. A pause of this process or a busy machine only makes the ping late, and everything after it.
//!
//! What we hear proves only that the peer reaches us. Full-sized pings prove our direction: when several in a row find
//! no answer although the peer is heard, large packets are lost on the way, and the path is measured anew.

use std::time::{Duration, Instant};

use super::compare::Measured;

/// A pong proves an endpoint for two heartbeats and a bit.
const TRUST: Duration = Duration::from_millis(6500);

/// Silence after which the endpoint is pinged: longer than a delayed TCP acknowledgement (40 ms on Linux).
const ASK_AFTER: Duration = Duration::from_millis(100);
/// Where only pongs break the silence (a one-way flow) it is asked for less and less often, down to this.
const ASK_SELDOM: Duration = Duration::from_millis(250);
/// A slow path gets time to answer, but not more than this.
const ASK_LIMIT: Duration = Duration::from_millis(400);
/// Between pings that find no answer.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// After a ping without answer the first packets go by the relay as well.
const HEDGE_AFTER: Duration = Duration::from_millis(50);
/// So many, for each silence: enough for what TCP repeats, little for what it repeats in vain.
const HEDGED_PACKETS: u32 = 32;
/// After a ping without answer the relay carries everything too.
const DOUBT_AFTER: Duration = Duration::from_millis(250);
const DOUBT_LIMIT: Duration = Duration::from_millis(1000);
/// After a ping without answer the endpoint is given up and all are probed again.
const GIVE_UP_AFTER: Duration = Duration::from_millis(1500);
const GIVE_UP_LIMIT: Duration = Duration::from_millis(4000);

/// One that is not trusted any more (nobody spoke for long, or the network changed) has this long to answer.
const UNTRUSTED_LIMIT: Duration = Duration::from_secs(3);

/// Our own direction is proven this often while much is sent.
const PROVE_EVERY: Duration = Duration::from_secs(1);
const MUCH: u32 = 64;
/// Full-sized pings in a row without answer, while the peer is heard, that mean a loss of large packets.
const LOST_IN_A_ROW: u32 = 3;
/// Between those.
const PROVE_AGAIN: Duration = Duration::from_millis(300);
/// A path that answers no size at all after that is given up.
const RESIZE_LIMIT: Duration = Duration::from_millis(1500);

/// The direct endpoint in use.
#[derive(Debug)]
pub struct Best {
    pub measured: Measured,
    /// The largest datagram that it is known to carry, in bytes.
    pub size: usize,
    /// Its pongs are as long as our pings: so it is one of ours, and a pong proves both directions.
    pub mirrors: bool,
    trusted_until: Instant,
    /// The latency of late, slow to forget: what patience is measured by.
    slow: Duration,
    proven_at: Instant,
    sent_since_proof: u32,
    /// Full-sized pings since the last proof, and when the first and the last one left.
    asks: u32,
    asked_since: Option<Instant>,
    asked_at: Option<Instant>,
    heard_at: Instant,
    /// Since when we send there and hear nothing.
    silent_since: Option<Instant>,
    /// The first ping of this silence.
    owed_since: Option<Instant>,
    hedged: u32,
    /// The peer uses the relay although we hold the direct path for good.
    bypassed_at: Option<Instant>,
    patience: Duration,
    resized_at: Option<Instant>,
    /// Those pings left while the peer was silent: that none was answered says nothing about sizes.
    resized_in_silence: bool,
}

/// What to do about an endpoint that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    Wait,
    /// Ping it.
    Ask,
    /// Find out which sizes still get through.
    Resize,
    GiveUp,
}

impl Best {
    /// Make it of an endpoint that just answered a ping of `size` bytes.
    pub fn proven(now: Instant, measured: Measured, size: usize) -> Self {
        Self {
            measured,
            size,
            mirrors: false,
            trusted_until: now + TRUST,
            slow: measured.latency,
            proven_at: now,
            sent_since_proof: 0,
            asks: 0,
            asked_since: None,
            asked_at: None,
            heard_at: now,
            silent_since: None,
            owed_since: None,
            hedged: 0,
            bypassed_at: None,
            patience: ASK_AFTER,
            resized_at: None,
            resized_in_silence: false,
        }
    }

    /// It answered a ping of `size` bytes again, which is its own size or what is left of it.
    pub fn prove_again(&mut self, now: Instant, latency: Duration, size: usize) {
        let by_pong_only = self.silent_since.is_some();
        self.note_alive(now);
        if by_pong_only {
            self.patience = (self.patience * 3 / 2).min(ASK_SELDOM);
        }
        self.measured.latency = latency;
        self.slow = latency.max(self.slow * 7 / 8);
        self.size = size;
        self.trusted_until = now + TRUST;
        self.proven_at = now;
        (self.sent_since_proof, self.asks) = (0, 0);
        (self.asked_since, self.asked_at, self.resized_at) = (None, None, None);
        self.resized_in_silence = false;
    }

    /// Something is sent there; says whether it should be asked for a proof.
    pub fn note_sent(&mut self, now: Instant) -> bool {
        self.silent_since.get_or_insert(now);
        self.sent_since_proof = self.sent_since_proof.saturating_add(1);
        self.sent_since_proof >= MUCH
            && self.asks == 0
            && now.saturating_duration_since(self.proven_at) >= PROVE_EVERY
            && self.trusted(now)
    }

    /// Something of the peer came from there.
    pub fn note_heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.patience = ASK_AFTER;
        (self.silent_since, self.owed_since, self.hedged) = (None, None, 0);
    }

    /// It answered a ping that proves nothing about its size.
    pub fn note_alive(&mut self, now: Instant) {
        let patience = self.patience;
        self.note_heard(now);
        self.patience = patience;
    }

    /// A full-sized ping left for it.
    pub fn note_asked(&mut self, now: Instant) {
        self.asks = self.asks.saturating_add(1);
        self.asked_since.get_or_insert(now);
        self.asked_at = Some(now);
        if self.silent_since.is_some() {
            self.owed_since.get_or_insert(now);
        }
    }

    /// Pings of every size left for it.
    pub fn note_resizing(&mut self, now: Instant) {
        self.resized_at = Some(now);
        self.resized_in_silence = self.owes();
    }

    /// Say whether an answer is owed: we asked, and nothing was heard since.
    pub fn owes(&self) -> bool {
        self.owed_since.is_some()
    }

    /// Say whether it was heard when pings of every size had to be sent: only large packets get lost.
    pub fn loses_large(&self) -> bool {
        self.resizing() && !self.resized_in_silence
    }

    /// Say, once, whether a silence in which pings of every size were lost is over: they must be sent again.
    pub fn take_resumed(&mut self) -> bool {
        let resumed = self.resized_in_silence && !self.owes();
        self.resized_in_silence &= !resumed;
        resumed
    }

    /// Say whether pings of every size are on their way.
    pub fn resizing(&self) -> bool {
        self.resized_at.is_some()
    }

    /// The peer sent new data by the relay: it may know something. Says whether to ask at once.
    pub fn note_bypassed(&mut self, now: Instant) -> bool {
        let heard_lately = now.saturating_duration_since(self.heard_at) < self.ask_after();
        let known = self.bypassed_at.is_some_and(|at| now.saturating_duration_since(at) < PROVE_EVERY);
        if heard_lately || known || self.owed_since.is_some() || !self.trusted(now) {
            return false;
        }
        self.bypassed_at = Some(now);
        self.silent_since.get_or_insert(now);
        true
    }

    /// Take back the trust, until the next pong.
    pub fn distrust(&mut self, now: Instant) {
        let just_now = now.checked_sub(Duration::from_nanos(1)).unwrap_or(now);
        self.trusted_until = self.trusted_until.min(just_now);
    }

    /// Say whether a pong proved it lately.
    pub fn trusted(&self, now: Instant) -> bool {
        now <= self.trusted_until
    }

    /// Say whether data goes there and nowhere else: trusted and not silent.
    pub fn certain(&self, now: Instant) -> bool {
        self.trusted(now) && !self.doubted(now)
    }

    /// Say whether answers are overdue.
    pub fn doubted(&self, now: Instant) -> bool {
        self.doubt_at().is_some_and(|at| now >= at)
    }

    /// Say whether one more packet goes by the relay as well, although the path is not yet doubted.
    pub fn hedge(&mut self, now: Instant) -> bool {
        let Some(owed_since) = self.owed_since else { return false };
        let bypassed = self.bypassed_at.is_some_and(|at| at >= owed_since);
        let overdue = now >= owed_since + HEDGE_AFTER.max(self.slow * 3 / 2);
        let some_left = self.hedged < HEDGED_PACKETS;
        if (bypassed || overdue) && some_left {
            self.hedged += 1;
            return true;
        }
        false
    }

    /// Give the first moment at which it is not certain any more, unless something is heard before.
    pub fn certain_until(&self) -> Instant {
        let trust_ends = self.trusted_until + Duration::from_nanos(1);
        self.doubt_at().map_or(trust_ends, |doubt| doubt.min(trust_ends))
    }

    /// Look at what is overdue.
    pub fn check(&self, now: Instant) -> Remedy {
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if due(self.give_up_at()) {
            Remedy::GiveUp
        } else if due(self.resize_at()) {
            Remedy::Resize
        } else if due(self.ask_at()) {
            Remedy::Ask
        } else {
            Remedy::Wait
        }
    }

    /// Say when `check` is due.
    pub fn deadline(&self) -> Option<Instant> {
        [self.ask_at(), self.resize_at(), self.give_up_at()].into_iter().flatten().min()
    }

    /// Once it is not trusted, the search is enough.
    fn ask_at(&self) -> Option<Instant> {
        let silence = match (self.silent_since, self.owed_since, self.asked_at) {
            (Some(_), Some(_), Some(asked_at)) => Some(asked_at + ASK_AGAIN.max(self.slow).min(ASK_LIMIT)),
            (Some(silent_since), _, _) => Some(silent_since + self.ask_after()),
            (None, _, _) => None,
        };
        let unproven = self.asked_at.filter(|_| self.asks < LOST_IN_A_ROW).map(|at| at + self.prove_again_after());
        let at = silence.into_iter().chain(unproven).min()?;
        (at <= self.trusted_until).then_some(at)
    }

    fn resize_at(&self) -> Option<Instant> {
        if self.resized_at.is_some() {
            return None;
        }
        let lost = self.asks >= LOST_IN_A_ROW && self.asked_since.is_some_and(|since| self.heard_at > since);
        let unproven = self.asked_since.filter(|_| lost).map(|since| since + self.prove_again_after() * LOST_IN_A_ROW);
        // Silence, too, may be the loss of large packets only.
        let at = unproven.into_iter().chain(self.doubt_at()).min()?;
        (at <= self.trusted_until).then_some(at)
    }

    fn give_up_at(&self) -> Option<Instant> {
        let asked = self.owed_since.map(|since| since + GIVE_UP_AFTER.max(self.slow * 6).min(GIVE_UP_LIMIT));
        let untrusted = self.silent_since.map(|since| since.max(self.trusted_until) + UNTRUSTED_LIMIT);
        let resized = self.resized_at.map(|at| at + RESIZE_LIMIT.max(self.slow * 4).min(GIVE_UP_LIMIT));
        [asked, untrusted, resized].into_iter().flatten().min()
    }

    fn doubt_at(&self) -> Option<Instant> {
        let since = self.owed_since.into_iter().chain(self.resized_at).min()?;
        Some(since + DOUBT_AFTER.max(self.slow * 3).min(DOUBT_LIMIT))
    }

    fn ask_after(&self) -> Duration {
        self.patience.max(self.slow * 2).min(ASK_LIMIT)
    }

    fn prove_again_after(&self) -> Duration {
        PROVE_AGAIN.max(self.slow * 2).min(DOUBT_LIMIT)
    }
}
