//! The kernel's TCP: sockets in a network namespace of our own, and the device that carries their packets to us.
//!
//! The chain is tried at start: a TUN device in an unprivileged namespace, then a veth pair there; where user
//! namespaces are refused the same once more with the rights that we may have. What fails says why and what to do.

mod abort;
mod device;
mod diag;
mod limits;
mod namespace;
mod netlink;
mod sockets;

use std::fmt;
use std::io;
use std::net::Ipv6Addr;

pub use device::{Device, FRAME_ROOM};
pub use sockets::{end, Sockets};

use crate::netstack::packet::Ends;
use limits::Limits;
use namespace::Namespace;
use netlink::Netlink;

/// How TCP finds its speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Congestion {
    /// BBR where the kernel has it, else CUBIC.
    Auto,
    Bbr,
    Cubic,
}

impl Congestion {
    /// Names as the kernel knows them, best first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Auto => &["bbr", "cubic"],
            Self::Bbr => &["bbr"],
            Self::Cubic => &["cubic"],
        }
    }
}

/// A step of the chain that failed.
#[derive(Debug)]
pub struct Failure {
    step: &'static str,
    error: io::Error,
}

impl Failure {
    fn new(step: &'static str, error: io::Error) -> Self {
        Self { step, error }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} failed: {}", self.step, self.error)
    }
}

/// The kernel's TCP, ready to use.
pub struct Kernel {
    pub sockets: Sockets,
    pub device: Device,
    /// Which steps before this one failed; empty when the first choice worked.
    pub reason: String,
}

impl Kernel {
    /// Try the whole chain. The error is what to tell a person: every step that failed, and what to do.
    pub fn open(addresses: &[Ipv6Addr], mtu: usize, congestion: Congestion) -> Result<Self, String> {
        let mut failures = Vec::new();
        let namespace = match enter(&mut failures) {
            Some(namespace) => namespace,
            None => return Err(explain(&failures)),
        };
        let found = Device::find(&namespace, mtu, &mut failures);
        let Some((netlink, device)) = found else { return Err(explain(&failures)) };
        let ready = settle(&netlink, addresses).and_then(|()| {
            let limits = Limits::raise(&namespace);
            Sockets::new(namespace, limits, congestion)
        });
        match ready {
            Ok(sockets) => {
                let reason = if failures.is_empty() { String::new() } else { explain(&failures) };
                Ok(Self { sockets, device, reason })
            }
            Err(failure) => {
                failures.push(failure);
                Err(explain(&failures))
            }
        }
    }
}

impl Kernel {
    /// The connections that nobody has open any more, but the peer has not acknowledged all of. None where the kernel
    /// does not tell.
    pub fn orphans(&self) -> Vec<Ends> {
        diag::orphans(self.sockets.namespace()).unwrap_or_default()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.device.dispose(self.sockets.namespace());
    }
}

/// Make a namespace, with the rights of an ordinary user if possible.
fn enter(failures: &mut Vec<Failure>) -> Option<Namespace> {
    let error = match Namespace::unprivileged() {
        Ok(namespace) => return Some(namespace),
        Err(error) => error,
    };
    failures.push(Failure::new("making a user and network namespace", error));
    match Namespace::privileged() {
        Ok(namespace) => Some(namespace),
        Err(error) => {
            // An ordinary user may not do this, which is no news.
            if error.raw_os_error() != Some(libc::EPERM) {
                failures.push(Failure::new("making a network namespace", error));
            }
            None
        }
    }
}

impl Device {
    /// Make the best device that can be had.
    fn find(namespace: &Namespace, mtu: usize, failures: &mut Vec<Failure>) -> Option<(Netlink, Self)> {
        let netlink = match Netlink::open(namespace) {
            Ok(netlink) => netlink,
            Err(error) => {
                failures.push(Failure::new("opening a netlink socket", error));
                return None;
            }
        };
        for make in [Self::tun, Self::veth] {
            match make(namespace, &netlink, mtu) {
                Ok(device) => return Some((netlink, device)),
                Err(failure) => failures.push(failure),
            }
        }
        None
    }
}

/// Give the link its addresses, and let everything else leave by it.
fn settle(netlink: &Netlink, addresses: &[Ipv6Addr]) -> Result<(), Failure> {
    let index = Device::index(netlink).map_err(|error| Failure::new("finding the device", error))?;
    for address in addresses {
        netlink.add_address(index, *address).map_err(|error| Failure::new("adding an address", error))?;
    }
    netlink.add_default_route(index).map_err(|error| Failure::new("adding a route", error))
}

/// Say in one line what failed and what to do about it.
fn explain(failures: &[Failure]) -> String {
    let steps: Vec<String> = failures.iter().map(Failure::to_string).collect();
    let hints = failures.iter().filter_map(hint).collect::<Vec<_>>();
    let mut text = steps.join("; ");
    if let Some(hint) = hints.first() {
        text = format!("{text} (hint: {hint})");
    }
    text
}

/// What to do about a failure, where the system says what is behind it.
fn hint(failure: &Failure) -> Option<String> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
    let settings = [
        ("/proc/sys/user/max_user_namespaces", 0, "sysctl user.max_user_namespaces is 0: raise it"),
        ("/proc/sys/user/max_net_namespaces", 0, "sysctl user.max_net_namespaces is 0: raise it"),
        ("/proc/sys/kernel/unprivileged_userns_clone", 0, "sysctl kernel.unprivileged_userns_clone is 0: set it to 1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            1,
            "AppArmor restricts user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns is 1",
        ),
    ];
    if failure.step.contains("TUN") || failure.step.contains("/dev/net/tun") {
        return Some("pass /dev/net/tun into the container, readable and writable".into());
    }
    let refused =
        matches!(failure.error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::ENOSYS));
    let found = settings.iter().find(|(path, value, _)| refused && number(path) == Some(*value));
    if let Some((_, _, text)) = found {
        return Some((*text).into());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filtered = status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"));
    (refused && filtered).then(|| "a seccomp profile filters system calls here: allow clone with CLONE_NEWUSER".into())
}

#[cfg(test)]
mod tests;
