//! What a namespace's TCP sockets are, as the kernel tells it (sock_diag(7), inet_diag.h).

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;

use libc::c_int;

use super::namespace::Namespace;
use crate::netstack::packet::Ends;

pub const NETLINK_SOCK_DIAG: c_int = 4;
pub const BY_FAMILY: u16 = 20; // SOCK_DIAG_BY_FAMILY
pub const DESTROY: u16 = 21; // SOCK_DESTROY
/// `nlmsghdr`: length, kind, flags, number, sender.
pub const HEADER: usize = 16;
/// `inet_diag_req_v2` behind a header: family, protocol, two unused bytes, states, and the socket's identity at 24.
const REQUEST: usize = HEADER + 56;
/// `inet_diag_msg` behind a header.
const ANSWER: usize = HEADER + 72;
pub const IDENTITY: usize = 48;
/// States in which a socket has a peer (tcp_states.h): all but TIME_WAIT, CLOSE and LISTEN.
pub const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
/// A part of a list has at most this (netlink(7)).
pub const ROOM: usize = 16 << 10;
/// States of sockets whose near end has said its last word, and does not know whether it arrived: FIN_WAIT1, LAST_ACK,
/// CLOSING.
const ENDING: u32 = 1 << 4 | 1 << 9 | 1 << 11;

/// The connections that nobody has open any more, but the peer has not acknowledged all of.
pub fn orphans(namespace: &Namespace) -> io::Result<Vec<Ends>> {
    let socket = namespace.socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_SOCK_DIAG)?;
    let (wanted, mut buffer) = (request(BY_FAMILY, libc::NLM_F_DUMP, ENDING, &[0; IDENTITY]), [0_u8; ROOM]);
    // SAFETY: the message is as long as said.
    if unsafe { libc::send(socket.as_raw_fd(), wanted.as_ptr().cast(), wanted.len(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    loop {
        // SAFETY: the buffer is as long as said. Nothing is waited for: the kernel answers as it is asked.
        let got = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), ROOM, libc::MSG_DONTWAIT) };
        let Some(mut rest) = usize::try_from(got).ok().and_then(|got| buffer.get(..got)) else {
            return Err(io::Error::last_os_error());
        };
        while let Some((kind, message, after)) = next(rest) {
            if kind != BY_FAMILY {
                return Ok(found); // the end of the list, or an error
            }
            found.extend(listed(message).filter(|(_, open)| !open).map(|(identity, _)| ends(identity)));
            rest = after;
        }
    }
}

/// The two ends in a socket's identity.
fn ends(identity: &[u8; IDENTITY]) -> Ends {
    let port = |at: usize| u16::from_be_bytes([identity[at], identity[at + 1]]);
    let address = |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|index| identity[at + index]));
    Ends { local: (address(4), port(0)), remote: (address(20), port(2)) }
}

/// Write a request about TCP over IPv6.
pub fn request(kind: u16, flags: c_int, states: u32, identity: &[u8; IDENTITY]) -> [u8; REQUEST] {
    let mut message = [0; REQUEST];
    message[..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    message[HEADER] = libc::AF_INET6 as u8;
    message[HEADER + 1] = libc::IPPROTO_TCP as u8;
    message[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
    message[HEADER + 8..].copy_from_slice(identity);
    message
}

/// The kind of the first message, the message, and what comes after it.
pub fn next(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
    Some((kind, message, bytes.get(length.next_multiple_of(4)..).unwrap_or(&[])))
}

/// The identity of a listed socket, and whether somebody has it open: then it has the inode of a file.
pub fn listed(message: &[u8]) -> Option<(&[u8; IDENTITY], bool)> {
    let open = message.get(ANSWER - 4..ANSWER)? != [0; 4];
    Some((message.get(HEADER + 4..)?.first_chunk()?, open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sockets_is_read_to_its_end() {
        let answer = |port: u8, inode: u8| {
            let mut message = [0; ANSWER + 8];
            message[..4].copy_from_slice(&((ANSWER + 8) as u32).to_ne_bytes());
            message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
            (message[HEADER + 5], message[ANSWER - 4]) = (port, inode);
            message
        };
        let list = [answer(1, 9), answer(2, 0)].concat();
        let (kind, first, rest) = next(&list).expect("a message");
        assert_eq!((kind, listed(first).map(|(identity, open)| (identity[1], open))), (BY_FAMILY, Some((1, true))));
        let (_, second, rest) = next(rest).expect("another");
        assert_eq!(listed(second).map(|(identity, open)| (identity[1], open)), Some((2, false)));
        assert!(next(rest).is_none());
        assert!(next(&list[..ANSWER]).is_none(), "it was cut short");
        assert!(next(&[0; HEADER]).is_none(), "no message is shorter than its header");
    }
}
