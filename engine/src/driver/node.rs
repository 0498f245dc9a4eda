//! The node: what happens when a socket is readable, a timer fires or Python asks.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event as Ready;
use mio::{Events, Interest, Poll, Registry, Token};

use super::capture::Capture;
use super::datagrams::Datagrams;
use super::flows::Flows;
use super::incoming::Slab;
use super::kernel::KernelStack;
use super::loopback::Attempts;
use super::netcheck::Netcheck;
use super::outbox::Outbox;
use super::outgoing::Outgoing;
use super::peers::Peers;
use super::relays::Relays;
use super::roam::Watch;
use super::udp::{Inbox, UdpPort};
use super::{random, Command, Config, Courier, Totals};
use crate::kernel::Kernel;
use crate::netstack::device::Batch;
use crate::netstack::fragment::Reassembly;
use crate::netstack::{Netstack, Options};
use crate::path::Source;
use crate::tunnel::{Gate, Identity, Sources};
use crate::wire::keys;

pub const WAKE: Token = Token(0);
const UDP_V4: Token = Token(1);
const UDP_V6: Token = Token(2);
pub const NETWORK: Token = Token(3);

/// Tokens above the fixed ones: a class, and a number within it.
pub const FLOW: usize = 1;
pub const PENDING: usize = 2;
pub const DATAGRAM: usize = 3;
pub const RELAY: usize = 4;
pub const PROBE: usize = 5;
pub const DEVICE: usize = 16;
pub const DIAL: usize = 17;
pub const LISTENER: usize = 18;
const CLASS_SHIFT: u32 = 40;

pub fn token(class: usize, number: usize) -> Token {
    Token(class << CLASS_SHIFT | number)
}

/// Housekeeping: handshakes, idle connections, silent relays.
const TICK: Duration = Duration::from_secs(1);
/// While somebody waits for a ping or a connection, whose deadlines are looked at with it.
const QUICK_TICK: Duration = Duration::from_millis(100);
/// After it was told to stop: what programs wrote before they closed its connections has this long to arrive.
const GRACE: Duration = Duration::from_millis(800);
const LOOK_AT_ENDING: Duration = Duration::from_millis(10);
/// Receive calls before other work gets its turn.
const RECEIVES: usize = 8;
/// The most that a peer may have on its way to one connection: 1 Gbit/s at 100 ms, and what was lost more than once to
/// wait for. With half of it, 1 % of loss at 20 ms cost a third more.
const MAX_WINDOW: usize = 64 << 20;

/// The UDP sockets and relays by which packets leave.
pub struct Wire {
    pub udp4: Option<UdpPort>,
    pub udp6: Option<UdpPort>,
    pub relays: Relays,
}

impl Wire {
    pub fn udp(&mut self, to: &SocketAddr) -> Option<&mut UdpPort> {
        if to.is_ipv4() {
            self.udp4.as_mut()
        } else {
            self.udp6.as_mut()
        }
    }

    pub fn flush(&mut self, now: Instant) {
        self.udp4.iter_mut().chain(self.udp6.iter_mut()).for_each(UdpPort::flush);
        self.relays.flush(now);
    }

    /// Send a datagram in no batch: one that turns out to be too large takes no others with it.
    pub fn send_alone(&mut self, now: Instant, to: Source, key: &keys::Key, bytes: &[u8]) {
        if let Source::Udp(endpoint) = to {
            self.udp(&endpoint).into_iter().for_each(UdpPort::flush);
        }
        self.send(now, to, key, bytes);
        if let Source::Udp(endpoint) = to {
            self.udp(&endpoint).into_iter().for_each(UdpPort::flush);
        }
    }

    /// Send a datagram as it is.
    pub fn send(&mut self, now: Instant, to: Source, key: &keys::Key, bytes: &[u8]) {
        match to {
            Source::Udp(to) => {
                if let Some(udp) = self.udp(&to) {
                    udp.push(to, bytes);
                }
            }
            Source::Relay { region } => self.relays.send(now, region, key, bytes),
        }
    }
}

