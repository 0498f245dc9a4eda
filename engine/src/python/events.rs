//! What `Engine.events()` and the statistics return: plain values with named fields.

use std::os::fd::IntoRawFd;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::driver::outbox::{self, Event};
use crate::driver::{CandidateView, ChangeView, PeerView, Totals};

/// Declare a class of values: frozen, every field readable, and usable in `match` by position.
macro_rules! values {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[pyclass(module = "warren._engine", frozen, get_all)]
        pub struct $name {
            $($field: $kind),*
        }

        #[pymethods]
        impl $name {
            #[classattr]
            fn __match_args__(py: Python<'_>) -> PyResult<Py<PyTuple>> {
                Ok(PyTuple::new(py, [$(stringify!($field)),*])?.unbind())
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let mut text = String::from(concat!(stringify!($name), "("));
                $(
                    let value = (&self.$field).into_pyobject(py)?;
                    text.push_str(&format!("{}={}, ", stringify!($field), value.as_any().repr()?));
                )*
                text.truncate(text.len() - 2);
                text.push(')');
                Ok(text)
            }
        }
    )*};
}

values! {
    Dialed { token: u64, fd: i32 }
    /// `code`: "refused", "timeout", "unreachable" (no such peer) or "closed"; `reason` is a sentence for a person.
    DialFailed { token: u64, code: String, reason: String }
    Accepted { port: u16, fd: i32, peer_address: String, peer_port: u16 }
    /// The path to a peer changed.
    PathChanged {
        key: Py<PyBytes>,
        direct: bool,
        endpoint: String,
        region: u16,
        latency_seconds: f64,
        reason: String,
    }
    Pong { token: u64, latency_seconds: f64, direct: bool, endpoint: String, region: u16 }
    PingFailed { token: u64, reason: String }
    /// A WireGuard handshake with a peer completed.
    Handshake { key: Py<PyBytes> }
    /// The connection to a relay region changed.
    RelayChanged { region: u16, connected: bool, home: bool, websocket_reason: String, error: String }
    /// What is known of this node's network.
    NetInfo {
        token: u64,
        preferred_region: u16,
        region_latency_seconds: Py<PyDict>,
        forced_websocket: Py<PyDict>,
        endpoints: Vec<String>,
        udp: bool,
        ipv4: bool,
        ipv6: bool,
        ipv4_can_send: bool,
        ipv6_can_send: bool,
        os_has_ipv6: bool,
        mapping_varies_by_destination: Option<bool>,
        hairpinning: Option<bool>,
        global_v4: String,
        global_v6: String,
        stun_answers: Py<PyDict>,
        standby_region: u16,
        stun_servers: Vec<Py<StunServer>>,
        region_errors: Py<PyDict>,
        captive_portal: Option<bool>,
        port_mapping: Py<PortMapping>,
        warnings: Vec<String>,
    }
    /// A STUN server at one address, and what it said.
    StunServer {
        region: u16,
        name: String,
        address: String,
        mapped: String,
        latency_seconds: Option<f64>,
        error: String,
    }
    /// What became of asking the gateway for a port.
    PortMapping {
        protocol: String,
        external: String,
        reason: String,
        pcp: Option<bool>,
        nat_pmp: Option<bool>,
        upnp: Option<bool>,
    }
    /// One endpoint tried for a peer.
    Candidate {
        endpoint: String,
        source: String,
        state: String,
        latency_seconds: Option<f64>,
        pings_sent: u32,
        pongs_received: u32,
        last_ping_age_seconds: Option<f64>,
        last_pong_age_seconds: Option<f64>,
        inner_mtu: usize,
        reason: String,
    }
    /// One change of the path to a peer.
    PathRecord { age_seconds: f64, direct: bool, endpoint: String, region: u16, reason: String }
    PeerStats {
        key: Py<PyBytes>,
        addresses: Vec<String>,
        home_region: u16,
        direct: bool,
        endpoint: String,
        region: u16,
        latency_seconds: Option<f64>,
        reason: String,
        candidates: Vec<Py<Candidate>>,
        history: Vec<Py<PathRecord>>,
        inner_mtu: usize,
        last_handshake_age_seconds: Option<f64>,
        last_receive_age_seconds: Option<f64>,
        rx_bytes: u64,
        tx_bytes: u64,
        rx_packets: u64,
        tx_packets: u64,
    }
    EngineStats {
        rx_bytes: u64,
        tx_bytes: u64,
        rx_packets: u64,
        tx_packets: u64,
        dropped_packets: u64,
        tcp_flows: u64,
        udp_flows: u64,
        flows_by_protocol: Py<PyDict>,
    }
}

