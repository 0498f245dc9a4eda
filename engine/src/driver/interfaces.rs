//! The addresses of this machine's network interfaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// List the addresses under which peers may reach this machine, best first.
///
/// Loopback is listed only where nothing else exists: peers on the same machine then still find each other.
pub fn addresses() -> Vec<IpAddr> {
    choose(&all(Which::Up).unwrap_or_default())
}

/// List every address that an interface has, up or down; `None` when that cannot be told.
pub fn held() -> Option<Vec<IpAddr>> {
    all(Which::Any)
}

/// Pick the addresses to tell peers from all that the interfaces have.
fn choose(all: &[IpAddr]) -> Vec<IpAddr> {
    let (mut regular, mut weak, mut loopback) = (Vec::new(), Vec::new(), Vec::new());
    for address in all {
        match address {
            address if address.is_loopback() => loopback.push(*address),
            IpAddr::V6(address) if ours(address) || link_local(address) => {}
            IpAddr::V4(v4) if v4.is_link_local() => weak.push(*address),
            IpAddr::V6(v6) if unique_local(v6) => weak.push(*address),
            IpAddr::V4(v4) if v4.is_unspecified() || v4.is_multicast() => {}
            _ => regular.push(*address),
        }
    }
    [regular, weak, loopback].into_iter().find(|list| !list.is_empty()).unwrap_or_default()
}

/// Whether an address is inside the tunnel: it must never be used to carry the tunnel.
pub fn ours(address: &Ipv6Addr) -> bool {
    let prefix = &address.octets()[..6];
    prefix == [0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0] || prefix == [0xfd, 0x60, 0x62, 0x7a, 0xa4, 0x2b]
}

fn link_local(address: &Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

fn unique_local(address: &Ipv6Addr) -> bool {
    address.octets()[0] & 0xfe == 0xfc
}

/// Which interfaces count: one that is down keeps its addresses, and is likely to come back with them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Any,
    Up,
}

fn all(which: Which) -> Option<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the pointer; it is freed below exactly when the call succeeds.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return None;
    }
    let (mut found, mut next) = (Vec::new(), list);
    // SAFETY: getifaddrs returns a list whose `ifa_next` and `ifa_addr` are valid or null until freeifaddrs.
    while let Some(entry) = unsafe { next.as_ref() } {
        if which == Which::Any || entry.ifa_flags & libc::IFF_UP as libc::c_uint != 0 {
            // SAFETY: as above; the family says how to read the address.
            found.extend(unsafe { read(entry.ifa_addr) });
        }
        next = entry.ifa_next;
    }
    // SAFETY: `list` came from getifaddrs and nothing refers into it any more.
    unsafe { libc::freeifaddrs(list) };
    Some(found)
}

/// # Safety
/// `address` is null or points to a socket address as long as its family asks.
unsafe fn read(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: promised by the caller.
    unsafe {
        match i32::from(address.as_ref()?.sa_family) {
            libc::AF_INET => {
                let v4 = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))))
            }
            libc::AF_INET6 => {
                let v6 = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn regular_addresses_win_then_weak_ones_then_loopback() {
        let everything = list(&["127.0.0.1", "::1", "10.0.0.2", "fe80::1", "fd00::1", "169.254.1.1", "2001:db8::1"]);
        assert_eq!(choose(&everything), list(&["10.0.0.2", "2001:db8::1"]));
        assert_eq!(
            choose(&list(&["127.0.0.1", "fe80::1", "fd00::1", "169.254.1.1"])),
            list(&["fd00::1", "169.254.1.1"])
        );
        assert_eq!(choose(&list(&["127.0.0.1", "::1", "fe80::1"])), list(&["127.0.0.1", "::1"]));
    }

    #[test]
    fn addresses_inside_the_tunnel_are_never_told() {
        let inside = list(&["fd7a:115c:a1e0::1", "fd60:627a:a42b::53", "127.0.0.1"]);
        assert_eq!(choose(&inside), list(&["127.0.0.1"]));
    }

    #[test]
    fn this_machine_has_an_address() {
        let held = held().expect("a list");
        assert!(!addresses().is_empty());
        assert!(addresses().iter().all(|address| held.contains(address)));
    }
}
