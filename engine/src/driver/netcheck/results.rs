//! What a measurement means: our endpoints, the home region, and the report.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::home;
use super::super::node::{loopback, Node};
use super::super::outbox::{Event, NetInfo, StunServer};
use super::super::{interfaces, random};
use super::{Check, StunTarget, EARLY};

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
        self.netcheck.portmap.external().into_iter().for_each(&mut add);
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

    /// Whether our NAT is known to give every destination another port.
    pub fn own_nat_varies(&self) -> bool {
        self.netcheck.mapping_varies == Some(true)
    }

    /// Tell peers and Python, if our endpoints are others than they know.
    pub fn endpoints_changed(&mut self, now: Instant) {
        let (endpoints, varies) = (self.own_endpoints(), self.own_nat_varies());
        for id in self.peers.ids() {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.path.handle_own_endpoints(now, &endpoints);
                peer.path.handle_own_nat(varies);
            }
            self.peers.touch(id);
        }
        self.netcheck.endpoints = endpoints;
        self.report(Vec::new());
    }

    pub(super) fn take_results(&mut self, now: Instant, check: Check) {
        let answers: Vec<SocketAddr> = check.targets.iter().filter_map(|target| Some(target.answer?.0)).collect();
        let mut mapped: Vec<SocketAddr> = Vec::new();
        for answer in &answers {
            if !mapped.contains(answer) {
                mapped.push(*answer);
            }
        }
        let v4: Vec<&SocketAddr> = answers.iter().filter(|answer| answer.is_ipv4()).collect();
        if v4.len() >= 2 {
            self.netcheck.mapping_varies = Some(v4.iter().any(|answer| *answer != v4[0]));
        }
        // Keep what STUN said before when it says nothing now: a lost packet is likelier than a lost address.
        if !mapped.is_empty() {
            mapped.sort_by_key(SocketAddr::is_ipv6);
            self.netcheck.mapped = mapped;
        }
        self.choose_home(now, &check.latencies);
        self.netcheck.results = Some(describe(&check, &answers));
        self.endpoints_changed(now);
        self.report(check.tokens);
    }

    fn choose_home(&mut self, now: Instant, latencies: &BTreeMap<(u16, bool), Duration>) {
        let relays = &self.wire.relays;
        let (home, standby) = (relays.home, relays.standby);
        // A region whose relay does not work may still answer STUN.
        let usable = |region: &u16| *region == home || !relays.failing(now, *region);
        let regions: Vec<u16> = relays.map.relays().filter(usable).collect();
        let mut current: BTreeMap<u16, Duration> = BTreeMap::new();
        for ((region, _), latency) in latencies.iter().filter(|((region, _), _)| regions.contains(region)) {
            let best = current.entry(*region).or_insert(*latency);
            *best = (*best).min(*latency);
        }
        if relays.failing(now, home) && current.len() > 1 {
            current.remove(&home);
        }
        let chosen = self.netcheck.history.choose(now, &current, &relays.map.scores, home);
        let fallback = || regions.get(home::any(regions.len(), random::fraction())).copied().unwrap_or(0);
        let chosen = chosen.filter(|region| regions.contains(region)).unwrap_or_else(fallback);
        let others: Vec<u16> = regions.into_iter().filter(|region| *region != chosen).collect();
        let standby = home::second(&others, &current, &relays.map.scores, standby);
        self.wire.relays.set_home(now, chosen);
        self.wire.relays.set_standby(now, standby.unwrap_or(0));
    }

    /// At the start live by the nearest region as soon as it shows, rather than when the last server has answered.
    pub(super) fn choose_home_early(&mut self, now: Instant) {
        let Some(check) = &self.netcheck.check else { return };
        if self.wire.relays.home != 0 {
            return;
        }
        let measured = |region: &u16| check.latencies.keys().any(|(of, _)| of == region);
        let relays = self.wire.relays.map.relays();
        let (seen, unseen): (Vec<u16>, Vec<u16>) = relays.partition(measured);
        let patient = now.saturating_duration_since(check.started_at) < EARLY;
        if seen.is_empty() || (!unseen.is_empty() && patient) {
            return;
        }
        let latencies = check.latencies.clone();
        self.choose_home(now, &latencies);
        self.report_early(now);
    }

    /// The home region is known before everything was measured: peers may hear of us at once.
    pub fn report_early(&mut self, now: Instant) {
        if self.netcheck.results.is_none() {
            self.netcheck.local = interfaces::addresses();
            self.netcheck.results = Some(NetInfo::default());
            self.endpoints_changed(now);
        }
    }

    /// Tell what is known, to whoever asked and, if it is news, to all.
    pub fn report(&mut self, tokens: Vec<u64>) {
        let Some(results) = &self.netcheck.results else { return };
        let relays = &self.wire.relays;
        let mut region_errors = relays.problems();
        region_errors.extend(results.region_errors.clone());
        let mut info = NetInfo {
            preferred_region: relays.home,
            standby_region: relays.standby,
            forced_websocket: relays.forced_websocket(),
            endpoints: self.netcheck.endpoints.iter().map(SocketAddr::to_string).collect(),
            mapping_varies_by_destination: self.netcheck.mapping_varies,
            os_has_ipv6: self.wire.udp6.is_some(),
            hairpinning: self.netcheck.hairpinning,
            captive_portal: if relays.connected() { Some(false) } else { self.netcheck.captive },
            port_mapping: self.netcheck.portmap.view(),
            region_errors,
            ..results.clone()
        };
        let wanted_port = self.config.listen_port;
        info.warnings = super::warnings::warnings(&info, wanted_port, self.local_port());
        if self.netcheck.told.as_ref().is_none_or(|told| news(told, &info)) {
            self.netcheck.told = Some(info.clone());
            self.outbox.push(Event::NetInfo(Box::new(info.clone())));
        }
        for token in tokens {
            self.outbox.push(Event::NetInfo(Box::new(NetInfo { token, ..info.clone() })));
        }
    }
}

