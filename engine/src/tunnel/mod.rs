//! WireGuard sessions: one `Session` per peer, around boringtun.
//!
//! boringtun reads the clock itself, so `now` is not an argument here; everything else about a session goes through
//! this module, so that no other part of the engine depends on it.

pub mod tsmp;

use std::net::IpAddr;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use x25519_dalek::{PublicKey, StaticSecret};

/// A sealed packet is this much longer than the inner packet.
pub const OVERHEAD: usize = 32;

/// No message that a session writes by itself (handshakes, cookies, keepalives) is longer than this.
pub const MAX_CONTROL: usize = 148;

/// What a datagram turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// An inner packet of this length was written to the buffer.
    Packet(usize),
    /// A message of this length was written to the buffer and must be sent back to the peer.
    Reply(usize),
    /// It was valid, and there is nothing to do (a keepalive).
    Nothing,
    /// It was not for this session, replayed, or forged.
    Rejected,
}

/// What the first bytes of a WireGuard message say about whom it is for.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Addressee {
    /// A handshake initiation: only the static key inside tells who sent it.
    Unknown,
    /// The session with this index.
    Session(u32),
}

/// Say which session a WireGuard message is for; `None` when it is no WireGuard message.
pub fn addressee(datagram: &[u8]) -> Option<Addressee> {
    let index = |at: usize| -> Option<Addressee> {
        let bytes: [u8; 4] = datagram.get(at..at + 4)?.try_into().ok()?;
        Some(Addressee::Session(u32::from_le_bytes(bytes) >> 8))
    };
    match (datagram.get(..4)?, datagram.len()) {
        ([1, 0, 0, 0], 148) => Some(Addressee::Unknown),
        ([2, 0, 0, 0], 92) => index(8),
        ([3, 0, 0, 0], 64) => index(4),
        ([4, 0, 0, 0], 32..) => index(4),
        _ => None,
    }
}

/// Whether a message of ours begins a handshake.
pub fn initiates(message: &[u8]) -> bool {
    message.len() == MAX_CONTROL && message[0] == 1
}

/// Handshakes by strangers' addresses that are looked at each second without asking for a cookie first.
const ANONYMOUS_HANDSHAKES: u64 = 100;

/// Stands before handshakes whose sender is not known yet: reading one costs a Curve25519 multiplication.
pub struct Gate(RateLimiter);

/// What the gate says of a handshake initiation.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    /// There are too many: an answer of this length asks the sender to prove its address first.
    Cookie(usize),
    Refused,
}

impl Gate {
    /// Make the gate of the node with this public key.
    pub fn new(public: &[u8; 32]) -> Self {
        Self(RateLimiter::new(&PublicKey::from(*public), ANONYMOUS_HANDSHAKES))
    }

    /// Judge a handshake initiation; `out` holds `MAX_CONTROL` bytes.
    pub fn admit(&self, source: IpAddr, datagram: &[u8], out: &mut [u8]) -> Admission {
        match self.0.verify_packet(Some(source), datagram, out) {
            Ok(_) => Admission::Admitted,
            Err(TunnResult::WriteToNetwork(cookie)) => Admission::Cookie(cookie.len()),
            Err(_) => Admission::Refused,
        }
    }

    /// Count anew; call about once a second.
    pub fn tick(&self) {
        self.0.reset_count();
    }
}

/// Read the static key of whoever sent a handshake initiation; `None` when it is not meant for us.
pub fn initiator(private: &[u8; 32], public: &[u8; 32], datagram: &[u8]) -> Option<[u8; 32]> {
    let Ok(boringtun::noise::Packet::HandshakeInit(message)) = Tunn::parse_incoming_packet(datagram) else {
        return None;
    };
    let private = StaticSecret::from(*private);
    let half = boringtun::noise::handshake::parse_handshake_anon(&private, &PublicKey::from(*public), &message).ok()?;
    Some(half.peer_static_public)
}

/// The keys we share with one peer, and the handshakes that renew them.
pub struct Session {
    tunn: Tunn,
    private: [u8; 32],
    peer: [u8; 32],
    index: u32,
}

impl Session {
    /// Make a session that has no keys yet; `index` is the 24-bit number by which the peer addresses it.
    pub fn new(private: &[u8; 32], peer: &[u8; 32], index: u32) -> Self {
        let index = index & 0x00ff_ffff;
        let tunn = Tunn::new(StaticSecret::from(*private), PublicKey::from(*peer), None, None, index, None);
        Self { tunn, private: *private, peer: *peer, index }
    }

    /// The number by which the peer addresses this session.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Begin anew with no keys and another index: the peer restarted.
    pub fn restart(&mut self, index: u32) {
        *self = Self::new(&self.private, &self.peer, index);
    }

    /// Seal an inner packet into `out`; without keys, keep it and write a handshake initiation instead. An empty
    /// packet is a keepalive.
    ///
    /// `out` holds at least `packet.len() + OVERHEAD` bytes, and `MAX_CONTROL`. Returns what to send, if anything.
    pub fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        written(self.tunn.encapsulate(packet, out))
    }

    /// Open a datagram from the peer into `out`, which holds at least as much and `MAX_CONTROL`.
    pub fn open(&mut self, source: Option<IpAddr>, datagram: &[u8], out: &mut [u8]) -> Opened {
        if datagram.is_empty() {
            return Opened::Rejected;
        }
        match self.tunn.decapsulate(source, datagram, out) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Opened::Packet(packet.len())
            }
            TunnResult::WriteToNetwork(message) => Opened::Reply(message.len()),
            TunnResult::Done => Opened::Nothing,
            TunnResult::Err(_) => Opened::Rejected,
        }
    }

    /// After a `Reply`: seal the next packet that waited for keys into `out`.
    pub fn next_waiting(&mut self, out: &mut [u8]) -> Option<usize> {
        written(self.tunn.decapsulate(None, &[], out))
    }

    /// Renew keys, retry handshakes and send keepalives when they are due; call about once a second.
    pub fn tick(&mut self, out: &mut [u8]) -> Option<usize> {
        written(self.tunn.update_timers(out))
    }

    /// Write a handshake initiation although one is under way: the earlier one may have been lost.
    pub fn initiate_again(&mut self, out: &mut [u8]) -> Option<usize> {
        written(self.tunn.format_handshake_initiation(out, true))
    }

    /// How long ago the last handshake completed.
    pub fn handshake_age(&self) -> Option<Duration> {
        self.tunn.stats().0
    }
}

fn written(result: TunnResult<'_>) -> Option<usize> {
    match result {
        TunnResult::WriteToNetwork(message) => Some(message.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
