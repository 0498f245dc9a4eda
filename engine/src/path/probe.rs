//! Looking for direct paths: pings out, pongs in, and what they prove.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::best::{Best, Remedy};
use super::candidates::is_usable;
use super::compare::{worth_a_switch, Measured};
use super::history::milliseconds;
use super::peer::{doubt, PeerPath, HEARTBEAT};
use super::sizes::{above, inner_mtu, Raise, FULL, LADDER, SMALL};
use super::{PathEvent, Source, Transmit};
use crate::wire::disco::{Message, TxId};

/// How often a good path is compared with all the others.
const UPGRADE_INTERVAL: Duration = Duration::from_secs(60);
/// Below this nothing better is looked for.
const GOOD_ENOUGH: Duration = Duration::from_millis(5);
/// A peer is asked to ping us no more often; a lost path is missed.
const CALL_INTERVAL: Duration = Duration::from_secs(5);
const CALL_INTERVAL_LOST: Duration = Duration::from_secs(1);
/// Endpoints measured longer ago than this are measured again when a peer needs them.
const ENDPOINTS_FRESH: Duration = Duration::from_secs(27);
/// So many candidates get a full-sized ping in the first round already; the others when they answer a small one.
const FULL_AT_ONCE: usize = 12;
/// An endpoint that answers a small ping has this long, or twice its latency, to answer a full one.
const LADDER_AFTER: Duration = Duration::from_millis(100);
/// A full-sized ping that left or was answered within this is not repeated.
const FULL_AGAIN: Duration = Duration::from_secs(1);
/// Losses within a minute from which on the next direct path has to wait, and how long at most.
const LOSSES_WINDOW: Duration = Duration::from_secs(60);
const MANY_LOSSES: usize = 5;
const HOLD: Duration = Duration::from_secs(2);
const HOLD_LIMIT: Duration = Duration::from_secs(30);

/// The pseudo address that a pong by relay says it saw us at; its port is the region.
const RELAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 3, 3, 40);

impl PeerPath {
    pub(super) fn on_ping(&mut self, now: Instant, from: Source, txid: TxId, length: usize) {
        let observed = match from {
            Source::Udp(endpoint) => endpoint,
            Source::Relay { region } => SocketAddr::from((RELAY_ADDRESS, region)),
        };
        let usable = matches!(from, Source::Relay { .. }) || is_usable(observed);
        if !usable || !self.guard.admit(now, txid) {
            return;
        }
        // As long as the ping: that proves both directions, and nobody makes us send more than was sent.
        let message = Message::Pong { txid, observed };
        self.transmits.push_back(Transmit { to: from, message, length });
        let Source::Udp(endpoint) = from else { return };
        let news = self.candidates.heard(now, endpoint);
        if news && !self.certain(now) && self.guard.may_return(now) {
            // The peer's NAT lets us in right now; at the next round it may not.
            self.send_ping(now, from, SMALL, Vec::new());
        }
    }

    pub(super) fn on_call(&mut self, now: Instant, endpoints: &[SocketAddr]) {
        let news = endpoints.is_empty() && !self.declined;
        self.declined = endpoints.is_empty();
        if news && !self.certain(now) {
            let reason = self.why_not_direct(now);
            self.note(now, reason);
        }
        self.candidates.call_me_maybe(now, endpoints);
        self.drop_withdrawn_best(now);
        self.probe(now, true);
    }

    pub(super) fn on_pong(&mut self, now: Instant, txid: TxId, length: usize) {
        let Some(ping) = self.pings.take(txid) else { return };
        let latency = now.saturating_duration_since(ping.at);
        for token in &ping.tokens {
            self.events.push_back(PathEvent::Pong { token: *token, latency, via: ping.to });
        }
        // What was proven is the endpoint that we pinged, wherever the pong came from.
        let Source::Udp(endpoint) = ping.to else { return };
        let mirrors = length == ping.size;
        let size = if mirrors { ping.size } else { ping.size.min(FULL) };
        let known = self.candidates.answered(now, endpoint, latency, size);
        let measured = Measured { endpoint, latency };
        if size > SMALL {
            self.prove(now, measured, size, known);
            self.look_further(now, endpoint, mirrors);
        } else {
            self.on_small_pong(now, measured);
        }
    }

