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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;

    fn granted(port: u16) -> Found {
        let lease = Lease {
            means: Means::NatPmp,
            gateway: Ipv4Addr::new(192, 168, 1, 1),
            own: Ipv4Addr::new(192, 168, 1, 2),
            internal: 4000,
            external: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 5), port),
            lifetime: Duration::from_secs(7200),
        };
        Found { lease: Some(lease), nat_pmp: Some(true), ..Found::default() }
    }

    fn silent() -> Found {
        Found { pcp: Some(false), nat_pmp: Some(false), upnp: Some(false), ..Found::default() }
    }

    #[test]
    fn a_lease_is_renewed_at_half_its_time_and_kept_until_it_ends() {
        let (start, mut portmap) = (Instant::now(), PortMap::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(portmap.answered(start, granted(4000)));
        assert_eq!(portmap.next_at, Some(after(3600)));
        assert!(!portmap.answered(after(3600), silent()), "a gateway that restarts may answer in a minute");
        assert_eq!(portmap.next_at, Some(after(3660)));
        assert!(portmap.answered(after(3660), granted(4001)), "it gave another port");
        assert!(!portmap.answered(after(3660 + 7199), silent()));
        assert!(portmap.answered(after(3660 + 7200), silent()), "now it has forgotten us");
        assert_eq!((portmap.external(), portmap.view().protocol), (None, String::new()));
    }

    #[test]
    fn another_network_makes_an_old_lease_worthless_unless_it_is_confirmed() {
        let (now, mut portmap) = (Instant::now(), PortMap::default());
        portmap.answered(now, granted(4000));
        portmap.network_changed();
        assert_eq!(portmap.next_at, None, "ask at once");
        assert!(!portmap.answered(now, granted(4000)));
        portmap.network_changed();
        assert!(portmap.answered(now, silent()));
        assert_eq!(portmap.view().reason, "none of PCP, NAT-PMP, UPnP answered");
    }

    #[test]
    fn what_a_person_is_told() {
        let mut portmap = PortMap { idle: "port mapping is switched off", ..PortMap::default() };
        assert_eq!(portmap.view().reason, "port mapping is switched off");
        portmap.answered(Instant::now(), granted(4000));
        let view = portmap.view();
        assert_eq!((&view.protocol[..], &view.external[..], &view.reason[..]), ("NAT-PMP", "203.0.113.5:4000", ""));
        portmap.network_changed();
        let refused = Found { refusals: vec!["PCP: result 2".into()], ..silent() };
        portmap.answered(Instant::now(), refused);
        assert_eq!(portmap.view().reason, "the gateway granted no port (PCP: result 2)");
    }
}