/// One node of the network, on its own thread.
pub struct Node {
    pub config: Config,
    pub identity: Arc<Identity>,
    pub public_key: keys::Key,
    pub disco_public_key: keys::Key,
    poll: Poll,
    pub registry: Registry,
    pub outbox: Arc<Outbox>,
    commands: Receiver<Command>,
    pub courier: Courier,
    pub wire: Wire,
    pub peers: Peers,
    pub gate: Gate,
    pub netstack: Netstack,
    /// The kernel's TCP, where it is used instead of `netstack`.
    pub kernel: Option<Box<KernelStack>>,
    pub reassembly: Reassembly,
    pub flows: Flows,
    pub attempts: Attempts,
    pub datagrams: Datagrams,
    pub netcheck: Netcheck,
    pub watch: Watch,
    pub capture: Option<Capture>,
    pub totals: Totals,
    pub slab: Slab,
    pub out: Batch,
    pub outgoing: Outgoing,
    inbox: Inbox,
    udp_readable: [bool; 2],
    tick_at: Instant,
    stopping: bool,
    pub pings: HashMap<u64, super::pings::PendingPing>,
}

impl Node {
    /// Bind the sockets. The error is a sentence.
    pub fn new(
        config: Config,
        kernel: Option<Kernel>,
        poll: Poll,
        outbox: Arc<Outbox>,
        commands: Receiver<Command>,
        courier: Courier,
    ) -> Result<Self, String> {
        let registry = poll.registry().try_clone().map_err(|error| format!("no poll: {error}"))?;
        let (udp4, udp6) = bind(&registry, config.listen_port)?;
        let now = Instant::now();
        let options = Options { mtu: config.mtu, max_window: MAX_WINDOW, seed: u64::from_le_bytes(random::bytes()) };
        let kernel = kernel.map(|kernel| KernelStack::new(kernel, &registry).map(Box::new)).transpose();
        let kernel = kernel.map_err(|error| format!("no poll: {error}"))?;
        let public_key = keys::public_key(&config.private_key);
        let identity = Identity::new(&config.private_key, Sources { random: random::fill, wall: time_of_day });
        let relays = Relays::new(&config, public_key, &registry, outbox.clone(), courier.clone())?;
        Ok(Self {
            public_key,
            disco_public_key: keys::public_key(&config.disco_private_key),
            poll,
            outbox,
            commands,
            courier,
            wire: Wire { udp4, udp6, relays },
            peers: Peers::new(),
            gate: Gate::new(now, identity.clone()),
            identity,
            netstack: Netstack::new(now, options),
            kernel,
            reassembly: Reassembly::default(),
            flows: Flows::default(),
            attempts: Attempts::default(),
            datagrams: Datagrams::default(),
            netcheck: Netcheck::default(),
            watch: Watch::new(now, &registry),
            capture: None,
            totals: Totals::default(),
            slab: Slab::new(),
            out: Batch::default(),
            outgoing: Outgoing::new(),
            inbox: Inbox::new(),
            udp_readable: [false; 2],
            tick_at: now,
            stopping: false,
            pings: HashMap::new(),
            registry,
            config,
        })
    }

    pub fn local_port(&self) -> u16 {
        self.wire.udp4.as_ref().or(self.wire.udp6.as_ref()).map_or(0, UdpPort::port)
    }

