//! TSMP, IP protocol 99: the ping that proves a tunnel works end to end.

use std::net::Ipv6Addr;

use crate::netstack::packet::{self, IPV6_HEADER, TSMP};

/// What a TSMP payload says.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Message {
    /// Asks for a pong with the same bytes.
    Ping([u8; 8]),
    /// Answers a ping.
    Pong([u8; 8]),
}

impl Message {
    /// Read a TSMP payload; `None` for what we do not know.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let data: [u8; 8] = payload.get(1..9)?.try_into().ok()?;
        match payload[0] {
            b'p' => Some(Self::Ping(data)),
            b'o' => Some(Self::Pong(data)),
            _ => None,
        }
    }

    /// Write the whole inner packet.
    pub fn packet(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut payload = [0; 11]; // a pong ends with the u16 port of a peer API, which we do not have
        let length = match self {
            Self::Ping(data) => {
                payload[0] = b'p';
                payload[1..9].copy_from_slice(data);
                9
            }
            Self::Pong(data) => {
                payload[0] = b'o';
                payload[1..9].copy_from_slice(data);
                11
            }
        };
        let mut out = vec![0; IPV6_HEADER + length];
        packet::write_ipv6(&mut out, source, destination, TSMP);
        out[IPV6_HEADER..].copy_from_slice(&payload[..length]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netstack::packet::Inner;

    #[test]
    fn pings_and_pongs_read_back() {
        let (a, b) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        for message in [Message::Ping(*b"12345678"), Message::Pong(*b"abcdefgh")] {
            let packet = message.packet(a, b);
            let inner = Inner::parse(&packet).expect("a packet");
            assert_eq!((inner.protocol, inner.source, inner.destination), (TSMP, a, b));
            assert_eq!(Message::parse(inner.payload), Some(message));
        }
    }

    #[test]
    fn a_pong_ends_with_the_port_of_no_api() {
        let packet = Message::Pong([1; 8]).packet(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        assert_eq!(packet[IPV6_HEADER..], [b'o', 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn short_and_unknown_messages_are_ignored() {
        for payload in [&b""[..], b"p", b"p1234567", b"x12345678"] {
            assert_eq!(Message::parse(payload), None);
        }
    }
}
