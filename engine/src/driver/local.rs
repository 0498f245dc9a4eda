//! The near ends of tunnelled connections: sockets to Python or to a port of this machine.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Bytes that may wait in a socket to Python; large, so that both sides wake seldom.
const PAIR_BUFFER: usize = 2 << 20;

/// Make a connected pair: our end, non-blocking, and the end for Python.
pub fn pair(kind: Type) -> io::Result<(Socket, OwnedFd)> {
    let (ours, theirs) = Socket::pair(Domain::UNIX, kind, None)?;
    ours.set_nonblocking(true)?;
    for end in [&ours, &theirs] {
        grow(end);
    }
    Ok((ours, theirs.into()))
}

/// Enlarge a send buffer, by force where we may.
fn grow(socket: &Socket) {
    let size = PAIR_BUFFER as libc::c_int;
    // SAFETY: the option takes a C int, and that is what it gets.
    let forced = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            std::ptr::from_ref(&size).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if forced != 0 {
        let _ = socket.set_send_buffer_size(PAIR_BUFFER); // best effort: a smaller buffer only costs speed
    }
}

/// The loopback addresses of a port, in the order in which they are tried.
pub fn loopbacks(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port), SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)]
}

/// Begin a TCP connection to a port of this machine.
pub fn connect(to: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Open a UDP socket to a port of this machine, from the same port as the peer's if that is free.
pub fn connect_udp(to: SocketAddr, wanted_port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if socket.bind(&SocketAddr::new(to.ip(), wanted_port).into()).is_err() {
        socket.bind(&SocketAddr::new(to.ip(), 0).into())?;
    }
    socket.connect(&to.into())?;
    Ok(socket)
}

/// Read into `buffer`; `Ok(None)` when nothing is there yet.
pub fn read(mut socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.read(buffer) {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Write what fits; `Ok(None)` when nothing does.
pub fn write(socket: &Socket, bytes: &[u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.send_with_flags(bytes, libc::MSG_NOSIGNAL) {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Say that no more will be written.
pub fn end(socket: &Socket) {
    let _ = socket.shutdown(Shutdown::Write); // fails only when the other side has gone, which reading reports
}

/// Make closing a TCP socket reset its connection instead of ending it politely.
pub fn reset_on_close(socket: &Socket) {
    let _ = socket.set_linger(Some(Duration::ZERO)); // not a TCP socket: closing a pair is enough
}

/// Duplicate a descriptor that someone else owns.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: fcntl checks the descriptor; the result is new and ours.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made by fcntl, owned by nobody else.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(copy) })
}

/// The error with which a connection attempt ended, if it did.
pub fn connect_error(socket: &Socket) -> Option<io::Error> {
    SockRef::from(socket).take_error().unwrap_or_else(Some)
}
