//! What people are told: the path in use, how it came to be, and what became of every candidate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::candidates::{CandidateState, CandidateStats};
use super::compare::Measured;
use super::sizes::{inner_mtu, FULL};
use super::InUse;

/// Changes of path that are remembered.
const REMEMBERED: usize = 20;

/// One change of path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub at: Instant,
    pub path: InUse,
    /// A sentence for a person.
    pub reason: String,
}

/// The last changes of path, the newest last.
#[derive(Debug, Default)]
pub struct History {
    changes: VecDeque<Change>,
}

impl History {
    pub fn add(&mut self, change: Change) {
        if self.changes.len() == REMEMBERED {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    pub fn changes(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.changes.iter()
    }
}

/// Say in a sentence what became of a candidate, and why it is not used where it is not.
pub fn explain(candidate: &CandidateStats, best: Option<(Measured, bool)>) -> String {
    if let Some((measured, certain)) = best.filter(|(measured, _)| measured.endpoint == candidate.endpoint) {
        let milliseconds = milliseconds(measured.latency);
        return match certain {
            true => format!("in use: it answered in {milliseconds}{}", carries(candidate.size)),
            false => "in doubt: it answered before, and does not now; data goes by the relay as well".into(),
        };
    }
    if let Some(error) = &candidate.error {
        return format!("this machine cannot send to it: {error}");
    }
    match (candidate.state, candidate.latency) {
        (CandidateState::Untried, _) => "not tried: nothing was sent to the peer since it became known".into(),
        (CandidateState::Sent, _) => format!("asked {}, no answer yet", times(candidate.pings_sent)),
        (CandidateState::Answered, Some(latency)) if candidate.size == 0 => {
            format!("it answers small packets in {}, but no large ones were seen to pass", milliseconds(latency))
        }
        (CandidateState::Answered, Some(latency)) => {
            let better = best.map(|(measured, _)| (measured.endpoint, milliseconds(measured.latency)));
            let instead = better.map_or(String::new(), |(endpoint, time)| format!("; {endpoint} ({time}) is better"));
            format!("it answered in {}{}{instead}", milliseconds(latency), carries(candidate.size))
        }
        (_, Some(_)) => {
            let ago = candidate.pong_age.unwrap_or_default().as_secs();
            format!("it answered {ago} s ago, but not since: it went away, or something on the way forgot us")
        }
        (_, None) => {
            let asked = times(candidate.pings_sent);
            format!(
                "asked {asked}, never answered: a firewall or a NAT on either side keeps UDP out, or it is not there"
            )
        }
    }
}

fn carries(size: usize) -> String {
    if size >= FULL || size == 0 {
        String::new()
    } else {
        format!("; it carries packets of {} bytes at most", inner_mtu(size))
    }
}

pub fn times(count: u32) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        _ => format!("{count} times"),
    }
}

/// Write a latency as people read it.
pub fn milliseconds(latency: Duration) -> String {
    format!("{:.1} ms", latency.as_secs_f64() * 1e3)
}
