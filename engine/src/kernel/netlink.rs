//! Setting up links, addresses and routes of a namespace (rtnetlink(7)).

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use super::namespace::Namespace;

const MTU: u16 = libc::IFLA_MTU;
const HARDWARE_ADDRESS: u16 = libc::IFLA_ADDRESS;
const NAME: u16 = libc::IFLA_IFNAME;
const LINK_INFO: u16 = libc::IFLA_LINKINFO;
const QUEUE_LENGTH: u16 = libc::IFLA_TXQLEN;
const FAMILIES: u16 = libc::IFLA_AF_SPEC;
const GSO_MAX_SIZE: u16 = 41; // if_link.h
const KIND: u16 = 1; // IFLA_INFO_KIND
const KIND_DATA: u16 = 2; // IFLA_INFO_DATA
const VETH_PEER: u16 = 1; // veth.h
const ADDRESS_GENERATION: u16 = 8; // IFLA_INET6_ADDR_GEN_MODE
const NO_GENERATION: u8 = 1; // IN6_ADDR_GEN_MODE_NONE
const ADDRESS_LOCAL: u16 = 2; // IFA_LOCAL
const ADDRESS: u16 = 1; // IFA_ADDRESS
const NO_DUPLICATE_DETECTION: u8 = 0x02; // IFA_F_NODAD
const OUTPUT_LINK: u16 = 4; // RTA_OIF

const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// A conversation with the kernel about a namespace.
pub struct Netlink {
    socket: OwnedFd,
}

/// What a link should be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    pub mtu: Option<u32>,
    pub gso_max_size: Option<u32>,
    pub queue_length: Option<u32>,
    pub up: bool,
    /// It has no neighbours to look for.
    pub no_arp: bool,
}

impl Netlink {
    pub fn open(namespace: &Namespace) -> io::Result<Self> {
        Ok(Self { socket: namespace.socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)? })
    }

    /// Find a link by its name.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        // SAFETY: zero is a valid value of every field.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: the call reads a terminated name from the structure, and writes a number to it.
        if unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFINDEX as _, &mut request) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: this is the field that the call has set.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
    }

    /// Change a link.
    pub fn set_link(&self, index: u32, link: Link) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.link(index, link.up, link.no_arp);
        for (kind, value) in [(MTU, link.mtu), (QUEUE_LENGTH, link.queue_length), (GSO_MAX_SIZE, link.gso_max_size)] {
            if let Some(value) = value {
                message.attribute(kind, &value.to_ne_bytes());
            }
        }
        self.send(message)
    }

    /// Let a link have no address but those it is given.
    pub fn no_generated_addresses(&self, index: u32) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        message.link(index, false, false);
        message.nested(FAMILIES, |message| {
            message.nested(libc::AF_INET6 as u16, |message| message.attribute(ADDRESS_GENERATION, &[NO_GENERATION]));
        });
        self.send(message)
    }

    /// Make a pair of Ethernet links, named and with addresses, that are each other's far end.
    pub fn add_veth(&self, inner: (&str, [u8; 6]), outer: (&str, [u8; 6]), mtu: u32) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE);
        message.link(0, false, false);
        message.end_of_pair(inner, mtu);
        message.nested(LINK_INFO, |message| {
            message.attribute(KIND, b"veth");
            message.nested(KIND_DATA, |message| {
                message.nested(VETH_PEER, |message| {
                    message.link_header(0, 0, 0);
                    message.end_of_pair(outer, mtu);
                });
            });
        });
        self.send(message)
    }

    /// Give a link an address, usable at once.
    pub fn add_address(&self, index: u32, address: Ipv6Addr) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWADDR, CREATE);
        message.put(&[libc::AF_INET6 as u8, 128, NO_DUPLICATE_DETECTION, 0]);
        message.put(&index.to_ne_bytes());
        message.attribute(ADDRESS_LOCAL, &address.octets());
        message.attribute(ADDRESS, &address.octets());
        self.send(message)
    }

    /// Send everything that is not for this node by a link: it ends in the engine, which knows whose it is.
    pub fn add_default_route(&self, index: u32) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWROUTE, CREATE);
        let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC);
        message.put(&[libc::AF_INET6 as u8, 0, 0, 0, table, protocol, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST]);
        message.put(&[0; 4]);
        message.attribute(OUTPUT_LINK, &index.to_ne_bytes());
        self.send(message)
    }

    fn send(&self, message: Message) -> io::Result<()> {
        let bytes = message.finish();
        let mut answer = [0_u8; 4096];
        // SAFETY: both buffers are as long as said.
        let got = unsafe {
            if libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::recv(self.socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        if got < 20 {
            return Err(io::Error::last_os_error());
        }
        match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

/// A request, as it grows.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut message = Self { bytes: Vec::with_capacity(256) };
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16 | flags;
        message.put(&0_u32.to_ne_bytes()); // the length, when it is known
        message.put(&[kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
        message.put(&[0; 8]); // number and sender
        message
    }

    fn link(&mut self, index: u32, up: bool, no_arp: bool) {
        let flag = |set: bool, bit: libc::c_int| if set { bit as u32 } else { 0 };
        let flags = flag(up, libc::IFF_UP) | flag(no_arp, libc::IFF_NOARP);
        self.link_header(index, flags, flags);
    }

    fn end_of_pair(&mut self, (name, address): (&str, [u8; 6]), mtu: u32) {
        self.attribute(NAME, name.as_bytes());
        self.attribute(HARDWARE_ADDRESS, &address);
        self.attribute(MTU, &mtu.to_ne_bytes());
    }

    fn link_header(&mut self, index: u32, flags: u32, changed: u32) {
        self.put(&[0; 4]);
        self.put(&index.to_ne_bytes());
        self.put(&flags.to_ne_bytes());
        self.put(&changed.to_ne_bytes());
    }

    /// Append bytes, up to the next multiple of four.
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.put(&[(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat());
        self.put(value);
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.put(&[[0; 2], kind.to_ne_bytes()].concat());
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}
