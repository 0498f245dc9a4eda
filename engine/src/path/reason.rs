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
            return format!("{} known, and nothing was sent to the peer yet", endpoints(known.len()));
        };
        let lost = known.iter().filter_map(|candidate| Some((candidate.pong_age?, candidate.endpoint))).min();
        let waiting = asked.iter().any(|candidate| candidate.state == CandidateState::Sent);
        let mut said = match lost {
            Some((age, endpoint)) => format!("{endpoint} answered {} s ago, and does not now", age.as_secs()),
            None => {
                format!("{} asked, up to {}, and none answered{}", endpoints(asked.len()), times(pings), yet(waiting))
            }
        };
        said.push_str(match (self.own_nat_varies, several_ports(known)) {
            (true, true) => "; the NAT on this side gives every destination another port, and the peer's seems to, too",
            (true, false) => "; the NAT on this side gives every destination another port",
            (false, true) => "; the peer's NAT seems to give every destination another port",
            (false, false) => "",
        });
        if !self.active(now) {
            said.push_str("; nothing is tried while nothing is sent");
        }
        said
    }
}

fn yet(waiting: bool) -> &'static str {
    if waiting {
        " yet"
    } else {
        ""
    }
}

fn endpoints(count: usize) -> String {
    match count {
        1 => "one endpoint of the peer is".into(),
        _ => format!("{count} endpoints of the peer are"),
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

/// Say whether the peer names two ports of one public IPv4 address: each STUN server saw it at another one.
fn several_ports(known: &[CandidateStats]) -> bool {
    let public = |candidate: &&CandidateStats| candidate.source != "ping" && is_public(candidate.endpoint.ip());
    let mut addresses: Vec<IpAddr> = known.iter().filter(public).map(|candidate| candidate.endpoint.ip()).collect();
    let all = addresses.len();
    addresses.dedup(); // they come in order
    addresses.len() < all
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let carrier = a == 100 && (64..128).contains(&b); // RFC 6598
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || carrier)
        }
        IpAddr::V6(_) => false,
    }
}
