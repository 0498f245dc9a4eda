//! What strangers and broken peers can make us do: bounded, whatever they send.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::wire::disco::TxId;

/// Pings of a peer that are remembered: the same one again, from wherever, is a copy.
const REMEMBERED: usize = 32;
/// Pings answered at once, and each second after that. A peer that looks for us sends a ladder and two rounds a second.
const ANSWERS: Bucket = Bucket::new(128, 64);
/// Endpoints pinged because the peer pinged us from there, at once, and each second after that.
const RETURNS: Bucket = Bucket::new(16, 4);

/// Limits how often something is done.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    burst: u32,
    per_second: u32,
    left: u32,
    filled_at: Option<Instant>,
}

impl Bucket {
    const fn new(burst: u32, per_second: u32) -> Self {
        Self { burst, per_second, left: burst, filled_at: None }
    }

    fn take(&mut self, now: Instant) -> bool {
        let since = self.filled_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let gained = u32::try_from(since.as_millis() * u128::from(self.per_second) / 1000).unwrap_or(self.burst);
        if gained > 0 || self.filled_at.is_none() {
            self.left = self.left.saturating_add(gained).min(self.burst);
            self.filled_at = Some(now);
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

/// Stands before a peer's pings.
#[derive(Debug)]
pub struct Guard {
    seen: VecDeque<TxId>,
    answers: Bucket,
    returns: Bucket,
}

impl Guard {
    pub fn new() -> Self {
        Self { seen: VecDeque::new(), answers: ANSWERS, returns: RETURNS }
    }

    /// Say whether a ping is to be answered: it is no copy, and there were not too many.
    pub fn admit(&mut self, now: Instant, txid: TxId) -> bool {
        if self.seen.contains(&txid) {
            return false;
        }
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(txid);
        self.answers.take(now)
    }

    /// Say whether the source of a ping may be pinged in return.
    pub fn may_return(&mut self, now: Instant) -> bool {
        self.returns.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txid(number: u32) -> TxId {
        let mut txid = [0; 12];
        txid[..4].copy_from_slice(&number.to_be_bytes());
        txid
    }

    #[test]
    fn copies_are_refused_and_floods_are_thinned() {
        let (start, mut guard) = (Instant::now(), Guard::new());
        assert!(guard.admit(start, txid(1)));
        assert!(!guard.admit(start, txid(1)));
        let admitted = (2..10_000).filter(|number| guard.admit(start, txid(*number))).count();
        assert_eq!(admitted, 127);
        let later = start + Duration::from_secs(1);
        assert_eq!((20_000..30_000).filter(|number| guard.admit(later, txid(*number))).count(), 64);
        assert_eq!((0..100).filter(|_| guard.may_return(start)).count(), 16);
    }

    #[test]
    fn a_steady_sender_below_the_rate_is_never_refused() {
        let (start, mut guard) = (Instant::now(), Guard::new());
        let refused = (0..5000_u32).filter(|tick| {
            let now = start + Duration::from_millis(20) * *tick;
            !guard.admit(now, txid(*tick))
        });
        assert_eq!(refused.count(), 0);
    }
}
