//! What this node knows of its network: addresses by STUN, latencies, and from them its home region.

mod probe;
mod results;
mod warnings;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use slab::Slab;

use super::dns::resolve;
use super::home::History;
use super::map::RelayNode;
use super::node::Node;
use super::outbox::NetInfo;
use super::portmap::PortMap;
use super::{interfaces, random};
use crate::wire::stun;
use probe::Probe;

/// A report is finished after this, whatever is missing.
const LIMIT: Duration = Duration::from_secs(2);
/// While there is no home yet: regions that did not answer within this are not waited for.
const EARLY: Duration = Duration::from_millis(60);
/// Requests that were not answered are sent again at these times.
const REPEATS: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(700)];
/// From then on a region whose STUN servers say nothing is measured by HTTP.
const HTTP_AFTER: Duration = Duration::from_millis(500);
/// A NAT that lets a packet to our own address back in has done so by then.
const HAIRPIN_LIMIT: Duration = Duration::from_millis(150);
/// NATs forget a mapping after 30 s at the earliest: look again before, while somebody may use it.
const FIRST_INTERVAL: Duration = Duration::from_secs(20);
const INTERVAL_JITTER: Duration = Duration::from_secs(6);
/// Nobody uses a mapping: only the home region may have to change.
const IDLE_INTERVAL: Duration = Duration::from_secs(280);
/// Servers asked in one report: a map can name any number.
const MAX_TARGETS: usize = 256;

/// Measurements of a node.
#[derive(Default)]
pub struct Netcheck {
    check: Option<Check>,
    probes: Slab<Probe>,
    /// Addresses by which STUN servers see us.
    mapped: Vec<SocketAddr>,
    mapping_varies: Option<bool>,
    hairpin: Option<Hairpin>,
    hairpinning: Option<bool>,
    captive: Option<bool>,
    pub local: Vec<IpAddr>,
    history: History,
    pub portmap: PortMap,
    /// The last results, and what was last told of them.
    results: Option<NetInfo>,
    told: Option<NetInfo>,
    endpoints: Vec<SocketAddr>,
    next_at: Option<Instant>,
}

/// A packet on its way to our own public address.
struct Hairpin {
    txid: stun::TxId,
    sent_at: Instant,
}

/// A measurement under way.
struct Check {
    tokens: Vec<u64>,
    started_at: Instant,
    repeats: usize,
    asked_http: bool,
    looked_early: bool,
    /// Names that the DNS was asked for.
    resolving: usize,
    targets: Vec<StunTarget>,
    /// Servers whose name could not be resolved: region, name of the node, why.
    unresolved: Vec<(u16, String, String)>,
    sent: HashMap<stun::TxId, (usize, Instant)>,
    latencies: BTreeMap<(u16, bool), Duration>,
    /// Why regions could not be measured by HTTP.
    errors: BTreeMap<u16, String>,
    can_send: [bool; 2],
}

/// A STUN server at one address.
struct StunTarget {
    region: u16,
    name: String,
    to: SocketAddr,
    answer: Option<(SocketAddr, Duration)>,
    /// Why nothing can be sent there; it is not waited for.
    unreachable: Option<&'static str>,
}

impl Netcheck {
    pub fn poll_timeout(&self) -> Option<Instant> {
        let hairpin = self.hairpin.as_ref().map(|hairpin| hairpin.sent_at + HAIRPIN_LIMIT);
        let next = self.check.as_ref().map(Check::poll_timeout);
        [hairpin, next].into_iter().flatten().min()
    }
}

impl Node {
    /// Measure the network; a running measurement is joined.
    pub fn begin_netcheck(&mut self, now: Instant, token: Option<u64>) {
        if let Some(check) = &mut self.netcheck.check {
            check.tokens.extend(token);
            return;
        }
        self.netcheck.local = interfaces::addresses();
        let mut check = Check::new(now, token);
        let mut unknown: Vec<(u16, RelayNode)> = Vec::new();
        for (region, described) in &self.wire.relays.map.regions {
            for node in described.nodes.iter().filter(|node| node.stun_port().is_some()) {
                let fixed = node.stun_test_ip.parse().ok().map(|address| vec![address]);
                match fixed.or_else(|| self.wire.relays.names.of(now, node)) {
                    Some(known) => known.into_iter().for_each(|address| check.add_target(*region, node, address)),
                    None => unknown.push((*region, node.clone())),
                }
            }
        }
        check.resolving = unknown.len();
        self.netcheck.check = Some(check);
        self.resolve_servers(unknown);
        self.send_stun(now);
        self.probe_regions(now, true);
        self.begin_portmap(now);
        self.finish_netcheck(now);
    }

