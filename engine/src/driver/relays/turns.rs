//! What the relays do when a socket is ready and when time passes.

use std::time::{Duration, Instant};

use mio::event::Event as Ready;

use super::super::derp::{Arrivals, Ended, Link, Note};
use super::super::map::DerpMap;
use super::super::node::Node;
use super::super::peers::{Peer, PeerId};
use super::{Reach, Relays, FORMER, RIVAL};
use crate::path::InUse;

/// A connection that is neither home nor standby is closed after this long without use.
const IDLE: Duration = Duration::from_secs(60);
/// A TCP connection must stand within this, else the next address is tried.
const TCP_LIMIT: Duration = Duration::from_millis(1500);
/// When connecting takes longer than this, another relay is used meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
/// Ticks come each second; one that comes this late means that we slept.
const SLEPT: Duration = Duration::from_secs(4);
/// A peer with which something was exchanged within this should hear at once that our home moved.
const IN_USE: Duration = Duration::from_secs(60);

/// Which of a region's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Present,
    Former,
    Rival,
}

impl Relays {
    /// The links that have news.
    fn readable(&self) -> Vec<(u16, Which)> {
        let links = self.slots.iter().flat_map(|(region, slot)| {
            let former = slot.former.as_ref().is_some_and(|former| former.readable);
            let rival = slot.rival.as_ref().is_some_and(|rival| rival.readable);
            [(slot.readable, Which::Present), (former, Which::Former), (rival, Which::Rival)]
                .map(|(ready, which)| ready.then_some((*region, which)))
        });
        links.flatten().collect()
    }

    /// A relay's socket can be read or written.
    pub fn ready(&mut self, number: usize, _: &Ready) {
        let region = u16::try_from(number & (FORMER - 1)).unwrap_or_default();
        let Some(slot) = self.slots.get_mut(&region) else { return };
        match (&mut slot.former, &mut slot.rival) {
            (Some(former), _) if number & FORMER != 0 => former.readable = true,
            (_, Some(rival)) if number & RIVAL != 0 => rival.readable = true,
            _ => slot.readable = true,
        }
    }

    /// Give a connection its turn.
    fn turn(&mut self, now: Instant, region: u16, arrivals: &mut Arrivals) {
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let Some(link) = &mut slot.link else {
            slot.readable = false;
            return;
        };
        let doubted = link.doubted();
        let result = link.turn(now, arrivals);
        if matches!(result, Ok(false) | Err(_)) {
            slot.readable = false;
        }
        if result.is_ok() && doubted && !link.doubted() {
            slot.rival = None; // its socket is closed with it
            self.home_in_doubt = true;
        }
        let left = self.take_notes(now, region, arrivals);
        if let Some(ended) = left.or(result.err()) {
            self.lost(now, region, ended);
        }
    }

    /// Heed what a relay said; says why its link should end, if it should.
    pub(super) fn take_notes(&mut self, now: Instant, region: u16, arrivals: &Arrivals) -> Option<Ended> {
        let mut left = None;
        let slot = self.slots.get_mut(&region)?;
        let link = slot.link.as_mut()?;
        for note in &arrivals.notes {
            match note {
                Note::Open => {
                    (slot.failures, slot.failed_at, slot.error) = (0, None, String::new());
                    (slot.trying_since, slot.slow) = (None, false);
                    self.returned |= std::mem::take(&mut slot.returning);
                    slot.websocket_proven |= slot.websocket.is_some();
                    slot.targets.clear();
                    for (key, packet) in slot.waiting.drain(..) {
                        link.send(now, key, &packet);
                    }
                    self.dirty.insert(region);
                }
                Note::PeerGone { key } => self.whereabouts.absent(now, key, region),
                // Where there is another, we go before this one does; else it serves us until it really closes.
                Note::Restarting { reconnect_in } if self.kept_open.iter().any(|open| *open != region) => {
                    let reconnect_in = Some(*reconnect_in);
                    left = Some(Ended { reconnect_in, ..Ended::because("the relay restarts") });
                }
                Note::Restarting { .. } => {}
                Note::Packet { .. } => {}
            }
        }
        if arrivals.opened() {
            self.opened(now, region);
        }
        left
    }

