//! Where a peer can be reached by relay, beyond what the coordinator said: a home that moved is found without it.
//!
//! A peer is at its home region. When that relay is gone, the peer has moved to another one, and the coordinator may be
//! gone with it. Three things then tell where it is: the relay on which it was heard last, the regions that it measured
//! as the next nearest, and the relays that we hold open ourselves, since both sides keep the nearest second relay warm.
//! A guess costs little: a relay says at once when it does not know the addressee, and that is remembered for a while.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::wire::keys::Key;

/// A relay that does not know a peer is not asked for it again within this, where there is another.
const ABSENT: Duration = Duration::from_secs(5);
/// Other regions in which a peer is looked for.
const MAX_FALLBACKS: usize = 2;
/// What relays say of peers is kept for so many: no relay can make us remember more.
const MAX_ABSENT: usize = 4096;

/// What is known of where peers are.
#[derive(Debug, Default)]
pub struct Whereabouts {
    heard: HashMap<Key, u16>,
    fallbacks: HashMap<Key, Vec<u16>>,
    absent: HashMap<(Key, u16), Instant>,
}

/// Which relay to give a packet to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub region: u16,
    /// Nothing that is open leads to the peer for sure: regions named by `wanted` should be opened.
    pub lost: bool,
}

/// What we are to a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Open,
    /// A first attempt is under way: its outcome is worth waiting for.
    Opening,
    /// It failed, or is in no map.
    Down,
}

impl Whereabouts {
    /// A packet of a peer that we know came by this relay.
    pub fn heard(&mut self, key: &Key, region: u16) {
        if self.heard.get(key) != Some(&region) {
            self.heard.insert(*key, region);
        }
        if !self.absent.is_empty() {
            self.absent.remove(&(*key, region));
        }
    }

    /// The peers that were heard last by a relay.
    pub fn heard_at(&self, region: u16) -> HashSet<Key> {
        self.heard.iter().filter(|(_, at)| **at == region).map(|(key, _)| *key).collect()
    }

    /// A relay says that it does not know a peer.
    pub fn absent(&mut self, now: Instant, key: &Key, region: u16) {
        if self.heard.get(key) == Some(&region) {
            self.heard.remove(key);
        }
        if self.absent.len() >= MAX_ABSENT {
            self.absent.retain(|_, at| now.saturating_duration_since(*at) < ABSENT);
        }
        if self.absent.len() < MAX_ABSENT {
            self.absent.insert((*key, region), now);
        }
    }

    /// Where else a peer is likely to be, best first: the regions that it finds near.
    pub fn set_fallbacks(&mut self, key: &Key, regions: &[u16]) {
        let regions: Vec<u16> = regions.iter().copied().take(MAX_FALLBACKS).collect();
        if regions.is_empty() {
            self.fallbacks.remove(key);
        } else {
            self.fallbacks.insert(*key, regions);
        }
    }

    /// The connection to a relay ended.
    pub fn disconnected(&mut self, region: u16) {
        self.heard.retain(|_, of| *of != region);
        self.absent.retain(|(_, of), _| *of != region);
    }

    /// A peer was removed.
    pub fn forget(&mut self, key: &Key) {
        self.heard.remove(key);
        self.fallbacks.remove(key);
        self.absent.retain(|(of, _), _| of != key);
    }

    /// Regions beside home and the open ones in which the peer may be.
    pub fn wanted(&self, key: &Key) -> &[u16] {
        self.fallbacks.get(key).map_or(&[], Vec::as_slice)
    }

    /// Choose the relay for a packet to `key` at `home`; `open` are the relays that we hold open, best first.
    pub fn way(&self, now: Instant, key: &Key, home: u16, open: &[u16], reach: impl Fn(u16) -> Reach) -> Way {
        let at_home = reach(home);
        if at_home == Reach::Open && !self.misses(now, key, home) {
            return Way { region: home, lost: false };
        }
        if let Some(heard) = self.heard.get(key).copied().filter(|heard| reach(*heard) == Reach::Open) {
            return Way { region: heard, lost: false };
        }
        if at_home == Reach::Opening {
            return Way { region: home, lost: false };
        }
        let likely = self.wanted(key).iter().chain(open).copied();
        let mut likely = likely.filter(|region| *region != home && reach(*region) == Reach::Open);
        match likely.find(|region| !self.misses(now, key, *region)) {
            Some(region) => Way { region, lost: false },
            None => Way { region: home, lost: true },
        }
    }

