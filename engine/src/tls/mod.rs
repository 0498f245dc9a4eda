//! TLS of a server's port, ended in the engine: Python gets sockets with plain bytes, the relay gets the connection.
//!
//! `session` speaks TLS without a socket, `config` reads certificates; `driver` is the thread that accepts, shakes
//! hands, and carries bytes between a client and the socket that Python holds. A connection that turns out to be a
//! relay's leaves this thread for the relay's: from then on its bytes pass through neither Python nor a second socket.

mod config;
mod connection;
mod driver;
mod session;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

pub use config::{ClientAuth, Configs, Pair, Settings};
pub use session::{Fault, Session};

use crate::relay::Intake;

/// A connection whose handshake is done. `plain` is the end of a socket pair that Python speaks HTTP on.
pub struct Accepted {
    pub number: u64,
    pub plain: OwnedFd,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub details: Details,
}

/// What a handshake agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    pub server_name: Option<String>,
    pub version: &'static str,
    pub cipher: String,
    pub alpn: Option<String>,
}

/// What becomes of a connection that Python made a relay's.
pub struct HandOver {
    pub number: u64,
    /// Another descriptor of the socket that Python was given: what it has not read is read from here.
    pub plain: OwnedFd,
    pub relay: Intake,
    /// Sent before anything of the relay's.
    pub response: Vec<u8>,
    /// What Python read beyond the request.
    pub initial: Vec<u8>,
    pub websocket: bool,
}

enum Command {
    Reload(Arc<Configs>),
    HandOver(Box<HandOver>),
    StopAccepting,
    Close { within: Duration },
}

/// Counters of one server; `open` and `handshaking` are gauges.
#[derive(Debug, Default)]
pub struct Counters {
    pub accepted: AtomicU64,
    pub handshakes: AtomicU64,
    pub handshakes_failed: AtomicU64,
    /// Half-open connections that were closed because they took too long, or because there were too many.
    pub handshakes_dropped: AtomicU64,
    /// Times that accepting paused because descriptors had run out.
    pub accept_pauses: AtomicU64,
    pub handed_over: AtomicU64,
    pub handshaking: AtomicU64,
    pub open: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the thread and the handle share.
struct Shared {
    counters: Counters,
    accepted: Mutex<VecDeque<Accepted>>,
    /// Readable while `accepted` holds something.
    signal: (OwnedFd, OwnedFd),
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, VecDeque<Accepted>> {
        // Nothing in here can panic with the lock held.
        self.accepted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A port that speaks TLS.
pub struct Server {
    shared: Arc<Shared>,
    waker: Arc<mio::Waker>,
    running: Mutex<Option<(Sender<Command>, JoinHandle<()>)>>,
}

impl Server {
    /// Serve a listening socket.
    ///
    /// # Errors
    /// The system gives us no thread or descriptor.
    pub fn start(listener: OwnedFd, configs: Arc<Configs>) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), driver::WAKE)?);
        let shared = Arc::new(Shared {
            counters: Counters::default(),
            accepted: Mutex::default(),
            signal: driver::signal_pair()?,
        });
        let (sender, commands) = mpsc::channel();
        let driver = driver::Driver::new(poll, listener, configs, commands, Arc::clone(&shared))?;
        let thread = std::thread::Builder::new().name("warren-tls".into()).spawn(move || driver.run())?;
        Ok(Self { shared, waker, running: Mutex::new(Some((sender, thread))) })
    }

    /// The descriptor that is readable while `accepted` has something to give.
    pub fn fd(&self) -> RawFd {
        self.shared.signal.0.as_raw_fd()
    }

    /// Take the connections that are ready for HTTP.
    pub fn accepted(&self) -> Vec<Accepted> {
        let mut queue = self.shared.queue();
        driver::clear(&self.shared.signal.0);
        queue.drain(..).collect()
    }

    /// Show other certificates from the next handshake on.
    ///
    /// # Errors
    /// The server is closed.
    pub fn reload(&self, configs: Arc<Configs>) -> io::Result<()> {
        self.order(Command::Reload(configs))
    }

    /// Give a connection to a relay.
    ///
    /// # Errors
    /// The server is closed.
    pub fn hand_over(&self, what: HandOver) -> io::Result<()> {
        self.order(Command::HandOver(Box::new(what)))
    }

    /// Accept no more.
    ///
    /// # Errors
    /// The server is closed.
    pub fn stop_accepting(&self) -> io::Result<()> {
        self.order(Command::StopAccepting)
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Send what Python has written, for at most `within`, close every connection and end the thread. Idempotent.
    pub fn close(&self, within: Duration) {
        let running = self.running.lock().ok().and_then(|mut running| running.take());
        let Some((sender, thread)) = running else { return };
        // Either may fail only because the thread has ended, which is what we want.
        let _ = sender.send(Command::Close { within });
        let _ = self.waker.wake();
        let _ = thread.join();
    }

    fn order(&self, command: Command) -> io::Result<()> {
        let closed = || io::Error::new(io::ErrorKind::NotConnected, "the TLS server is closed");
        let running = self.running.lock().map_err(|_| closed())?;
        let (sender, _) = running.as_ref().ok_or_else(closed)?;
        sender.send(command).map_err(|_| closed())?;
        self.waker.wake()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}