    /// A region is connected: it may serve those whose own is not.
    fn opened(&mut self, now: Instant, region: u16) {
        self.home_in_doubt = true;
        self.note_open();
        self.tell(region, true);
        self.warm_standby(now);
        let down: Vec<u16> = self.slots.keys().copied().filter(|region| self.reach(*region) == Reach::Down).collect();
        for of in down {
            let waiting = self.slots.get_mut(&of).map(|slot| std::mem::take(&mut slot.waiting)).unwrap_or_default();
            for (key, packet) in waiting {
                self.send(now, of, &key, &packet);
            }
        }
    }

    /// Read what still comes by the link to where a region was.
    fn former_turn(&mut self, now: Instant, region: u16, arrivals: &mut Arrivals) {
        let Some(former) = self.slots.get_mut(&region).and_then(|slot| slot.former.as_mut()) else { return };
        match former.link.turn(now, arrivals) {
            Ok(more) => former.readable = more,
            Err(_) => self.drop_former(region),
        }
    }

    fn tick(&mut self, now: Instant) {
        let slept = self.ticked_at.is_some_and(|at| now.saturating_duration_since(at) > SLEPT);
        self.ticked_at = Some(now);
        if slept {
            self.rebind(now);
        }
        let regions: Vec<u16> = self.slots.keys().copied().collect();
        for region in regions {
            self.tick_former(now, region);
            self.tick_rival(now, region);
            self.tick_region(now, region);
        }
    }

    fn tick_former(&mut self, now: Instant, region: u16) {
        let Some(former) = self.slots.get_mut(&region).and_then(|slot| slot.former.as_mut()) else { return };
        let idle = now.saturating_duration_since(former.link.used_at) > IDLE;
        if idle || former.link.tick(now).and_then(|_| former.link.flush()).is_err() {
            self.drop_former(region);
        }
    }

    fn tick_region(&mut self, now: Instant, region: u16) {
        let kept = self.kept(region);
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let slow = slot.tcp_limit().is_some_and(|at| at <= now);
        let ended = match &mut slot.link {
            Some(_) if slow => Some(Ended::because("the relay's address does not answer")),
            Some(link) => match link.tick(now) {
                Ok(flush) => {
                    if flush {
                        self.dirty.insert(region);
                    }
                    None
                }
                Err(ended) => Some(ended),
            },
            None => None,
        };
        if slow {
            self.mute[usize::from(slot.v6)] = Some(now);
        }
        if let Some(ended) = ended {
            self.lost(now, region, ended);
            return;
        }
        if slot.link.as_mut().is_some_and(|link| link.take_second(now)) {
            self.begin_rival(now, region);
        }
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let slow = !slot.open() && slot.trying_since.is_some_and(|since| now.duration_since(since) >= PATIENCE);
        if slow && !std::mem::replace(&mut slot.slow, true) && kept {
            self.home_in_doubt = true;
            self.warm_standby(now);
        }
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let idle = slot.link.as_ref().is_some_and(|link| now.duration_since(link.used_at) > IDLE);
        let withdrawn = slot.withdrawn;
        if idle && (!kept || withdrawn) {
            self.close(region);
            if withdrawn {
                self.slots.remove(&region);
            }
        } else if slot.retry_at.is_some_and(|at| at <= now) {
            slot.retry_at = None;
            if kept || !slot.waiting.is_empty() {
                self.connect(now, region);
            }
        }
    }

    /// When something of `tick` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = |slot: &super::Slot| {
            let link = slot.link.as_ref().map(Link::poll_timeout);
            let rival = slot.rival.as_ref().map(|rival| rival.link.poll_timeout());
            [slot.retry_at, slot.tcp_limit(), link, rival].into_iter().flatten().min()
        };
        self.slots.values().filter_map(due).min()
    }
}

