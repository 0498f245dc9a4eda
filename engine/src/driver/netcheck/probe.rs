//! Latency by HTTP: the time from a request to the first byte of its answer, the connection's set-up left out.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::Interest;

use super::super::dns::{resolve, Answer};
use super::super::node::{token, Node, PROBE};
use super::super::relays::{Target, Unknown};
use super::super::stream::Stream;

/// An answer to a latency probe is not longer than this.
const MAX_ANSWER: usize = 8 << 10;

/// A latency measurement by HTTP.
pub struct Probe {
    region: u16,
    v6: bool,
    host: String,
    stream: Stream,
    asked_at: Option<Instant>,
}

/// How a probe failed.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// It could not be made; the text says why.
    Broken(String),
    /// Something else answered in the relay's place: what it said.
    Stranger(String),
}

impl Node {
    /// Measure regions by HTTP: at first those without a STUN server, later those whose servers do not answer.
    pub(super) fn probe_regions(&mut self, now: Instant, without_stun_only: bool) {
        let Some(check) = &self.netcheck.check else { return };
        let measured = |region: &u16| check.latencies.keys().any(|(of, _)| of == region);
        let mut wanted = Vec::new();
        for (region, described) in &self.wire.relays.map.regions {
            let stun = described.nodes.iter().any(|node| node.stun_port().is_some());
            if measured(region) || stun == without_stun_only {
                continue;
            }
            wanted.extend(described.relays().next().map(|node| (*region, node.clone())));
        }
        for (region, node) in wanted {
            let host = match self.wire.relays.targets(now, &node) {
                Ok(targets) => {
                    if let Some(target) = targets.first() {
                        self.begin_probe(now, region, target);
                    }
                    continue;
                }
                Err(Unknown::Name(host)) => host,
                Err(Unknown::Never(reason)) => {
                    self.probe_failed(region, reason);
                    continue;
                }
            };
            let Some(check) = &mut self.netcheck.check else { return };
            check.resolving += 1;
            resolve(self.courier.clone(), vec![host], move |engine, now, found| {
                let (addresses, error) = engine.learn_names(now, found);
                if let Some(check) = &mut engine.netcheck.check {
                    check.resolving = check.resolving.saturating_sub(1);
                }
                let target = engine.wire.relays.targets(now, &node).ok().and_then(|found| found.first().cloned());
                match target {
                    Some(target) => engine.begin_probe(now, region, &target),
                    None if addresses.is_empty() => engine.probe_failed(region, error),
                    None => {}
                }
                engine.finish_netcheck(now);
            });
        }
    }

    /// Remember what the DNS answered; the text says what it did not.
    pub(super) fn learn_names(&mut self, now: Instant, found: Vec<Answer>) -> (Vec<IpAddr>, String) {
        let (mut all, mut problem) = (Vec::new(), String::new());
        for (host, addresses) in found {
            match addresses {
                Ok(addresses) => {
                    all.extend_from_slice(&addresses);
                    self.wire.relays.names.learn(now, host, addresses);
                }
                Err(error) => match self.wire.relays.names.reuse(now, &host) {
                    Some(addresses) => all.extend(addresses),
                    None => problem = self.wire.relays.unresolved(&host, &error),
                },
            }
        }
        (all, problem)
    }

    fn begin_probe(&mut self, now: Instant, region: u16, target: &Target) {
        let mut stream = match self.wire.relays.stream_to(target) {
            Ok(stream) => stream,
            Err(reason) => return self.probe_failed(region, reason),
        };
        let entry = self.netcheck.probes.vacant_entry();
        let id = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.register(stream.socket(), token(PROBE, id), interest).is_ok() {
            let (v6, host) = (target.to.is_ipv6(), target.node.host_header());
            entry.insert(Probe { region, v6, host, stream, asked_at: None });
            self.probe_ready(now, id);
        }
    }

    fn probe_failed(&mut self, region: u16, reason: String) {
        if let Some(check) = &mut self.netcheck.check {
            check.errors.insert(region, reason);
        }
    }

