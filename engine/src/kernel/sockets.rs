//! TCP sockets in the namespace.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use socket2::Socket;

use super::limits::{Limits, WINDOW};
use super::namespace::Namespace;
use super::{Congestion, Failure};

/// Connections that wait to be accepted on one port.
const BACKLOG: i32 = 4096;
/// A peer that acknowledges nothing for this long has gone; a laptop that sleeps through a working day has not.
const GIVE_UP_MS: libc::c_int = 8 * 3600 * 1000;
const IP_BIND_ADDRESS_NO_PORT: libc::c_int = 24;
const CONGESTION_ROOM: usize = 16;

/// Makes sockets that are set up as tunnelled connections should be.
pub struct Sockets {
    namespace: Namespace,
    limits: Limits,
    congestion: String,
}

impl Sockets {
    /// Choose the congestion control; an error when none that was asked for can be had.
    pub fn new(namespace: Namespace, limits: Limits, congestion: Congestion) -> Result<Self, Failure> {
        let failed = |error| Failure::new("choosing a congestion control", error);
        let mut sockets = Self { namespace, limits, congestion: String::new() };
        let probe = sockets.bare().map_err(|error| Failure::new("making a TCP socket", error))?;
        let mut last = None;
        for name in congestion.names() {
            match choose(&probe, name) {
                Ok(()) => {
                    sockets.congestion = (*name).into();
                    return Ok(sockets);
                }
                Err(error) => last = Some(error),
            }
        }
        if congestion == Congestion::Auto {
            sockets.congestion = chosen(&probe).map_err(failed)?;
            return Ok(sockets);
        }
        Err(failed(last.unwrap_or_else(|| io::ErrorKind::NotFound.into())))
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Whether what nobody has open is given up after minutes, and not after the hours that the others have.
    pub fn gives_up_orphans(&self) -> bool {
        self.limits.patient
    }

    /// The congestion control in use, as the kernel calls it.
    pub fn congestion(&self) -> &str {
        &self.congestion
    }

    fn bare(&self) -> io::Result<Socket> {
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
        Ok(Socket::from(self.namespace.socket(libc::AF_INET6, kind, libc::IPPROTO_TCP)?))
    }

    fn socket(&self) -> io::Result<Socket> {
        let socket = self.bare()?;
        choose(&socket, &self.congestion)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_reuse_address(true)?;
        socket.set_only_v6(true)?;
        if !self.limits.patient {
            // The only other way. It holds for sockets that nobody has open any more as well, which is why it is not
            // the first: they and the namespace would stay for hours.
            set(&socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, GIVE_UP_MS)?;
        }
        if !self.limits.windows {
            // Fixed windows instead of growing ones. They take memory only as they fill.
            for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
                let _ = set(&socket, libc::SOL_SOCKET, option, (WINDOW / 2) as libc::c_int);
                // speed only
            }
        }
        Ok(socket)
    }

    /// Begin a connection.
    pub fn connect(&self, local: Ipv6Addr, remote: (Ipv6Addr, u16)) -> io::Result<Socket> {
        let socket = self.socket()?;
        set(&socket, libc::IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)?;
        socket.bind(&SocketAddr::from((local, 0)).into())?;
        match socket.connect(&SocketAddr::from(remote).into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    }

    /// Listen on a port of all our addresses.
    pub fn listen(&self, port: u16) -> io::Result<Socket> {
        let socket = self.socket()?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    }
}

/// The IPv6 address and port at either end of a socket.
pub fn end(address: &socket2::SockAddr) -> Option<(Ipv6Addr, u16)> {
    address.as_socket_ipv6().map(|address: SocketAddrV6| (*address.ip(), address.port()))
}

fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let (value, length) = (std::ptr::from_ref(&value).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the option takes a C int, and that is what it gets.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ask for a congestion control, and see that it was taken.
fn choose(socket: &Socket, name: &str) -> io::Result<()> {
    // SAFETY: the name is as long as said.
    let set = unsafe {
        let (bytes, length) = (name.as_ptr().cast(), name.len() as libc::socklen_t);
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_CONGESTION, bytes, length)
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    if chosen(socket)? != name {
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{name} was asked for and not taken")));
    }
    Ok(())
}

/// The congestion control that a socket has.
fn chosen(socket: &Socket) -> io::Result<String> {
    let mut name = [0_u8; CONGESTION_ROOM];
    let mut length = CONGESTION_ROOM as libc::socklen_t;
    // SAFETY: the buffer is as long as said.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = name.iter().copied().take_while(|byte| *byte != 0).collect::<Vec<_>>();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
