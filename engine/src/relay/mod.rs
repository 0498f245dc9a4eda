//! The bytes of a DERP relay: its thread, and the handle that the rest of the program holds.
//!
//! `hub` decides who gets what and `input`, `outbox` and `websocket` know the formats; none of them touches a socket
//! or a clock. `driver` reads, feeds the hub and writes.

mod counters;
mod driver;
mod hub;
mod input;
mod outbox;
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

use crate::wire::keys::{self, Key};

/// What the handle asks of the thread.
enum Command {
    Add { socket: OwnedFd, initial: Vec<u8>, websocket: bool },
    Close { restarting_in: Option<Duration> },
}

/// A running relay.
pub struct Relay {
    public_key: Key,
    counters: Arc<Counters>,
    waker: Arc<mio::Waker>,
    /// Gone once the relay is closed.
    running: Mutex<Option<(Sender<Command>, JoinHandle<()>)>>,
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
        Ok(Self {
            public_key: keys::public_key(private_key),
            counters,
            waker,
            running: Mutex::new(Some((sender, thread))),
        })
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
        let running = self.running.lock().map_err(|_| closed())?;
        let (sender, _) = running.as_ref().ok_or_else(closed)?;
        sender.send(Command::Add { socket, initial, websocket }).map_err(|_| closed())?;
        self.waker.wake()
    }

    /// Read all counters.
    pub fn stats(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// Tell clients that we restart, where a time is given; close every connection and end the thread.
    pub fn close(&self, restarting_in: Option<Duration>) {
        let running = self.running.lock().ok().and_then(|mut running| running.take());
        let Some((sender, thread)) = running else { return };
        // Either may fail only because the thread has ended, which is what we want.
        let _ = sender.send(Command::Close { restarting_in });
        let _ = self.waker.wake();
        let _ = thread.join();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.close(None);
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the relay is closed")
}
