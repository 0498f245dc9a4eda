//! Asking gateways for a port, on a thread of its own: everything here may wait, none of it for long.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::super::random;
use super::{natpmp, pcp, upnp};

/// Where gateways listen for PCP and NAT-PMP.
const PORT: u16 = 5351;
/// A gateway is one hop away; requests are sent again once after this.
const PATIENCE: Duration = Duration::from_millis(250);
/// Devices answer the search at random within the second that it grants them.
const SEARCH: Duration = Duration::from_millis(1100);
/// Each exchange of HTTP with a gateway.
const EXCHANGE: Duration = Duration::from_secs(2);
/// When the engine closes, it waits no longer for a gateway to take its port back.
const GOODBYE: Duration = Duration::from_millis(300);
/// Descriptions are some kilobytes.
const MAX_ANSWER: usize = 256 << 10;
/// How long we ask to have a port; it is renewed at half of that.
const SECONDS: u32 = 7200;

/// How a port was mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    Pcp { nonce: pcp::Nonce },
    NatPmp,
    Upnp { service: upnp::Service },
}

/// A port of the gateway's that leads to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub means: Means,
    pub(super) gateway: Ipv4Addr,
    pub(super) own: Ipv4Addr,
    pub(super) internal: u16,
    pub external: SocketAddrV4,
    pub lifetime: Duration,
}

/// Which of the protocols answered, and what came of it.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub lease: Option<Lease>,
    /// `None` where nobody waited for an answer.
    pub pcp: Option<bool>,
    pub nat_pmp: Option<bool>,
    pub upnp: Option<bool>,
    /// What gateways said instead of granting a port.
    pub refusals: Vec<String>,
}

/// Ask for a mapping of our port, by all means; `old` is renewed where it can be.
pub fn search(gateway: Option<Ipv4Addr>, internal: u16, old: Option<&Lease>) -> Found {
    let mut found = Found::default();
    let devices = begin_search();
    if let Some(gateway) = gateway {
        // A problem here is that of a machine without a network: there is no mapping then.
        let _ = ask_gateway(gateway, internal, old, &mut found);
        if found.lease.is_none() {
            found.pcp.get_or_insert(false);
            found.nat_pmp.get_or_insert(false);
        }
    }
    if let Ok(devices) = devices {
        let patience = if found.lease.is_some() { Duration::from_millis(1) } else { SEARCH };
        let _ = ask_devices(&devices, patience, internal, old, &mut found);
        if found.lease.is_none() {
            found.upnp.get_or_insert(false);
        }
    }
    found
}

/// PCP and NAT-PMP at once, from one socket.
fn ask_gateway(gateway: Ipv4Addr, internal: u16, old: Option<&Lease>, found: &mut Found) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((gateway, PORT))?;
    let SocketAddr::V4(own) = socket.local_addr()? else { return Ok(()) };
    let nonce = match old.map(|lease| &lease.means) {
        Some(Means::Pcp { nonce }) => *nonce,
        _ => random::bytes(),
    };
    let wanted = old.map_or(internal, |lease| lease.external.port());
    let lease = |means, external, seconds: u32| {
        let lifetime = Duration::from_secs(u64::from(seconds));
        Lease { means, gateway, own: *own.ip(), internal, external, lifetime }
    };
    let mut address = None;
    for _ in 0..2 {
        socket.send(&pcp::request(*own.ip(), &nonce, internal, wanted, SECONDS))?;
        socket.send(&natpmp::address_request())?;
        let until = Instant::now() + PATIENCE;
        let mut packet = [0; 1100];
        while let Some(count) = receive(&socket, &mut packet, until) {
            match (pcp::parse(&packet[..count], &nonce, internal), natpmp::parse(&packet[..count], internal)) {
                (Some(pcp::Answer::Granted(granted)), _) => {
                    found.pcp = Some(true);
                    found.lease = Some(lease(Means::Pcp { nonce }, granted.external, granted.seconds));
                    return Ok(());
                }
                (Some(pcp::Answer::Refused(code)), _) => {
                    found.pcp = Some(true);
                    found.refuse(format!("PCP: result {code}"));
                }
                (_, Some(natpmp::Answer::Address(external))) => {
                    found.nat_pmp = Some(true);
                    address = Some(external);
                    socket.send(&natpmp::map_request(internal, wanted, SECONDS))?;
                }
                (_, Some(natpmp::Answer::Mapped { external_port, seconds })) => {
                    if let Some(address) = address {
                        let external = SocketAddrV4::new(address, external_port);
                        found.lease = Some(lease(Means::NatPmp, external, seconds));
                        return Ok(());
                    }
                }
                (_, Some(natpmp::Answer::Refused(code))) => {
                    found.nat_pmp = Some(true);
                    found.refuse(format!("NAT-PMP: result {code}"));
                }
                _ => {}
            }
        }
        if found.pcp.is_some() || found.nat_pmp.is_some() {
            break;
        }
    }
    Ok(())
}

fn begin_search() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    for version in [1, 2] {
        socket.send_to(upnp::search_request(version).as_bytes(), upnp::SEARCH_ADDRESS)?;
    }
    Ok(socket)
}