/// Turn an event into the object that Python sees.
pub fn event(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    let bytes = |key: [u8; 32]| PyBytes::new(py, &key).unbind();
    Ok(match event {
        Event::Dialed { token, fd } => Py::new(py, Dialed { token, fd: fd.into_raw_fd() })?.into_any(),
        Event::DialFailed { token, code, reason } => {
            Py::new(py, DialFailed { token, code: code.to_owned(), reason })?.into_any()
        }
        Event::Accepted { port, fd, peer_address, peer_port } => {
            let peer_address = peer_address.to_string();
            Py::new(py, Accepted { port, fd: fd.into_raw_fd(), peer_address, peer_port })?.into_any()
        }
        Event::PathChanged { key, path, latency, reason } => {
            let latency_seconds = latency.as_secs_f64();
            let outbox::PathView { direct, endpoint, region } = path;
            let key = bytes(key);
            Py::new(py, PathChanged { key, direct, endpoint, region, latency_seconds, reason })?.into_any()
        }
        Event::Pong { token, latency, path } => {
            let latency_seconds = latency.as_secs_f64();
            let outbox::PathView { direct, endpoint, region } = path;
            Py::new(py, Pong { token, latency_seconds, direct, endpoint, region })?.into_any()
        }
        Event::PingFailed { token, reason } => Py::new(py, PingFailed { token, reason })?.into_any(),
        Event::Handshake { key } => Py::new(py, Handshake { key: bytes(key) })?.into_any(),
        Event::RelayChanged { region, connected, home, websocket_reason, error } => {
            Py::new(py, RelayChanged { region, connected, home, websocket_reason, error })?.into_any()
        }
        Event::NetInfo(info) => Py::new(py, net_info(py, *info)?)?.into_any(),
    })
}

fn net_info(py: Python<'_>, info: outbox::NetInfo) -> PyResult<NetInfo> {
    let region_latency_seconds = PyDict::new(py);
    for (region, latency) in info.region_latency {
        region_latency_seconds.set_item(region, latency)?;
    }
    let forced_websocket = PyDict::new(py);
    for (region, reason) in info.forced_websocket {
        forced_websocket.set_item(region, reason)?;
    }
    let stun_answers = PyDict::new(py);
    for (server, answer) in info.stun_answers {
        stun_answers.set_item(server, answer)?;
    }
    let region_errors = PyDict::new(py);
    for (region, reason) in info.region_errors {
        region_errors.set_item(region, reason)?;
    }
    let stun_servers = info.stun_servers.into_iter().map(|server| Py::new(py, stun_server(server)));
    let outbox::PortMapping { protocol, external, reason, pcp, nat_pmp, upnp } = info.port_mapping;
    Ok(NetInfo {
        standby_region: info.standby_region,
        stun_servers: stun_servers.collect::<PyResult<_>>()?,
        region_errors: region_errors.unbind(),
        captive_portal: info.captive_portal,
        port_mapping: Py::new(py, PortMapping { protocol, external, reason, pcp, nat_pmp, upnp })?,
        warnings: info.warnings,
        token: info.token,
        preferred_region: info.preferred_region,
        region_latency_seconds: region_latency_seconds.unbind(),
        forced_websocket: forced_websocket.unbind(),
        endpoints: info.endpoints,
        udp: info.udp,
        ipv4: info.ipv4,
        ipv6: info.ipv6,
        ipv4_can_send: info.ipv4_can_send,
        ipv6_can_send: info.ipv6_can_send,
        os_has_ipv6: info.os_has_ipv6,
        mapping_varies_by_destination: info.mapping_varies_by_destination,
        hairpinning: info.hairpinning,
        global_v4: info.global_v4,
        global_v6: info.global_v6,
        stun_answers: stun_answers.unbind(),
    })
}

