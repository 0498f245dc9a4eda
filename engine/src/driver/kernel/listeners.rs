//! Connections that peers begin: to ports that Python listens on, and to ports of this machine.

use std::collections::HashMap;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use mio::unix::SourceFd;
use mio::Interest;
use socket2::Socket;

use crate::driver::flows::{ListenError, ACCEPT_LIMIT, MAX_FLOWS, MAX_UNFETCHED};
use crate::driver::node::{token, Node, LISTENER};
use crate::driver::outbox::Event;
use crate::driver::peers::PeerId;
use crate::driver::{local, splice};
use crate::kernel::end;
use crate::netstack::packet::Ends;
use crate::offload;

/// A listening socket in the namespace.
struct Listener {
    socket: Socket,
    /// Python listens; otherwise it is there for connections that go on to a port of this machine.
    public: bool,
    /// It could not accept because the process has no descriptors left.
    stalled: bool,
}

/// A port of this machine that answered, for a connection that is not open yet.
struct Waiting {
    socket: Socket,
    deadline: Instant,
}

/// All listening sockets.
pub struct Listeners {
    ports: HashMap<u16, Listener>,
    waiting: HashMap<Ends, Waiting>,
    /// A descriptor to give up when there are no others.
    spare: Option<OwnedFd>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self { ports: HashMap::new(), waiting: HashMap::new(), spare: spare() }
    }
}

fn spare() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

impl Listeners {
    /// Whether somebody waits for a connection to open.
    pub fn waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Node {
    /// Accept connections to a port.
    pub fn kernel_listen(&mut self, port: u16) -> Result<(), ListenError> {
        let Some(kernel) = &mut self.kernel else { return Err(ListenError) };
        if kernel.listeners.ports.get(&port).is_some_and(|listener| listener.public) {
            return Err(ListenError);
        }
        self.open_port(port).map_err(|_| ListenError)?;
        if let Some(listener) = self.listener(port) {
            listener.public = true;
        }
        Ok(())
    }

    /// Stop accepting connections to a port.
    pub fn kernel_unlisten(&mut self, port: u16) {
        if let Some(listener) = self.listener(port) {
            listener.public = false;
        }
        self.close_unused(port);
    }

    fn listener(&mut self, port: u16) -> Option<&mut Listener> {
        self.kernel.as_mut()?.listeners.ports.get_mut(&port)
    }

    /// Have a listening socket on a port.
    fn open_port(&mut self, port: u16) -> io::Result<()> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        if kernel.listeners.ports.contains_key(&port) {
            return Ok(());
        }
        let socket = kernel.kernel.sockets.listen(port)?;
        let fd = socket.as_raw_fd();
        self.registry.register(&mut SourceFd(&fd), token(LISTENER, usize::from(port)), Interest::READABLE)?;
        kernel.listeners.ports.insert(port, Listener { socket, public: false, stalled: false });
        Ok(())
    }

    /// Close a port that nobody needs any more.
    fn close_unused(&mut self, port: u16) {
        let Some(kernel) = &mut self.kernel else { return };
        let listeners = &mut kernel.listeners;
        let needed = listeners.waiting.keys().any(|ends| ends.local.1 == port);
        if needed || listeners.ports.get(&port).is_none_or(|listener| listener.public) {
            return;
        }
        if let Some(listener) = listeners.ports.remove(&port) {
            let _ = self.registry.deregister(&mut SourceFd(&listener.socket.as_raw_fd()));
            // closing does it as well
        }
    }

    /// A peer begins a connection.
    pub(super) fn kernel_opening(&mut self, now: Instant, peer: PeerId, ends: Ends, opening: Vec<u8>) {
        if self.attempts.contains(&ends) {
            return; // the peer asks again while the local port is being tried
        }
        let Some(kernel) = &self.kernel else { return };
        let room = kernel.connections.len() < MAX_FLOWS && self.outbox.len() < MAX_UNFETCHED;
        let public = kernel.listeners.ports.get(&ends.local.1).is_some_and(|listener| listener.public);
        if room && public {
            self.inject(now, &opening);
        } else if room && self.config.forward_to_loopback && !self.attempts.full() {
            self.try_loopback(now, peer, ends, opening, 0);
        } else {
            self.kernel_refuse(now, peer, &opening);
        }
    }

