//! Connections that we begin on the kernel's TCP.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::Interest;
use socket2::Socket;

use crate::driver::local;
use crate::driver::node::{token, Node, DIAL};
use crate::driver::outbox::Event;

/// A connection that is not open yet.
pub struct Dial {
    token: u64,
    remote: Ipv6Addr,
    socket: Socket,
    deadline: Instant,
}

impl Node {
    /// Begin a TCP connection.
    pub fn kernel_dial(&mut self, now: Instant, token: u64, address: Ipv6Addr, port: u16, timeout: Duration) {
        match self.begin_dial(address, port) {
            Ok(socket) => {
                let dial = Dial { token, remote: address, socket, deadline: now + timeout };
                self.watch_dial(dial);
                self.tick_soon(now);
            }
            Err((code, why)) => {
                let reason = format!("{address} cannot be reached: {why}");
                self.outbox.push(Event::DialFailed { token, code, reason });
            }
        }
    }

    fn begin_dial(&self, address: Ipv6Addr, port: u16) -> Result<Socket, (&'static str, String)> {
        let unreachable = |why: &str| ("unreachable", why.to_owned());
        self.peers.owner(&address).ok_or_else(|| unreachable("no peer has the address"))?;
        let local = self.source_for(&address).ok_or_else(|| unreachable("this node has no address"))?;
        let kernel = self.kernel.as_ref().ok_or_else(|| unreachable("the kernel's TCP is not in use"))?;
        let connected = kernel.kernel.sockets.connect(local, (address, port));
        connected.map_err(|error| ("closed", format!("no socket for the connection: {error}")))
    }

    fn watch_dial(&mut self, dial: Dial) {
        let Some(kernel) = &mut self.kernel else { return };
        let id = kernel.dials.insert(dial);
        let fd = kernel.dials[id].socket.as_raw_fd();
        // Fails only when the process is out of kernel memory; the dial then ends at its deadline.
        let _ = self.registry.register(&mut SourceFd(&fd), token(DIAL, id), Interest::WRITABLE);
    }

    fn drop_dial(&mut self, id: usize) -> Option<Dial> {
        let dial = self.kernel.as_mut()?.dials.try_remove(id)?;
        let _ = self.registry.deregister(&mut SourceFd(&dial.socket.as_raw_fd())); // closing does it as well
        Some(dial)
    }

    /// A connection opened, or cannot.
    pub fn dial_ready(&mut self, id: usize) {
        let Some(dial) = self.kernel.as_ref().and_then(|kernel| kernel.dials.get(id)) else { return };
        let error = local::connect_error(&dial.socket);
        if error.is_none() && dial.socket.peer_addr().is_err() {
            return; // not yet
        }
        let Some(Dial { token, socket, .. }) = self.drop_dial(id) else { return };
        // Python gets a socket as `socket.socket` would make it.
        let opened = match error {
            None => socket.set_nonblocking(false),
            Some(error) => Err(error),
        };
        let (code, reason) = match opened {
            Ok(()) => return self.outbox.push(Event::Dialed { token, fd: socket.into() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ("refused", "the peer refused the connection".into())
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => ("timeout", NO_ANSWER.into()),
            Err(error) => ("closed", format!("the connection cannot be made: {error}")),
        };
        self.outbox.push(Event::DialFailed { token, code, reason });
    }

    /// Give up a dial.
    pub fn kernel_cancel_dial(&mut self, token: u64) {
        for id in self.dials_where(|dial| dial.token == token) {
            self.drop_dial(id);
        }
    }

    /// The peer with an address was removed.
    pub(super) fn fail_dials(&mut self, address: Ipv6Addr) {
        for id in self.dials_where(|dial| dial.remote == address) {
            if let Some(dial) = self.drop_dial(id) {
                let reason = "the peer was removed".into();
                self.outbox.push(Event::DialFailed { token: dial.token, code: "closed", reason });
            }
        }
    }

    pub(super) fn tick_dials(&mut self, now: Instant) {
        for id in self.dials_where(|dial| dial.deadline <= now) {
            if let Some(dial) = self.drop_dial(id) {
                let reason = NO_ANSWER.into();
                self.outbox.push(Event::DialFailed { token: dial.token, code: "timeout", reason });
            }
        }
    }

    fn dials_where(&self, wanted: impl Fn(&Dial) -> bool) -> Vec<usize> {
        let dials = self.kernel.iter().flat_map(|kernel| kernel.dials.iter());
        dials.filter(|(_, dial)| wanted(dial)).map(|(id, _)| id).collect()
    }
}

const NO_ANSWER: &str = "the peer did not answer in time";