    fn misses(&self, now: Instant, key: &Key, region: u16) -> bool {
        let at = if self.absent.is_empty() { None } else { self.absent.get(&(*key, region)) };
        at.is_some_and(|at| now.saturating_duration_since(*at) < ABSENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Key = [1; 32];
    const HOME: u16 = 1;

    struct Net {
        at: Instant,
        whereabouts: Whereabouts,
        open: Vec<u16>,
        opening: Vec<u16>,
    }

    impl Net {
        fn new(open: &[u16]) -> Self {
            let whereabouts = Whereabouts::default();
            Self { at: Instant::now(), whereabouts, open: open.to_vec(), opening: Vec::new() }
        }

        fn way(&self) -> (u16, bool) {
            let reach = |region: u16| match region {
                region if self.open.contains(&region) => Reach::Open,
                region if self.opening.contains(&region) => Reach::Opening,
                _ => Reach::Down,
            };
            let way = self.whereabouts.way(self.at, &PEER, HOME, &self.open, reach);
            (way.region, way.lost)
        }
    }

    #[test]
    fn a_peer_is_at_its_home() {
        let mut net = Net::new(&[HOME, 2]);
        net.whereabouts.heard(&PEER, 2);
        assert_eq!(net.way(), (HOME, false));
        assert_eq!(net.whereabouts.heard_at(2), HashSet::from([PEER]));
        assert_eq!(net.whereabouts.heard_at(HOME), HashSet::new());
    }

    #[test]
    fn the_first_attempt_to_reach_its_home_is_waited_for() {
        let mut net = Net::new(&[2]);
        net.opening.push(HOME);
        assert_eq!(net.way(), (HOME, false));
        net.whereabouts.heard(&PEER, 2);
        assert_eq!(net.way(), (2, false), "but it was heard where we are");
    }

    #[test]
    fn when_its_home_is_down_it_is_looked_for_where_it_finds_near_then_where_we_are() {
        let mut net = Net::new(&[2, 3]);
        net.whereabouts.set_fallbacks(&PEER, &[3, 4, 5]);
        assert_eq!(net.way(), (3, false));
        net.whereabouts.absent(net.at, &PEER, 3);
        assert_eq!(net.way(), (2, false));
        net.whereabouts.absent(net.at, &PEER, 2);
        assert_eq!(net.way(), (HOME, true));
        assert_eq!(net.whereabouts.wanted(&PEER), [3, 4], "these are to be opened");
        net.open.push(4);
        assert_eq!(net.way(), (4, false));
    }

    #[test]
    fn a_relay_that_does_not_know_it_is_asked_again_later() {
        let mut net = Net::new(&[HOME, 2]);
        net.whereabouts.absent(net.at, &PEER, HOME);
        assert_eq!(net.way(), (2, false));
        net.at += ABSENT;
        assert_eq!(net.way(), (HOME, false));
        net.whereabouts.absent(net.at, &PEER, HOME);
        net.whereabouts.heard(&PEER, HOME);
        assert_eq!(net.way(), (HOME, false), "it was heard there since");
    }

    #[test]
    fn what_ended_or_was_removed_is_forgotten_and_nothing_grows() {
        let mut net = Net::new(&[2]);
        net.whereabouts.heard(&PEER, 2);
        net.whereabouts.disconnected(2);
        assert_eq!(net.whereabouts.heard.len(), 0);
        for number in 0..2 * MAX_ABSENT as u32 {
            let mut key = PEER;
            key[..4].copy_from_slice(&number.to_be_bytes());
            net.whereabouts.absent(net.at, &key, 2);
        }
        assert_eq!(net.whereabouts.absent.len(), MAX_ABSENT);
        net.at += ABSENT;
        net.whereabouts.absent(net.at, &PEER, 2);
        net.whereabouts.set_fallbacks(&PEER, &[3]);
        net.whereabouts.forget(&PEER);
        assert_eq!((net.whereabouts.absent.len(), net.whereabouts.fallbacks.len()), (0, 0));
    }
}
