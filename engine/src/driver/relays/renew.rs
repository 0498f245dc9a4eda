//! A link whose network changed, or that went silent: what becomes of it.
//!
//! A connection from an address that we no longer have is dead, and is made anew at once. Of any other nobody can tell:
//! it is asked for a sign of life, and when that takes longer than it used to, another connection is begun beside it.
//! The first of the two to answer stays, so that one that works is never given up for nothing and one that is dead is
//! not waited for.

use std::net::IpAddr;
use std::time::Instant;

use mio::Interest;

use super::super::derp::{Arrivals, Link};
use super::super::interfaces;
use super::super::node::{token, RELAY};
use super::super::roam::source_to;
use super::comeback::Comeback;
use super::{Relays, Rival, RIVAL};

/// Why a link is given up whose address is gone.
const MOVED: &str = "the network changed, and with it the address that the connection came from";
/// And one that another connection was quicker than.
const OUTRUN: &str = "the connection was silent, and another one answered";

/// What a change of the network did to a connection.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Standing {
    /// Its address is no longer ours.
    Gone,
    /// A new connection would take another way.
    Displaced,
    /// As before, as far as can be seen from here.
    Same,
    /// There is no way at all at the moment, and its address is still ours: there may be one again in a moment.
    Stranded,
}

/// Judge a connection that comes from `from`, where these addresses are `ours` and a new one would come from `now_from`.
fn judge(from: IpAddr, ours: &[IpAddr], now_from: Option<IpAddr>) -> Standing {
    match now_from {
        _ if !ours.contains(&from) => Standing::Gone,
        None => Standing::Stranded,
        Some(now_from) if now_from != from => Standing::Displaced,
        Some(_) => Standing::Same,
    }
}

fn standing(link: &Link, ours: Option<&[IpAddr]>) -> Standing {
    let (Some((from, to)), Some(ours)) = (link.ends(), ours) else { return Standing::Same };
    match source_to(to) {
        Ok(now_from) => judge(from, ours, now_from),
        Err(_) => Standing::Same, // it cannot be told
    }
}

impl Relays {
    /// The network changed, or we slept: whoever does not answer now is reconnected.
    pub fn rebind(&mut self, now: Instant) {
        self.mute = [None; 2];
        let ours = interfaces::held();
        let regions: Vec<u16> = self.slots.keys().copied().collect();
        for region in regions {
            self.rebind_region(now, region, ours.as_deref());
        }
    }

    /// We slept: what relays still have for us is of the past.
    pub fn skip_the_past(&mut self, now: Instant) {
        let links = self.slots.values_mut().filter_map(|slot| slot.link.as_mut());
        links.filter(|link| link.doubted()).for_each(|link| link.skip_the_past(now));
    }

    fn rebind_region(&mut self, now: Instant, region: u16, ours: Option<&[IpAddr]>) {
        let Some(slot) = self.slots.get_mut(&region) else { return };
        // Whatever was begun before may not lead anywhere now.
        slot.rival = None;
        slot.former.take_if(|former| standing(&former.link, ours) == Standing::Gone);
        let open = slot.open();
        if !open {
            // Another network may let the plain upgrade through.
            (slot.websocket, slot.websocket_proven) = (None, false);
            (slot.failures, slot.comeback) = (0, Comeback::default());
            slot.retry_at = slot.retry_at.map(|_| now);
        }
        let Some(link) = &mut slot.link else { return };
        match standing(link, ours) {
            Standing::Gone => self.renew(now, region, MOVED),
            Standing::Displaced if !open => self.renew(now, region, MOVED),
            found @ (Standing::Displaced | Standing::Same) if open => {
                link.prove(now);
                if found == Standing::Displaced {
                    link.doubt_more(now);
                }
                self.dirty.insert(region);
            }
            _ => {}
        }
    }

    /// A region's link is of no use: have another at once, which is the one under way if there is one.
    pub(super) fn renew(&mut self, now: Instant, region: u16, reason: &str) {
        let kept = self.kept(region);
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let was_open = slot.open();
        if let Some(link) = slot.link.take() {
            link.abandon();
            self.dropped += link.dropped;
        }
        slot.returning |= was_open;
        (slot.readable, slot.attempt_at, slot.error) = (false, None, reason.to_owned());
        let rival = slot.rival.take();
        self.note_open();
        if was_open {
            self.tell(region, false);
        }
        match rival {
            Some(rival) => self.promote(region, rival),
            None => self.connect(now, region),
        }
        self.home_in_doubt |= kept;
    }

    /// Begin another connection to where a region's link leads.
    pub(super) fn begin_rival(&mut self, now: Instant, region: u16) {
        let Some(slot) = self.slots.get(&region).filter(|slot| slot.rival.is_none() && !slot.withdrawn) else { return };
        let Some(node) = slot.node.clone() else { return };
        // Where a name must be looked up first, the link in doubt has its time.
        for target in self.targets(now, &node).unwrap_or_default() {
            let number = usize::from(region) | RIVAL;
            let Ok(link) = self.link_to(now, region, token(RELAY, number), &target) else { continue };
            let rival = Rival { link, node, v6: target.to.is_ipv6(), began_at: now, readable: false };
            if let Some(slot) = self.slots.get_mut(&region) {
                slot.rival = Some(rival);
            }
            return;
        }
    }

    /// Give the connection beside a link in doubt its turn.
    pub(super) fn rival_turn(&mut self, now: Instant, region: u16, arrivals: &mut Arrivals) {
        let Some(slot) = self.slots.get_mut(&region) else { return };
        let Some(rival) = &mut slot.rival else { return };
        match rival.link.turn(now, arrivals) {
            Ok(more) => rival.readable = more,
            Err(_) => {
                slot.rival = None; // the link in doubt has its time
                *arrivals = Arrivals::default();
                return;
            }
        }
        if arrivals.opened() {
            self.renew(now, region, OUTRUN);
            if let Some(ended) = self.take_notes(now, region, arrivals) {
                self.lost(now, region, ended);
            }
        }
    }

    /// Forget a rival that takes too long.
    pub(super) fn tick_rival(&mut self, now: Instant, region: u16) {
        let Some(slot) = self.slots.get_mut(&region) else { return };
        slot.rival.take_if(|rival| rival.link.tick(now).is_err());
    }

    /// Make the connection beside a region's link the link of the region.
    fn promote(&mut self, region: u16, mut rival: Rival) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = token(RELAY, usize::from(region));
        let _ = self.registry.reregister(rival.link.stream().socket(), token, interest); // or it times out
        let Some(slot) = self.slots.get_mut(&region) else { return };
        (slot.attempt_at, slot.v6) = (Some(rival.began_at), rival.v6);
        slot.trying_since.get_or_insert(rival.began_at);
        (slot.link, slot.node, slot.readable) = (Some(rival.link), Some(rival.node), true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_judged_by_its_address_and_by_the_way_that_a_new_one_would_take() {
        let [wifi, cable, other] = [1, 2, 3].map(|last| IpAddr::from([192, 168, 0, last]));
        let rows = [
            (wifi, vec![wifi], Some(wifi), Standing::Same),
            (wifi, vec![wifi, other], Some(wifi), Standing::Same),
            (wifi, vec![wifi, cable], Some(cable), Standing::Displaced),
            (wifi, vec![cable], Some(cable), Standing::Gone),
            (wifi, vec![], None, Standing::Gone),
            (wifi, vec![wifi], None, Standing::Stranded),
        ];
        for (from, ours, now_from, expected) in rows {
            assert_eq!(judge(from, &ours, now_from), expected, "{ours:?} {now_from:?}");
        }
    }
}
