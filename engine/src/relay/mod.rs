//! The bytes of a DERP relay: its thread, and the handle that the rest of the program holds.
//!
//! `hub` decides who gets what and `input`, `outbox` and `websocket` know the formats; none of them touches a socket
//! or a clock. `driver` reads, feeds the hub and writes.

mod counters;
mod driver;
#[cfg(test)]
mod fuzz_tests;
mod hub;
mod input;
mod outbox;
mod stream;
#[cfg(test)]
mod tests;
mod websocket;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub use counters::{Counters, DropReason, Snapshot};

use crate::tls::Session;
use crate::wire::keys::{self, Key};

/// What the handle asks of the thread.
enum Command {
    Add(Arrival),
    /// Tell clients when to come back, and go on until they are told to close.
    Announce(Duration),
    /// Send what waits for clients, for at most `drain`, and end.
    Close {
        restarting_in: Option<Duration>,
        drain: Duration,
    },
}

/// A connection that a relay takes over.
struct Arrival {
    socket: OwnedFd,
    /// A session that is under way, and what it has sealed and not sent.
    tls: Option<(Box<Session>, Vec<u8>)>,
    /// What the client has said already.
    initial: Vec<u8>,
    websocket: bool,
}

/// Where connections are put in, from any thread.
#[derive(Clone)]
pub struct Intake {
    sender: Sender<Command>,
    waker: Arc<mio::Waker>,
}

impl Intake {
    fn add(&self, arrival: Arrival) -> io::Result<()> {
        self.sender.send(Command::Add(arrival)).map_err(|_| closed())?;
        self.waker.wake()
    }

    /// Take over a connection whose TLS is under way; `sealed` is sent before all else.
    ///
    /// # Errors
    /// The relay is closed.
    pub fn add_tls(
        &self,
        socket: OwnedFd,
        session: Session,
        sealed: Vec<u8>,
        initial: Vec<u8>,
        websocket: bool,
    ) -> io::Result<()> {
        self.add(Arrival { socket, tls: Some((Box::new(session), sealed)), initial, websocket })
    }
}

/// A running relay.
pub struct Relay {
    public_key: Key,
    counters: Arc<Counters>,
    /// Gone once the relay is closed.
    running: Mutex<Option<(Intake, JoinHandle<()>)>>,
}

impl Relay {
    /// Start a relay with this private key.
    ///
    /// # Errors
    /// The system gives us no thread or no epoll instance.
    pub fn start(private_key: &Key) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let (sender, commands) = mpsc::channel();
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), driver::WAKE)?);
        let hub = hub::Hub::new(private_key, Arc::clone(&counters));
        let thread = std::thread::Builder::new()
            .name("warren-relay".into())
            .spawn(move || driver::Driver::new(poll, hub, commands).run())?;
        let running = Mutex::new(Some((Intake { sender, waker }, thread)));
        Ok(Self { public_key: keys::public_key(private_key), counters, running })
    }

    /// The key by which clients know this relay.
    pub fn public_key(&self) -> &Key {
        &self.public_key
    }

    /// Take over a connection; it is dropped when the relay is closed already.
    ///
    /// # Errors
    /// The relay is closed, or its thread cannot be woken.
    pub fn add(&self, socket: OwnedFd, initial: Vec<u8>, websocket: bool) -> io::Result<()> {
        self.intake()?.add(Arrival { socket, tls: None, initial, websocket })
    }

    /// Say where connections are put in.
    ///
    /// # Errors
    /// The relay is closed.
    pub fn intake(&self) -> io::Result<Intake> {
        let running = self.running.lock().map_err(|_| closed())?;
        running.as_ref().map(|(intake, _)| intake.clone()).ok_or_else(closed)
    }

    /// Read all counters.
    pub fn stats(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// Tell clients that we restart and when to come back; until the end all goes on, so that they may move meanwhile.
    ///
    /// # Errors
    /// The relay is closed.
    pub fn announce_restart(&self, reconnect_in: Duration) -> io::Result<()> {
        let intake = self.intake()?;
        intake.sender.send(Command::Announce(reconnect_in)).map_err(|_| closed())?;
        intake.waker.wake()
    }

    /// Tell clients that we restart, where a time is given; close every connection and end the thread. What waits for
    /// clients is sent first, for at most `drain`.
    pub fn close(&self, restarting_in: Option<Duration>, drain: Duration) {
        let running = self.running.lock().ok().and_then(|mut running| running.take());
        let Some((intake, thread)) = running else { return };
        // Either may fail only because the thread has ended, which is what we want.
        let _ = intake.sender.send(Command::Close { restarting_in, drain });
        let _ = intake.waker.wake();
        let _ = thread.join();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.close(None, Duration::ZERO);
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the relay is closed")
}
