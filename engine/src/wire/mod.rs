//! The formats on the wire: pure functions from bytes to values and back.

pub mod derp;
pub mod disco;
pub mod keys;
pub mod stun;

#[cfg(test)]
mod vectors;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Bytes of an address as disco and disco's relatives write it: 16 of IP, 2 of port.
pub const ADDRESS_LEN: usize = 18;

/// Write `address` as IPv6 (IPv4 mapped into it) and port.
pub fn address_to_bytes(address: SocketAddr) -> [u8; ADDRESS_LEN] {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut bytes = [0; ADDRESS_LEN];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    bytes
}

/// Read what `address_to_bytes` writes; a mapped IPv4 address becomes IPv4 again.
pub fn address_from_bytes(bytes: &[u8; ADDRESS_LEN]) -> SocketAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[..16]);
    let port = u16::from_be_bytes([bytes[16], bytes[17]]);
    SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), port)
}
