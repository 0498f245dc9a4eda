use super::*;

const A: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1);
const B: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2);
const BUFFER: usize = 256 << 10;

fn stack(now: Instant) -> Netstack {
    Netstack::new(now, Options { mtu: 1280, max_window: BUFFER, seed: 7 })
}

/// Two stacks and a wire without loss between them; `b` accepts every connection.
struct Wire {
    now: Instant,
    a: Netstack,
    b: Netstack,
    accepting: bool,
}

impl Wire {
    fn new(accepting: bool) -> Self {
        let now = Instant::now();
        Self { now, a: stack(now), b: stack(now), accepting }
    }

    fn carry(now: Instant, from: &mut Netstack, to: &mut Netstack, accepting: bool, backlog: &mut Batch) -> bool {
        let mut out = std::mem::take(backlog);
        let ids: Vec<FlowId> = from.flows.iter().map(|(id, _)| id).collect();
        for id in ids {
            from.emit(now, id, &mut out, usize::MAX);
        }
        for packet in out.packets() {
            let ends = packet::Inner::parse(packet).and_then(|inner| inner.ends()).expect("TCP");
            let opens = packet::Inner::parse(packet).is_some_and(|inner| inner.opens());
            let id = to.find(&ends).or_else(|| (accepting && opens).then(|| to.accept(ends)).flatten());
            match id {
                Some(id) => {
                    to.enqueue(id, Span { start: 0, end: packet.len() });
                    to.ingest(now, id, packet, BUFFER);
                }
                None => to.refuse(packet, backlog),
            }
        }
        !out.is_empty()
    }

    fn settle(&mut self) {
        let mut backlog = Batch::default();
        for _ in 0..1000 {
            let one = Self::carry(self.now, &mut self.a, &mut self.b, self.accepting, &mut backlog);
            let two = Self::carry(self.now, &mut self.b, &mut self.a, false, &mut backlog);
            if !one && !two && backlog.is_empty() {
                return;
            }
            self.now += Duration::from_millis(6);
        }
        panic!("never settles");
    }

    fn connect(&mut self) -> FlowId {
        let port = self.a.free_port(A, (B, 22)).expect("a port");
        let id = self.a.connect(Ends { local: (A, port), remote: (B, 22) }).expect("a flow");
        self.settle();
        id
    }

    fn accepted(&self) -> FlowId {
        self.b.flows.iter().next().expect("an accepted flow").0
    }
}

#[test]
fn a_connection_carries_bytes_and_half_closes() {
    let mut wire = Wire::new(true);
    let (left, right) = (wire.connect(), wire.accepted());
    assert_eq!((wire.a.stage(left), wire.b.stage(right)), (Stage::Open, Stage::Open));
    wire.a.send(left, BUFFER, |room| {
        room[..5].copy_from_slice(b"hello");
        (5, ())
    });
    wire.a.close(left);
    wire.settle();
    assert!(!wire.b.finished(right), "bytes are left");
    assert_eq!(wire.b.receive(right, |bytes| (bytes.len(), bytes.to_vec())), Some(b"hello".to_vec()));
    assert!(wire.b.finished(right) && wire.b.may_send(right) && !wire.a.may_send(left));
    wire.b.send(right, BUFFER, |room| {
        room[..3].copy_from_slice(b"bye");
        (3, ())
    });
    wire.b.close(right);
    wire.settle();
    assert_eq!(wire.a.receive(left, |bytes| (bytes.len(), bytes.to_vec())), Some(b"bye".to_vec()));
    assert_eq!((wire.a.stage(left), wire.b.stage(right)), (Stage::Over, Stage::Over));
}

#[test]
fn a_refused_connection_ends_at_once() {
    let mut wire = Wire::new(false);
    let left = wire.connect();
    assert_eq!(wire.a.stage(left), Stage::Over);
}

#[test]
fn an_abort_reaches_the_peer() {
    let mut wire = Wire::new(true);
    let (left, right) = (wire.connect(), wire.accepted());
    wire.a.abort(left);
    wire.settle();
    assert_eq!(wire.b.stage(right), Stage::Over);
}

#[test]
fn a_reader_that_stops_reading_stops_the_sender() {
    let mut wire = Wire::new(true);
    let (left, right) = (wire.connect(), wire.accepted());
    let mut sent = 0;
    for _ in 0..100 {
        while let Some(count) = wire.a.send(left, BUFFER, |room| (room.len(), room.len())) {
            sent += count;
        }
        wire.settle();
    }
    assert!((BUFFER..=3 * BUFFER).contains(&sent), "sent {sent}");
    let mut received = 0;
    while let Some(count) = wire.b.receive(right, |bytes| (bytes.len(), bytes.len())) {
        received += count;
        wire.settle();
    }
    assert_eq!(received, sent);
}

#[test]
fn random_packets_never_panic() {
    let now = Instant::now();
    let stack = stack(now);
    let mut state = 12345_u64;
    let mut out = Batch::default();
    for round in 0..20_000 {
        let mut packet: Vec<u8> = Vec::new();
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let length = (state >> 33) as usize % 120;
        for _ in 0..length {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            packet.push((state >> 40) as u8);
        }
        if packet.len() > 40 {
            let payload = (packet.len() - 40) as u16;
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&payload.to_be_bytes());
            packet[6] = if round % 2 == 0 { packet::TCP } else { packet::ICMPV6 };
            packet[8..24].copy_from_slice(&A.octets());
            packet[24..40].copy_from_slice(&B.octets());
        }
        if let Some(inner) = packet::Inner::parse(&packet) {
            inner.echo_reply();
            inner.datagram();
            inner.ends();
            inner.opens();
        }
        tcp::Segment::parse(&packet);
        stack.refuse(&packet, &mut out);
        out.clear();
    }
}
