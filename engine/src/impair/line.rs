//! One direction of an impaired line: what arrives, when it leaves, and what never does. Pure: `now` is passed in.
//!
//! Each packet of the wire meets, in this order: loss, the queue before the rate, duplication, the delay and the extra
//! delay of the reordered. Packets of one super-segment that share their fate stay one super-segment.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::segments::{Head, Packet};

/// Under a rate, packets that leave within this long of each other may leave together.
const RUN_SPAN: Duration = Duration::from_millis(1);
/// What one direction may hold: 10 Gbit/s at 200 ms. Beyond it packets are dropped and counted as such.
const HELD_LIMIT: usize = 256 << 20;

/// What a direction does to packets. Shares are from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    pub delay: Duration,
    pub loss: f64,
    pub reorder: f64,
    /// How much later the reordered arrive.
    pub reorder_delay: Duration,
    pub duplicate: f64,
    /// Bits of IP packets a second; 0 is no limit.
    pub rate: f64,
    /// What may wait for its turn under `rate`, in bytes of IP packets.
    pub queue_len: usize,
}

/// Counters of a direction, in packets of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
    pub delivered: u64,
    pub lost: u64,
    pub reordered: u64,
    pub duplicated: u64,
    /// The queue before the rate was full.
    pub overflowed: u64,
    /// The device did not take it, or too much was held.
    pub refused: u64,
}

/// Packets that leave together.
pub struct Run {
    packet: Rc<Packet>,
    range: Range<usize>,
}

impl Run {
    /// What to write.
    pub fn bytes(&self) -> (Option<Head>, &[u8]) {
        self.packet.run(self.range.clone())
    }

    /// How many packets of the wire it is.
    pub fn count(&self) -> u64 {
        self.range.len() as u64
    }
}

struct Due {
    at: Instant,
    /// What came first leaves first.
    order: u64,
    run: Run,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    /// The heap's greatest is the next to leave.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// What happens to one packet of the wire.
#[derive(Clone, Copy)]
enum Fate {
    Drop,
    /// Leaves the queue at `sent`, and is late where reordered.
    Leave {
        sent: Instant,
        late: bool,
        twice: bool,
    },
}

/// A run that may still grow.
struct Growing {
    range: Range<usize>,
    began: Instant,
    sent: Instant,
}

/// One direction.
pub struct Line {
    settings: Settings,
    random: Random,
    counters: Counters,
    waiting: BinaryHeap<Due>,
    order: u64,
    /// When the last packet under the rate has left.
    busy_until: Option<Instant>,
    held: usize,
}

impl Line {
    /// Make a direction whose choices follow from `seed`.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            random: Random(seed),
            counters: Counters::default(),
            waiting: BinaryHeap::new(),
            order: 0,
            busy_until: None,
            held: 0,
        }
    }

    /// Treat what arrives from now on like this.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Read the counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Note that the device did not take a run.
    pub fn handle_refusal(&mut self, count: u64) {
        self.counters.refused += count;
        self.counters.delivered -= count;
    }

    /// Take in a packet or super-segment.
    pub fn handle_packet(&mut self, now: Instant, packet: Packet) {
        let packet = Rc::new(packet);
        let mut growing: Option<Growing> = None;
        for index in 0..packet.count() {
            let len = packet.wire_len(index);
            self.counters.packets += 1;
            self.counters.bytes += len as u64;
            let fate = self.decide(now, len);
            let grown = match (&mut growing, fate) {
                (Some(run), Fate::Leave { sent, late: false, .. }) if sent - run.began <= RUN_SPAN => {
                    run.range.end = index + 1;
                    run.sent = sent;
                    true
                }
                _ => false,
            };
            if !grown {
                self.finish(&packet, growing.take());
            }
            let Fate::Leave { sent, late, twice } = fate else { continue };
            let alone = || Growing { range: index..index + 1, began: sent, sent };
            if late {
                self.hold(&packet, index..index + 1, sent + self.settings.delay + self.settings.reorder_delay);
            } else if !grown {
                growing = Some(alone());
            }
            if twice {
                self.finish(&packet, growing.take());
                self.finish(&packet, Some(alone()));
            }
        }
        self.finish(&packet, growing);
    }

    /// When `poll_transmit` has something next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.peek().map(|due| due.at)
    }

    /// What leaves now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Run> {
        if self.waiting.peek()?.at > now {
            return None;
        }
        let run = self.waiting.pop()?.run;
        self.held -= held_len(&run.packet, &run.range);
        self.counters.delivered += run.count();
        Some(run)
    }

    fn decide(&mut self, now: Instant, len: usize) -> Fate {
        if self.random.happens(self.settings.loss) {
            self.counters.lost += 1;
            return Fate::Drop;
        }
        let Some(sent) = self.leave_queue(now, len) else {
            self.counters.overflowed += 1;
            return Fate::Drop;
        };
        let twice = self.random.happens(self.settings.duplicate);
        let late = self.random.happens(self.settings.reorder);
        self.counters.duplicated += u64::from(twice);
        self.counters.reordered += u64::from(late);
        Fate::Leave { sent, late, twice }
    }

    /// When a packet has passed the rate; `None` when the queue before it is full.
    fn leave_queue(&mut self, now: Instant, len: usize) -> Option<Instant> {
        if self.settings.rate <= 0.0 {
            return Some(now);
        }
        let start = self.busy_until.map_or(now, |busy| busy.max(now));
        let queued = (start - now).as_secs_f64() * self.settings.rate / 8.0;
        if queued + len as f64 > self.settings.queue_len as f64 {
            return None;
        }
        let sent = start + Duration::from_secs_f64(len as f64 * 8.0 / self.settings.rate);
        self.busy_until = Some(sent);
        Some(sent)
    }

    fn finish(&mut self, packet: &Rc<Packet>, run: Option<Growing>) {
        if let Some(run) = run {
            self.hold(packet, run.range, run.sent + self.settings.delay);
        }
    }

    fn hold(&mut self, packet: &Rc<Packet>, range: Range<usize>, at: Instant) {
        let len = held_len(packet, &range);
        if self.held + len > HELD_LIMIT {
            self.counters.refused += range.len() as u64;
            return;
        }
        self.held += len;
        self.order += 1;
        self.waiting.push(Due { at, order: self.order, run: Run { packet: Rc::clone(packet), range } });
    }
}

/// What a run counts for in memory: nearly right, as runs of one super-segment share its bytes.
fn held_len(packet: &Packet, range: &Range<usize>) -> usize {
    range.len() * packet.wire_len(range.start)
}

/// SplitMix64: small, fast and good enough to choose packets by.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Say yes with this probability. What never happens draws nothing.
    fn happens(&mut self, share: f64) -> bool {
        // 53 bits are all that a double holds.
        share > 0.0 && ((self.next() >> 11) as f64) < share * (1u64 << 53) as f64
    }
}
