//! NAT-PMP's requests and answers (RFC 6886 §3).

use std::net::Ipv4Addr;

const VERSION: u8 = 0;
const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const ANSWER: u8 = 0x80;

/// What a gateway said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its external address.
    Address(Ipv4Addr),
    Mapped {
        external_port: u16,
        seconds: u32,
    },
    /// It refuses with this result code.
    Refused(u16),
}

/// Ask for the external address.
pub fn address_request() -> [u8; 2] {
    [VERSION, ADDRESS]
}

/// Ask for a mapping for `seconds`; 0 removes it, and the external port must then be 0 too.
pub fn map_request(internal: u16, external: u16, seconds: u32) -> [u8; 12] {
    let mut packet = [0; 12];
    packet[1] = MAP_UDP;
    packet[4..6].copy_from_slice(&internal.to_be_bytes());
    packet[6..8].copy_from_slice(&external.to_be_bytes());
    packet[8..12].copy_from_slice(&seconds.to_be_bytes());
    packet
}

/// Read an answer; `None` when it is something else.
pub fn parse(packet: &[u8], internal: u16) -> Option<Answer> {
    let [VERSION, opcode, r0, r1, _, _, _, _, rest @ ..] = packet else { return None };
    let result = u16::from_be_bytes([*r0, *r1]);
    match (opcode ^ ANSWER, result, rest) {
        (ADDRESS | MAP_UDP, 1.., _) => Some(Answer::Refused(result)),
        (ADDRESS, 0, [a, b, c, d, ..]) => Some(Answer::Address(Ipv4Addr::new(*a, *b, *c, *d))),
        (MAP_UDP, 0, [i0, i1, e0, e1, s0, s1, s2, s3, ..]) if internal.to_be_bytes() == [*i0, *i1] => {
            let external_port = u16::from_be_bytes([*e0, *e1]);
            Some(Answer::Mapped { external_port, seconds: u32::from_be_bytes([*s0, *s1, *s2, *s3]) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_laid_out_as_rfc_6886_draws_them() {
        assert_eq!(address_request(), [0, 0]);
        assert_eq!(map_request(0x1234, 0x5678, 7200), [0, 1, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x1c, 0x20]);
    }

    #[test]
    fn answers_are_read_and_the_rest_ignored() {
        let address = [0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 5];
        assert_eq!(parse(&address, 1), Some(Answer::Address(Ipv4Addr::new(203, 0, 113, 5))));
        let mapped = [0, 129, 0, 0, 0, 0, 0, 9, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x1c, 0x20];
        assert_eq!(parse(&mapped, 0x1234), Some(Answer::Mapped { external_port: 0x5678, seconds: 7200 }));
        assert_eq!(parse(&mapped, 0x1235), None, "another port");
        assert_eq!(parse(&[0, 129, 0, 2, 0, 0, 0, 9], 1), Some(Answer::Refused(2)));
        assert_eq!(parse(&map_request(1, 2, 3), 1), None, "a request");
        for length in 0..mapped.len() {
            assert_eq!(parse(&mapped[..length], 0x1234), None, "{length} bytes");
        }
    }
}
