//! Against the TCP of the Linux kernel, through a TUN in a network namespace, on networks that lose and reorder.
//!
//! The test runs itself again inside a namespace of its own. Where that or the TUN is forbidden it says so and passes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::thread;

use super::tcp::testing::Random;
use super::*;

const INSIDE: &str = "WARREN_TEST_INSIDE_NAMESPACE";
const KERNEL: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1);
const OURS: Ipv6Addr = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2);
const PORT: u16 = 7000;
const TOTAL: usize = 3_000_000;
/// Nothing takes longer, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
struct Network {
    delay: Duration,
    loss: f64,
    late: f64,
}

const NETWORKS: [Network; 3] = [
    Network { delay: Duration::ZERO, loss: 0.0, late: 0.0 },
    Network { delay: Duration::from_millis(10), loss: 0.01, late: 0.0 },
    Network { delay: Duration::from_millis(5), loss: 0.0, late: 0.02 },
];

/// When a packet arrives, its number, whether it goes to the kernel, and the packet.
type Arrival = (Instant, u64, bool, Vec<u8>);

/// Our stack at one end of a TUN, with a network between.
struct Side {
    tun: File,
    stack: Netstack,
    network: Network,
    air: BinaryHeap<Reverse<Arrival>>,
    count: u64,
    random: Random,
    deadline: Instant,
}

impl Side {
    fn new(tun: File, network: Network) -> Self {
        let now = Instant::now();
        let stack = Netstack::new(now, Options { mtu: 1280, max_window: 4 << 20, seed: 11 });
        let (air, random, deadline) = (BinaryHeap::new(), Random::new(5), now + PATIENCE);
        Self { tun, stack, network, air, count: 0, random, deadline }
    }

    fn launch(&mut self, to_kernel: bool, packet: &[u8]) {
        if self.random.chance(self.network.loss) {
            return;
        }
        let late = if self.random.chance(self.network.late) { Duration::from_millis(1) } else { Duration::ZERO };
        self.count += 1;
        let at = Instant::now() + self.network.delay + late;
        self.air.push(Reverse((at, self.count, to_kernel, packet.to_vec())));
    }

    /// Wait a little for something to happen, and let packets move.
    fn step(&mut self) {
        assert!(Instant::now() < self.deadline, "nothing moves any more: {:?}", self.network);
        let next = self.air.peek().map(|Reverse((at, ..))| *at).into_iter().chain(self.stack.poll_timeout()).min();
        let wait = next.map_or(10, |at| at.saturating_duration_since(Instant::now()).as_millis().min(10) as i32);
        let mut poll = libc::pollfd { fd: self.tun.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd, and a count of one.
        unsafe { libc::poll(&mut poll, 1, wait) };
        let mut buffer = [0; 2048];
        for _ in 0..200 {
            let Ok(count) = self.tun.read(&mut buffer) else { break };
            self.launch(false, &buffer[..count]);
        }
        let now = Instant::now();
        while self.air.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, _, to_kernel, packet))) = self.air.pop() else { break };
            if to_kernel {
                let _ = self.tun.write(&packet); // a full queue is one more loss
            } else {
                self.arrive(now, &packet);
            }
        }
        while self.stack.next_due(now).is_some() {}
        let mut out = Batch::default();
        for id in self.stack.flows.iter().map(|(id, _)| id).collect::<Vec<_>>() {
            while self.stack.emit(now, id, &mut out, usize::MAX) {}
        }
        out.packets().for_each(|packet| self.launch(true, packet));
    }

    fn arrive(&mut self, now: Instant, packet: &[u8]) {
        let Some(inner) = packet::Inner::parse(packet).filter(|inner| inner.protocol == packet::TCP) else { return };
        let (ends, opens) = (inner.ends().expect("TCP"), inner.opens());
        let wanted = opens && ends.local.1 == PORT;
        match self.stack.find(&ends).or_else(|| wanted.then(|| self.stack.accept(ends)).flatten()) {
            Some(id) => {
                self.stack.enqueue(id, Span { start: 0, end: packet.len() });
                self.stack.ingest(now, id, packet, usize::MAX);
            }
            None => {
                let mut out = Batch::default();
                self.stack.refuse(packet, &mut out);
                out.packets().for_each(|packet| self.launch(true, packet));
            }
        }
    }

    fn connect(&mut self, port: u16) -> FlowId {
        let local = self.stack.free_port(OURS, (KERNEL, port)).expect("a port");
        let id = self.stack.connect(Ends { local: (OURS, local), remote: (KERNEL, port) }).expect("a flow");
        while self.stack.stage(id) == Stage::Opening {
            self.step();
        }
        id
    }

    /// Send everything and say so, and read to the end; returns what was read.
    fn exchange(&mut self, id: FlowId, bytes: &[u8]) -> Vec<u8> {
        let (mut sent, mut read) = (0, Vec::new());
        while !self.stack.finished(id) || self.stack.may_send(id) {
            while let Some(count) = self.stack.receive(id, |bytes| {
                read.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            }) {
                assert!(count > 0);
            }
            while sent < bytes.len() {
                let filled = self.stack.send(id, usize::MAX, |room| {
                    let count = room.len().min(bytes.len() - sent);
                    room[..count].copy_from_slice(&bytes[sent..sent + count]);
                    (count, count)
                });
                let Some(count) = filled else { break };
                sent += count;
            }
            if sent == bytes.len() && self.stack.may_send(id) {
                self.stack.close(id);
            }
            self.step();
        }
        read
    }
}