    /// An endpoint answers: see how much it carries.
    fn on_small_pong(&mut self, now: Instant, measured: Measured) {
        let endpoint = measured.endpoint;
        if let Some(best) = self.best.as_mut().filter(|best| best.certain(now)) {
            if best.measured.endpoint == endpoint {
                best.note_alive(now);
                return;
            }
            if best.size >= FULL && !worth_a_switch(measured, best.measured) {
                return;
            }
        }
        if !self.candidates.size_open(now, endpoint, FULL_AGAIN) {
            return;
        }
        let lately = now.checked_sub(FULL_AGAIN).unwrap_or(now);
        if !self.pings.under_way(Source::Udp(endpoint), FULL, lately) {
            self.send_ping(now, Source::Udp(endpoint), FULL, Vec::new());
        }
        if self.ladders.iter().all(|(_, waiting)| *waiting != endpoint) {
            self.ladders.push((now + LADDER_AFTER.max(measured.latency * 2), endpoint));
        }
    }

    /// An endpoint answered a ping of `size` bytes.
    fn prove(&mut self, now: Instant, measured: Measured, size: usize, known: bool) {
        let (endpoint, held) = (measured.endpoint, self.held(now));
        match &mut self.best {
            Some(best) if best.measured.endpoint == endpoint => {
                if size < best.size && !best.resizing() && best.trusted(now) {
                    return; // a lower rung of the ladder
                }
                let before = best.size;
                best.prove_again(now, measured.latency, size);
                self.show(now, || format!("{endpoint} answered again"));
                if size != before {
                    let (is, was) = (inner_mtu(size), inner_mtu(before));
                    self.note(now, format!("{endpoint} carries packets of {is} bytes now, not {was}"));
                }
            }
            _ if !known => {}
            Some(best) if best.certain(now) && !preferable((measured, size), (best.measured, best.size)) => {}
            Some(best) => {
                let old = best.measured;
                self.take(now, measured, size);
                let (is, was) = (milliseconds(measured.latency), milliseconds(old.latency));
                self.show(now, || format!("{endpoint} ({is}) is better than {} ({was})", old.endpoint));
            }
            None if held => {}
            None => {
                self.take(now, measured, size);
                let limited = match size < FULL {
                    true => format!("; it carries packets of {} bytes at most", inner_mtu(size)),
                    false => String::new(),
                };
                self.show(now, || format!("{endpoint} answered in {}{limited}", milliseconds(measured.latency)));
            }
        }
        if self.certain(now) {
            self.search.stop();
        }
    }

    fn take(&mut self, now: Instant, measured: Measured, size: usize) {
        self.best = Some(Best::proven(now, measured, size));
        self.raise = None;
    }

    /// Plan to see whether the path in use carries more than is known, if there is more that we could use.
    fn look_further(&mut self, now: Instant, endpoint: SocketAddr, mirrors: bool) {
        let Some(best) = self.best.as_mut().filter(|best| best.measured.endpoint == endpoint) else { return };
        best.mirrors = mirrors;
        let useful = if mirrors { self.largest } else { FULL };
        if above(best.size, useful).next().is_none() {
            self.raise = None;
        } else {
            self.raise.get_or_insert(Raise::first(now));
        }
    }

