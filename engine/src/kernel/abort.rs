//! The end of a namespace: none of its connections may stay behind (sock_diag(7), inet_diag.h).
//!
//! Runs in the helper, also after the engine's process was killed: system calls on values of its own stack, nothing
//! that allocates or may fail in Rust.

use std::ffi::CStr;

use libc::{c_int, c_void};

const NETLINK_SOCK_DIAG: c_int = 4;
const SOCKET: c_int = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
const BY_FAMILY: u16 = 20; // SOCK_DIAG_BY_FAMILY
const DESTROY: u16 = 21; // SOCK_DESTROY
/// `nlmsghdr`: length, kind, flags, number, sender.
const HEADER: usize = 16;
/// `inet_diag_req_v2` behind a header: family, protocol, two unused bytes, states, and the socket's identity at 24.
const REQUEST: usize = HEADER + 56;
/// `inet_diag_msg` behind a header.
const ANSWER: usize = HEADER + 72;
const IDENTITY: usize = 48;
/// States in which a socket has a peer (tcp_states.h): all but TIME_WAIT, CLOSE and LISTEN.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
/// A part of a list has at most this (netlink(7)).
const ROOM: usize = 16 << 10;
/// The kernel misses some while others go, so it is asked again. Each time at least a part's worth goes.
const ROUNDS: usize = 256;

const ORPHAN_RETRIES: &CStr = c"/proc/sys/net/ipv4/tcp_orphan_retries";
const ONE: &[u8] = b"1\n";

/// Whether a kernel of this release can abort a socket that nobody has open any more. Before Linux 6.11 (commit
/// bac76cf89816) that empties it and leaves it there for ever.
pub fn can_abort_orphans(release: &str) -> bool {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 11)
}

/// Abort every connection of the network that the calling process is in.
///
/// Those that nobody has open any more are spared without `orphans_too`; the kernel, which is told to, gives them up
/// when it would next repeat something.
///
/// # Safety
/// It overwrites `errno` of the thread whose memory it runs with.
pub unsafe fn end_connections(orphans_too: bool) {
    let file =
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, ORPHAN_RETRIES.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC, 0);
    libc::syscall(libc::SYS_write, file, ONE.as_ptr(), ONE.len()); // where it cannot be set they take minutes
    libc::syscall(libc::SYS_close, file);
    let list = libc::syscall(libc::SYS_socket, libc::AF_NETLINK, SOCKET, NETLINK_SOCK_DIAG) as c_int;
    let order = libc::syscall(libc::SYS_socket, libc::AF_NETLINK, SOCKET, NETLINK_SOCK_DIAG) as c_int;
    for _ in 0..ROUNDS {
        if !round(list, order, orphans_too) {
            break;
        }
    }
    libc::syscall(libc::SYS_close, list);
    libc::syscall(libc::SYS_close, order);
}

/// List the connections once and abort them; says whether there were any that could be.
unsafe fn round(list: c_int, order: c_int, orphans_too: bool) -> bool {
    let (mut buffer, mut aborted) = ([0_u8; ROOM], false);
    if !send(list, &request(BY_FAMILY, libc::NLM_F_DUMP, &[0; IDENTITY])) {
        return false;
    }
    loop {
        let mut rest = receive(list, &mut buffer);
        if rest.is_empty() {
            return aborted;
        }
        while let Some((kind, message, after)) = next(rest) {
            if kind != BY_FAMILY {
                return aborted; // the end of the list, or an error
            }
            if let Some((identity, open)) = listed(message) {
                aborted |= (open || orphans_too) && abort(order, identity);
            }
            rest = after;
        }
    }
}

/// Abort one connection; says whether the kernel did.
unsafe fn abort(order: c_int, identity: &[u8; IDENTITY]) -> bool {
    let mut buffer = [0_u8; ROOM / 16];
    if !send(order, &request(DESTROY, libc::NLM_F_ACK, identity)) {
        return false;
    }
    let answer = receive(order, &mut buffer);
    answer.get(HEADER..HEADER + 4) == Some(&[0; 4]) // the error's number
}

unsafe fn send(socket: c_int, message: &[u8]) -> bool {
    let (bytes, nobody) = (message.as_ptr().cast::<c_void>(), std::ptr::null::<c_void>());
    libc::syscall(libc::SYS_sendto, socket, bytes, message.len(), 0, nobody, 0) == message.len() as libc::c_long
}

/// What the kernel answered, which it has done when a request was sent; empty when nothing waits.
unsafe fn receive(socket: c_int, buffer: &mut [u8]) -> &[u8] {
    let (room, nobody) = (buffer.as_mut_ptr().cast::<c_void>(), std::ptr::null::<c_void>());
    let got = libc::syscall(libc::SYS_recvfrom, socket, room, buffer.len(), libc::MSG_DONTWAIT, nobody, nobody);
    usize::try_from(got).ok().and_then(|got| buffer.get(..got)).unwrap_or(&[])
}

fn request(kind: u16, flags: c_int, identity: &[u8; IDENTITY]) -> [u8; REQUEST] {
    let mut message = [0; REQUEST];
    message[..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    message[HEADER] = libc::AF_INET6 as u8;
    message[HEADER + 1] = libc::IPPROTO_TCP as u8;
    message[HEADER + 4..HEADER + 8].copy_from_slice(&CONNECTED.to_ne_bytes());
    message[HEADER + 8..].copy_from_slice(identity);
    message
}

/// The kind of the first message, the message, and what comes after it.
fn next(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
    Some((kind, message, bytes.get(length.next_multiple_of(4)..).unwrap_or(&[])))
}

/// The identity of a listed socket, and whether somebody has it open: then it has the inode of a file.
fn listed(message: &[u8]) -> Option<(&[u8; IDENTITY], bool)> {
    let open = message.get(ANSWER - 4..ANSWER)? != [0; 4];
    Some((message.get(HEADER + 4..)?.first_chunk()?, open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_apart() {
        for (release, able) in [
            ("6.1.0-18-amd64", false),
            ("6.10.14", false),
            ("6.11.0-rc7", true),
            ("6.12.117+deb12-rt-amd64", true),
            ("7.0", true),
            ("5.15.0-91-generic", false),
            ("", false),
        ] {
            assert_eq!(can_abort_orphans(release), able, "{release}");
        }
    }

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
