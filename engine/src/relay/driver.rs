//! The thread of a relay: reads sockets, feeds the hub, writes sockets.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::Socket;

use super::hub::{ConnectionId, Hub};
use super::input::Fault;
use super::stream::{Scratch, Stream, Written};
use super::websocket::CloseCode;
use super::{Arrival, Command};

/// Wakes the thread; no connection's slot is this large.
pub const WAKE: Token = Token(usize::MAX);
/// How often deadlines are looked at; they are all of seconds.
const SWEEP: Duration = Duration::from_secs(1);
/// A sender waits this long for a receiver that cannot keep up, which spares both a loss; then packets are dropped.
const PAUSE: Duration = Duration::from_millis(10);
/// What the kernel may hold that is not on the wire yet. More would only be old when it gets there: on a slow link a
/// queue in the kernel is seconds long and nothing can be dropped from it.
#[cfg(target_os = "linux")]
const UNSENT_LEN: u32 = 256 << 10;
/// A client whose machine does not even acknowledge for this long is gone: its peers should not wait for it.
#[cfg(target_os = "linux")]
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(15);
const EVENTS: usize = 256;

struct Entry {
    id: ConnectionId,
    stream: Stream,
    writable: bool,
    /// Is in `runnable` or in `paused`.
    scheduled: bool,
    /// Our side is over; we wait for the client to see it.
    ended: bool,
}

struct Pause {
    sender: ConnectionId,
    receiver: ConnectionId,
    until: Instant,
}

/// What the thread owns.
pub struct Driver {
    poll: Poll,
    hub: Hub,
    commands: Receiver<Command>,
    /// By the hub's slots.
    entries: Vec<Option<Entry>>,
    open: usize,
    /// Whose sockets may have more to read: epoll tells of news only.
    runnable: VecDeque<ConnectionId>,
    paused: Vec<Pause>,
    scratch: Scratch,
    swept_at: Instant,
    /// Set when closing: by then what waits for clients is sent or lost.
    close_by: Option<Instant>,
}

impl Driver {
    /// Make the state of the thread; the waker of `poll` must use `WAKE`.
    pub fn new(poll: Poll, hub: Hub, commands: Receiver<Command>) -> Self {
        Self {
            poll,
            hub,
            commands,
            entries: Vec::new(),
            open: 0,
            runnable: VecDeque::new(),
            paused: Vec::new(),
            scratch: Scratch::new(),
            swept_at: Instant::now(),
            close_by: None,
        }
    }

