//! What is said with a proxy until it has opened the way to a relay; pure.

use super::connect::Connect;
use super::socks::Socks;
use super::{Proxy, Scheme};

/// A handshake with a proxy.
///
/// Send what `to_send` says, read at most `wanted` bytes, give them to `take`, until that says that the way is open.
#[derive(Debug)]
pub struct Handshake {
    out: Vec<u8>,
    dialogue: Dialogue,
}

#[derive(Debug)]
enum Dialogue {
    Connect(Connect),
    Socks(Socks),
}

impl Handshake {
    /// Ask for a way to a server. The error is a sentence.
    pub fn new(proxy: &Proxy, host: &str, port: u16) -> Result<Self, String> {
        let mut out = Vec::new();
        let dialogue = match proxy.scheme {
            Scheme::Http | Scheme::Https => Dialogue::Connect(Connect::begin(proxy, host, port, &mut out)),
            Scheme::Socks => Dialogue::Socks(Socks::begin(proxy, host, port, &mut out)?),
        };
        Ok(Self { out, dialogue })
    }

    /// What waits to be sent.
    pub fn to_send(&self) -> &[u8] {
        &self.out
    }

    /// The first `count` bytes of it were sent.
    pub fn note_sent(&mut self, count: usize) {
        self.out.drain(..count);
    }

    /// How many bytes may be read now: what follows the proxy's words is the relay's.
    pub fn wanted(&self) -> usize {
        match &self.dialogue {
            Dialogue::Connect(connect) => connect.wanted(),
            Dialogue::Socks(socks) => socks.wanted(),
        }
    }

    /// Take what the proxy said; says whether the way is open. The error is a sentence.
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, String> {
        match &mut self.dialogue {
            Dialogue::Connect(connect) => connect.take(bytes),
            Dialogue::Socks(socks) => socks.take(bytes, &mut self.out),
        }
    }
}