    fn resolve_servers(&mut self, unknown: Vec<(u16, RelayNode)>) {
        for (region, node) in unknown {
            resolve(self.courier.clone(), vec![node.host_name.clone()], move |engine, now, found| {
                let (addresses, error) = engine.learn_names(now, found);
                let Some(check) = &mut engine.netcheck.check else { return };
                check.resolving = check.resolving.saturating_sub(1);
                if addresses.is_empty() {
                    check.unresolved.push((region, node.name.clone(), error));
                }
                addresses.into_iter().for_each(|address| check.add_target(region, &node, address));
                engine.send_stun(now);
                engine.finish_netcheck(now);
            });
        }
    }

    /// Ask every STUN server that has not answered.
    fn send_stun(&mut self, now: Instant) {
        let Some(check) = &mut self.netcheck.check else { return };
        for (index, target) in check.targets.iter_mut().enumerate().filter(|(_, target)| target.answer.is_none()) {
            let txid: stun::TxId = random::bytes();
            let udp = if target.to.is_ipv4() { &mut self.wire.udp4 } else { &mut self.wire.udp6 };
            let Some(udp) = udp else {
                let v6 = target.to.is_ipv6();
                target.unreachable = Some(if v6 { "this machine has no IPv6" } else { "this machine has no IPv4" });
                continue;
            };
            let request = stun::request(&txid);
            let dropped = udp.dropped;
            udp.push(target.to, &request);
            udp.flush();
            let sent = udp.dropped == dropped;
            target.unreachable = (!sent).then_some("no packet can be sent there from here");
            check.can_send[usize::from(target.to.is_ipv6())] |= sent;
            check.sent.insert(txid, (index, now));
        }
    }

    /// A STUN packet came in.
    pub fn on_stun(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        if self.on_hairpin(packet) {
            self.report(Vec::new());
            self.finish_netcheck(now);
            return;
        }
        let Some(check) = &mut self.netcheck.check else { return };
        let Some(answer) = stun::parse_answer(packet) else { return };
        let Some((index, sent_at)) = check.sent.remove(&answer.txid) else { return };
        let Some(target) = check.targets.get_mut(index) else { return };
        let latency = now.saturating_duration_since(sent_at);
        let best = check.latencies.entry((target.region, from.is_ipv6())).or_insert(latency);
        *best = latency.min(*best);
        target.answer = Some((answer.mapped, latency));
        self.note_mapped_early(now, answer.mapped);
        self.ask_hairpin(now, answer.mapped);
        self.choose_home_early(now);
        self.finish_netcheck(now);
    }

    /// The first address that is learned is told at once; slower servers are not waited for.
    fn note_mapped_early(&mut self, now: Instant, mapped: SocketAddr) {
        let known = self.netcheck.mapped.iter().any(|known| known.is_ipv4() == mapped.is_ipv4());
        if !known {
            self.netcheck.mapped.push(mapped);
            self.netcheck.mapped.sort_by_key(SocketAddr::is_ipv6);
            self.endpoints_changed(now);
        }
    }

    /// Send a packet to our own public address, to see whether the NAT brings it back.
    fn ask_hairpin(&mut self, now: Instant, mapped: SocketAddr) {
        let wanted = self.netcheck.check.as_ref().is_some_and(|check| !check.tokens.is_empty());
        let unknown = self.netcheck.hairpinning.is_none();
        if mapped.is_ipv6() || self.netcheck.hairpin.is_some() || !(wanted || unknown) {
            return;
        }
        let Some(udp) = &mut self.wire.udp4 else { return };
        let txid: stun::TxId = random::bytes();
        let request = stun::request(&txid);
        udp.push(mapped, &request);
        udp.flush();
        self.netcheck.hairpin = Some(Hairpin { txid, sent_at: now });
    }

    fn on_hairpin(&mut self, packet: &[u8]) -> bool {
        let Some(hairpin) = &self.netcheck.hairpin else { return false };
        let ours = stun::parse_request(packet).is_some_and(|txid| txid == hairpin.txid);
        if ours {
            (self.netcheck.hairpin, self.netcheck.hairpinning) = (None, Some(true));
        }
        ours
    }