    /// Somebody waits from now on: look at deadlines sooner.
    pub fn tick_soon(&mut self, now: Instant) {
        self.tick_at = self.tick_at.min(now + QUICK_TICK);
    }

    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Work until told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(512);
        while !self.stopping && self.turn(&mut events, TICK) {}
        let until = Instant::now() + GRACE;
        while self.ending() && Instant::now() < until && self.turn(&mut events, LOOK_AT_ENDING) {}
        self.reset_everything(Instant::now());
        self.netcheck.portmap.release();
        self.flush(Instant::now());
    }

    /// Wait for something to do, at most so long, and do it; false when that is impossible.
    fn turn(&mut self, events: &mut Events, longest: Duration) -> bool {
        let timeout = self.timeout(Instant::now()).min(longest);
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return false, // the poll itself is broken
            _ => {}
        }
        let now = Instant::now();
        for event in &*events {
            self.ready(now, event);
        }
        if now.saturating_duration_since(self.tick_at) >= TICK {
            // Before anything is read: what waited while this process was stopped is of the past.
            self.tick_clock(now);
        }
        while let Ok(command) = self.commands.try_recv() {
            command(self, now);
        }
        self.receive_udp(now);
        self.relays_turn(now);
        self.device_turn(now);
        self.timers(now);
        self.serve_ready(now);
        self.settle(now);
        true
    }

    fn timeout(&self, now: Instant) -> Duration {
        let busy = self.udp_readable[0] || self.udp_readable[1] || self.flows.busy() || self.wire.relays.busy();
        if busy || self.kernel.as_ref().is_some_and(|kernel| kernel.busy()) {
            return Duration::ZERO;
        }
        let timers = [
            Some(self.tick_at),
            Some(self.watch.poll_timeout()),
            self.netstack.poll_timeout(),
            self.peers.poll_timeout(),
            self.netcheck.poll_timeout(),
            self.wire.relays.poll_timeout(),
        ];
        let next = timers.into_iter().flatten().min().unwrap_or(self.tick_at);
        next.saturating_duration_since(now)
    }

    fn ready(&mut self, now: Instant, event: &Ready) {
        let Token(raw) = event.token();
        let number = raw & ((1 << CLASS_SHIFT) - 1);
        match (raw >> CLASS_SHIFT, number) {
            (0, 1 | 2) => {
                self.udp_readable[number - 1] |= event.is_readable();
                if event.is_writable() {
                    let udp = if number == 1 { &mut self.wire.udp4 } else { &mut self.wire.udp6 };
                    udp.iter_mut().for_each(UdpPort::resume);
                }
            }
            (0, 3) => self.watch.ready(now),
            (FLOW, id) => self.flow_ready(id, event),
            (PENDING, id) => self.pending_ready(now, id),
            (DATAGRAM, id) => self.datagram_ready(now, id),
            (RELAY, region) => self.wire.relays.ready(region, event),
            (PROBE, id) => self.probe_ready(now, id),
            (DEVICE, _) => self.kernel.iter_mut().for_each(|kernel| kernel.wake()),
            (DIAL, id) => self.dial_ready(id),
            (LISTENER, port) => self.listener_ready(port as u16),
            _ => {}
        }
    }

    fn timers(&mut self, now: Instant) {
        while let Some(id) = self.netstack.next_due(now) {
            self.flows.push(id);
        }
        while let Some(id) = self.peers.next_due(now) {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.path.handle_timeout(now);
                self.peers.touch(id);
            }
            self.retry_handshake(now, id);
        }
        self.netcheck_timers(now);
        self.watch_network(now);
        if self.wire.relays.poll_timeout().is_some_and(|at| at <= now) {
            self.tick_relays(now);
        }
        if now < self.tick_at {
            return;
        }
        let waited_for = !self.pings.is_empty() || self.opening();
        self.tick_at = now + if waited_for { QUICK_TICK } else { TICK };
        self.tick_clock(now);
        self.tick_sessions(now);
        self.tick_pings(now);
        self.tick_flows(now);
        self.tick_attempts(now);
        self.tick_datagrams(now);
        self.tick_relays(now);
        self.tick_netcheck(now);
    }

    /// Send what the peers' paths want sent, tell what they tell, and let everything leave.
    fn settle(&mut self, now: Instant) {
        while let Some(id) = self.peers.next_touched() {
            self.drain_path(now, id);
        }
        self.flush(now);
        self.note_refusals(now);
        self.feed_starved(now);
        self.feed_held(now);
    }

    fn receive_udp(&mut self, now: Instant) {
        for family in 0..2 {
            for _ in 0..RECEIVES {
                if !self.udp_readable[family] {
                    break;
                }
                let mut inbox = std::mem::replace(&mut self.inbox, Inbox::empty());
                let udp = if family == 0 { &self.wire.udp4 } else { &self.wire.udp6 };
                match udp.as_ref().map(|udp| udp.receive(&mut inbox)) {
                    Some(Ok(count)) => {
                        for (from, datagrams) in inbox.datagrams(count) {
                            self.on_udp(now, from, datagrams);
                        }
                        self.inbox = inbox;
                        self.end_of_batch(now);
                    }
                    // An ICMP error about an earlier send is reported here; it says nothing about what is next.
                    Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => self.inbox = inbox,
                    _ => {
                        self.udp_readable[family] = false;
                        self.inbox = inbox;
                    }
                }
            }
        }
    }

    /// All datagrams of one receive call were looked at: let the connections work on what they got.
    pub fn end_of_batch(&mut self, now: Instant) {
        // The clock is read after the packets were: a round trip must never seem shorter than it was.
        let now = now.max(Instant::now());
        while let Some(id) = self.flows.next_fed() {
            self.feed(now, id);
        }
        self.feed_kernel(now);
        self.slab.used = 0;
        self.flush(now);
    }

    /// The network changed: new sockets, and everything that depends on them is proven again.
    pub fn rebind(&mut self, now: Instant, why: &str) {
        let port = self.local_port();
        let _ = [&mut self.wire.udp4, &mut self.wire.udp6].map(|udp| {
            if let Some(mut udp) = udp.take() {
                let _ = self.registry.deregister(udp.socket()); // it is closed in any case
            }
        });
        if let Ok((udp4, udp6)) = bind(&self.registry, port) {
            (self.wire.udp4, self.wire.udp6) = (udp4, udp6);
        }
        for id in self.peers.ids() {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.path.handle_rebind(now, why);
                self.peers.touch(id);
            }
        }
        self.wire.relays.rebind(now);
        self.forget_nat();
        self.begin_netcheck(now, None);
    }

    /// Our address to use towards `remote`: one with the same prefix, else the first.
    pub fn source_for(&self, remote: &Ipv6Addr) -> Option<Ipv6Addr> {
        let same = |own: &&Ipv6Addr| own.octets()[..6] == remote.octets()[..6];
        self.config.addresses.iter().find(same).or(self.config.addresses.first()).copied()
    }

    /// Begin or end writing inner packets to a file.
    pub fn set_capture(&mut self, fd: Option<OwnedFd>) {
        self.capture = fd.map(Capture::new);
    }

    /// What the node has done so far.
    pub fn totals(&self) -> Totals {
        let udp = self.wire.udp4.iter().chain(&self.wire.udp6).map(|udp| udp.dropped).sum::<u64>();
        let mut totals = self.totals.clone();
        totals.dropped_packets += udp + self.wire.relays.dropped();
        totals.tcp_flows = self.connections() as u64;
        totals.udp_flows = self.datagrams.len() as u64;
        totals
    }
}

/// The time since 1970 began.
fn time_of_day() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Bind both families, on one port where that is possible.
fn bind(registry: &Registry, port: u16) -> Result<(Option<UdpPort>, Option<UdpPort>), String> {
    let udp4 = UdpPort::bind(false, port, false);
    let port = udp4.as_ref().map_or(port, UdpPort::port);
    let udp6 = UdpPort::bind(true, port, false);
    let (mut udp4, mut udp6) = match (udp4, udp6) {
        (Err(error), Err(_)) => return Err(format!("no UDP socket: {error}")),
        (udp4, udp6) => (udp4.ok(), udp6.ok()),
    };
    for (udp, token) in [(&mut udp4, UDP_V4), (&mut udp6, UDP_V6)] {
        if let Some(udp) = udp {
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(udp.socket(), token, interest).map_err(|error| format!("no poll: {error}"))?;
        }
    }
    Ok((udp4, udp6))
}

/// Whether an address is of this machine only.
pub fn loopback(address: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback(),
    }
}