/// Ask the gateways that answer the search, one after the other, until one maps our port.
fn ask_devices(
    socket: &UdpSocket,
    patience: Duration,
    internal: u16,
    old: Option<&Lease>,
    found: &mut Found,
) -> io::Result<()> {
    let until = Instant::now() + patience;
    let (mut packet, mut seen) = ([0; 2048], Vec::new());
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || seen.len() >= 4 {
            return Ok(());
        }
        socket.set_read_timeout(Some(left))?;
        let Ok((count, SocketAddr::V4(from))) = socket.recv_from(&mut packet) else { return Ok(()) };
        let Some((host, port, path)) = upnp::location(&packet[..count]) else { continue };
        // A device speaks for itself only.
        if host != from.ip().to_string() || seen.contains(&port) {
            continue;
        }
        seen.push(port);
        found.upnp = Some(true);
        if found.lease.is_some() {
            return Ok(());
        }
        match map_by_device(*from.ip(), port, &path, internal, old) {
            Ok(lease) => {
                found.lease = Some(lease);
                return Ok(());
            }
            Err(reason) => found.refuse(format!("UPnP: {reason}")),
        }
    }
}

fn map_by_device(
    gateway: Ipv4Addr,
    port: u16,
    path: &str,
    internal: u16,
    old: Option<&Lease>,
) -> Result<Lease, String> {
    let host = gateway.to_string();
    let get = format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    let (description, own) = exchange((gateway, port), &get, EXCHANGE).map_err(|error| error.to_string())?;
    let service = upnp::service(&description, &host, port).ok_or("it maps no ports")?;
    let ask = |action: &str, arguments: &[(&str, String)]| {
        exchange((gateway, service.port), &upnp::request(&service, action, arguments), EXCHANGE)
            .map_err(|error| error.to_string())
    };
    let mut external = old.map_or(internal, |lease| lease.external.port());
    let mut seconds = SECONDS;
    for _ in 0..4 {
        let (answer, _) = ask("AddPortMapping", &upnp::mapping(own, internal, external, seconds))?;
        match upnp::value(&answer, "errorCode").map(|code| code.parse::<u16>().unwrap_or(0)) {
            None => {
                let (answer, _) = ask("GetExternalIPAddress", &[])?;
                let address = upnp::value(&answer, "NewExternalIPAddress").and_then(|text| text.parse().ok());
                let external = SocketAddrV4::new(address.ok_or("it does not say its address")?, external);
                // A port that was granted for ever is asked for again all the same: the gateway may restart.
                let lifetime = Duration::from_secs(u64::from(SECONDS));
                return Ok(Lease { means: Means::Upnp { service }, gateway, own, internal, external, lifetime });
            }
            Some(upnp::ONLY_PERMANENT) => seconds = 0,
            Some(upnp::CONFLICT) => external = 1024 + (u16::from_be_bytes(random::bytes()) % 64_000),
            Some(code) => return Err(format!("error {code}")),
        }
    }
    Err("every port is taken".into())
}

/// Give the port back; waits hardly at all.
pub fn release(lease: &Lease) {
    // What cannot be said now ends by itself when the lease does.
    let _ = match &lease.means {
        Means::Pcp { nonce } => tell(lease, &pcp::request(lease.own, nonce, lease.internal, 0, 0)),
        Means::NatPmp => tell(lease, &natpmp::map_request(lease.internal, 0, 0)),
        Means::Upnp { service } => {
            let request = upnp::request(service, "DeletePortMapping", &upnp::removal(lease.external.port()));
            exchange((lease.gateway, service.port), &request, GOODBYE).map(drop)
        }
    };
}

fn tell(lease: &Lease, packet: &[u8]) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.send_to(packet, (lease.gateway, PORT)).map(drop)
}

/// One request and the body of its answer, and our address towards the gateway.
fn exchange(to: (Ipv4Addr, u16), request: &str, limit: Duration) -> io::Result<(String, Ipv4Addr)> {
    let until = Instant::now() + limit;
    let mut stream = TcpStream::connect_timeout(&to.into(), limit)?;
    let SocketAddr::V4(own) = stream.local_addr()? else { return Err(io::ErrorKind::Unsupported.into()) };
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() > MAX_ANSWER {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
        if complete(&answer) {
            break;
        }
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((body, *own.ip()))
}

/// Whether an answer is all there, where it says how long it is; else it ends with the connection.
fn complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let headers = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut lengths = headers.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths
        .next()
        .and_then(|(_, length)| length.trim().parse::<usize>().ok())
        .is_some_and(|length| body.len() >= length)
}

/// Wait for a packet until then.
fn receive(socket: &UdpSocket, packet: &mut [u8], until: Instant) -> Option<usize> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        socket.set_read_timeout(Some(left)).ok()?;
        match socket.recv(packet) {
            Ok(count) => return Some(count),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None, // refused: nobody listens there
        }
    }
}

impl Found {
    fn refuse(&mut self, reason: String) {
        if self.refusals.len() < 8 && !self.refusals.contains(&reason) {
            self.refusals.push(reason);
        }
    }
}
