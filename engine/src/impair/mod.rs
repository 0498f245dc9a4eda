//! The impairer of the network lab: a line between two TUN devices with delay, loss, reordering, duplication and a rate.
//!
//! It stands where `tc netem` may be missing, moves super-segments without cutting them up and takes the same choices
//! for the same seed. `segments` and `line` are pure; `driver` is the thread.

mod buffers;
mod driver;
mod line;
mod segments;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use line::{Counters, Settings};

/// What the handle asks of the thread.
enum Command {
    /// For each direction.
    Set([Settings; 2]),
    Close,
}

/// The counters, where the handle reads them.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<[Counters; 2]>>);

impl Shared {
    fn publish(&self, counters: [Counters; 2]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    fn read(&self) -> [Counters; 2] {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Running {
    commands: Sender<Command>,
    wake: UnixStream,
    thread: JoinHandle<()>,
}

/// A running impairer. Direction 0 goes from the left device to the right one, direction 1 back.
pub struct Impairer {
    shared: Shared,
    settings: Mutex<[Settings; 2]>,
    /// Gone once it is closed.
    running: Mutex<Option<Running>>,
}

impl Impairer {
    /// Start between two TUN devices that were opened with `IFF_NO_PI` and `IFF_VNET_HDR`.
    ///
    /// # Errors
    /// The descriptors cannot be used, or the system gives us no thread.
    pub fn start(left: OwnedFd, right: OwnedFd, settings: [Settings; 2], seed: u64) -> io::Result<Self> {
        driver::set_nonblocking(left.as_fd())?;
        driver::set_nonblocking(right.as_fd())?;
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (commands, receiver) = mpsc::channel();
        let shared = Shared::default();
        let published = shared.clone();
        let thread = std::thread::Builder::new().name("warren-impairer".into()).spawn(move || {
            // Both directions choose independently, from one seed.
            let lines = [line::Line::new(settings[0], seed), line::Line::new(settings[1], !seed)];
            let devices = [File::from(left), File::from(right)];
            driver::Driver::new(devices, lines, receiver, woken, published).run();
        })?;
        let running = Mutex::new(Some(Running { commands, wake, thread }));
        Ok(Self { shared, settings: Mutex::new(settings), running })
    }

    /// Change the settings of the directions; what is under way keeps its time. Does nothing once closed.
    pub fn set(&self, change: impl FnOnce(&mut [Settings; 2])) {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut settings);
        if let Some(running) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.ask(Command::Set(*settings));
        }
    }

    /// Read the counters of both directions.
    pub fn counters(&self) -> [Counters; 2] {
        self.shared.read()
    }

    /// End the thread; what is under way is lost. Idempotent.
    pub fn close(&self) {
        let Some(running) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        running.ask(Command::Close);
        let _ = running.thread.join();
    }
}

impl Running {
    /// Either step may fail only because the thread has ended, or because it is about to look anyway.
    fn ask(&self, command: Command) {
        let _ = self.commands.send(command);
        let _ = (&self.wake).write(&[0]);
    }
}

impl Drop for Impairer {
    fn drop(&mut self) {
        self.close();
    }
}
