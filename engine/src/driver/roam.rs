//! Notices by itself that the network under the node changed, or that the machine slept.
//!
//! On Linux the kernel says when addresses, links or routes change; elsewhere they are looked at every few seconds. A
//! change becomes one look a moment later, since changes come in flocks. What counts is whether a packet to a peer would
//! leave from another address than before: a bridge that a container engine adds is none of our business.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::{Interest, Registry};
use socket2::{Domain, Protocol, Socket, Type};

use super::interfaces;
use super::node::{Node, NETWORK};
use super::peers::PeerId;
use crate::path::InUse;

/// After the first news the rest of them is awaited this long.
const DEBOUNCE: Duration = Duration::from_millis(60);
/// How often to look where nobody tells.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often to look where the kernel tells: it forgets news when there are too many.
const LOOK_SELDOM: Duration = Duration::from_secs(30);
/// A second that took this long, or was slept through.
const SLEPT: Duration = Duration::from_secs(5);

/// Why paths must prove themselves anew.
pub const CHANGED: &str = "the network changed";
const WOKE: &str = "this machine slept, or this process was stopped";

/// Addresses far away, one of each family (RFC 5737 and RFC 3849 name them for examples): whatever the default route is,
/// packets to them would take it. Nothing is sent to them.
const FAR_AWAY: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];

/// What matters of the network.
#[derive(Debug, Default, PartialEq, Eq)]
struct Snapshot {
    addresses: Vec<IpAddr>,
    /// From where packets to far away leave.
    ways: [Option<IpAddr>; 2],
}

impl Snapshot {
    /// `None` when it cannot be told, as in a process that has no descriptor left.
    fn take() -> Option<Self> {
        let addresses = interfaces::addresses();
        let [v4, v6] = FAR_AWAY.map(|to| to.parse().map_or(Ok(None), source_to));
        Some(Self { addresses, ways: [v4.ok()?, v6.ok()?] }).filter(|seen| !seen.addresses.is_empty())
    }
}

/// Watches the network and the clock.
pub struct Watch {
    news: Option<OwnedFd>,
    seen: Snapshot,
    look_at: Instant,
    ticked_at: Instant,
    slept: Duration,
}

impl Watch {
    pub fn new(now: Instant, registry: &Registry) -> Self {
        let news = netlink::open().filter(|fd| {
            use std::os::fd::AsRawFd;
            registry.register(&mut mio::unix::SourceFd(&fd.as_raw_fd()), NETWORK, Interest::READABLE).is_ok()
        });
        Self {
            news,
            seen: Snapshot::take().unwrap_or_default(),
            look_at: now + LOOK_EVERY,
            ticked_at: now,
            slept: slept(),
        }
    }

    /// The kernel has news.
    pub fn ready(&mut self, now: Instant) {
        if self.news.as_ref().is_some_and(netlink::drain) {
            self.look_at = self.look_at.min(now + DEBOUNCE);
        }
    }

    pub fn poll_timeout(&self) -> Instant {
        self.look_at
    }

    /// Look; says whether something is other than before.
    fn look(&mut self, now: Instant) -> bool {
        self.look_at = now + if self.news.is_some() { LOOK_SELDOM } else { LOOK_EVERY };
        let Some(seen) = Snapshot::take() else { return false };
        let changed = seen != self.seen;
        self.seen = seen;
        changed
    }

    /// Called every second, with how long the machine has slept in all: says whether much more time than a second has
    /// gone by. The clock of `now` goes on while this process is stopped, and stands still while the machine sleeps.
    fn woke(&mut self, now: Instant, slept: Duration) -> bool {
        let paused = now.saturating_duration_since(self.ticked_at);
        let woke = slept.saturating_sub(self.slept) + paused > SLEPT;
        (self.ticked_at, self.slept) = (now, slept);
        woke
    }
}

impl Node {
    /// Look at the network, if that is due.
    pub fn watch_network(&mut self, now: Instant) {
        if now >= self.watch.poll_timeout() && self.watch.look(now) {
            self.network_changed(now);
        }
    }

    /// Once a second: see whether the machine slept, or this process did.
    pub fn tick_clock(&mut self, now: Instant) {
        let (slept, before) = (slept(), self.watch.slept);
        if self.watch.woke(now, slept) {
            self.peers.slept(slept.saturating_sub(before));
            self.rebind(now, WOKE);
            self.wire.relays.skip_the_past(now);
        }
    }

