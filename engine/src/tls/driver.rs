//! The thread of a TLS server: accepts, shakes hands, and carries bytes between clients and Python's sockets.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use super::connection::{receive, Connection, Pending, Ready, Turn, READ_LEN};
use super::{Accepted, Command, Configs, Counters, HandOver, Session, Shared};

/// Wakes the thread; no connection's token is this large.
pub const WAKE: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);
/// A handshake takes two round trips; a client that needs longer than this would not be served well anyway.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Half-open connections at once. Past it the oldest makes room, which a flood hurts less than refusing new ones.
const MAX_HANDSHAKES: usize = 1024;
/// Descriptors have run out: look again after this long, since nothing tells when one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted in one go, so that a flood of them does not stop those that stand.
const ACCEPTS: usize = 64;
/// What Python wrote before it closed has this long to reach the client.
const LINGER: Duration = Duration::from_secs(30);
/// A connection's number is its slot, and above that how many were opened before it.
const SLOT_BITS: u32 = 24;
const SWEEP: Duration = Duration::from_secs(1);
const EVENTS: usize = 256;

/// What the thread owns.
pub struct Driver {
    poll: Poll,
    listener: Option<Socket>,
    configs: Arc<Configs>,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    connections: Slab<Connection>,
    numbers: u64,
    /// Half-open connections, the oldest first; some may have gone on or away since.
    handshakes: VecDeque<(usize, u64)>,
    runnable: VecDeque<(usize, u64)>,
    accept_at: Option<Instant>,
    swept_at: Instant,
    /// Set when closing: by then everything is sent or lost.
    close_by: Option<Instant>,
    input: Vec<u8>,
}

impl Driver {
    /// Make the state of the thread; the waker of `poll` must use `WAKE`.
    pub fn new(
        poll: Poll,
        listener: OwnedFd,
        configs: Arc<Configs>,
        commands: Receiver<Command>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let listener = Socket::from(listener);
        listener.set_nonblocking(true)?;
        poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
        let now = Instant::now();
        Ok(Self {
            poll,
            listener: Some(listener),
            configs,
            commands,
            shared,
            connections: Slab::new(),
            numbers: 0,
            handshakes: VecDeque::new(),
            runnable: VecDeque::new(),
            accept_at: Some(now),
            swept_at: now,
            close_by: None,
            input: vec![0; Session::MAX_PARTIAL + READ_LEN],
        })
    }