impl super::Slot {
    /// When the next address is tried, while there is one.
    fn tcp_limit(&self) -> Option<Instant> {
        let trying = self.link.as_ref().is_some_and(|link| !link.open()) && !self.targets.is_empty();
        self.attempt_at.filter(|_| trying).map(|at| at + TCP_LIMIT)
    }
}

impl Node {
    /// Use another DERP map.
    pub fn set_derp_map(&mut self, now: Instant, map: DerpMap) {
        self.wire.relays.set_map(now, map);
        let relays: Vec<u16> = self.wire.relays.map.relays().collect();
        if let ([only], 0) = (&relays[..], self.wire.relays.home) {
            // Nothing to measure: the first packet need not wait for a report.
            self.wire.relays.set_home(now, *only);
            self.report_early(now);
        }
        self.rescue_home(now);
        self.begin_netcheck(now, None);
    }

    /// Give every relay that has news its turn.
    pub fn relays_turn(&mut self, now: Instant) {
        for (region, which) in self.wire.relays.readable() {
            let mut arrivals = Arrivals::default();
            match which {
                Which::Present => self.wire.relays.turn(now, region, &mut arrivals),
                Which::Former => self.wire.relays.former_turn(now, region, &mut arrivals),
                Which::Rival => self.wire.relays.rival_turn(now, region, &mut arrivals),
            }
            let mut last = None;
            for from in arrivals.packets().map(|(from, _)| from) {
                let another = last.replace(from) != Some(from);
                if another && which != Which::Former && self.peers.by_key(from).is_some() {
                    self.wire.relays.heard(from, region);
                }
            }
            self.on_relayed(now, region, arrivals.packets());
            self.end_of_batch(now);
            if arrivals.opened() {
                self.report(Vec::new()); // WebSocket may have been forced
            }
        }
        if self.wire.relays.take_returned() {
            self.announce_return(now);
        }
        self.rescue_home(now);
    }

    pub fn tick_relays(&mut self, now: Instant) {
        self.wire.relays.tick(now);
        self.rescue_home(now);
    }

    /// When home is lost or withdrawn, live by another relay from now on, and let everybody know.
    fn rescue_home(&mut self, now: Instant) {
        let Some(region) = self.wire.relays.take_rescue() else { return };
        let old = self.wire.relays.home;
        self.wire.relays.set_home(now, region);
        if self.wire.relays.map.relays().any(|known| known == old) {
            self.wire.relays.set_standby(now, old); // until the next measurement says which is nearest
        }
        self.report(Vec::new());
        self.announce_home(now);
        self.begin_netcheck(now, None);
    }

    /// Let peers hear us by relay: those that cannot reach our home any more answer where they heard us.
    fn announce_home(&mut self, now: Instant) {
        for id in self.peers_in_use(now) {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.path.handle_ping_request(now, 0); // nobody waits for the pong: 0 is no token
                self.peers.touch(id);
            }
        }
    }

    /// A relay was away and is there again: what both sides sent meanwhile is lost, and need not wait to be sent again.
    fn announce_return(&mut self, now: Instant) {
        self.wire.relays.show(true);
        for id in self.peers_in_use(now) {
            let direct = self.peers.get(id).is_some_and(|peer| matches!(peer.path.in_use(now), InUse::Direct { .. }));
            if !direct {
                self.send_inner(now, id, &[]); // an empty packet is a sign of life
                self.way_restored(now, id);
            }
        }
        self.wire.relays.show(false);
    }

    fn peers_in_use(&self, now: Instant) -> Vec<PeerId> {
        let in_use = |peer: &Peer| {
            let heard = peer.heard_at.is_some_and(|at| now.saturating_duration_since(at) < IN_USE);
            heard || peer.active(now)
        };
        self.peers.ids().into_iter().filter(|id| self.peers.get(*id).is_some_and(in_use)).collect()
    }
}
