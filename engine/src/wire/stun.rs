//! STUN binding requests and answers (RFC 5389), as Tailscale's clients and servers write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_LEN: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// What some servers sent before RFC 5389 gave the attribute its number.
const XOR_MAPPED_ADDRESS_OLD: u16 = 0x8020;
const SOFTWARE: u16 = 0x8022;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// Tailscale's servers answer only to this name.
const SOFTWARE_NAME: &[u8; 8] = b"tailnode";

/// Names one request; the answer carries it back.
pub type TxId = [u8; 12];

/// What a server told us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub txid: TxId,
    /// The address that our request came from, as the server saw it.
    pub mapped: SocketAddr,
}

/// Say whether a datagram is STUN's (RFC 5389 §6).
pub fn is_stun(packet: &[u8]) -> bool {
    packet.len() >= HEADER_LEN && packet[0] & 0xc0 == 0 && packet[4..8] == COOKIE
}

/// Write a binding request.
pub fn request(txid: &TxId) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[..20].copy_from_slice(&header(BINDING_REQUEST, 20, txid));
    packet[20..24].copy_from_slice(&attribute(SOFTWARE, 8));
    packet[24..32].copy_from_slice(SOFTWARE_NAME);
    packet[32..36].copy_from_slice(&attribute(FINGERPRINT, 4));
    let fingerprint = crc32(&packet[..32]) ^ FINGERPRINT_XOR;
    packet[36..].copy_from_slice(&fingerprint.to_be_bytes());
    packet
}

/// Read a binding request of any client; `None` when it is something else.
pub fn parse_request(packet: &[u8]) -> Option<TxId> {
    let (kind, txid, attributes) = split(packet)?;
    let well_formed = Attributes(attributes).all(|attribute| attribute.is_some());
    (kind == BINDING_REQUEST && well_formed).then_some(txid)
}

/// Write the answer to a request that came from `mapped`.
pub fn answer(txid: &TxId, mapped: SocketAddr) -> Vec<u8> {
    let (family, mut address) = match mapped.ip().to_canonical() {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    unmask(&mut address, txid);
    let port = mapped.port() ^ 0x2112;
    let value_len = 4 + address.len();
    let mut packet = header(BINDING_SUCCESS, 4 + value_len, txid).to_vec();
    packet.extend_from_slice(&attribute(XOR_MAPPED_ADDRESS, value_len));
    packet.extend_from_slice(&[0, family]);
    packet.extend_from_slice(&port.to_be_bytes());
    packet.extend_from_slice(&address);
    packet
}

/// Read a server's answer; `None` when it is malformed or carries no address. Fingerprints are not verified.
pub fn parse_answer(packet: &[u8]) -> Option<Answer> {
    let (kind, txid, attributes) = split(packet)?;
    if kind != BINDING_SUCCESS {
        return None;
    }
    let mut plain = None;
    for attribute in Attributes(attributes) {
        match attribute? {
            (XOR_MAPPED_ADDRESS | XOR_MAPPED_ADDRESS_OLD, value) => {
                return Some(Answer { txid, mapped: mapped_address(value, Some(&txid))? });
            }
            (MAPPED_ADDRESS, value) => plain = Some(mapped_address(value, None)?),
            _ => {}
        }
    }
    Some(Answer { txid, mapped: plain? })
}

fn header(kind: u16, length: usize, txid: &TxId) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&attribute(kind, length));
    header[4..8].copy_from_slice(&COOKIE);
    header[8..].copy_from_slice(txid);
    header
}

/// Type and length are written alike for messages and attributes; ours are all short.
fn attribute(kind: u16, length: usize) -> [u8; 4] {
    let [k0, k1] = kind.to_be_bytes();
    let [l0, l1] = (length as u16).to_be_bytes();
    [k0, k1, l0, l1]
}

fn split(packet: &[u8]) -> Option<(u16, TxId, &[u8])> {
    if !is_stun(packet) {
        return None;
    }
    let kind = u16::from_be_bytes([packet[0], packet[1]]);
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let txid = packet[8..].first_chunk().copied()?;
    Some((kind, txid, packet.get(HEADER_LEN..HEADER_LEN + length)?))
}

fn mapped_address(value: &[u8], mask: Option<&TxId>) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], rest) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([p0, p1]);
    let mut address = match family {
        1 => rest.get(..4)?.to_vec(),
        2 => rest.get(..16)?.to_vec(),
        _ => return None,
    };
    if let Some(txid) = mask {
        unmask(&mut address, txid);
    }
    let ip = match <[u8; 4]>::try_from(&address[..]) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&address[..]).ok()?)).to_canonical(),
    };
    Some(SocketAddr::new(ip, if mask.is_some() { port ^ 0x2112 } else { port }))
}

fn unmask(address: &mut [u8], txid: &TxId) {
    let mask = COOKIE.iter().chain(txid);
    address.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

/// The attributes of a message; yields `None` once when they do not add up, then ends.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some((&[k0, k1, l0, l1], rest)) = self.0.split_first_chunk::<4>() else {
            self.0 = &[];
            return Some(None);
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let Some(value) = rest.get(..length) else {
            self.0 = &[];
            return Some(None);
        };
        // The last attribute's padding is missing in what some servers send.
        self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Some((u16::from_be_bytes([k0, k1]), value)))
    }
}

/// CRC-32 (IEEE 802.3), bit by bit: it runs over 32 bytes a few times a minute.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