    /// Serve until told to close.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            if self.close_by.is_some_and(|by| by <= now || self.open == 0) {
                return self.close_all(now);
            }
            if let Err(error) = self.poll.poll(&mut events, self.timeout(now)) {
                if error.kind() == ErrorKind::Interrupted {
                    continue;
                }
                // Only a bug or an exhausted kernel gets here; clients reconnect elsewhere.
                return;
            }
            let now = Instant::now();
            for event in &events {
                if event.token() == WAKE {
                    self.obey(now);
                    continue;
                }
                let Some(id) = self.hub.at(event.token().0) else { continue };
                if event.is_writable() {
                    self.entry(id).into_iter().for_each(|entry| entry.writable = true);
                    self.flush(now, id);
                    if self.close_by.is_some() {
                        self.schedule(id);
                    }
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.schedule(id);
                }
            }
            self.flush_dirty(now);
            self.resume(now);
            if self.close_by.is_some() {
                self.drain(now);
            } else {
                self.take_turns(now);
            }
            self.sweep(now);
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.runnable.is_empty() {
            return Some(Duration::ZERO);
        }
        let sweep = (self.open > 0).then_some(self.swept_at + SWEEP);
        let pause = self.paused.iter().map(|pause| pause.until).min();
        let next = [sweep, pause, self.close_by].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    fn obey(&mut self, now: Instant) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Add(arrival)) => self.add(now, arrival),
                Ok(Command::Announce(reconnect_in)) => self.announce(now, reconnect_in),
                Ok(Command::Close { restarting_in, drain }) => return self.shut_down(now, restarting_in, drain),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.shut_down(now, None, Duration::ZERO),
            }
        }
    }

    fn add(&mut self, now: Instant, arrival: Arrival) {
        let socket = Socket::from(arrival.socket);
        tune(&socket);
        let mut initial = arrival.initial;
        let id = self.hub.open(now, arrival.websocket);
        let registered = socket.set_nonblocking(true).and_then(|()| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(id.slot), interest)
        });
        if registered.is_err() {
            self.hub.close(id);
            return;
        }
        if self.entries.len() <= id.slot {
            self.entries.resize_with(id.slot + 1, || None);
        }
        let stream = match arrival.tls {
            None => Stream::plain(socket),
            Some((session, sealed)) => Stream::tls(socket, *session, sealed),
        };
        self.entries[id.slot] = Some(Entry { id, stream, writable: true, scheduled: false, ended: false });
        self.open += 1;
        if !initial.is_empty() {
            if let Err(fault) = self.hub.handle_bytes(now, id, &mut initial) {
                self.close(now, id, Some(fault));
            }
        }
        self.flush_dirty(now);
    }

    fn schedule(&mut self, id: ConnectionId) {
        if let Some(entry) = self.entry(id).filter(|entry| !entry.scheduled) {
            entry.scheduled = true;
            self.runnable.push_back(id);
        }
    }

    /// Give each connection that has something to read one turn.
    fn take_turns(&mut self, now: Instant) {
        for _ in 0..self.runnable.len() {
            let Some(id) = self.runnable.pop_front() else { return };
            self.take_turn(now, id);
            self.flush_dirty(now);
        }
    }

    fn take_turn(&mut self, now: Instant, id: ConnectionId) {
        let Some(entry) = self.entries.get_mut(id.slot).and_then(Option::as_mut).filter(|entry| entry.id == id) else {
            return;
        };
        entry.scheduled = false;
        let fault = match entry.stream.read(&mut self.scratch) {
            Ok(Some([])) => return self.schedule(id),
            Ok(Some(bytes)) => match self.hub.handle_bytes(now, id, bytes) {
                Ok(()) => return self.schedule_again(now, id),
                Err(fault) => Some(fault),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => return self.schedule(id),
            Ok(None) | Err(_) => None,
        };
        self.close(now, id, fault);
    }

    /// Let a connection have another turn: at once, or when the one it sends to can keep up.
    fn schedule_again(&mut self, now: Instant, id: ConnectionId) {
        let Some(receiver) = self.hub.congested(now) else { return self.schedule(id) };
        if let Some(entry) = self.entry(id) {
            entry.scheduled = true;
            self.paused.push(Pause { sender: id, receiver, until: now + PAUSE });
        }
    }

    fn resume(&mut self, now: Instant) {
        let hub = &self.hub;
        let runnable = &mut self.runnable;
        self.paused.retain(|pause| {
            let waits = pause.until > now && hub.is_congested(pause.receiver);
            if !waits {
                runnable.push_back(pause.sender);
            }
            waits
        });
    }

    fn flush_dirty(&mut self, now: Instant) {
        while let Some(id) = self.hub.next_dirty() {
            self.flush(now, id);
        }
    }

    fn flush(&mut self, now: Instant, id: ConnectionId) {
        loop {
            let Some(entry) = self.entries.get_mut(id.slot).and_then(Option::as_mut) else { return };
            let unwritten = self.hub.unwritten(id);
            if entry.id != id || !entry.writable || (unwritten.is_empty() && !entry.stream.pending()) {
                return;
            }
            match entry.stream.write(unwritten, &mut self.scratch) {
                Ok(Written::Bytes(count)) => self.hub.handle_written(now, id, count),
                Ok(Written::Some) => self.hub.handle_progress(now, id),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    entry.writable = false;
                    return self.hub.handle_written(now, id, 0);
                }
                Err(_) => return self.close(now, id, None),
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        if now < self.swept_at + SWEEP {
            return;
        }
        self.swept_at = now;
        for id in self.hub.handle_timeout(now) {
            self.close(now, id, None);
        }
        self.flush_dirty(now);
    }

    /// End a connection; one that broke a protocol, or closed in due form, gets its answer where there is one.
    fn close(&mut self, now: Instant, id: ConnectionId, fault: Option<Fault>) {
        if let Some(fault) = fault {
            self.hub.farewell(id, fault);
            self.flush_once(now, id);
        }
        let Some(mut entry) = self.entries.get_mut(id.slot).and_then(|entry| entry.take_if(|entry| entry.id == id))
        else {
            return;
        };
        self.open -= 1;
        let _ = self.poll.registry().deregister(&mut SourceFd(&entry.stream.as_raw_fd()));
        entry.stream.close();
        self.hub.close(id);
    }

    /// Send what one call takes of what waits, of a connection that ends.
    fn flush_once(&mut self, now: Instant, id: ConnectionId) {
        let Some(entry) = self.entries.get_mut(id.slot).and_then(Option::as_mut).filter(|entry| entry.id == id) else {
            return;
        };
        let unwritten = self.hub.unwritten(id);
        if unwritten.is_empty() {
            return;
        }
        if let Ok(Written::Bytes(count)) = entry.stream.write(unwritten, &mut self.scratch) {
            self.hub.handle_written(now, id, count);
        }
    }

    fn announce(&mut self, now: Instant, reconnect_in: Duration) {
        self.hub.announce_restart(reconnect_in);
        self.flush_dirty(now);
    }

    fn shut_down(&mut self, now: Instant, restarting_in: Option<Duration>, drain: Duration) {
        self.close_by = Some(now + drain);
        if let Some(reconnect_in) = restarting_in {
            self.announce(now, reconnect_in);
        }
        for id in self.hub.all() {
            self.hub.farewell(id, Fault::WebSocket(CloseCode::GoingAway));
            self.flush(now, id);
            self.schedule(id);
        }
    }

    /// End our side of connections that have got all that waited for them, and wait for the client to see it: closing
    /// at once, with something of its unread, would destroy what is still on its way there.
    fn drain(&mut self, now: Instant) {
        for _ in 0..self.runnable.len() {
            let Some(id) = self.runnable.pop_front() else { return };
            let unwritten = !self.hub.unwritten(id).is_empty();
            let Some(entry) = self.entries.get_mut(id.slot).and_then(Option::as_mut).filter(|entry| entry.id == id)
            else {
                continue;
            };
            entry.scheduled = false;
            if unwritten || entry.stream.pending() {
                continue;
            }
            if !entry.ended {
                entry.ended = true;
                entry.stream.end();
            }
            match entry.stream.discard(&mut self.scratch) {
                Ok(true) => self.schedule(id),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(false) | Err(_) => self.close(now, id, None),
            }
        }
    }

    fn close_all(&mut self, now: Instant) {
        for id in self.hub.all() {
            self.close(now, id, None);
        }
    }

    fn entry(&mut self, id: ConnectionId) -> Option<&mut Entry> {
        self.entries.get_mut(id.slot)?.as_mut().filter(|entry| entry.id == id)
    }
}

/// Set what a relay wants of a TCP socket. A Unix socket has no such options and needs none, so failures are nothing.
fn tune(socket: &Socket) {
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    {
        let _ = socket.set_tcp_notsent_lowat(UNSENT_LEN);
        let _ = socket.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT));
    }
}
