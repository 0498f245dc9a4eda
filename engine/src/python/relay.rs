//! `Relay` and `RelayStats` as Python sees them.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::{EngineClosed, EngineError, InvalidConfig};
use crate::relay;
use crate::wire::keys::Key;

/// A DERP relay's bytes. Python accepts and authorises a connection and hands its socket over.
#[pyclass(module = "warren._engine", frozen)]
pub struct Relay {
    relay: relay::Relay,
}

#[pymethods]
impl Relay {
    #[new]
    fn new(private_key: &[u8]) -> PyResult<Self> {
        let key = Key::try_from(private_key)
            .map_err(|_| InvalidConfig::new_err(format!("a key has 32 bytes, not {}", private_key.len())))?;
        let relay = relay::Relay::start(&key)
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

    /// Tell clients (frame Restarting) and close every connection. Idempotent.
    #[pyo3(signature = (*, restarting_in_seconds = None))]
    fn close(&self, py: Python<'_>, restarting_in_seconds: Option<f64>) -> PyResult<()> {
        let restarting_in = restarting_in_seconds
            .map(Duration::try_from_secs_f64)
            .transpose()
            .map_err(|error| InvalidConfig::new_err(format!("restarting_in_seconds: {error}")))?;
        py.detach(|| self.relay.close(restarting_in));
        Ok(())
    }
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
}

impl RelayStats {
    fn from_snapshot(py: Python<'_>, snapshot: &relay::Snapshot) -> PyResult<Self> {
        let by_reason = pyo3::types::PyDict::new(py);
        for (reason, count) in &snapshot.dropped_by_reason {
            by_reason.set_item(reason, count)?;
        }
        Ok(Self {
            clients: snapshot.clients,
            connections: snapshot.connections,
            accepts: snapshot.accepts,
            bytes_received: snapshot.bytes_received,
            bytes_sent: snapshot.bytes_sent,
            packets_received: snapshot.packets_received,
            packets_sent: snapshot.packets_sent,
            packets_dropped: snapshot.dropped_by_reason.iter().map(|(_, count)| count).sum(),
            dropped_by_reason: by_reason.unbind(),
            got_ping: snapshot.got_ping,
            sent_pong: snapshot.sent_pong,
            home_moves_in: snapshot.home_moves_in,
            home_moves_out: snapshot.home_moves_out,
            peer_gone_disconnected: snapshot.peer_gone_disconnected,
            peer_gone_not_here: snapshot.peer_gone_not_here,
            unknown_frames: snapshot.unknown_frames,
        })
    }
}

/// Add the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Relay>()?;
    module.add_class::<RelayStats>()
}
