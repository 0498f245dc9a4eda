//! Where bytes are between two sockets: in a pipe of the kernel, where they are not copied, or in memory.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use socket2::Socket;

use crate::driver::local;

/// Bytes moved in one go through memory, and through a pipe if it can be made so large.
const MEMORY: usize = 64 << 10;
const PIPE: usize = 256 << 10;

/// Bytes on their way in one direction.
pub enum Store {
    Pipe { reader: OwnedFd, writer: OwnedFd },
    Memory { buffer: Vec<u8>, start: usize },
}

impl Store {
    /// Make a pipe, or where descriptors are scarce a buffer.
    pub fn new() -> Self {
        pipe().unwrap_or_else(|_| Self::memory())
    }

    fn memory() -> Self {
        Self::Memory { buffer: vec![0; MEMORY], start: 0 }
    }

    /// Take what a socket has; it is empty before. `Ok(None)` when nothing is there yet.
    pub fn fill(&mut self, source: &Socket) -> io::Result<Option<usize>> {
        match self {
            Self::Memory { buffer, start } => {
                *start = 0;
                local::read(source, buffer)
            }
            Self::Pipe { writer, .. } => match transfer(source, writer, PIPE) {
                // Not every system moves bytes between every kind of socket and a pipe.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    *self = Self::memory();
                    self.fill(source)
                }
                result => result,
            },
        }
    }

    /// Hand some of the `held` bytes to a socket. `Ok(None)` when it takes none for now.
    pub fn drain(&mut self, target: &Socket, held: usize) -> io::Result<Option<usize>> {
        match self {
            Self::Memory { buffer, start } => {
                let written = local::write(target, &buffer[*start..*start + held])?;
                *start += written.unwrap_or(0);
                Ok(written)
            }
            Self::Pipe { reader, .. } => transfer(reader, target, held),
        }
    }
}

fn pipe() -> io::Result<Store> {
    let mut ends = [0; 2];
    // SAFETY: the call writes two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, owned by nobody else.
    let [reader, writer] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: the argument is a number. A smaller pipe only costs speed.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE as libc::c_int) };
    Ok(Store::Pipe { reader, writer })
}

/// Move up to `count` bytes without looking at them; `Ok(None)` when nothing can be moved for now.
fn transfer(from: &impl AsRawFd, to: &impl AsRawFd, count: usize) -> io::Result<Option<usize>> {
    let (from, to, none) = (from.as_raw_fd(), to.as_raw_fd(), std::ptr::null_mut());
    loop {
        // SAFETY: no offsets are passed.
        let moved = unsafe { libc::splice(from, none, to, none, count, libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK) };
        if moved >= 0 {
            return Ok(Some(moved as usize));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(None),
            io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    }
}
