//! One UDP socket: batches out by GSO, batches in by GRO.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use crate::path::Refusal;

/// One send must fit in an IP packet with its headers.
pub const ONE_SEND: usize = 65_000;
/// And kernels before 6.9 cut it into no more than this.
pub const MAX_SEGMENTS: usize = 64;
/// Wanted size of the kernel's buffers: what a fast connection over 20 ms has on its way while we are busy elsewhere. With
/// half of it 3 % of the packets were lost here, on a line that loses none.
const KERNEL_BUFFER: usize = 16 << 20;
/// Bytes that may wait for a full socket before packets are dropped.
const MAX_PENDING: usize = 4 << 20;
/// Buffers for one receive call; GRO fills each with up to 64 KiB of packets.
const BUFFERS: usize = 4;

/// Room for what one receive call returns.
pub struct Inbox {
    buffers: Vec<Vec<u8>>,
    metas: [RecvMeta; BUFFERS],
}

impl Inbox {
    pub fn new() -> Self {
        Self { buffers: vec![vec![0; 65_536]; BUFFERS], metas: [RecvMeta::default(); BUFFERS] }
    }

    /// A stand-in without room, while the real one is lent out.
    pub fn empty() -> Self {
        Self { buffers: Vec::new(), metas: [RecvMeta::default(); BUFFERS] }
    }

    /// The datagrams of the first `count` buffers, each with its source.
    pub fn datagrams(&self, count: usize) -> impl Iterator<Item = (SocketAddr, std::slice::Chunks<'_, u8>)> {
        self.metas.iter().zip(&self.buffers).take(count).map(|(meta, buffer)| {
            let bytes = &buffer[..meta.len.min(buffer.len())];
            (meta.addr, bytes.chunks(meta.stride.max(1)))
        })
    }
}

/// Refusals that are remembered until they are looked at.
const MAX_REFUSALS: usize = 32;

/// A UDP socket of one address family with its outgoing batch.
pub struct UdpPort {
    socket: UdpSocket,
    state: UdpSocketState,
    slab: Vec<u8>,
    used: usize,
    stride: usize,
    count: usize,
    destination: Option<SocketAddr>,
    pending: VecDeque<(SocketAddr, Vec<u8>, usize)>,
    pending_bytes: usize,
    /// What the kernel would not send.
    refusals: Vec<(SocketAddr, Refusal)>,
    /// Packets that the kernel refused or that found no room.
    pub dropped: u64,
}

impl UdpPort {
    /// Bind all addresses of a family; a `port` that is taken is replaced by a free one unless `exact`.
    pub fn bind(ipv6: bool, port: u16, exact: bool) -> io::Result<Self> {
        let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
        let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if ipv6 {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        let bound = socket.bind(&SocketAddr::new(any, port).into());
        if bound.is_err() && (exact || port == 0) {
            bound?;
        } else if bound.is_err() {
            socket.bind(&SocketAddr::new(any, 0).into())?;
        }
        grow_buffers(&socket);
        let socket = UdpSocket::from_std(socket.into());
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self {
            socket,
            state,
            slab: vec![0; ONE_SEND + 2048],
            used: 0,
            stride: 0,
            count: 0,
            destination: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            refusals: Vec::new(),
            dropped: 0,
        })
    }

    pub fn socket(&mut self) -> &mut UdpSocket {
        &mut self.socket
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
    }

    /// Receive what is there; returns how many buffers of `inbox` were filled.
    pub fn receive(&self, inbox: &mut Inbox) -> io::Result<usize> {
        let Inbox { buffers, metas } = inbox;
        let [a, b, c, d] = &mut buffers[..] else { return Ok(0) };
        let mut slices = [IoSliceMut::new(a), IoSliceMut::new(b), IoSliceMut::new(c), IoSliceMut::new(d)];
        self.state.recv((&self.socket).into(), &mut slices, metas)
    }

