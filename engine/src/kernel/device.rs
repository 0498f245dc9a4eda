//! The device by which the namespace's packets come to us: a TUN, or one end of a veth pair.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::namespace::Namespace;
use super::netlink::{Link, Netlink};
use super::Failure;
use crate::offload::{Header, HEADER};
use crate::span::Span;
use crate::tunnel::OVERHEAD;

/// The link that the namespace's sockets use, and the far end of a pair, which is ours.
const INNER: &str = "warren0";
const OUTER: &str = "warren1";

/// Hardware addresses of the two ends; nobody outside the namespace sees them.
const INNER_ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OUTER_ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 2];

const ETHERNET: usize = 14;
const IPV6_TYPE: [u8; 2] = [0x86, 0xdd];
/// A whole frame: headers before an IPv6 packet of the largest length.
pub const FRAME_ROOM: usize = HEADER + ETHERNET + 40 + 65_535;
/// Frames that wait for us in the device; a super-segment is one.
const QUEUE: u32 = 1000;
/// One UDP send holds this much, so a super-segment that is cut into it leaves by one call.
const ONE_SEND: usize = 65_000;
/// Headers of a segment: IPv6, TCP, time stamps.
const HEADERS: usize = 72;

const TUN_CHECKSUM: libc::c_uint = 0x01;
const TUN_TSO4: libc::c_uint = 0x02;
const TUN_TSO6: libc::c_uint = 0x04;
const TUN_TSO_ECN: libc::c_uint = 0x08;

const PACKET_IGNORE_OUTGOING: libc::c_int = 23; // if_packet.h
/// What the far end of a pair may keep for us: two windows of a fast connection.
const PACKET_BUFFER: libc::c_int = 32 << 20;

/// A device with one reader and writer.
pub struct Device {
    fd: RawFd,
    /// Whose `fd` is; `None` when it was given away.
    owned: Option<OwnedFd>,
    /// Bytes of Ethernet header before each packet.
    ethernet: usize,
}

/// The largest super-segment that fits in one send once it is cut and sealed.
fn largest_segment(mtu: usize) -> u32 {
    let packets = (ONE_SEND / (mtu + OVERHEAD)).max(1);
    (packets * (mtu - HEADERS) + HEADERS).min(65_536) as u32
}

