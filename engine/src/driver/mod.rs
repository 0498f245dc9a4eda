//! The engine's thread: sockets, timers and the node that they drive.

mod base64;
mod capture;
mod carrier;
mod certificate;
mod datagrams;
pub(crate) mod derp;
mod dns;
mod flows;
mod home;
mod incoming;
mod interfaces;
mod kernel;
mod local;
mod loopback;
mod map;
mod netcheck;
mod node;
pub mod outbox;
mod outgoing;
mod packets;
mod peers;
mod pings;
mod portmap;
pub(crate) mod proxy;
mod random;
mod relays;
mod roam;
pub mod splice;
mod stream;
mod tcp;
mod tls;
mod udp;
pub(crate) mod upgrade;
mod views;
pub(crate) mod websocket;
mod whereabouts;

use std::net::Ipv6Addr;
use std::os::fd::RawFd;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;

use crate::kernel::Kernel;
use outbox::Outbox;

pub use crate::kernel::Congestion;
pub use datagrams::DialUdpError;
pub use local::duplicate;
pub use map::DerpMap;
pub use node::Node;
pub use peers::PeerConfig;
pub use proxy::Proxies;
pub use roam::CHANGED as NETWORK_CHANGED;
pub use views::{CandidateView, ChangeView, PeerView};

/// A thread that does not answer for this long is stuck, which is a bug; better an error than a hang.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long `close` waits for the thread.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Make 32 random bytes.
pub fn random_key() -> [u8; 32] {
    random::bytes()
}

/// Allocations from this size on get pages of their own, which cost nothing until they are touched.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_PAGES_FROM: libc::c_int = 512 << 10;

/// Keep the C library from raising the limit above which it maps fresh pages: a connection's large buffers would then
/// be carved from memory that was used before, and be filled with zeros for nothing.
fn keep_large_buffers_cheap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        // SAFETY: mallopt may be called at any time, and this option only sets a number.
        ONCE.call_once(|| unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_FROM);
        });
    }
}

/// Which TCP an engine should use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackChoice {
    /// The kernel's where it can be had.
    Auto,
    Kernel,
    Portable,
}

/// What an engine is made of.
#[derive(Debug, Clone)]
pub struct Config {
    pub private_key: [u8; 32],
    pub disco_private_key: [u8; 32],
    pub addresses: Vec<Ipv6Addr>,
    pub listen_port: u16,
    pub block_direct: bool,
    pub force_websockets: bool,
    pub tls_ca_pem: Option<Vec<u8>>,
    pub relay_headers: Vec<(String, String)>,
    pub proxies: Proxies,
    /// Whether the gateway is asked for a port.
    pub port_mapping: bool,
    pub forward_to_loopback: bool,
    pub mtu: usize,
    pub stack: StackChoice,
    pub congestion: Congestion,
}

/// Counters of a node.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub dropped_packets: u64,
    pub tcp_flows: u64,
    pub udp_flows: u64,
}

/// The engine was closed, or its thread died.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

/// Work for the engine's thread.
pub type Command = Box<dyn FnOnce(&mut Node, Instant) + Send>;

/// Hands work to the engine's thread, from any thread.
#[derive(Clone)]
pub struct Courier {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Courier {
    fn send(&self, command: Command) -> Result<(), Closed> {
        self.commands.send(command).map_err(|_| Closed)?;
        self.waker.wake().map_err(|_| Closed)
    }
}

/// Which TCP an engine uses.
#[derive(Debug, Clone, Default)]
pub struct StackView {
    pub name: &'static str,
    /// Why not a better one; empty when the first choice works.
    pub reason: String,
    /// The kernel's congestion control; empty with the portable stack.
    pub congestion: String,
}

/// Try the kernel's TCP, unless nobody wants it. The error is a sentence.
fn choose_stack(config: &Config) -> Result<(Option<Kernel>, StackView), String> {
    let portable = |reason| StackView { name: "portable", reason, congestion: String::new() };
    if config.stack == StackChoice::Portable {
        return Ok((None, portable(String::new())));
    }
    match Kernel::open(&config.addresses, config.mtu, config.congestion) {
        Ok(kernel) => {
            let congestion = kernel.sockets.congestion().to_owned();
            let view = StackView { name: "kernel", reason: kernel.reason.clone(), congestion };
            Ok((Some(kernel), view))
        }
        Err(reason) if config.stack == StackChoice::Kernel => Err(format!("the kernel's TCP cannot be used: {reason}")),
        Err(reason) => Ok((None, portable(reason))),
    }
}

/// One running engine.
pub struct Driver {
    courier: Courier,
    outbox: Arc<Outbox>,
    local_port: u16,
    stack: StackView,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Driver {
    /// Start the thread. The error is a sentence.
    pub fn start(config: Config) -> Result<Self, String> {
        keep_large_buffers_cheap();
        let outbox = Arc::new(Outbox::new().map_err(|error| format!("no socket for events: {error}"))?);
        let (commands, received) = mpsc::channel();
        let poll = mio::Poll::new().map_err(|error| format!("no poll: {error}"))?;
        let waker = Waker::new(poll.registry(), node::WAKE).map_err(|error| format!("no waker: {error}"))?;
        let courier = Courier { commands, waker: Arc::new(waker) };
        let (kernel, stack) = choose_stack(&config)?;
        let node = Node::new(config, kernel, poll, outbox.clone(), received, courier.clone())?;
        let local_port = node.local_port();
        let thread = std::thread::Builder::new()
            .name("warren-engine".into())
            .spawn(move || node.run())
            .map_err(|error| format!("no thread: {error}"))?;
        Ok(Self { courier, outbox, local_port, stack, thread: Mutex::new(Some(thread)) })
    }

    /// The descriptor that is readable while events wait.
    pub fn fd(&self) -> RawFd {
        self.outbox.fd()
    }

    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Which stack runs.
    pub fn stack(&self) -> &StackView {
        &self.stack
    }

    pub fn local_port(&self) -> u16 {
        self.local_port
    }

    /// Run `work` on the engine's thread, without waiting for it.
    pub fn tell(&self, work: impl FnOnce(&mut Node, Instant) + Send + 'static) -> Result<(), Closed> {
        self.courier.send(Box::new(work))
    }

    /// Run `work` on the engine's thread and return what it returns.
    pub fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Node, Instant) -> R + Send + 'static,
    ) -> Result<R, Closed> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.tell(move |node, now| {
            let _ = answer.send(work(node, now)); // whoever asked may have given up
        })?;
        match answered.recv_timeout(ANSWER_LIMIT) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(Closed),
        }
    }

    /// Stop the thread and close everything; waits at most a second.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let _ = self.tell(|node, _| node.stop()); // an error means that it has stopped
        let until = Instant::now() + CLOSE_LIMIT;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if thread.is_finished() {
            let _ = thread.join(); // a panic was printed when it happened
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.tell(|node, _| node.stop()); // not joined: dropping must not wait
    }
}
