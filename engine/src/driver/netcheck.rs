//! What this node knows of its network: addresses by STUN, latencies, and from them its home region.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::Interest;
use slab::Slab;

use super::dns::{resolve, Answer};
use super::home::{self, History};
use super::map::RelayNode;
use super::node::{loopback, token, Node, PROBE};
use super::outbox::{Event, NetInfo};
use super::stream::Stream;
use super::{interfaces, random};
use crate::wire::stun;

/// A report is finished after this, whatever is missing.
const LIMIT: Duration = Duration::from_secs(2);
/// Requests that were not answered are sent again at these times.
const REPEATS: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(700)];
/// From then on a region whose STUN servers say nothing is measured by HTTP.
const HTTP_AFTER: Duration = Duration::from_millis(500);
/// NATs forget a mapping after 30 s at the earliest: look again before, while somebody may use it.
const FIRST_INTERVAL: Duration = Duration::from_secs(20);
const INTERVAL_JITTER: Duration = Duration::from_secs(6);
/// Nobody uses a mapping: only the home region may have to change.
const IDLE_INTERVAL: Duration = Duration::from_secs(280);
/// How often the interfaces are looked at.
const INTERFACES_EVERY: Duration = Duration::from_secs(10);
/// An answer to a latency probe is not longer than this.
const MAX_ANSWER: usize = 8 << 10;

/// Measurements of a node.
#[derive(Default)]
pub struct Netcheck {
    check: Option<Check>,
    probes: Slab<Probe>,
    /// Addresses by which STUN servers see us.
    mapped: Vec<SocketAddr>,
    mapping_varies: Option<bool>,
    local: Vec<IpAddr>,
    local_at: Option<Instant>,
    history: History,
    /// The last results, and what was last told of them.
    results: Option<NetInfo>,
    told: Option<NetInfo>,
    endpoints: Vec<SocketAddr>,
    next_at: Option<Instant>,
}

/// A measurement under way.
struct Check {
    tokens: Vec<u64>,
    started_at: Instant,
    repeats: usize,
    asked_http: bool,
    /// Names that the DNS was asked for.
    resolving: usize,
    targets: Vec<Target>,
    sent: HashMap<stun::TxId, (usize, Instant)>,
    latencies: BTreeMap<(u16, bool), Duration>,
    can_send: [bool; 2],
    info: NetInfo,
}

/// A STUN server at one address.
struct Target {
    region: u16,
    name: String,
    to: SocketAddr,
    answer: Option<SocketAddr>,
}

/// A latency measurement by HTTP.
struct Probe {
    region: u16,
    v6: bool,
    host: String,
    stream: Stream,
    asked_at: Option<Instant>,
}

impl Netcheck {
    pub fn poll_timeout(&self) -> Option<Instant> {
        let check = self.check.as_ref()?;
        let mut next = check.started_at + LIMIT;
        if let Some(repeat) = REPEATS.get(check.repeats) {
            next = next.min(check.started_at + *repeat);
        }
        if !check.asked_http {
            next = next.min(check.started_at + HTTP_AFTER);
        }
        Some(next)
    }
}

impl Node {
    /// What peers should be told, best first.
    pub fn own_endpoints(&self) -> Vec<SocketAddr> {
        if self.config.block_direct {
            return Vec::new();
        }
        let mut endpoints: Vec<SocketAddr> = Vec::new();
        let mut add = |endpoint: SocketAddr| {
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        };
        let remote = self.netcheck.mapped.iter().filter(|mapped| !loopback(mapped)).copied();
        for mapped in remote {
            add(mapped);
            // With a port of our own choice somebody may have forwarded it, whatever the NAT does for others.
            if mapped.is_ipv4() && self.netcheck.mapping_varies == Some(true) && self.config.listen_port != 0 {
                add(SocketAddr::new(mapped.ip(), self.config.listen_port));
            }
        }
        let port = |address: &IpAddr| {
            let udp = if address.is_ipv4() { &self.wire.udp4 } else { &self.wire.udp6 };
            udp.as_ref().map(|udp| udp.port())
        };
        for address in &self.netcheck.local {
            if let Some(port) = port(address) {
                add(SocketAddr::new(*address, port));
            }
        }
        endpoints
    }

