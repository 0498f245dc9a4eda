//! Pings on their way: which endpoint each went to, how large it was, and who waits for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Source;
use crate::wire::disco::TxId;

/// A pong that takes longer is as good as lost.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// More than these and the oldest are given up.
const MAX_PINGS: usize = 512;

/// A ping whose pong is awaited.
#[derive(Debug)]
pub struct SentPing {
    txid: TxId,
    pub to: Source,
    pub at: Instant,
    /// Bytes of its packet.
    pub size: usize,
    /// Persons' requests that its pong answers.
    pub tokens: Vec<u64>,
}

/// All of them, the oldest first.
#[derive(Debug)]
pub struct Pings {
    sent: VecDeque<SentPing>,
    txid_state: u64,
}

impl Pings {
    pub fn new(seed: u64) -> Self {
        Self { sent: VecDeque::new(), txid_state: seed }
    }

    /// Note one that leaves now; returns its number.
    pub fn add(&mut self, now: Instant, to: Source, size: usize, tokens: Vec<u64>) -> TxId {
        if self.sent.len() == MAX_PINGS {
            self.sent.pop_front();
        }
        let txid = self.next_txid();
        self.sent.push_back(SentPing { txid, to, at: now, size, tokens });
        txid
    }

    /// Take the one that a pong answers; what was asked for together with it counts as answered.
    pub fn take(&mut self, txid: TxId) -> Option<SentPing> {
        let index = self.sent.iter().position(|ping| ping.txid == txid)?;
        let ping = self.sent.remove(index)?;
        for token in &ping.tokens {
            self.sent.iter_mut().for_each(|other| other.tokens.retain(|candidate| candidate != token));
        }
        Some(ping)
    }

    /// Take one that was not answered in time.
    pub fn take_expired(&mut self, now: Instant) -> Option<SentPing> {
        self.expiry().filter(|at| *at <= now)?;
        self.sent.pop_front()
    }

    /// Say when the oldest is late.
    pub fn expiry(&self) -> Option<Instant> {
        self.sent.front().map(|ping| ping.at + PING_TIMEOUT)
    }

    /// Say whether one of at least `size` bytes left for `to` after `since`.
    pub fn under_way(&self, to: Source, size: usize, since: Instant) -> bool {
        self.sent.iter().any(|ping| ping.to == to && ping.size >= size && ping.at >= since)
    }

    /// Await no more answers from endpoints.
    pub fn forget_direct(&mut self) {
        self.sent.retain(|ping| matches!(ping.to, Source::Relay { .. }));
    }

    /// SplitMix64, twice. A ping need only be unlike the others: its pong is authenticated.
    fn next_txid(&mut self) -> TxId {
        let mut txid = [0; 12];
        txid[..8].copy_from_slice(&self.next_random().to_be_bytes());
        txid[8..].copy_from_slice(&self.next_random().to_be_bytes()[..4]);
        txid
    }

    fn next_random(&mut self) -> u64 {
        self.txid_state = self.txid_state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.txid_state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