impl Device {
    /// Make a TUN, which carries bare packets.
    pub fn tun(namespace: &Namespace, netlink: &Netlink, mtu: usize) -> Result<Self, Failure> {
        let fd = namespace
            .open(c"/dev/net/tun", libc::O_RDWR | libc::O_NONBLOCK)
            .map_err(|error| Failure::new("opening /dev/net/tun", error))?;
        // SAFETY: zero is a valid value of every field.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(INNER.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        // SAFETY: the call reads the structure.
        if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &request) } != 0 {
            return Err(Failure::new("making a TUN device", io::Error::last_os_error()));
        }
        let offloads = TUN_CHECKSUM | TUN_TSO4 | TUN_TSO6 | TUN_TSO_ECN;
        // SAFETY: the argument is a number.
        if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(offloads)) } != 0 {
            return Err(Failure::new("switching on the TUN device's offloads", io::Error::last_os_error()));
        }
        let device = Self::new(fd, 0);
        bring_up(netlink, mtu, false).map_err(|error| Failure::new("setting up the TUN device", error))?;
        Ok(device)
    }

    /// Make a pair of Ethernet links and take the frames of one of them.
    pub fn veth(namespace: &Namespace, netlink: &Netlink, mtu: usize) -> Result<Self, Failure> {
        let made = netlink.add_veth((INNER, INNER_ADDRESS), (OUTER, OUTER_ADDRESS), mtu as u32);
        made.map_err(|error| Failure::new("making a veth pair", error))?;
        let fd = packet_socket(namespace).map_err(|error| Failure::new("opening a packet socket", error))?;
        let failed = |error| Failure::new("setting up the veth pair", error);
        let outer = netlink.index(OUTER).map_err(failed)?;
        netlink.no_generated_addresses(outer).map_err(failed)?;
        let up = Link { up: true, no_arp: true, ..Link::default() };
        netlink.set_link(outer, up).map_err(failed)?;
        bind_packets(&fd, outer).map_err(|error| Failure::new("binding the packet socket", error))?;
        bring_up(netlink, mtu, true).map_err(failed)?;
        Ok(Self::new(fd, ETHERNET))
    }

    fn new(fd: OwnedFd, ethernet: usize) -> Self {
        Self { fd: fd.as_raw_fd(), owned: Some(fd), ethernet }
    }

    /// Let the helper remove the device, which takes the kernel tens of milliseconds; it cannot be used after this.
    pub fn dispose(&mut self, namespace: &Namespace) {
        if let Some(fd) = self.owned.take() {
            namespace.close(fd);
        }
    }

    /// The link that sockets use.
    pub fn index(netlink: &Netlink) -> io::Result<u32> {
        netlink.index(INNER)
    }

    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Read one frame into `buffer`, which has `FRAME_ROOM`; returns what is to do with the packet, and where it is.
    /// `Ok(None)` when nothing waits. What cannot be understood is an empty packet.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<(Header, Span)>> {
        // SAFETY: the buffer is as long as said.
        let got = unsafe { libc::read(self.fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        if got < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        let (start, end) = (HEADER + self.ethernet, got as usize);
        let nothing = (Header::default(), Span { start: 0, end: 0 });
        let head = buffer.first_chunk::<HEADER>().filter(|_| end >= start);
        let ours = self.ethernet == 0 || buffer[start - 2..start] == IPV6_TYPE;
        let header = head.filter(|_| ours).and_then(Header::parse).and_then(|header| header.without(self.ethernet));
        Ok(Some(header.map_or(nothing, |header| (header, Span { start, end }))))
    }

    /// Hand the pieces of one packet to the namespace.
    pub fn write(&self, header: &Header, slab: &[u8], pieces: &[Span]) -> io::Result<()> {
        let head = header.behind(self.ethernet).bytes();
        let mut ethernet = [0_u8; ETHERNET];
        ethernet[..12].copy_from_slice(&[INNER_ADDRESS, OUTER_ADDRESS].concat());
        ethernet[12..].copy_from_slice(&IPV6_TYPE);
        let ethernet = &ethernet[..self.ethernet];
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut vector = [empty; 2 + crate::offload::MAX_PIECES];
        let parts = [&head[..], ethernet].into_iter().chain(pieces.iter().map(|span| &slab[span.start..span.end]));
        let mut count = 0;
        for (entry, part) in vector.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *entry = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
            count += 1;
        }
        // SAFETY: every entry is a part that lives until the end of this function, and the call only reads them.
        if unsafe { libc::writev(self.fd(), vector.as_ptr(), count) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Bring up the link that sockets use, and the loopback link.
fn bring_up(netlink: &Netlink, mtu: usize, no_arp: bool) -> io::Result<()> {
    let index = netlink.index(INNER)?;
    netlink.no_generated_addresses(index)?;
    netlink.set_link(index, Link { mtu: Some(mtu as u32), queue_length: Some(QUEUE), ..Link::default() })?;
    // Kernels before 4.16 have no such limit; segments are then a little larger than one send.
    let _ = netlink.set_link(index, Link { gso_max_size: Some(largest_segment(mtu)), ..Link::default() });
    netlink.set_link(index, Link { up: true, no_arp, ..Link::default() })?;
    netlink.set_link(1, Link { up: true, ..Link::default() })
}

/// Open a socket that takes whole frames with their headers.
fn packet_socket(namespace: &Namespace) -> io::Result<OwnedFd> {
    // No protocol yet: it would take the frames of every link from now on.
    let fd = namespace.socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 0)?;
    set(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    let _ = set(&fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1); // kernels before 4.20: `bind` to one end is enough
    let _ = set(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1); // speed only
    let _ = set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, PACKET_BUFFER); // speed only
    let _ = set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, PACKET_BUFFER); // speed only
    Ok(fd)
}

fn set(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let (value, length) = (std::ptr::from_ref(&value).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the option takes a C int, and that is what it gets.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn bind_packets(fd: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: zero is a valid value of every field.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = u16::from_ne_bytes(IPV6_TYPE);
    address.sll_ifindex = index as libc::c_int;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is as long as said.
    match unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
