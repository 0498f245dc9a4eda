//! The end of a namespace: none of its connections may stay behind (sock_diag(7)).
//!
//! Runs in the helper, also after the engine's process was killed: system calls on values of its own stack, nothing
//! that allocates or may fail in Rust.

use std::ffi::CStr;

use libc::{c_int, c_void};

use super::diag::{listed, next, request, BY_FAMILY, CONNECTED, DESTROY, HEADER, IDENTITY, NETLINK_SOCK_DIAG, ROOM};

const SOCKET: c_int = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
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
    if !send(list, &request(BY_FAMILY, libc::NLM_F_DUMP, CONNECTED, &[0; IDENTITY])) {
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
    if !send(order, &request(DESTROY, libc::NLM_F_ACK, CONNECTED, identity)) {
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
}
