//! A network of our own: a helper in a namespace, which makes sockets and opens files there for us.
//!
//! A process with threads cannot enter a user namespace, so a thread of ours begins a process that starts in one. It
//! shares our memory and our table of descriptors, does nothing but system calls, and ends with us; the last that it
//! does is to end the connections there, which are open until then because of the table. Who made a user namespace is
//! its administrator from outside too: everything but the calls that ask "in which network am I?" is done by ordinary
//! code here.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use libc::{c_int, c_long, c_void};
use socket2::Socket;

use super::abort::{can_abort_orphans, end_connections};

/// Stack of the helper, which calls nothing deep.
const HELPER_STACK: usize = 64 << 10;
/// The helper answers within microseconds; one that does not is gone.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const PATH_ROOM: usize = 96;
/// Tells the helper that its parent, or a thread of it, has died. Any that nobody else sends would do.
const PARENT_DIED: c_int = libc::SIGURG;

/// What the helper is asked for.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    kind: c_int,
    arguments: [c_int; 3],
    path: [u8; PATH_ROOM],
}

const SOCKET: c_int = 1;
const OPEN: c_int = 2;
const CLOSE: c_int = 3;
const LEAVE: c_int = 4;

/// A network namespace with a helper in it.
pub struct Namespace {
    control: Mutex<OwnedFd>,
}

/// What the helper gets to know.
struct Start {
    control: c_int,
    parent: c_int,
    /// Whether the kernel can abort sockets that nobody has open.
    orphans_too: bool,
}

impl Namespace {
    /// Make one with a user namespace around it, for which nobody needs to be root.
    pub fn unprivileged() -> io::Result<Self> {
        Self::start(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)
    }

    /// Make one as the administrator that we are.
    pub fn privileged() -> io::Result<Self> {
        Self::start(libc::CLONE_NEWNET)
    }

    fn start(flags: c_int) -> io::Result<Self> {
        let (ours, theirs) = Socket::pair(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None)?;
        ours.set_read_timeout(Some(ANSWER_LIMIT))?;
        std::thread::Builder::new()
            .name("warren-netns".into())
            .stack_size(HELPER_STACK)
            .spawn(move || hold(flags, &theirs))?;
        let started = Self { control: Mutex::new(ours.into()) };
        started.answer()?;
        Ok(started)
    }

    /// Make a socket in the namespace.
    pub fn socket(&self, domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
        self.ask(Request {
            kind: SOCKET,
            arguments: [domain, kind | libc::SOCK_CLOEXEC, protocol],
            path: [0; PATH_ROOM],
        })
    }

    /// Open a file as it looks from the namespace.
    pub fn open(&self, path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
        let mut request = Request { kind: OPEN, arguments: [flags | libc::O_CLOEXEC, 0, 0], path: [0; PATH_ROOM] };
        let bytes = path.to_bytes_with_nul();
        let room = request.path.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
        room.copy_from_slice(bytes);
        self.ask(request)
    }

    /// Close a descriptor that it takes long to close, without waiting for that.
    pub fn close(&self, fd: OwnedFd) {
        let request = Request { kind: CLOSE, arguments: [fd.as_raw_fd(), 0, 0], path: [0; PATH_ROOM] };
        if self.send(&request).is_ok() {
            let _ = fd.into_raw_fd(); // the helper closes it in the table that we share
        }
    }

    fn ask(&self, request: Request) -> io::Result<OwnedFd> {
        self.send(&request)?;
        let fd = self.answer()?;
        // SAFETY: the helper made it in the table that we share, and it is nobody else's.
        let made = unsafe { OwnedFd::from_raw_fd(fd) };
        // The helper keeps the limit that we had when it began.
        if fd as libc::rlim_t >= descriptor_limit() {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        Ok(made)
    }

    fn send(&self, request: &Request) -> io::Result<()> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a request is plain bytes, and stays where it is during the call.
        let sent = unsafe {
            libc::send(
                control.as_raw_fd(),
                std::ptr::from_ref(request).cast(),
                size_of::<Request>(),
                libc::MSG_NOSIGNAL,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn answer(&self) -> io::Result<c_int> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer: c_int = 0;
        // SAFETY: the buffer is as large as said.
        let got =
            unsafe { libc::recv(control.as_raw_fd(), std::ptr::from_mut(&mut answer).cast(), size_of::<c_int>(), 0) };
        match got {
            4 if answer >= 0 => Ok(answer),
            4 => Err(io::Error::from_raw_os_error(-answer)),
            0 => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the helper in the namespace has gone")),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Closing our end would be enough, unless a process that we forked has a copy of it.
        let _ = self.send(&Request { kind: LEAVE, arguments: [0; 3], path: [0; PATH_ROOM] });
    }
}

/// How many descriptors this process may have.
fn descriptor_limit() -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call writes to the structure.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur
}

/// Begin the helper and wait until it has ended: the life of a thread of ours.
fn hold(flags: c_int, control: &Socket) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let start = Start {
        control: control.as_raw_fd(),
        parent: std::process::id() as c_int,
        orphans_too: can_abort_orphans(&release),
    };
    let mut stack = vec![0_u8; HELPER_STACK];
    // SAFETY: the stack outlives the helper, as does `start`: this function waits for its end. A signal that a handler
    // of ours would get must not run in the helper, so all are blocked, which it inherits. It has no signal to send
    // when it ends, so that nobody who waits for children of this process sees it. It is not started with
    // `CLONE_VFORK`: a thread that waits in there counts as load.
    let pid = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
        let top = stack.as_mut_ptr().add(HELPER_STACK & !15).cast::<c_void>();
        let flags = libc::CLONE_VM | libc::CLONE_FILES | flags;
        libc::clone(serve, top, flags, std::ptr::from_ref(&start).cast_mut().cast())
    };
    if pid < 0 {
        let error = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EPERM);
        let _ = control.send(&(-error).to_ne_bytes()); // whoever asked may have given up
        return;
    }
    // The helper writes to this thread's `errno`: until it has ended nothing here may need that. Signals are blocked, so
    // an error can only be that somebody else has waited for it.
    // SAFETY: no status is asked for.
    unsafe { libc::syscall(libc::SYS_wait4, pid, 0, libc::__WALL, 0) };
}

