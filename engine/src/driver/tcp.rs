//! TCP inside the tunnel, whichever stack it runs on: the kernel's (`kernel/`) or the portable one (`flows.rs`).

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::flows::{ListenError, Purpose};
use super::node::Node;
use super::peers::PeerId;
use crate::netstack::packet::Ends;
use crate::span::Span;

impl Node {
    /// Begin a TCP connection; `Dialed` or `DialFailed` follows.
    pub fn dial(&mut self, now: Instant, token: u64, address: Ipv6Addr, port: u16, timeout: Duration) {
        match self.kernel {
            Some(_) => self.kernel_dial(now, token, address, port, timeout),
            None => self.portable_dial(now, token, address, port, timeout),
        }
    }

    /// Give up a dial.
    pub fn cancel_dial(&mut self, now: Instant, token: u64) {
        match self.kernel {
            Some(_) => self.kernel_cancel_dial(token),
            None => self.portable_cancel_dial(now, token),
        }
    }

    /// Accept connections to a port.
    pub fn listen(&mut self, port: u16) -> Result<(), ListenError> {
        match self.kernel {
            Some(_) => self.kernel_listen(port),
            None => self.portable_listen(port),
        }
    }

    /// Stop accepting connections to a port.
    pub fn unlisten(&mut self, port: u16) {
        match self.kernel {
            Some(_) => self.kernel_unlisten(port),
            None => self.portable_unlisten(port),
        }
    }

    /// A TCP segment for us stands in the slab.
    pub fn on_tcp(&mut self, now: Instant, peer: PeerId, ends: Ends, opens: bool, span: Span) {
        match self.kernel {
            Some(_) => self.kernel_on_tcp(now, peer, ends, opens, span),
            None => self.portable_on_tcp(now, peer, ends, opens, span),
        }
    }

    /// Refuse a connection that a peer wants to open.
    pub fn refuse(&mut self, now: Instant, peer: PeerId, opening: &[u8]) {
        match self.kernel {
            Some(_) => self.kernel_refuse(now, peer, opening),
            None => self.portable_refuse(now, peer, opening),
        }
    }

    /// Accept a connection that goes on to a port of this machine, which has answered.
    pub fn forward(&mut self, now: Instant, peer: PeerId, ends: Ends, opening: &[u8], socket: Socket) {
        match self.kernel {
            Some(_) => self.kernel_forward(now, peer, ends, opening, socket),
            None => self.portable_accept(now, peer, ends, opening, Purpose::Forward, Some(socket)),
        }
    }

    /// The path to a peer is another than before.
    pub fn path_changed(&mut self, now: Instant, peer: PeerId) {
        let addresses = self.peers.get(peer).map(|peer| peer.addresses.clone()).unwrap_or_default();
        addresses.into_iter().for_each(|address| self.netstack.path_changed(address));
        self.way_restored(now, peer);
    }

    /// A peer is heard again after it was silent: try again what it did not answer.
    pub fn way_restored(&mut self, now: Instant, peer: PeerId) {
        let addresses = self.peers.get(peer).map(|peer| peer.addresses.clone()).unwrap_or_default();
        for address in addresses {
            match self.kernel {
                Some(_) => self.nudge(now, address),
                None => self.netstack.way_restored(address),
            }
        }
    }

    /// Reset every connection to an address.
    pub fn reset_flows_to(&mut self, now: Instant, address: Ipv6Addr) {
        match self.kernel {
            Some(_) => self.kernel_reset_to(now, address),
            None => self.portable_reset_to(now, address),
        }
        self.forget_attempts(address);
    }

    /// Reset every connection: the engine is closing.
    pub fn reset_everything(&mut self, now: Instant) {
        for id in self.peers.ids() {
            let addresses = self.peers.get(id).map(|peer| peer.addresses.clone()).unwrap_or_default();
            addresses.into_iter().for_each(|address| self.reset_flows_to(now, address));
        }
    }

    /// End what has waited too long.
    pub fn tick_flows(&mut self, now: Instant) {
        match self.kernel {
            Some(_) => self.tick_kernel(now),
            None => self.tick_portable(now),
        }
    }

    /// Whether somebody waits for a connection to open, or to end.
    pub fn opening(&self) -> bool {
        self.flows.opening() || self.kernel.as_ref().is_some_and(|kernel| kernel.opening())
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.netstack.len() + self.kernel.as_ref().map_or(0, |kernel| kernel.len())
    }
}