    pub fn netcheck_timers(&mut self, now: Instant) {
        let late = |hairpin: &Hairpin| now.saturating_duration_since(hairpin.sent_at) >= HAIRPIN_LIMIT;
        if self.netcheck.hairpin.as_ref().is_some_and(late) {
            (self.netcheck.hairpin, self.netcheck.hairpinning) = (None, Some(false));
            self.report(Vec::new());
        }
        let Some(check) = &mut self.netcheck.check else { return };
        let since = now.saturating_duration_since(check.started_at);
        let early = !check.looked_early && since >= EARLY;
        check.looked_early |= early;
        let repeat = REPEATS.get(check.repeats).is_some_and(|at| since >= *at);
        check.repeats += usize::from(repeat);
        let ask_http = !check.asked_http && since >= HTTP_AFTER;
        check.asked_http |= ask_http;
        if early {
            self.choose_home_early(now);
        }
        if repeat {
            self.send_stun(now);
        }
        if ask_http {
            self.probe_regions(now, false);
        }
        self.finish_netcheck(now);
    }

    /// The interfaces have other addresses than before, or packets take other ways.
    pub fn interfaces_changed(&mut self, now: Instant) {
        self.forget_nat();
        self.netcheck.local = interfaces::addresses();
        self.endpoints_changed(now);
        self.begin_netcheck(now, None);
    }

    pub fn tick_netcheck(&mut self, now: Instant) {
        if self.wire.relays.take_home_lost() {
            self.begin_netcheck(now, None);
        }
        let due = self.netcheck.next_at.is_some_and(|at| at <= now);
        let stale = self.netcheck.next_at.is_some_and(|at| at + IDLE_INTERVAL <= now);
        if stale || (due && self.peers.iter().any(|peer| peer.active(now))) {
            self.begin_netcheck(now, None);
        }
        self.tick_portmap(now);
    }

    /// What was found out about the NAT may not hold any more.
    pub fn forget_nat(&mut self) {
        (self.netcheck.hairpinning, self.netcheck.captive) = (None, None);
        self.netcheck.portmap.network_changed();
    }

    /// Finish the measurement when nothing is missing, or its time is over.
    fn finish_netcheck(&mut self, now: Instant) {
        let Some(check) = &self.netcheck.check else { return };
        let late = now.saturating_duration_since(check.started_at) >= LIMIT;
        let asked = !check.tokens.is_empty();
        let answered = check.targets.iter().all(|target| target.answer.is_some() || target.unreachable.is_some());
        let waits = check.resolving > 0
            || !self.netcheck.probes.is_empty()
            || (asked && (self.netcheck.hairpin.is_some() || self.netcheck.portmap.busy()));
        if !late && (!answered || waits) {
            return;
        }
        self.drop_probes();
        let Some(check) = self.netcheck.check.take() else { return };
        self.netcheck.next_at = Some(now + FIRST_INTERVAL + INTERVAL_JITTER.mul_f64(random::fraction()));
        self.take_results(now, check);
    }
}

impl Check {
    fn new(now: Instant, token: Option<u64>) -> Self {
        Self {
            tokens: token.into_iter().collect(),
            started_at: now,
            repeats: 0,
            asked_http: false,
            looked_early: false,
            resolving: 0,
            targets: Vec::new(),
            unresolved: Vec::new(),
            sent: HashMap::new(),
            latencies: BTreeMap::new(),
            errors: BTreeMap::new(),
            can_send: [false; 2],
        }
    }

    fn poll_timeout(&self) -> Instant {
        let at = |after: Duration| self.started_at + after;
        let repeat = REPEATS.get(self.repeats).map(|after| at(*after));
        let http = (!self.asked_http).then(|| at(HTTP_AFTER));
        let early = (!self.looked_early).then(|| at(EARLY));
        [Some(at(LIMIT)), repeat, http, early].into_iter().flatten().min().unwrap_or_else(|| at(LIMIT))
    }

    fn add_target(&mut self, region: u16, node: &RelayNode, address: IpAddr) {
        let Some(port) = node.stun_port() else { return };
        let to = SocketAddr::new(address, port);
        let known = self.targets.iter().any(|target| target.to == to);
        if node.allows(address) && !known && self.targets.len() < MAX_TARGETS {
            let name = node.name.clone();
            self.targets.push(StunTarget { region, name, to, answer: None, unreachable: None });
        }
    }
}