    fn held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until) && self.region().is_some()
    }

    pub(super) fn heartbeat(&mut self, now: Instant) {
        if !self.active(now) {
            self.heartbeat_at = None;
            self.search.stop();
            return;
        }
        self.heartbeat_at = Some(now + HEARTBEAT);
        self.candidates.prune(now);
        self.ask(now);
        if self.upgrade_due(now) {
            self.probe(now, true);
            self.call(now);
        }
    }

    fn upgrade_due(&self, now: Instant) -> bool {
        let due = self.full_ping_at.is_none_or(|last| now.saturating_duration_since(last) >= UPGRADE_INTERVAL);
        due && self.best.as_ref().is_some_and(|best| best.certain(now) && best.measured.latency > GOOD_ENOUGH)
    }

    /// Ping the endpoint in use with all that it carries.
    pub(super) fn ask(&mut self, now: Instant) {
        if let Some(best) = &self.best {
            let (to, size) = (Source::Udp(best.measured.endpoint), best.size);
            self.send_ping(now, to, size, Vec::new());
        }
    }

    /// Go on with the search, if its next round is due.
    pub(super) fn search_on(&mut self, now: Instant) {
        if self.search.next_at().is_none_or(|at| at > now) {
            return;
        }
        if !self.active(now) || self.certain(now) {
            self.search.stop();
            return;
        }
        self.search.advance(now);
        self.probe(now, false);
        self.call(now);
    }

    /// Ping every candidate that was not pinged a moment ago; `thorough` when it is the first look at them.
    pub(super) fn probe(&mut self, now: Instant, thorough: bool) {
        if self.blocked {
            return;
        }
        self.full_ping_at = Some(now);
        for (index, (endpoint, size)) in self.candidates.due(now).into_iter().enumerate() {
            let to = Source::Udp(endpoint);
            if size > SMALL || (thorough && index < FULL_AT_ONCE) {
                self.send_ping(now, to, if size > SMALL { size } else { FULL }, Vec::new());
            }
            self.send_ping(now, to, SMALL, Vec::new());
        }
    }

    /// Find out the sizes that endpoints carry which answer small pings but no full ones.
    pub(super) fn climb_ladders(&mut self, now: Instant) {
        while let Some(index) = self.ladders.iter().position(|(at, _)| *at <= now) {
            let (_, endpoint) = self.ladders.swap_remove(index);
            let small_only = self.candidates.size_open(now, endpoint, FULL_AGAIN);
            let needed = !self.best.as_ref().is_some_and(|best| best.certain(now) && best.size >= FULL);
            if small_only && needed {
                LADDER.into_iter().for_each(|size| self.send_ping(now, Source::Udp(endpoint), size, Vec::new()));
            }
        }
    }

    /// See whether a path that carries less than a full packet carries more by now.
    pub(super) fn raise_size(&mut self, now: Instant) {
        let Some(raise) = self.raise.filter(|raise| raise.at <= now) else { return };
        let Some(best) = self.best.as_ref().filter(|_| self.active(now)) else {
            self.raise = None;
            return;
        };
        let (to, size) = (Source::Udp(best.measured.endpoint), best.size);
        let useful = if best.mirrors { self.largest } else { FULL };
        self.raise = Some(raise.next(now));
        above(size, useful).for_each(|rung| self.send_ping(now, to, rung, Vec::new()));
    }

    /// The kernel knows that datagrams of `size` bytes are too large for the way to `endpoint`.
    pub(super) fn on_too_large(&mut self, now: Instant, endpoint: SocketAddr, size: usize) {
        let concerns = |best: &Best| best.measured.endpoint == endpoint && size <= best.size && !best.resizing();
        if self.best.as_ref().is_some_and(concerns) {
            self.resize(now);
        }
    }

    /// Large packets get lost on the path in use: find out which sizes do not.
    fn resize(&mut self, now: Instant) {
        self.ask_sizes(now);
        // It may be gone altogether: whoever answers now takes its place.
        self.probe(now, true);
        if let Some(best) = self.best.as_ref().filter(|best| best.loses_large()) {
            let reason = doubt(best);
            self.note(now, reason);
        }
    }

    /// Ping the endpoint in use with all sizes up to its own.
    pub(super) fn ask_sizes(&mut self, now: Instant) {
        let Some(best) = &mut self.best else { return };
        let (endpoint, size) = (best.measured.endpoint, best.size);
        best.note_resizing(now);
        self.candidates.forget_size(endpoint);
        for rung in LADDER.into_iter().filter(|rung| *rung <= size.max(FULL)) {
            self.send_ping(now, Source::Udp(endpoint), rung, Vec::new());
        }
    }

    /// Tell the peer where we may be pinged, by its relay. Unlike upstream's nodes we do so even when we know no
    /// endpoint of the peer: it may know ours.
    pub(super) fn call(&mut self, now: Instant) {
        if self.blocked || self.region().is_none() {
            return;
        }
        let interval = if self.search.eager(now) { CALL_INTERVAL_LOST } else { CALL_INTERVAL };
        if self.called_at.is_some_and(|at| now.saturating_duration_since(at) < interval) {
            return;
        }
        if self.own_endpoints_at.is_none_or(|at| now.saturating_duration_since(at) >= ENDPOINTS_FRESH) {
            self.events.push_back(PathEvent::EndpointsWanted);
        }
        if !self.own_endpoints.is_empty() {
            self.send_call(now, self.own_endpoints.clone());
        }
        self.called_at = Some(now);
    }

    pub(super) fn send_call(&mut self, now: Instant, endpoints: Vec<SocketAddr>) {
        let Some(region) = self.region() else { return };
        self.called_at = Some(now);
        let message = Message::CallMeMaybe { endpoints };
        self.transmits.push_back(Transmit { to: Source::Relay { region }, message, length: 0 });
    }

    pub(super) fn ping_for(&mut self, now: Instant, token: u64) {
        if let Some(region) = self.route(now).relay {
            self.send_ping(now, Source::Relay { region }, SMALL, vec![token]);
        }
        if self.blocked {
            return;
        }
        match &self.best {
            Some(best) if best.certain(now) => {
                let (to, size) = (Source::Udp(best.measured.endpoint), best.size);
                self.send_ping(now, to, size, vec![token]);
            }
            _ => {
                let endpoints: Vec<_> = self.candidates.endpoints().collect();
                for endpoint in endpoints {
                    self.send_ping(now, Source::Udp(endpoint), FULL, vec![token]);
                    self.send_ping(now, Source::Udp(endpoint), SMALL, vec![token]);
                }
                self.call(now);
            }
        }
    }

    pub(super) fn send_ping(&mut self, now: Instant, to: Source, size: usize, tokens: Vec<u64>) {
        let txid = self.pings.add(now, to, size, tokens);
        if let Source::Udp(endpoint) = to {
            self.candidates.pinged(now, endpoint);
            let best = self.best.as_mut().filter(|best| best.measured.endpoint == endpoint && best.size == size);
            if let Some(best) = best {
                best.note_asked(now);
            }
        }
        let message = Message::Ping { txid, node_key: Some(self.own_node_key) };
        self.transmits.push_back(Transmit { to, message, length: size });
    }

    /// Give up pings that are late; says whether an endpoint owed an answer.
    pub(super) fn expire_pings(&mut self, now: Instant) -> bool {
        let mut some = false;
        while let Some(ping) = self.pings.take_expired(now) {
            if let Source::Udp(endpoint) = ping.to {
                self.candidates.unanswered(endpoint, ping.at);
                some = true;
            }
        }
        some
    }

    pub(super) fn watch_best(&mut self, now: Instant) {
        let Some(best) = &self.best else { return };
        let endpoint = best.measured.endpoint;
        match best.check(now) {
            Remedy::Wait => {}
            Remedy::Ask => self.ask(now),
            Remedy::Resize => self.resize(now),
            Remedy::GiveUp => self.give_up(now, endpoint),
        }
        // What nobody used is only no longer known to work; `handle_timeout` says so.
        if let Some(reason) = self.best.as_ref().filter(|best| best.doubted(now)).map(doubt) {
            self.show(now, || reason);
        }
    }

    fn give_up(&mut self, now: Instant, endpoint: SocketAddr) {
        self.leave_best();
        self.candidates.unanswered(endpoint, now);
        self.candidates.forget_size(endpoint);
        self.candidates.forget_pings();
        self.called_at = None;
        self.note_loss(now);
        self.show(now, || format!("{endpoint} fell silent"));
        if self.active(now) {
            self.seek(now, true);
        }
    }

    /// A path that comes and goes is worse than the relay: after many losses it has to wait, longer each time.
    fn note_loss(&mut self, now: Instant) {
        self.losses.push_back(now);
        while self.losses.front().is_some_and(|at| now.saturating_duration_since(*at) > LOSSES_WINDOW) {
            self.losses.pop_front();
        }
        if let Some(beyond) = self.losses.len().checked_sub(MANY_LOSSES) {
            let hold = HOLD * 2_u32.saturating_pow(u32::try_from(beyond).unwrap_or(u32::MAX).min(8));
            self.held_until = Some(now + hold.min(HOLD_LIMIT));
        }
    }
}

/// Say whether a proven endpoint should replace the one in use: what carries full packets comes first.
fn preferable(challenger: (Measured, usize), current: (Measured, usize)) -> bool {
    match (challenger.1 >= FULL, current.1 >= FULL) {
        (true, false) => true,
        (false, true) => false,
        _ => worth_a_switch(challenger.0, current.0),
    }
}