    /// Tell peers and Python, if our endpoints are others than they know.
    pub fn endpoints_changed(&mut self, now: Instant) {
        let endpoints = self.own_endpoints();
        for id in self.peers.ids() {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.path.handle_own_endpoints(now, &endpoints);
            }
            self.peers.touch(id);
        }
        self.netcheck.endpoints = endpoints;
        self.report(Vec::new());
    }

    /// Measure the network; a running measurement is joined.
    pub fn begin_netcheck(&mut self, now: Instant, token: Option<u64>) {
        if let Some(check) = &mut self.netcheck.check {
            check.tokens.extend(token);
            return;
        }
        self.netcheck.local = interfaces::addresses();
        self.netcheck.local_at = Some(now);
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
        for (region, node) in unknown {
            let host = node.host_name.clone();
            resolve(self.courier.clone(), vec![host], move |engine, now, found| {
                let addresses = engine.learn_names(now, found);
                let Some(check) = &mut engine.netcheck.check else { return };
                check.resolving = check.resolving.saturating_sub(1);
                addresses.into_iter().for_each(|address| check.add_target(region, &node, address));
                engine.send_stun(now);
            });
        }
        self.netcheck.check = Some(check);
        self.send_stun(now);
        self.probe_regions(now, true);
        self.finish_netcheck(now);
    }

    /// Ask every STUN server that has not answered.
    fn send_stun(&mut self, now: Instant) {
        let Some(check) = &mut self.netcheck.check else { return };
        for (index, target) in check.targets.iter().enumerate().filter(|(_, target)| target.answer.is_none()) {
            let txid: stun::TxId = random::bytes();
            let udp = if target.to.is_ipv4() { &mut self.wire.udp4 } else { &mut self.wire.udp6 };
            let Some(udp) = udp else { continue };
            let request = stun::request(&txid);
            let dropped = udp.dropped;
            udp.push(target.to, request.len(), |room| {
                room.get_mut(..request.len())?.copy_from_slice(&request);
                Some(request.len())
            });
            udp.flush();
            check.can_send[usize::from(target.to.is_ipv6())] |= udp.dropped == dropped;
            check.sent.insert(txid, (index, now));
        }
    }

    /// A STUN packet came in.
    pub fn on_stun(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        let Some(check) = &mut self.netcheck.check else { return };
        let Some(answer) = stun::parse_answer(packet) else { return };
        let Some((index, sent_at)) = check.sent.remove(&answer.txid) else { return };
        let Some(target) = check.targets.get_mut(index) else { return };
        let latency = now.saturating_duration_since(sent_at);
        let best = check.latencies.entry((target.region, from.is_ipv6())).or_insert(latency);
        *best = latency.min(*best);
        target.answer = Some(answer.mapped);
        self.finish_netcheck(now);
    }

    /// Measure regions by HTTP: at first those without a STUN server, later those whose servers do not answer.
    fn probe_regions(&mut self, now: Instant, without_stun_only: bool) {
        let Some(check) = &self.netcheck.check else { return };
        let measured = |region: &u16| check.latencies.keys().any(|(of, _)| of == region);
        let mut wanted = Vec::new();
        for (region, described) in &self.wire.relays.map.regions {
            let stun = described.nodes.iter().any(|node| node.stun_port().is_some());
            if measured(region) || stun == without_stun_only {
                continue;
            }
            wanted.extend(described.relays().next().map(|node| (*region, node.clone())));
        }
        for (region, node) in wanted {
            if let Some(known) = self.wire.relays.names.of(now, &node) {
                if let Some(address) = known.first() {
                    self.begin_probe(now, region, &node, *address);
                }
                continue;
            }
            let Some(check) = &mut self.netcheck.check else { return };
            check.resolving += 1;
            resolve(self.courier.clone(), vec![node.host_name.clone()], move |engine, now, found| {
                let addresses = engine.learn_names(now, found);
                if let Some(check) = &mut engine.netcheck.check {
                    check.resolving = check.resolving.saturating_sub(1);
                }
                if let Some(address) = addresses.into_iter().find(|address| node.allows(*address)) {
                    engine.begin_probe(now, region, &node, address);
                }
                engine.finish_netcheck(now);
            });
        }
    }

    fn learn_names(&mut self, now: Instant, found: Vec<Answer>) -> Vec<IpAddr> {
        let mut all = Vec::new();
        for (host, addresses) in found {
            if let Ok(addresses) = addresses {
                all.extend_from_slice(&addresses);
                self.wire.relays.names.learn(now, host, addresses);
            }
        }
        all
    }

    fn begin_probe(&mut self, now: Instant, region: u16, node: &RelayNode, address: IpAddr) {
        let Ok(mut stream) = self.wire.relays.stream_to(node, address) else { return };
        let entry = self.netcheck.probes.vacant_entry();
        let id = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.register(stream.socket(), token(PROBE, id), interest).is_ok() {
            entry.insert(Probe { region, v6: address.is_ipv6(), host: node.host_header(), stream, asked_at: None });
            self.probe_ready(now, id);
        }
    }

    /// A latency probe can go on.
    pub fn probe_ready(&mut self, now: Instant, id: usize) {
        let Some(probe) = self.netcheck.probes.get_mut(id) else { return };
        match probe.turn(now, self.wire.relays.headers()) {
            Ok(None) => return,
            Ok(Some(latency)) => {
                let key = (probe.region, probe.v6);
                if let Some(check) = &mut self.netcheck.check {
                    check.latencies.insert(key, latency);
                }
            }
            Err(_) => {} // the region stays unmeasured
        }
        self.drop_probe(id);
        self.finish_netcheck(now);
    }

    fn drop_probe(&mut self, id: usize) {
        if let Some(mut probe) = self.netcheck.probes.try_remove(id) {
            let _ = self.registry.deregister(probe.stream.socket()); // closing does it as well
        }
    }

    pub fn netcheck_timers(&mut self, now: Instant) {
        let Some(check) = &mut self.netcheck.check else { return };
        let since = now.saturating_duration_since(check.started_at);
        let (mut repeat, mut ask_http) = (false, false);
        if REPEATS.get(check.repeats).is_some_and(|at| since >= *at) {
            check.repeats += 1;
            repeat = true;
        }
        if !check.asked_http && since >= HTTP_AFTER {
            check.asked_http = true;
            ask_http = true;
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
        self.netcheck.local_at = Some(now);
        self.netcheck.local = interfaces::addresses();
        self.endpoints_changed(now);
        self.begin_netcheck(now, None);
    }

    pub fn tick_netcheck(&mut self, now: Instant) {
        if self.netcheck.local_at.is_some_and(|at| now.saturating_duration_since(at) >= INTERFACES_EVERY) {
            self.netcheck.local_at = Some(now);
            let local = interfaces::addresses();
            if local != self.netcheck.local {
                self.netcheck.local = local;
                self.endpoints_changed(now);
                self.begin_netcheck(now, None);
            }
        }
        if self.wire.relays.take_home_lost() {
            self.begin_netcheck(now, None);
        }
        let due = self.netcheck.next_at.is_some_and(|at| at <= now);
        let stale = self.netcheck.next_at.is_some_and(|at| at + IDLE_INTERVAL <= now);
        if stale || (due && self.peers.iter().any(|peer| peer.active(now))) {
            self.begin_netcheck(now, None);
        }
    }

    /// Finish the measurement when nothing is missing, or its time is over.
    fn finish_netcheck(&mut self, now: Instant) {
        let Some(check) = &self.netcheck.check else { return };
        let late = now.saturating_duration_since(check.started_at) >= LIMIT;
        let answered = check.targets.iter().all(|target| target.answer.is_some());
        if !late && (!answered || check.resolving > 0 || !self.netcheck.probes.is_empty()) {
            return;
        }
        for id in self.netcheck.probes.iter().map(|(id, _)| id).collect::<Vec<_>>() {
            self.drop_probe(id);
        }
        let Some(check) = self.netcheck.check.take() else { return };
        self.netcheck.next_at = Some(now + FIRST_INTERVAL + INTERVAL_JITTER.mul_f64(random::fraction()));
        self.take_results(now, check);
    }

    fn take_results(&mut self, now: Instant, check: Check) {
        let answers = check.targets.iter().filter_map(|target| Some((target, target.answer?)));
        let answers: Vec<(&Target, SocketAddr)> = answers.collect();
        let mut mapped: Vec<SocketAddr> = Vec::new();
        for (_, answer) in &answers {
            if !mapped.contains(answer) {
                mapped.push(*answer);
            }
        }
        let v4: Vec<SocketAddr> = answers.iter().map(|(_, answer)| *answer).filter(SocketAddr::is_ipv4).collect();
        if v4.len() >= 2 {
            self.netcheck.mapping_varies = Some(v4.iter().any(|answer| *answer != v4[0]));
        }
        // Keep what STUN said before when it says nothing now: a lost packet is likelier than a lost address.
        if !mapped.is_empty() {
            mapped.sort_by_key(SocketAddr::is_ipv6);
            self.netcheck.mapped = mapped;
        }
        let measured = |v6: bool| check.latencies.keys().any(|(_, of)| *of == v6);
        let mut info = check.info;
        info.region_latency = check
            .latencies
            .iter()
            .map(|((region, v6), latency)| (format!("{region}-v{}", if *v6 { 6 } else { 4 }), latency.as_secs_f64()))
            .collect();
        info.udp = !answers.is_empty();
        (info.ipv4, info.ipv6) = (measured(false), measured(true));
        (info.ipv4_can_send, info.ipv6_can_send) = (check.can_send[0], check.can_send[1]);
        info.stun_answers = answers.iter().map(|(target, answer)| (target.name.clone(), answer.to_string())).collect();
        let first = |v6: bool| answers.iter().map(|(_, answer)| *answer).find(|answer| answer.is_ipv6() == v6);
        info.global_v4 = first(false).map(|answer| answer.to_string()).unwrap_or_default();
        info.global_v6 = first(true).map(|answer| answer.to_string()).unwrap_or_default();
        self.choose_home(now, &check.latencies);
        self.netcheck.results = Some(info);
        self.endpoints_changed(now);
        self.report(check.tokens);
    }

    fn choose_home(&mut self, now: Instant, latencies: &BTreeMap<(u16, bool), Duration>) {
        let mut current: BTreeMap<u16, Duration> = BTreeMap::new();
        let relays: Vec<u16> = self.wire.relays.map.relays().collect();
        for ((region, _), latency) in latencies.iter().filter(|((region, _), _)| relays.contains(region)) {
            let best = current.entry(*region).or_insert(*latency);
            *best = (*best).min(*latency);
        }
        let scores = &self.wire.relays.map.scores;
        let home = self.netcheck.history.choose(now, &current, scores, self.wire.relays.home);
        let fallback = || relays.get(home::any(relays.len(), random::fraction())).copied().unwrap_or(0);
        let home = home.filter(|home| relays.contains(home)).unwrap_or_else(fallback);
        self.wire.relays.set_home(now, home);
    }

    /// The home region is known before anything was measured: peers may hear of us at once.
    pub fn report_early(&mut self, now: Instant) {
        if self.netcheck.results.is_none() {
            self.netcheck.local = interfaces::addresses();
            self.netcheck.local_at = Some(now);
            self.netcheck.results = Some(NetInfo::default());
            self.endpoints_changed(now);
        }
    }

    /// Tell what is known, to whoever asked and, if it is news, to all.
    pub fn report(&mut self, tokens: Vec<u64>) {
        let Some(results) = &self.netcheck.results else { return };
        let info = NetInfo {
            preferred_region: self.wire.relays.home,
            forced_websocket: self.wire.relays.forced_websocket(),
            endpoints: self.netcheck.endpoints.iter().map(SocketAddr::to_string).collect(),
            mapping_varies_by_destination: self.netcheck.mapping_varies,
            os_has_ipv6: self.wire.udp6.is_some(),
            ..results.clone()
        };
        if self.netcheck.told.as_ref().is_none_or(|told| news(told, &info)) {
            self.netcheck.told = Some(info.clone());
            self.outbox.push(Event::NetInfo(Box::new(info.clone())));
        }
        for token in tokens {
            self.outbox.push(Event::NetInfo(Box::new(NetInfo { token, ..info.clone() })));
        }
    }
}