    /// A latency probe can go on.
    pub fn probe_ready(&mut self, now: Instant, id: usize) {
        let Some(probe) = self.netcheck.probes.get_mut(id) else { return };
        let (region, v6) = (probe.region, probe.v6);
        match probe.turn(now, self.wire.relays.headers()) {
            Ok(None) => return,
            Ok(Some(latency)) => {
                self.netcheck.captive = Some(false);
                if let Some(check) = &mut self.netcheck.check {
                    check.latencies.insert((region, v6), latency);
                }
            }
            Err(Failure::Broken(reason)) => self.probe_failed(region, reason),
            Err(Failure::Stranger(said)) => {
                self.netcheck.captive = Some(true);
                self.probe_failed(region, format!("something else answers in the relay's place ({said})"));
            }
        }
        self.drop_probe(id);
        self.choose_home_early(now);
        self.finish_netcheck(now);
    }

    fn drop_probe(&mut self, id: usize) {
        if let Some(mut probe) = self.netcheck.probes.try_remove(id) {
            let _ = self.registry.deregister(probe.stream.socket()); // closing does it as well
        }
    }

    /// Give up those that were not answered.
    pub(super) fn drop_probes(&mut self) {
        let late = self.netcheck.probes.iter().map(|(id, probe)| (id, probe.region, probe.late())).collect::<Vec<_>>();
        for (id, region, reason) in late {
            self.drop_probe(id);
            self.probe_failed(region, reason);
        }
    }
}

impl Probe {
    fn late(&self) -> String {
        match self.stream.waits_for() {
            Some(proxy) => format!("the proxy {proxy} did not open a tunnel to its relay in time"),
            None => "its relay did not answer a request in time".into(),
        }
    }

    /// Go on; `Some` is the time from request to answer.
    fn turn(&mut self, now: Instant, headers: &[(String, String)]) -> Result<Option<Duration>, Failure> {
        let broken = |error: std::io::Error| Failure::Broken(error.to_string());
        let Some(asked_at) = self.asked_at else {
            if self.stream.connected().map_err(broken)? && self.stream.handshaken().map_err(broken)? {
                let mut text = format!("GET /derp/latency-check HTTP/1.1\r\nHost: {}\r\n", self.host);
                for (name, value) in headers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                text.push_str("Connection: close\r\n\r\n");
                self.stream.out().extend_from_slice(text.as_bytes());
                self.stream.flush().map_err(broken)?;
                self.asked_at = Some(now);
            }
            return Ok(None);
        };
        self.stream.flush().map_err(broken)?;
        let mut answer = Vec::new();
        let progress = self.stream.read(&mut answer).map_err(broken)?;
        if answer.is_empty() {
            let ended = progress == super::super::stream::Progress::Ended;
            return if ended { Err(Failure::Broken("its relay closed the connection".into())) } else { Ok(None) };
        }
        judge(&answer[..answer.len().min(MAX_ANSWER)])?;
        Ok(Some(now.saturating_duration_since(asked_at)))
    }
}

/// Whether it is a relay that answered. One says 2xx and nothing more; a captive portal sends people elsewhere, or
/// shows a page.
fn judge(answer: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let line = head.split("\r\n").next().unwrap_or_default().to_owned();
    let status: Option<u16> = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let page = head.split("\r\n").any(|line| line.starts_with("content-type:") && line.contains("text/html"));
    match status {
        Some(200..=299) if !page => Ok(()),
        Some(200..=399 | 511) => Err(Failure::Stranger(line)),
        Some(_) => Err(Failure::Broken(format!("its relay answered a request with an error ({line})"))),
        None => Err(Failure::Broken("what answers there does not speak HTTP".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_told_from_a_portal_and_from_trouble() {
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok(()));
        assert_eq!(judge(b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(()));
        let stranger = |answer: &[u8]| matches!(judge(answer), Err(Failure::Stranger(_)));
        assert!(stranger(b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n"));
        assert!(stranger(b"HTTP/1.1 200 OK\r\nContent-Type: Text/HTML\r\n\r\n<h1>"));
        assert!(stranger(b"HTTP/1.1 511 Network Authentication Required\r\n\r\n"));
        assert!(!stranger(b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n"));
        assert!(judge(b"SSH-2.0").is_err());
    }
}