    /// Refuse a connection.
    pub fn kernel_refuse(&mut self, now: Instant, peer: PeerId, opening: &[u8]) {
        if let Some(reset) = offload::reset_for(opening) {
            self.send_inner(now, peer, &reset);
        }
    }

    /// A port of this machine answered: let the kernel accept the connection, which is joined to it then.
    pub fn kernel_forward(&mut self, now: Instant, peer: PeerId, ends: Ends, opening: &[u8], socket: Socket) {
        if self.open_port(ends.local.1).is_err() {
            return self.kernel_refuse(now, peer, opening);
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.listeners.waiting.insert(ends, Waiting { socket, deadline: now + ACCEPT_LIMIT });
        }
        self.inject(now, opening);
    }

    /// Connections to a port are open.
    pub fn listener_ready(&mut self, port: u16) {
        loop {
            let Some(listener) = self.listener(port) else { return };
            let (socket, address) = match listener.socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(_) if self.turn_away(port) => continue,
                Err(_) => {
                    self.listener(port).into_iter().for_each(|listener| listener.stalled = true);
                    break;
                }
            };
            let public = listener.public;
            let local = socket.local_addr().ok().and_then(|address| end(&address));
            let (Some(local), Some(remote)) = (local, end(&address)) else { continue };
            self.accepted(Ends { local, remote }, socket, public);
        }
        self.close_unused(port);
    }

    /// No descriptors are left: for the peer it is as if the near end had closed at once. One is kept for this.
    fn turn_away(&mut self, port: u16) -> bool {
        let Some(listeners) = self.kernel.as_mut().map(|kernel| &mut kernel.listeners) else { return false };
        if listeners.spare.take().is_none() {
            return false;
        }
        let accepted = listeners.ports.get(&port).and_then(|listener| listener.socket.accept().ok());
        let turned_away = accepted.is_some();
        accepted.iter().for_each(|(socket, _)| local::reset_on_close(socket));
        drop(accepted);
        listeners.spare = spare();
        turned_away
    }

    fn accepted(&mut self, ends: Ends, socket: Socket, public: bool) {
        let waiting = self.kernel.as_mut().and_then(|kernel| kernel.listeners.waiting.remove(&ends));
        if let Some(Waiting { socket: local, .. }) = waiting {
            let _ = splice::splice(socket.into(), local.into()); // without a thread for it both are closed
        } else if public {
            let (peer_address, peer_port) = ends.remote;
            self.outbox.push(Event::Accepted { port: ends.local.1, fd: socket.into(), peer_address, peer_port });
        } else {
            local::reset_on_close(&socket);
        }
    }

    /// Forget the connections of an address that are not open yet.
    pub(super) fn forget_waiting(&mut self, address: Ipv6Addr) {
        self.drop_waiting(|ends, _| ends.remote.0 == address);
    }

    pub(super) fn tick_listeners(&mut self, now: Instant) {
        self.drop_waiting(|_, waiting| waiting.deadline <= now);
        let Some(kernel) = &mut self.kernel else { return };
        let stalled = kernel.listeners.ports.iter_mut().filter(|(_, listener)| listener.stalled);
        let ports: Vec<u16> = stalled.map(|(port, _)| *port).collect();
        for port in ports {
            if let Some(listener) = self.listener(port) {
                listener.stalled = false;
            }
            self.listener_ready(port);
        }
    }

    fn drop_waiting(&mut self, late: impl Fn(&Ends, &Waiting) -> bool) {
        let Some(kernel) = &mut self.kernel else { return };
        let waiting = &mut kernel.listeners.waiting;
        let ends: Vec<Ends> = waiting.iter().filter(|(ends, waiting)| late(ends, waiting)).map(|(e, _)| *e).collect();
        ends.iter().for_each(|ends| drop(waiting.remove(ends)));
        ends.iter().for_each(|ends| self.close_unused(ends.local.1));
    }
}