    /// Addresses or routes changed. The sockets are bound to every address, so they stay.
    fn network_changed(&mut self, now: Instant) {
        if !cfg!(target_os = "linux") {
            self.rebind(now, CHANGED);
            return;
        }
        for id in self.peers.ids() {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            let from = direct_endpoint(&peer.path, now).and_then(known_source);
            if from.is_none() || from != peer.source {
                peer.path.handle_rebind(now, CHANGED);
                self.peers.touch(id);
            }
        }
        self.wire.relays.rebind(now);
        self.interfaces_changed(now);
    }

    /// Remember from where packets to a peer leave.
    pub fn note_source(&mut self, now: Instant, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.source = direct_endpoint(&peer.path, now).and_then(known_source);
        }
    }
}

fn direct_endpoint(path: &crate::path::PeerPath, now: Instant) -> Option<SocketAddr> {
    match path.in_use(now) {
        InUse::Direct { endpoint, .. } => Some(endpoint),
        InUse::Relayed { .. } | InUse::None => None,
    }
}

/// The address from which a packet to `to` would leave; `None` when there is no way.
pub(super) fn source_to(to: SocketAddr) -> io::Result<Option<IpAddr>> {
    let socket = match Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP)) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(None),
        socket => socket?,
    };
    if socket.connect(&to.into()).is_err() {
        return Ok(None); // it would have sent nothing
    }
    Ok(socket.local_addr()?.as_socket().map(|address| address.ip()))
}

fn known_source(to: SocketAddr) -> Option<IpAddr> {
    source_to(to).ok().flatten()
}

/// How long the machine has slept since it was started.
fn slept() -> Duration {
    #[cfg(target_os = "linux")]
    {
        clock(libc::CLOCK_BOOTTIME).saturating_sub(clock(libc::CLOCK_MONOTONIC))
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}

#[cfg(target_os = "linux")]
fn clock(which: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure it is given.
    unsafe { libc::clock_gettime(which, &mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// News of addresses, links and routes from the Linux kernel.
#[cfg(target_os = "linux")]
mod netlink {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    const GROUPS: libc::c_int = libc::RTMGRP_LINK
        | libc::RTMGRP_IPV4_IFADDR
        | libc::RTMGRP_IPV6_IFADDR
        | libc::RTMGRP_IPV4_ROUTE
        | libc::RTMGRP_IPV6_ROUTE;

    /// Subscribe; `None` where that is forbidden.
    pub fn open() -> Option<OwnedFd> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: a plain system call; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return None;
        }
        // SAFETY: just made, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zeros is a valid address of this kind.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = GROUPS as u32;
        let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the address and its length belong together.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
        (bound == 0).then_some(fd)
    }

    /// Read what is there without looking at it; says whether there was anything.
    pub fn drain(fd: &OwnedFd) -> bool {
        let (mut buffer, mut any) = ([0_u8; 8192], false);
        for _ in 0..256 {
            // SAFETY: the buffer is as long as said.
            let count = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let lost_some = count < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS);
            any |= count > 0 || lost_some;
            if count <= 0 && !lost_some {
                break;
            }
        }
        any
    }
}

#[cfg(not(target_os = "linux"))]
mod netlink {
    use std::os::fd::OwnedFd;

    pub fn open() -> Option<OwnedFd> {
        None
    }

    pub fn drain(_: &OwnedFd) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_second_is_a_sleep_and_a_short_one_is_not() {
        let poll = mio::Poll::new().expect("a poll");
        let now = Instant::now();
        let mut watch = Watch::new(now, poll.registry());
        let (second, minutes) = (Duration::from_secs(1), Duration::from_secs(600));
        let before = watch.slept;
        assert!(!watch.woke(now + second, before));
        assert!(!watch.woke(now + second * 4, before), "a busy machine is late by seconds");
        assert!(watch.woke(now + second * 4 + minutes, before), "the process was stopped");
        assert!(!watch.woke(now + second * 5 + minutes, before), "once");
        assert!(watch.woke(now + second * 6 + minutes, before + minutes), "the machine slept, and this clock stood");
        assert!(!watch.woke(now + second * 7 + minutes, before + minutes), "once");
    }

    #[test]
    fn nothing_changed_when_nothing_changed() {
        let poll = mio::Poll::new().expect("a poll");
        let now = Instant::now();
        let mut watch = Watch::new(now, poll.registry());
        assert!(!watch.look(now));
        assert_eq!(known_source(SocketAddr::from(([127, 0, 0, 1], 9))), Some(IpAddr::from([127, 0, 0, 1])));
    }
}