/// Write down what a measurement found.
fn describe(check: &Check, answers: &[SocketAddr]) -> NetInfo {
    let measured = |v6: bool| check.latencies.keys().any(|(_, of)| *of == v6);
    let first = |v6: bool| answers.iter().find(|answer| answer.is_ipv6() == v6).map(SocketAddr::to_string);
    let named = |target: &StunTarget| Some((target.name.clone(), target.answer?.0.to_string()));
    let latency = |((region, v6), latency): (&(u16, bool), &Duration)| {
        (format!("{region}-v{}", if *v6 { 6 } else { 4 }), latency.as_secs_f64())
    };
    NetInfo {
        region_latency: check.latencies.iter().map(latency).collect(),
        udp: !answers.is_empty(),
        ipv4: measured(false),
        ipv6: measured(true),
        ipv4_can_send: check.can_send[0],
        ipv6_can_send: check.can_send[1],
        global_v4: first(false).unwrap_or_default(),
        global_v6: first(true).unwrap_or_default(),
        stun_answers: check.targets.iter().filter_map(named).collect(),
        stun_servers: servers(check),
        region_errors: check.errors.clone(),
        ..NetInfo::default()
    }
}

fn servers(check: &Check) -> Vec<StunServer> {
    let asked = check.targets.iter().map(|target| StunServer {
        region: target.region,
        name: target.name.clone(),
        address: target.to.to_string(),
        mapped: target.answer.map(|(mapped, _)| mapped.to_string()).unwrap_or_default(),
        latency: target.answer.map(|(_, latency)| latency),
        error: match (target.answer, target.unreachable) {
            (Some(_), _) => String::new(),
            (None, Some(reason)) => reason.into(),
            (None, None) => "no answer".into(),
        },
    });
    let unresolved = check.unresolved.iter().map(|(region, name, error)| StunServer {
        region: *region,
        name: name.clone(),
        error: error.clone(),
        ..StunServer::default()
    });
    asked.chain(unresolved).collect()
}

/// Whether anything changed but how long things take, which always does.
fn news(told: &NetInfo, info: &NetInfo) -> bool {
    let same_regions = told.region_latency.keys().eq(info.region_latency.keys());
    let timeless = |info: &NetInfo| {
        let mut info = NetInfo { region_latency: BTreeMap::new(), ..info.clone() };
        info.stun_servers.iter_mut().for_each(|server| server.latency = None);
        info
    };
    !same_regions || timeless(told) != timeless(info)
}