/// Whether anything changed but how long things take, which always does.
fn news(told: &NetInfo, info: &NetInfo) -> bool {
    let same_regions = told.region_latency.keys().eq(info.region_latency.keys());
    let timeless = |info: &NetInfo| NetInfo { region_latency: BTreeMap::new(), ..info.clone() };
    !same_regions || timeless(told) != timeless(info)
}

impl Check {
    fn new(now: Instant, token: Option<u64>) -> Self {
        Self {
            tokens: token.into_iter().collect(),
            started_at: now,
            repeats: 0,
            asked_http: false,
            resolving: 0,
            targets: Vec::new(),
            sent: HashMap::new(),
            latencies: BTreeMap::new(),
            can_send: [false; 2],
            info: NetInfo::default(),
        }
    }

    fn add_target(&mut self, region: u16, node: &RelayNode, address: IpAddr) {
        let Some(port) = node.stun_port() else { return };
        let to = SocketAddr::new(address, port);
        if node.allows(address) && !self.targets.iter().any(|target| target.to == to) {
            self.targets.push(Target { region, name: node.name.clone(), to, answer: None });
        }
    }
}

impl Probe {
    /// Go on; `Some` is the time from request to answer.
    fn turn(&mut self, now: Instant, headers: &[(String, String)]) -> std::io::Result<Option<Duration>> {
        let Some(asked_at) = self.asked_at else {
            if self.stream.connected()? && self.stream.handshaken()? {
                let mut text = format!("GET /derp/latency-check HTTP/1.1\r\nHost: {}\r\n", self.host);
                for (name, value) in headers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                text.push_str("Connection: close\r\n\r\n");
                self.stream.out().extend_from_slice(text.as_bytes());
                self.stream.flush()?;
                self.asked_at = Some(now);
            }
            return Ok(None);
        };
        self.stream.flush()?;
        let mut answer = Vec::new();
        self.stream.read(&mut answer)?;
        if answer.is_empty() {
            return Ok(None);
        }
        let head = String::from_utf8_lossy(&answer[..answer.len().min(MAX_ANSWER)]);
        let status: Option<u16> = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        if status.is_some_and(|status| (200..300).contains(&status)) {
            Ok(Some(now.saturating_duration_since(asked_at)))
        } else {
            Err(std::io::ErrorKind::InvalidData.into())
        }
    }
}