fn pattern(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..TOTAL).map(|_| random.next() as u8).collect()
}

/// The kernel's end: read everything while writing everything.
fn kernel_exchange(mut stream: TcpStream, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut writer = stream.try_clone()?;
    let writing = thread::spawn(move || writer.write_all(&bytes).and_then(|()| writer.shutdown(Shutdown::Write)));
    let mut read = Vec::new();
    stream.read_to_end(&mut read)?;
    writing.join().expect("no panic")?;
    Ok(read)
}

fn open_tun() -> io::Result<File> {
    let tun = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: an `ifreq` of zeros is a valid one, and the call reads no more than that.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b't' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &request)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    for arguments in [
        "link set lo up",
        "address add fd7a:115c:a1e0::1/64 dev t nodad",
        "link set dev t txqueuelen 5000",
        "link set dev t mtu 1280 up",
    ] {
        let status = Command::new("ip").args(arguments.split(' ')).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("ip {arguments}: {status}")));
        }
    }
    Ok(tun)
}

/// Run the test again in a namespace; returns whether this is it.
fn inside(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let this = std::env::current_exe().expect("a path");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net"]).arg(this).args(["--exact", name, "--nocapture"]);
    match command.env(INSIDE, "1").output() {
        Err(error) => println!("skipped: unshare cannot be run: {error}"),
        Ok(output) if output.status.success() => print!("{}", String::from_utf8_lossy(&output.stdout)),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.starts_with("unshare: "), "{said}{}", String::from_utf8_lossy(&output.stdout));
            println!("skipped: no namespace: {said}");
        }
    }
    false
}

#[test]
fn the_kernel_and_we_understand_each_other() {
    if !inside("netstack::kernel_tests::the_kernel_and_we_understand_each_other") {
        return;
    }
    let mut tun = match open_tun() {
        Ok(tun) => tun,
        Err(error) => return println!("skipped: no TUN: {error}"),
    };
    let (ours, theirs) = (pattern(1), pattern(2));
    for network in NETWORKS {
        let mut side = Side::new(tun, network);
        we_connect(&mut side, &ours, &theirs);
        the_kernel_connects(&mut side, &ours, &theirs);
        refusals_and_resets(&mut side);
        tun = side.tun;
    }
}

fn we_connect(side: &mut Side, ours: &[u8], theirs: &[u8]) {
    let listener = TcpListener::bind((KERNEL, 0)).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let bytes = theirs.to_vec();
    let kernel = thread::spawn(move || kernel_exchange(listener.accept()?.0, bytes));
    let id = side.connect(port);
    assert!(side.exchange(id, ours) == theirs, "{:?}", side.network);
    while side.stack.stage(id) != Stage::Over {
        side.step();
    }
    side.stack.remove(id);
    assert!(kernel.join().expect("no panic").expect("an orderly end") == ours);
}

fn the_kernel_connects(side: &mut Side, ours: &[u8], theirs: &[u8]) {
    let bytes = theirs.to_vec();
    let kernel = thread::spawn(move || kernel_exchange(TcpStream::connect((OURS, PORT))?, bytes));
    let id = loop {
        side.step();
        let open = side.stack.flows.iter().next().map(|(id, _)| id);
        if let Some(id) = open.filter(|id| side.stack.stage(*id) == Stage::Open) {
            break id;
        }
    };
    assert!(side.exchange(id, ours) == theirs, "{:?}", side.network);
    while side.stack.stage(id) != Stage::Over {
        side.step();
    }
    side.stack.remove(id);
    assert!(kernel.join().expect("no panic").expect("an orderly end") == ours);
}

fn refusals_and_resets(side: &mut Side) {
    let closed = TcpListener::bind((KERNEL, 0)).and_then(|listener| listener.local_addr()).expect("a port").port();
    let id = side.connect(closed);
    assert_eq!(side.stack.stage(id), Stage::Over, "the kernel refuses");
    side.stack.remove(id);

    let refused = thread::spawn(|| TcpStream::connect((OURS, PORT + 1)).map_err(|error| error.kind()).err());
    while !refused.is_finished() {
        side.step();
    }
    assert_eq!(refused.join().expect("no panic"), Some(io::ErrorKind::ConnectionRefused));

    let listener = TcpListener::bind((KERNEL, 0)).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let kernel = thread::spawn(move || listener.accept()?.0.read_to_end(&mut Vec::new()));
    let id = side.connect(port);
    side.stack.abort(id);
    while !kernel.is_finished() {
        // A reset that is lost is not sent again; what the kernel says next is refused instead.
        side.step();
        if side.network.loss > 0.0 {
            break;
        }
    }
    side.stack.remove(id);
    if side.network.loss == 0.0 {
        let error = kernel.join().expect("no panic").map_err(|error| error.kind());
        assert_eq!(error.err(), Some(io::ErrorKind::ConnectionReset));
    }
}