    /// Whether the kernel takes no more for now.
    pub fn blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Add a datagram to the batch; one that is larger than a batch may be is dropped.
    pub fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        let length = datagram.len();
        let full = self.count >= self.state.max_gso_segments() || self.used + length > ONE_SEND;
        // Only the last of a batch may differ in size, and only by being shorter.
        let larger = self.count > 0 && length > self.stride;
        if full || larger || self.destination.is_some_and(|destination| destination != to) {
            self.flush();
        }
        let Some(room) = self.slab.get_mut(self.used..self.used + length) else { return };
        room.copy_from_slice(datagram);
        if self.count == 0 {
            (self.destination, self.stride) = (Some(to), length);
        }
        self.used += length;
        self.count += 1;
        if length < self.stride {
            self.flush();
        }
    }

    /// Send the batch.
    pub fn flush(&mut self) {
        let Some(to) = self.destination.take() else { return };
        let length = std::mem::take(&mut self.used);
        self.count = 0;
        let slab = std::mem::take(&mut self.slab);
        self.transmit(to, &slab[..length], self.stride);
        self.slab = slab;
    }

    /// Send datagrams that stand one after the other, all of `stride` bytes but the last, which may be shorter; what was
    /// pushed before leaves first.
    pub fn send(&mut self, to: SocketAddr, datagrams: &[u8], stride: usize) {
        self.flush();
        for some in datagrams.chunks(stride * self.state.max_gso_segments()) {
            self.transmit(to, some, stride);
        }
    }

    /// Let datagrams leave by one call, or keep them until the socket takes more.
    fn transmit(&mut self, to: SocketAddr, datagrams: &[u8], stride: usize) {
        if self.pending.is_empty() {
            match self.try_send(to, datagrams, stride) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return self.refused(to, &datagrams[..stride.min(datagrams.len())], &error),
                Ok(()) => return,
            }
        }
        if self.pending_bytes + datagrams.len() > MAX_PENDING {
            self.dropped += 1;
            return;
        }
        self.pending_bytes += datagrams.len();
        self.pending.push_back((to, datagrams.to_vec(), stride));
    }

    /// Send what waited for a full socket; call when it is writable.
    pub fn resume(&mut self) {
        while let Some((to, contents, stride)) = self.pending.pop_front() {
            match self.try_send(to, &contents, stride) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pending.push_front((to, contents, stride));
                    return;
                }
                Err(error) => self.refused(to, &contents[..stride.min(contents.len())], &error),
                Ok(()) => {}
            }
            self.pending_bytes -= contents.len();
        }
    }

    /// Take what the kernel would not send since the last call.
    pub fn take_refusals(&mut self) -> Vec<(SocketAddr, Refusal)> {
        std::mem::take(&mut self.refusals)
    }

    fn refused(&mut self, to: SocketAddr, first: &[u8], error: &io::Error) {
        self.dropped += 1;
        let mut code = error.raw_os_error().unwrap_or(0);
        if code == libc::EINVAL {
            code = self.single_out(to, first);
        }
        let refusal = match code {
            libc::EMSGSIZE => (to, Refusal::TooLarge { size: first.len() }),
            code => (to, Refusal::Error { code }),
        };
        if self.refusals.len() < MAX_REFUSALS && !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
        }
    }

    /// A batch whose packets are too large for the interface is "invalid": one packet alone tells the true reason. Then
    /// it was not the fault of batching, and batching goes on.
    fn single_out(&mut self, to: SocketAddr, contents: &[u8]) -> i32 {
        match self.try_send(to, contents, contents.len()) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                if let Ok(state) = UdpSocketState::new((&self.socket).into()) {
                    self.state = state;
                }
                libc::EMSGSIZE
            }
            _ => libc::EINVAL,
        }
    }

    fn try_send(&self, to: SocketAddr, contents: &[u8], stride: usize) -> io::Result<()> {
        let segment_size = (contents.len() > stride).then_some(stride);
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None };
        self.state.try_send((&self.socket).into(), &transmit)
    }
}

/// Ask for large buffers, by force where we may.
fn grow_buffers(socket: &Socket) {
    for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        let size = KERNEL_BUFFER as libc::c_int;
        // SAFETY: the option takes a C int, and that is what it gets.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                std::ptr::from_ref(&size).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
    let granted = socket.recv_buffer_size().unwrap_or(0);
    if granted < KERNEL_BUFFER {
        // Without the right to force, the kernel grants up to `net.core.rmem_max`.
        let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
        let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_mixed_sizes_arrive_whole_and_in_order() {
        let mut left = UdpPort::bind(false, 0, false).expect("a socket");
        let right = UdpPort::bind(false, 0, false).expect("a socket");
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, right.port()));
        let lengths: Vec<usize> = (0..300).map(|n| if n % 7 == 0 { 100 + n } else { 1312 }).collect();
        for (n, length) in lengths.iter().enumerate() {
            left.push(to, &vec![n as u8; *length]);
        }
        left.flush();
        let (mut inbox, mut received) = (Inbox::new(), Vec::new());
        while received.len() < lengths.len() {
            match right.receive(&mut inbox) {
                Ok(count) => received
                    .extend(inbox.datagrams(count).flat_map(|(_, all)| all).map(|bytes| (bytes[0], bytes.len()))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        let expected: Vec<(u8, usize)> = lengths.iter().enumerate().map(|(n, length)| (n as u8, *length)).collect();
        assert_eq!(received, expected);
    }
}