/// The helper: answer requests until there are none. Only system calls, and nothing that allocates or may fail in Rust.
extern "C" fn serve(argument: *mut c_void) -> c_int {
    // SAFETY: `hold` passes a `Start` that lives as long as this process.
    let start = unsafe { &*argument.cast::<Start>() };
    // SAFETY: system calls on values of our own. `errno` is that of the thread that waits for us.
    unsafe {
        if prepare(start) {
            while perform_next(start) {}
            end_connections(start.orphans_too);
        }
    }
    0
}

/// Have the parent's death told, and say that the helper is there; false when nobody needs it.
unsafe fn prepare(start: &Start) -> bool {
    // A signal must have a handler to interrupt anything. Handlers are this process's own, unlike memory.
    let mut action: libc::sigaction = std::mem::zeroed();
    action.sa_sigaction = note as *const () as usize;
    libc::sigaction(PARENT_DIED, &action, std::ptr::null_mut());
    libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, PARENT_DIED, 0, 0, 0);
    // Otherwise it died before it could be told of.
    let there = libc::syscall(libc::SYS_getppid) == c_long::from(start.parent);
    libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, c"warren-netns".as_ptr(), 0, 0, 0);
    there && answer(start.control, 0)
}

extern "C" fn note(_: c_int) {}

/// Wait for a request and do what it says; false when there will be no other.
unsafe fn perform_next(start: &Start) -> bool {
    let mut request = Request { kind: LEAVE, arguments: [0; 3], path: [0; PATH_ROOM] };
    if !wait_for_request(start) {
        return false;
    }
    let room = std::ptr::from_mut(&mut request).cast::<c_void>();
    let got = libc::syscall(libc::SYS_read, start.control, room, size_of::<Request>());
    if got != size_of::<Request>() as c_long {
        return false;
    }
    let [first, second, third] = request.arguments;
    let made = match request.kind {
        SOCKET => libc::syscall(libc::SYS_socket, first, second, third),
        // The path is terminated, as its room is larger than what is written.
        OPEN => libc::syscall(libc::SYS_openat, libc::AT_FDCWD, request.path.as_ptr(), first, 0),
        CLOSE => {
            libc::syscall(libc::SYS_close, first);
            return true;
        }
        _ => return false,
    };
    answer(start.control, if made < 0 { -*libc::__errno_location() } else { made as c_int })
}

/// Wait until there is a request; false when the parent has died instead.
///
/// The death of any of its threads can be told; while others live they are our parent.
unsafe fn wait_for_request(start: &Start) -> bool {
    let mut told: libc::sigset_t = std::mem::zeroed();
    libc::sigfillset(&mut told);
    libc::sigdelset(&mut told, PARENT_DIED);
    let mut waited = libc::pollfd { fd: start.control, events: libc::POLLIN, revents: 0 };
    loop {
        let mask = std::ptr::from_ref(&told).cast::<c_void>();
        let forever = std::ptr::null::<c_void>();
        let ready = libc::syscall(libc::SYS_ppoll, std::ptr::from_mut(&mut waited), 1, forever, mask, SIGNAL_SET);
        let interrupted = ready < 0 && *libc::__errno_location() == libc::EINTR;
        if libc::syscall(libc::SYS_getppid) != c_long::from(start.parent) || !(ready > 0 || interrupted) {
            return false;
        }
        if ready > 0 {
            return true;
        }
    }
}

/// Bytes of a set of signals, as the kernel has it.
const SIGNAL_SET: usize = 8;

/// Answer a request.
unsafe fn answer(control: c_int, result: c_int) -> bool {
    let bytes = std::ptr::from_ref(&result).cast::<c_void>();
    libc::syscall(libc::SYS_write, control, bytes, size_of::<c_int>()) == size_of::<c_int>() as libc::c_long
}
