//! What the namespace's TCP may use, set by its own sysctls (tcp(7), ip-sysctl) and read back.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};

use super::namespace::Namespace;

/// The largest window, in bytes of kernel memory, of which a half is data: 4 Gbit/s at 100 ms. Used only where a
/// path needs it: with 1 % loss at 20 ms that is three round trips of bytes, since repeats get lost as well, and half of
/// this cost a quarter of the speed there.
pub const WINDOW: usize = 128 << 20;

/// The most attempts that the kernel can be told to make.
const RETRIES: &str = "255";

/// Settings that need to be so, by their names under `/proc/sys/net`.
const WANTED: [(&str, &str); 9] = [
    ("ipv4/tcp_rmem", "4096 131072 134217728"),
    ("ipv4/tcp_wmem", "4096 131072 134217728"),
    // A connection on which nobody spoke for a while goes on at its speed: the path is ours and known.
    ("ipv4/tcp_slow_start_after_idle", "0"),
    // The engine marks packets that wait too long (ECN); that costs less than dropping them.
    ("ipv4/tcp_ecn", "1"),
    // The tunnel's own path MTU is the engine's business: it cuts smaller.
    ("ipv4/tcp_mtu_probing", "0"),
    // A peer that acknowledges nothing has gone after 8 h 15 min: the kernel counts as if it had tried so often with
    // pauses that double from 200 ms to two minutes. What nobody has open any more follows `tcp_orphan_retries`.
    ("ipv4/tcp_retries2", RETRIES),
    ("ipv4/ip_local_port_range", "49152 65535"),
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("core/somaxconn", "4096"),
];

/// What was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Whether connections may grow their windows as far as wanted by themselves.
    pub windows: bool,
    /// Whether connections wait for a silent peer for hours by themselves.
    pub patient: bool,
}

impl Limits {
    /// Set everything that can be set.
    pub fn raise(namespace: &Namespace) -> Self {
        for (name, value) in WANTED {
            let _ = write(namespace, name, value); // where /proc/sys is read-only the defaults have to do
        }
        let largest = |name| {
            let text = read(namespace, name).unwrap_or_default();
            text.split_ascii_whitespace().next_back().and_then(|number| number.parse::<usize>().ok())
        };
        let enough = |name| largest(name).is_some_and(|bytes| bytes >= WINDOW);
        Self {
            windows: enough("ipv4/tcp_rmem") && enough("ipv4/tcp_wmem"),
            patient: read(namespace, "ipv4/tcp_retries2").is_ok_and(|text| text.trim() == RETRIES),
        }
    }
}

fn open(namespace: &Namespace, name: &str, flags: libc::c_int) -> io::Result<File> {
    let path = CString::new(format!("/proc/sys/net/{name}"))?;
    Ok(File::from(namespace.open(&path, flags)?))
}

fn write(namespace: &Namespace, name: &str, value: &str) -> io::Result<()> {
    open(namespace, name, libc::O_WRONLY)?.write_all(value.as_bytes())
}

fn read(namespace: &Namespace, name: &str) -> io::Result<String> {
    let mut text = String::new();
    open(namespace, name, libc::O_RDONLY)?.read_to_string(&mut text)?;
    Ok(text)
}
