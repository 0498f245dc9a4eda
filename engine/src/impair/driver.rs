//! The thread of an impairer: reads one device, waits, writes the other.

use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use super::buffers::Pool;
use super::line::{Line, Run};
use super::segments::{Packet, PREFIX_LEN};
use super::{Command, Shared};

/// The largest IP packet and the virtio header before it.
const READ_LEN: usize = PREFIX_LEN + (64 << 10);
/// Reads of one device before the other gets its turn and what is due is written.
const BATCH: usize = 32;

/// What the thread owns. Line 0 goes from device 0 to device 1, line 1 back.
pub struct Driver {
    devices: [File; 2],
    lines: [Line; 2],
    commands: Receiver<Command>,
    wake: UnixStream,
    shared: Shared,
    pool: Pool,
    /// A device that is gone or down is not polled for this long at a time.
    broken_until: [Option<Instant>; 2],
}

/// How long a device that fails is left alone: it may be taken down and up again by whoever tests with it.
const BROKEN_PAUSE: Duration = Duration::from_millis(10);

impl Driver {
    pub fn new(
        devices: [File; 2],
        lines: [Line; 2],
        commands: Receiver<Command>,
        wake: UnixStream,
        shared: Shared,
    ) -> Self {
        let pool = Pool::new(READ_LEN);
        Self { devices, lines, commands, wake, shared, pool, broken_until: [None; 2] }
    }

    /// Move packets until told to close.
    pub fn run(mut self) {
        be_on_time();
        loop {
            let ready = self.wait();
            if ready[2] && !self.obey() {
                return;
            }
            for side in [0, 1].into_iter().filter(|side| ready[*side]) {
                self.read(side);
            }
            for side in 0..2 {
                self.write(side);
            }
            self.shared.publish([self.lines[0].counters(), self.lines[1].counters()]);
        }
    }

    /// Wait for packets, commands or the next packet that is due; says which descriptors are ready.
    fn wait(&mut self) -> [bool; 3] {
        let now = Instant::now();
        let mut deadline = self.lines.iter().filter_map(Line::poll_timeout).min();
        let mut fds = [self.devices[0].as_raw_fd(), self.devices[1].as_raw_fd(), self.wake.as_raw_fd()]
            .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        for (broken, fd) in self.broken_until.iter_mut().zip(&mut fds) {
            *broken = broken.filter(|until| *until > now);
            if let Some(until) = *broken {
                fd.fd = -1; // ppoll leaves it out
                deadline = Some(deadline.map_or(until, |deadline| deadline.min(until)));
            }
        }
        let pause = deadline.map(|at| at.saturating_duration_since(now));
        let timeout = pause.map(|pause| libc::timespec {
            // A pause is seconds at most.
            tv_sec: pause.as_secs() as libc::time_t,
            tv_nsec: pause.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `fds` and `timeout` live through the call, and the count is that of `fds`.
        unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout, std::ptr::null()) };
        fds.map(|fd| fd.revents != 0)
    }

    /// Do what the handle asked for; says whether to go on.
    fn obey(&mut self) -> bool {
        let mut drained = [0; 64];
        while matches!(self.wake.read(&mut drained), Ok(1..)) {}
        loop {
            match self.commands.try_recv() {
                Ok(Command::Set(settings)) => {
                    for (line, settings) in self.lines.iter_mut().zip(settings) {
                        line.set(settings);
                    }
                }
                Err(TryRecvError::Empty) => return true,
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn read(&mut self, side: usize) {
        for _ in 0..BATCH {
            match self.devices[side].read(self.pool.next()) {
                Ok(0) => return self.pause(side),
                Ok(len) => {
                    if let Some(packet) = Packet::new(self.pool.keep(len)) {
                        self.lines[side].handle_packet(Instant::now(), packet);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.pause(side),
            }
        }
    }

    fn pause(&mut self, side: usize) {
        self.broken_until[side] = Some(Instant::now() + BROKEN_PAUSE);
    }

    /// Write what is due from `side` to the other one.
    fn write(&mut self, side: usize) {
        let now = Instant::now();
        while let Some(run) = self.lines[side].poll_transmit(now) {
            if write_run(&mut self.devices[1 - side], &run).is_err() {
                self.lines[side].handle_refusal(run.count());
            }
        }
    }
}

fn write_run(device: &mut File, run: &Run) -> std::io::Result<usize> {
    match run.bytes() {
        (None, whole) => device.write(whole),
        (Some(head), payload) => device.write_vectored(&[IoSlice::new(head.bytes()), IoSlice::new(payload)]),
    }
}

/// Wake when a packet is due, and before the programs that only wait for it.
fn be_on_time() {
    /// Between the ordinary and what a machine needs to be usable.
    const NICENESS: libc::c_int = -10;
    // SAFETY: changes nothing but how late this thread's timers may be (50 µs unless asked) and its turn on a busy
    // processor. Without the right to the latter it fails, and delays are a little less exact.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong);
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
    }
}

/// Make reads and writes of a device return instead of wait.
pub fn set_nonblocking(device: BorrowedFd<'_>) -> std::io::Result<()> {
    // SAFETY: reads and sets the flags of a descriptor that is open, as its type promises.
    unsafe {
        let flags = libc::fcntl(device.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(device.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}
