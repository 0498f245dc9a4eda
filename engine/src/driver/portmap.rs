//! A port of the gateway's that leads to us, by PCP, NAT-PMP or UPnP: asked for, published, renewed and given back.
//!
//! What gateways are asked waits for answers, so a thread of its own does it and brings the outcome as a command.

mod gateway;
mod natpmp;
mod pcp;
mod search;
mod upnp;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::node::Node;
use super::outbox::PortMapping;
use search::{Found, Lease, Means};

/// A gateway that grants nothing is asked again after this; it may have been configured since.
const AGAIN: Duration = Duration::from_secs(600);
/// A lease is not renewed more often than this, whatever a gateway grants.
const SHORTEST: Duration = Duration::from_secs(60);

/// What is known of port mapping.
#[derive(Default)]
pub struct PortMap {
    lease: Option<Lease>,
    /// When the gateway will have forgotten it.
    lease_until: Option<Instant>,
    found: Option<Found>,
    /// Why nothing is asked.
    idle: &'static str,
    running: bool,
    /// Which network the thread was sent out in: what it brings from an earlier one is of no use.
    generation: u64,
    next_at: Option<Instant>,
}

impl PortMap {
    /// Where the gateway lets peers reach us.
    pub fn external(&self) -> Option<SocketAddr> {
        self.lease.as_ref().map(|lease| lease.external.into())
    }

    /// Whether an answer is awaited.
    pub fn busy(&self) -> bool {
        self.running
    }

    /// The gateway may be another one: ask again, and believe in what was granted only if that is confirmed.
    pub fn network_changed(&mut self) {
        self.generation += 1;
        (self.lease_until, self.running, self.next_at) = (None, false, None);
    }

    /// What a person is told.
    pub fn view(&self) -> PortMapping {
        let Some(found) = &self.found else {
            return PortMapping { reason: self.idle.into(), ..PortMapping::default() };
        };
        let protocol = match self.lease.as_ref().map(|lease| &lease.means) {
            Some(Means::Pcp { .. }) => "PCP",
            Some(Means::NatPmp) => "NAT-PMP",
            Some(Means::Upnp { .. }) => "UPnP",
            None => "",
        };
        let reason = match (&self.lease, found.refusals.as_slice()) {
            (Some(_), _) => String::new(),
            (None, []) if [found.pcp, found.nat_pmp, found.upnp].contains(&Some(true)) => {
                "the gateway granted no port".into()
            }
            (None, []) => "none of PCP, NAT-PMP, UPnP answered".into(),
            (None, refusals) => format!("the gateway granted no port ({})", refusals.join("; ")),
        };
        PortMapping {
            protocol: protocol.into(),
            external: self.external().map(|external| external.to_string()).unwrap_or_default(),
            reason,
            pcp: found.pcp,
            nat_pmp: found.nat_pmp,
            upnp: found.upnp,
        }
    }

    /// Give the port back: the engine closes.
    pub fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            search::release(&lease);
        }
    }

    fn answered(&mut self, now: Instant, found: Found) -> bool {
        let before = self.external();
        self.running = false;
        let pause = match &found.lease {
            Some(lease) => {
                self.lease = Some(lease.clone());
                self.lease_until = Some(now + lease.lifetime);
                lease.lifetime / 2
            }
            // A gateway that says nothing this time has not taken back what it granted.
            None if self.lease_until.is_some_and(|until| until > now) => Duration::ZERO,
            None => {
                (self.lease, self.lease_until) = (None, None);
                AGAIN
            }
        };
        self.next_at = Some(now + pause.max(SHORTEST));
        self.found = Some(found);
        before != self.external()
    }
}

impl Node {
    /// Ask the gateway for a port, unless that was done.
    pub fn begin_portmap(&mut self, now: Instant) {
        let portmap = &mut self.netcheck.portmap;
        let behind = self.netcheck.local.iter().any(private);
        portmap.idle = match (self.config.port_mapping, self.config.block_direct, behind) {
            (false, ..) => "port mapping is switched off",
            (_, true, _) => "direct connections are blocked",
            (.., false) => "this machine is not behind a NAT",
            _ => "the gateway was not asked yet",
        };
        let allowed = self.config.port_mapping && !self.config.block_direct && behind;
        let due = portmap.next_at.is_none_or(|at| at <= now);
        let port = self.wire.udp4.as_ref().map(super::udp::UdpPort::port);
        let (true, true, false, Some(port)) = (allowed, due, portmap.running, port) else { return };
        let (generation, old, courier) = (portmap.generation, portmap.lease.clone(), self.courier.clone());
        let ask = move || {
            let found = search::search(gateway::default(), port, old.as_ref());
            // An error means that the engine has closed: what was granted is given back.
            let lease = found.lease.clone();
            let told = courier.send(Box::new(move |node, now| node.portmap_answered(now, generation, found)));
            if let (Err(_), Some(lease)) = (told, lease) {
                search::release(&lease);
            }
        };
        let thread = std::thread::Builder::new().name("warren-portmap".into()).spawn(ask);
        self.netcheck.portmap.running = thread.is_ok();
    }

    fn portmap_answered(&mut self, now: Instant, generation: u64, found: Found) {
        if self.netcheck.portmap.generation != generation {
            return;
        }
        if self.netcheck.portmap.answered(now, found) {
            self.endpoints_changed(now);
        } else {
            self.report(Vec::new());
        }
        self.netcheck_timers(now); // a report may have waited for this
    }

    /// Renew what runs out.
    pub fn tick_portmap(&mut self, now: Instant) {
        if self.netcheck.portmap.next_at.is_some_and(|at| at <= now) {
            self.begin_portmap(now);
        }
    }
}

/// Whether an address is one that a NAT stands before.
fn private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_private() || v4.is_link_local() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64)
        }
        IpAddr::V6(_) => false,
    }
}
