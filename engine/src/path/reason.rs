//! Why a path is not direct, as a sentence: no more than what was seen, at the moment of the question.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::candidates::{CandidateState, CandidateStats};
use super::history::{milliseconds, times};
use super::peer::PeerPath;

impl PeerPath {
    /// Say in a sentence why the path is not direct.
    pub fn why_not_direct(&self, now: Instant) -> String {
        if self.blocked {
            return "direct paths are blocked on this side".into();
        }
        if self.declined {
            return "the peer told no endpoint: it forbids direct paths, or knows no address of its own".into();
        }
        if self.candidates.is_empty() {
            return "no endpoint of the peer is known yet".into();
        }
        if self.held_until.is_some_and(|until| now < until) {
            return format!("direct paths failed {} times within a minute: the next try waits", self.losses.len());
        }
        let known = self.candidates.stats(now);
        let answered = |candidate: &CandidateStats| candidate.state == CandidateState::Answered;
        no_shared_family(&self.own_endpoints, &known)
            .or_else(|| all_refused(&known))
            .or_else(|| known.iter().find(|candidate| answered(candidate)).map(half_answered))
            .unwrap_or_else(|| self.silence(now, &known))
    }

    /// Nothing answers now: say how much was tried, and what is known of the NATs.
    fn silence(&self, now: Instant, known: &[CandidateStats]) -> String {
        let asked: Vec<_> = known.iter().filter(|candidate| candidate.pings_sent > 0).collect();
        let Some(pings) = asked.iter().map(|candidate| candidate.pings_sent).max() else {
            return match known.len() {
                1 => "one endpoint of the peer is known, and was not asked: nothing was sent to the peer".into(),
                count => {
                    format!("{count} endpoints of the peer are known, and none was asked: nothing was sent to the peer")
                }
            };
        };
        let lost = known.iter().filter_map(|candidate| Some((candidate.pong_age?, candidate.endpoint))).min();
        let waiting = asked.iter().any(|candidate| candidate.state == CandidateState::Sent);
        let mut said = match lost {
            Some((age, endpoint)) => format!("{endpoint} answered {} s ago, and does not now", age.as_secs()),
            None => unanswered(asked.len(), pings, waiting),
        };
        said.push_str(match (self.own_nat_varies, several_ports(known)) {
            (true, true) => "; the NAT on this side gives every destination another port, and the peer's seems to, too",
            (true, false) => "; the NAT on this side gives every destination another port",
            (false, true) => "; the peer's NAT seems to give every destination another port",
            (false, false) => "",
        });
        said.push_str(match (only_private(&self.own_endpoints), only_private(&told(known))) {
            (true, true) => "; neither side knows a public address of its own",
            (true, false) => "; this side knows no public address of its own",
            (false, true) => "; the peer knows no public address of its own",
            (false, false) => "",
        });
        if !self.active(now) {
            said.push_str("; nothing is tried while nothing is sent");
        }
        said
    }
}

/// So many endpoints were pinged, up to so many times; an answer may still come while the last ping is fresh.
fn unanswered(asked: usize, pings: u32, waiting: bool) -> String {
    let pings = times(pings);
    match (asked, waiting) {
        (1, true) => format!("the one endpoint of the peer was asked {pings}, and has not answered yet"),
        (1, false) => format!("the one endpoint of the peer was asked {pings}, and did not answer"),
        (_, true) => format!("{asked} endpoints of the peer were asked, up to {pings} each, and none has answered yet"),
        (_, false) => format!("{asked} endpoints of the peer were asked, up to {pings} each, and none answered"),
    }
}

/// It answers, and is not used all the same.
fn half_answered(candidate: &CandidateStats) -> String {
    let latency = milliseconds(candidate.latency.unwrap_or_default());
    match candidate.size {
        0 => format!("{} answered small packets in {latency}, but no large ones were seen to pass", candidate.endpoint),
        _ => format!("{} answered in {latency}, and is not in use yet", candidate.endpoint),
    }
}

/// Nothing could be sent to any of them: say so in the words of the operating system.
fn all_refused(known: &[CandidateStats]) -> Option<String> {
    let error = known.first()?.error.as_ref()?;
    let all = known.iter().all(|candidate| candidate.error.is_some());
    all.then(|| format!("this machine cannot send to any endpoint of the peer: {error}"))
}

/// One side has IPv4 only, and the other one IPv6 only.
fn no_shared_family(own: &[SocketAddr], known: &[CandidateStats]) -> Option<String> {
    let own = family(own.iter().copied())?;
    let peer = family(known.iter().map(|candidate| candidate.endpoint))?;
    (own != peer).then(|| format!("the peer has {peer} addresses only, and this side {own} addresses only"))
}

/// The family that all of them have; none when there are both, or nothing.
fn family(endpoints: impl Iterator<Item = SocketAddr>) -> Option<&'static str> {
    let mut families = endpoints.filter(|endpoint| !endpoint.ip().is_loopback()).map(|endpoint| endpoint.is_ipv4());
    let first = families.next()?;
    families.all(|other| other == first).then_some(if first { "IPv4" } else { "IPv6" })
}

/// The endpoints that the peer told of itself.
fn told(known: &[CandidateStats]) -> Vec<SocketAddr> {
    known.iter().filter(|candidate| candidate.source != "ping").map(|candidate| candidate.endpoint).collect()
}

/// Say whether the peer names two ports of one public IPv4 address: each STUN server saw it at another one.
fn several_ports(known: &[CandidateStats]) -> bool {
    let public = |endpoint: &SocketAddr| endpoint.is_ipv4() && is_public(endpoint.ip());
    let mut addresses: Vec<IpAddr> = told(known).iter().filter(|it| public(it)).map(SocketAddr::ip).collect();
    let all = addresses.len();
    addresses.dedup(); // they come in order
    addresses.len() < all
}

/// Say whether there are addresses, and none that the internet knows.
fn only_private(endpoints: &[SocketAddr]) -> bool {
    !endpoints.is_empty() && endpoints.iter().all(|endpoint| !is_public(endpoint.ip()))
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let carrier = a == 100 && (64..128).contains(&b); // RFC 6598
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || carrier)
        }
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
    }
}
