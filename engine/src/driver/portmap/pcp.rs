//! PCP's MAP request and answer (RFC 6887 §7, §11), for UDP over IPv4.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// Names one mapping: whoever renews or removes it must know it.
pub type Nonce = [u8; 12];

const VERSION: u8 = 2;
const MAP: u8 = 1;
const ANSWER: u8 = 0x80;
const LENGTH: usize = 60;
const UDP: u8 = 17;

/// What a gateway granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    pub external: SocketAddrV4,
    pub seconds: u32,
}

/// What a gateway said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Granted(Granted),
    /// It speaks PCP, and refuses with this result code.
    Refused(u8),
    /// It speaks another version: NAT-PMP, likely.
    OtherVersion,
}

/// Ask for a mapping for `seconds`; none for 0.
pub fn request(own: Ipv4Addr, nonce: &Nonce, internal: u16, external: u16, seconds: u32) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    (packet[0], packet[1]) = (VERSION, MAP);
    packet[4..8].copy_from_slice(&seconds.to_be_bytes());
    packet[8..24].copy_from_slice(&own.to_ipv6_mapped().octets());
    packet[24..36].copy_from_slice(nonce);
    packet[36] = UDP;
    packet[40..42].copy_from_slice(&internal.to_be_bytes());
    packet[42..44].copy_from_slice(&external.to_be_bytes());
    packet[44..60].copy_from_slice(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
    packet
}

/// Read an answer to the request with `nonce`; `None` when it is something else.
pub fn parse(packet: &[u8], nonce: &Nonce, internal: u16) -> Option<Answer> {
    let (version, opcode) = (*packet.first()?, *packet.get(1)?);
    if opcode & ANSWER == 0 {
        return None;
    }
    if version != VERSION {
        return (version < VERSION && packet.len() >= 4).then_some(Answer::OtherVersion);
    }
    let whole: &[u8; LENGTH] = packet.first_chunk()?;
    if opcode != ANSWER | MAP || whole[24..36] != *nonce || whole[36] != UDP || whole[40..42] != internal.to_be_bytes()
    {
        return None;
    }
    if whole[3] != 0 {
        return Some(Answer::Refused(whole[3]));
    }
    let address: [u8; 16] = whole[44..60].try_into().ok()?;
    let address = Ipv6Addr::from(address).to_ipv4_mapped()?;
    let port = u16::from_be_bytes([whole[42], whole[43]]);
    let seconds = u32::from_be_bytes([whole[4], whole[5], whole[6], whole[7]]);
    Some(Answer::Granted(Granted { external: SocketAddrV4::new(address, port), seconds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = [7; 12];
    const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

    fn granted() -> Vec<u8> {
        let mut packet = request(OWN, &NONCE, 4000, 4001, 3600).to_vec();
        packet[1] |= ANSWER;
        packet[8..24].fill(0); // epoch and reserved
        packet[44..60].copy_from_slice(&Ipv4Addr::new(203, 0, 113, 5).to_ipv6_mapped().octets());
        packet
    }

    #[test]
    fn the_request_is_laid_out_as_rfc_6887_draws_it() {
        let packet = request(OWN, &NONCE, 0x1234, 0x5678, 7200);
        assert_eq!(packet[..8], [2, 1, 0, 0, 0, 0, 0x1c, 0x20]);
        assert_eq!(packet[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2]);
        assert_eq!(packet[24..44], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 17, 0, 0, 0, 0x12, 0x34, 0x56, 0x78]);
        assert_eq!(packet[44..60], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    fn answers_are_read() {
        let external = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 5), 4001);
        let expected = Answer::Granted(Granted { external, seconds: 3600 });
        assert_eq!(parse(&granted(), &NONCE, 4000), Some(expected));
        let mut refused = granted();
        refused[3] = 2;
        assert_eq!(parse(&refused, &NONCE, 4000), Some(Answer::Refused(2)));
        assert_eq!(parse(&[0, 0x81, 0, 1, 0, 0, 0, 0], &NONCE, 4000), Some(Answer::OtherVersion));
    }

    #[test]
    fn what_is_not_an_answer_to_us_is_ignored() {
        assert_eq!(parse(&granted(), &[8; 12], 4000), None, "another nonce");
        assert_eq!(parse(&granted(), &NONCE, 4002), None, "another port");
        assert_eq!(parse(&request(OWN, &NONCE, 4000, 0, 1), &NONCE, 4000), None, "a request");
        for length in 0..LENGTH {
            assert_eq!(parse(&granted()[..length], &NONCE, 4000), None, "{length} bytes");
        }
    }
}