    /// Serve until told to close.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            if self.close_by.is_some_and(|by| by <= now || self.connections.is_empty()) {
                return;
            }
            if let Err(error) = self.poll.poll(&mut events, self.timeout(now)) {
                if error.kind() == ErrorKind::Interrupted {
                    continue;
                }
                // Only a bug or an exhausted kernel gets here.
                return;
            }
            let now = Instant::now();
            for event in &events {
                match event.token() {
                    WAKE => self.obey(now),
                    LISTENER => self.accept_at = Some(now),
                    Token(token) => self.note(token, event),
                }
            }
            self.accept(now);
            for _ in 0..self.runnable.len() {
                let Some((slot, number)) = self.runnable.pop_front() else { break };
                self.take_turn(now, slot, number);
            }
            self.sweep(now);
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.runnable.is_empty() {
            return Some(Duration::ZERO);
        }
        let sweep = (!self.connections.is_empty()).then_some(self.swept_at + SWEEP);
        let next = [sweep, self.accept_at, self.close_by].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    fn obey(&mut self, now: Instant) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Reload(configs)) => self.configs = configs,
                Ok(Command::HandOver(what)) => self.hand_over(*what),
                Ok(Command::StopAccepting) => self.stop_accepting(),
                Ok(Command::Close { within }) => return self.shut_down(now + within),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.shut_down(now),
            }
        }
    }

    fn stop_accepting(&mut self) {
        if let Some(listener) = self.listener.take() {
            let _ = self.poll.registry().deregister(&mut SourceFd(&listener.as_raw_fd()));
        }
        self.accept_at = None;
    }

    fn shut_down(&mut self, by: Instant) {
        self.stop_accepting();
        self.close_by = Some(by);
        // Who has not got through the handshake, or has nobody who serves it, has nothing to wait for.
        let waiting: Vec<u64> = self.shared.queue().drain(..).map(|accepted| accepted.number).collect();
        let idle = |connection: &Connection| connection.plain.is_none() || waiting.contains(&connection.number);
        let slots: Vec<_> = self.connections.iter().filter(|(_, each)| idle(each)).map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.close(slot));
    }

    fn accept(&mut self, now: Instant) {
        if self.accept_at.is_none_or(|at| at > now) {
            return;
        }
        self.accept_at = None;
        for _ in 0..ACCEPTS {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((socket, from)) => {
                    Counters::add(&self.shared.counters.accepted);
                    if let Some(peer) = from.as_socket() {
                        self.open(now, socket, peer);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client gave up before we came.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(_) => {
                    // No descriptor is free. The others wait in the kernel's queue.
                    Counters::add(&self.shared.counters.accept_pauses);
                    self.accept_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.accept_at = Some(now);
    }

    fn open(&mut self, now: Instant, tcp: Socket, peer: SocketAddr) {
        let _ = tcp.set_tcp_nodelay(true); // speed only
        self.numbers += 1;
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        let number = self.numbers << SLOT_BITS | slot as u64;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = tcp
            .set_nonblocking(true)
            .and_then(|()| self.poll.registry().register(&mut SourceFd(&tcp.as_raw_fd()), Token(2 * slot), interest));
        if registered.is_err() {
            return;
        }
        entry.insert(Connection {
            number,
            tcp,
            peer,
            session: Session::new(Arc::clone(&self.configs)),
            opened_at: now,
            plain: None,
            inbound: Pending::default(),
            outbound: Pending::default(),
            ready: Ready { tcp_write: true, ..Ready::default() },
            tcp_ended: false,
            plain_ended_at: None,
            scheduled: false,
        });
        self.shared.counters.open.fetch_add(1, Ordering::Relaxed);
        self.shared.counters.handshaking.fetch_add(1, Ordering::Relaxed);
        self.handshakes.push_back((slot, number));
        self.bound_handshakes();
    }

    /// Close the oldest half-open connections while there are too many.
    fn bound_handshakes(&mut self) {
        while self.handshakes.len() > MAX_HANDSHAKES {
            let Some((slot, number)) = self.handshakes.pop_front() else { return };
            if self.get(slot, number).is_some_and(|connection| connection.plain.is_none()) {
                Counters::add(&self.shared.counters.handshakes_dropped);
                self.close(slot);
            }
        }
    }

    fn note(&mut self, token: usize, event: &mio::event::Event) {
        let Some(connection) = self.connections.get_mut(token / 2) else { return };
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        let ready = &mut connection.ready;
        if token.is_multiple_of(2) {
            ready.tcp_read |= readable;
            ready.tcp_write |= event.is_writable() || event.is_error();
        } else {
            ready.plain_read |= readable;
            ready.plain_write |= event.is_writable() || event.is_error();
        }
        let number = connection.number;
        self.schedule(token / 2, number);
    }

    fn schedule(&mut self, slot: usize, number: u64) {
        if let Some(connection) = self.get(slot, number).filter(|connection| !connection.scheduled) {
            connection.scheduled = true;
            self.runnable.push_back((slot, number));
        }
    }

    fn take_turn(&mut self, now: Instant, slot: usize, number: u64) {
        let mut input = std::mem::take(&mut self.input);
        let Some(connection) = self.get(slot, number) else {
            self.input = input;
            return;
        };
        connection.scheduled = false;
        let outcome = connection.turn(now, &mut input);
        self.input = input;
        match outcome {
            Ok(Turn::Waits) => {}
            Ok(Turn::Again) => self.schedule(slot, number),
            Ok(Turn::Over) => return self.close(slot),
            Err(_) => {
                self.count_failure(slot);
                return self.close(slot);
            }
        }
        self.introduce(slot, number);
    }

    fn count_failure(&self, slot: usize) {
        if self.connections.get(slot).is_some_and(|connection| connection.plain.is_none()) {
            Counters::add(&self.shared.counters.handshakes_failed);
        }
    }

    /// Hand a connection to Python once its handshake is done.
    fn introduce(&mut self, slot: usize, number: u64) {
        let Some(connection) = self.get(slot, number) else { return };
        if connection.plain.is_some() || !connection.session.established() {
            return;
        }
        let peer = connection.peer;
        let details = connection.session.details();
        let local = connection.tcp.local_addr().ok().and_then(|address| address.as_socket());
        let pair = Socket::pair(Domain::UNIX, Type::STREAM, None).and_then(|(near, far)| {
            near.set_nonblocking(true)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut SourceFd(&near.as_raw_fd()), Token(2 * slot + 1), interest)?;
            Ok((near, far))
        });
        let (Ok((near, far)), Some(local)) = (pair, local) else {
            Counters::add(&self.shared.counters.accept_pauses);
            return self.close(slot);
        };
        if let Some(connection) = self.get(slot, number) {
            connection.plain = Some(near);
            connection.ready.plain_write = true;
        }
        self.shared.counters.handshaking.fetch_sub(1, Ordering::Relaxed);
        Counters::add(&self.shared.counters.handshakes);
        let mut queue = self.shared.queue();
        queue.push_back(Accepted { number, plain: far.into(), peer, local, details });
        raise(&self.shared.signal.1);
        drop(queue);
        self.schedule(slot, number);
    }

    /// Let a connection go to a relay, with everything of it that is on its way.
    fn hand_over(&mut self, what: HandOver) {
        let slot = (what.number & ((1 << SLOT_BITS) - 1)) as usize;
        if self.get(slot, what.number).is_none() {
            return;
        }
        let mut connection = self.connections.remove(slot);
        self.shared.counters.open.fetch_sub(1, Ordering::Relaxed);
        self.forget(&connection);
        let mut initial = what.initial;
        let moved = drain(&Socket::from(what.plain), &mut initial).and_then(|()| {
            initial.extend_from_slice(connection.inbound.rest());
            let mut written = Vec::new();
            drain(connection.plain.as_ref().ok_or(ErrorKind::NotConnected)?, &mut written)?;
            written.extend_from_slice(&what.response);
            let mut sealed = connection.outbound.rest().to_vec();
            if !written.is_empty() {
                connection.session.seal(&written, &mut sealed).map_err(|_| ErrorKind::InvalidData)?;
            }
            Ok(sealed)
        });
        let Ok(sealed) = moved else { return };
        Counters::add(&self.shared.counters.handed_over);
        // A relay that is closed takes nobody, and the client sees the end of its connection.
        let _ = what.relay.add_tls(connection.tcp.into(), connection.session, sealed, initial, what.websocket);
    }

    fn sweep(&mut self, now: Instant) {
        if now < self.swept_at + SWEEP {
            return;
        }
        self.swept_at = now;
        while let Some(&(slot, number)) = self.handshakes.front() {
            let half_open = self.get(slot, number).filter(|connection| connection.plain.is_none());
            let late = half_open.is_none_or(|connection| now >= connection.opened_at + HANDSHAKE_TIMEOUT);
            if !late {
                break;
            }
            self.handshakes.pop_front();
            if self.get(slot, number).is_some_and(|connection| connection.plain.is_none()) {
                Counters::add(&self.shared.counters.handshakes_dropped);
                self.close(slot);
            }
        }
        let late = |connection: &Connection| connection.plain_ended_at.is_some_and(|at| now >= at + LINGER);
        let slots: Vec<_> = self.connections.iter().filter(|(_, each)| late(each)).map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.close(slot));
    }

    fn close(&mut self, slot: usize) {
        let Some(connection) = self.connections.try_remove(slot) else { return };
        self.shared.counters.open.fetch_sub(1, Ordering::Relaxed);
        if connection.plain.is_none() {
            self.shared.counters.handshaking.fetch_sub(1, Ordering::Relaxed);
        }
        self.forget(&connection);
        let _ = connection.tcp.shutdown(Shutdown::Both);
    }

    fn forget(&self, connection: &Connection) {
        let sockets = [Some(&connection.tcp), connection.plain.as_ref()];
        for socket in sockets.into_iter().flatten() {
            let _ = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
    }

    fn get(&mut self, slot: usize, number: u64) -> Option<&mut Connection> {
        self.connections.get_mut(slot).filter(|connection| connection.number == number)
    }
}

/// Read all that waits in a socket.
fn drain(socket: &Socket, into: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        match receive(socket, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => into.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Make the pair by which Python is told that connections wait.
pub fn signal_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    Ok((near.into(), far.into()))
}

fn raise(signal: &OwnedFd) {
    // A full buffer says it as well.
    let _ = socket2::SockRef::from(signal).send(&[1]);
}

/// Take back the signal.
pub fn clear(signal: &OwnedFd) {
    let socket = socket2::SockRef::from(signal);
    let mut buffer = [MaybeUninit::uninit(); 256];
    while socket.recv(&mut buffer).is_ok_and(|count| count == buffer.len()) {}
}
