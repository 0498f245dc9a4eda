//! `Relay` and `RelayStats` as Python sees them.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::{EngineClosed, EngineError, InvalidConfig};
use crate::relay;
use crate::wire::derp::{self, ClientInfo};
use crate::wire::keys::{self, Key, SharedKey};

/// A DERP relay's bytes. Python accepts and authorises a connection and hands its socket over.
#[pyclass(module = "warren._engine", frozen)]
pub struct Relay {
    relay: relay::Relay,
}

impl Relay {
    /// Where the TLS server puts connections in.
    pub fn intake(&self) -> std::io::Result<relay::Intake> {
        self.relay.intake()
    }
}

#[pymethods]
impl Relay {
    #[new]
    fn new(private_key: &[u8]) -> PyResult<Self> {
        let relay = relay::Relay::start(&key(private_key)?)
            .map_err(|error| EngineError::new_err(format!("the relay's thread did not start: {error}")))?;
        Ok(Self { relay })
    }

    #[getter]
    fn public_key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.relay.public_key())
    }

    /// Take over a socket right after the HTTP upgrade was answered; the relay owns `fd` from here.
    #[pyo3(signature = (fd, *, initial = Vec::new(), websocket = false, remote = ""))]
    fn add(&self, py: Python<'_>, fd: RawFd, initial: Vec<u8>, websocket: bool, remote: &str) -> PyResult<()> {
        // Who it is does not change what the relay does.
        let _ = remote;
        if fd < 0 {
            return Err(InvalidConfig::new_err(format!("{fd} is no file descriptor")));
        }
        // SAFETY: the caller hands over a descriptor that it owns and will not use again.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        py.detach(|| self.relay.add(socket, initial, websocket))
            .map_err(|error| EngineClosed::new_err(error.to_string()))
    }

    fn stats(&self, py: Python<'_>) -> PyResult<RelayStats> {
        RelayStats::from_snapshot(py, &self.relay.stats())
    }

    /// Tell clients (frame Restarting) when to come back; all goes on until `close`.
    fn announce_restart(&self, seconds: f64) -> PyResult<()> {
        self.relay
            .announce_restart(duration("seconds", seconds)?)
            .map_err(|error| EngineClosed::new_err(error.to_string()))
    }

    /// Tell clients (frame Restarting) where a time is given, send what waits for them, for at most `drain_seconds`,
    /// and close every connection. Idempotent.
    #[pyo3(signature = (*, restarting_in_seconds = None, drain_seconds = 0.0))]
    fn close(&self, py: Python<'_>, restarting_in_seconds: Option<f64>, drain_seconds: f64) -> PyResult<()> {
        let restarting_in =
            restarting_in_seconds.map(|seconds| duration("restarting_in_seconds", seconds)).transpose()?;
        let drain = duration("drain_seconds", drain_seconds)?;
        py.detach(|| self.relay.close(restarting_in, drain));
        Ok(())
    }
}

fn duration(name: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| InvalidConfig::new_err(format!("{name}: {error}")))
}

/// Counters since start, and gauges.
#[pyclass(module = "warren._engine", frozen, get_all)]
pub struct RelayStats {
    clients: u64,
    connections: u64,
    accepts: u64,
    bytes_received: u64,
    bytes_sent: u64,
    packets_received: u64,
    packets_sent: u64,
    packets_dropped: u64,
    dropped_by_reason: Py<pyo3::types::PyDict>,
    got_ping: u64,
    sent_pong: u64,
    home_moves_in: u64,
    home_moves_out: u64,
    peer_gone_disconnected: u64,
    peer_gone_not_here: u64,
    unknown_frames: u64,
    home_connections: u64,
    dropped_by_kind: Py<pyo3::types::PyDict>,
    received_by_kind: Py<pyo3::types::PyDict>,
    average_queue_seconds: f64,
}

impl RelayStats {
    fn from_snapshot(py: Python<'_>, snapshot: &relay::Snapshot) -> PyResult<Self> {
        let dict = |counts: &[(&'static str, u64)]| -> PyResult<Py<pyo3::types::PyDict>> {
            let dict = pyo3::types::PyDict::new(py);
            counts.iter().try_for_each(|(name, count)| dict.set_item(name, count))?;
            Ok(dict.unbind())
        };
        Ok(Self {
            clients: snapshot.clients,
            connections: snapshot.connections,
            accepts: snapshot.accepts,
            bytes_received: snapshot.bytes_received,
            bytes_sent: snapshot.bytes_sent,
            packets_received: snapshot.packets_received,
            packets_sent: snapshot.packets_sent,
            packets_dropped: snapshot.dropped_by_reason.iter().map(|(_, count)| count).sum(),
            dropped_by_reason: dict(&snapshot.dropped_by_reason)?,
            got_ping: snapshot.got_ping,
            sent_pong: snapshot.sent_pong,
            home_moves_in: snapshot.home_moves_in,
            home_moves_out: snapshot.home_moves_out,
            peer_gone_disconnected: snapshot.peer_gone_disconnected,
            peer_gone_not_here: snapshot.peer_gone_not_here,
            unknown_frames: snapshot.unknown_frames,
            home_connections: snapshot.home_connections,
            dropped_by_kind: dict(&snapshot.dropped_by_kind)?,
            received_by_kind: dict(&snapshot.received_by_kind)?,
            average_queue_seconds: snapshot.average_queue_seconds,
        })
    }
}

/// Make a client's login: the frame ClientInfo for the relay with this key. `prober`: the client only looks whether
/// the relay works.
#[pyfunction]
#[pyo3(signature = (private_key, relay_key, *, prober = false))]
fn derp_login<'py>(
    py: Python<'py>,
    private_key: &[u8],
    relay_key: &[u8],
    prober: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let (private_key, relay_key) = (key(private_key)?, key(relay_key)?);
    let shared = SharedKey::new(&private_key, &relay_key);
    let info = ClientInfo { version: derp::PROTOCOL_VERSION, is_prober: prober, ..ClientInfo::default() };
    let [nonce @ .., _, _, _, _, _, _, _, _] = crate::driver::random_key();
    let mut frame = Vec::new();
    derp::put_client_info(&mut frame, &shared, &keys::public_key(&private_key), &nonce, &info);
    Ok(PyBytes::new(py, &frame))
}

/// Say whether a relay's answer to a login was sealed by the relay with this key.
#[pyfunction]
fn derp_login_answered(private_key: &[u8], relay_key: &[u8], sealed: &[u8]) -> PyResult<bool> {
    let shared = SharedKey::new(&key(private_key)?, &key(relay_key)?);
    Ok(derp::open_server_info(&shared, sealed).is_ok())
}

fn key(bytes: &[u8]) -> PyResult<Key> {
    Key::try_from(bytes).map_err(|_| InvalidConfig::new_err(format!("a key has 32 bytes, not {}", bytes.len())))
}

/// Add the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Relay>()?;
    module.add_class::<RelayStats>()?;
    module.add_function(wrap_pyfunction!(derp_login, module)?)?;
    module.add_function(wrap_pyfunction!(derp_login_answered, module)?)
}