fn stun_server(server: outbox::StunServer) -> StunServer {
    StunServer {
        region: server.region,
        name: server.name,
        address: server.address,
        mapped: server.mapped,
        latency_seconds: seconds(server.latency),
        error: server.error,
    }
}

fn seconds(age: Option<Duration>) -> Option<f64> {
    age.map(|age| age.as_secs_f64())
}

/// Turn a peer's statistics into the object that Python sees.
pub fn peer_stats(py: Python<'_>, view: PeerView) -> PyResult<PeerStats> {
    let candidates = view.candidates.into_iter().map(|candidate| Py::new(py, self::candidate(candidate)));
    let history = view.history.into_iter().map(|change| Py::new(py, record(change)));
    Ok(PeerStats {
        key: PyBytes::new(py, &view.key).unbind(),
        addresses: view.addresses,
        home_region: view.home_region,
        direct: view.path.direct,
        endpoint: view.path.endpoint,
        region: view.path.region,
        latency_seconds: seconds(view.latency),
        reason: view.reason,
        candidates: candidates.collect::<PyResult<_>>()?,
        history: history.collect::<PyResult<_>>()?,
        inner_mtu: view.inner_mtu,
        last_handshake_age_seconds: seconds(view.handshake_age),
        last_receive_age_seconds: seconds(view.receive_age),
        rx_bytes: view.counters.rx_bytes,
        tx_bytes: view.counters.tx_bytes,
        rx_packets: view.counters.rx_packets,
        tx_packets: view.counters.tx_packets,
    })
}

fn candidate(view: CandidateView) -> Candidate {
    Candidate {
        endpoint: view.endpoint,
        source: view.source.to_owned(),
        state: view.state.to_owned(),
        latency_seconds: seconds(view.latency),
        pings_sent: view.pings_sent,
        pongs_received: view.pongs_received,
        last_ping_age_seconds: seconds(view.ping_age),
        last_pong_age_seconds: seconds(view.pong_age),
        inner_mtu: view.inner_mtu,
        reason: view.reason,
    }
}

fn record(view: ChangeView) -> PathRecord {
    let outbox::PathView { direct, endpoint, region } = view.path;
    PathRecord { age_seconds: view.age.as_secs_f64(), direct, endpoint, region, reason: view.reason }
}

/// Turn the counters into the object that Python sees.
pub fn engine_stats(py: Python<'_>, totals: &Totals) -> PyResult<EngineStats> {
    let flows_by_protocol = PyDict::new(py);
    flows_by_protocol.set_item("tcp", totals.tcp_flows)?;
    flows_by_protocol.set_item("udp", totals.udp_flows)?;
    Ok(EngineStats {
        rx_bytes: totals.rx_bytes,
        tx_bytes: totals.tx_bytes,
        rx_packets: totals.rx_packets,
        tx_packets: totals.tx_packets,
        dropped_packets: totals.dropped_packets,
        tcp_flows: totals.tcp_flows,
        udp_flows: totals.udp_flows,
        flows_by_protocol: flows_by_protocol.unbind(),
    })
}

/// Add the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Dialed>()?;
    module.add_class::<DialFailed>()?;
    module.add_class::<Accepted>()?;
    module.add_class::<PathChanged>()?;
    module.add_class::<Pong>()?;
    module.add_class::<PingFailed>()?;
    module.add_class::<Handshake>()?;
    module.add_class::<RelayChanged>()?;
    module.add_class::<NetInfo>()?;
    module.add_class::<StunServer>()?;
    module.add_class::<PortMapping>()?;
    module.add_class::<Candidate>()?;
    module.add_class::<PathRecord>()?;
    module.add_class::<PeerStats>()?;
    module.add_class::<EngineStats>()?;
    let names = [
        "Dialed",
        "DialFailed",
        "Accepted",
        "PathChanged",
        "Pong",
        "PingFailed",
        "NetInfo",
        "RelayChanged",
        "Handshake",
    ];
    let kinds = names.into_iter().map(|name| module.getattr(name)).collect::<PyResult<Vec<_>>>()?;
    let kinds = PyTuple::new(module.py(), kinds)?;
    module.add("Event", module.py().import("typing")?.getattr("Union")?.get_item(kinds)?)
}
