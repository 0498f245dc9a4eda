//! `TLSServer` as Python sees it.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::errors::{EngineClosed, EngineError, InvalidConfig};
use super::relay::Relay;
use crate::tls::{ClientAuth, Configs, HandOver, Pair, Server, Settings};

/// What an operator says about TLS, checked.
#[pyclass(module = "warren._engine", frozen)]
pub struct TLSConfig {
    configs: Arc<Configs>,
}

#[pymethods]
impl TLSConfig {
    /// `pairs`: chain and key as PEM, and the DNS names that the certificate is for.
    #[new]
    #[pyo3(signature = (pairs, *, tls13_only = false, ciphers = Vec::new(), client_ca = Vec::new(), client_auth = "none"))]
    fn new(
        pairs: Vec<(Vec<u8>, Vec<u8>, Vec<String>)>,
        tls13_only: bool,
        ciphers: Vec<String>,
        client_ca: Vec<u8>,
        client_auth: &str,
    ) -> PyResult<Self> {
        let client_auth = match client_auth {
            "none" => ClientAuth::None,
            "optional" => ClientAuth::Optional,
            "required" => ClientAuth::Required,
            other => {
                return Err(InvalidConfig::new_err(format!("client_auth is none, optional or required, not {other}")))
            }
        };
        let lower = |names: Vec<String>| names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        let pairs =
            pairs.into_iter().map(|(chain_pem, key_pem, names)| Pair { chain_pem, key_pem, names: lower(names) });
        let settings = Settings { pairs: pairs.collect(), tls13_only, ciphers, client_ca_pem: client_ca, client_auth };
        let configs = Configs::new(&settings).map_err(InvalidConfig::new_err)?;
        Ok(Self { configs: Arc::new(configs) })
    }
}

/// A connection whose handshake is done.
#[pyclass(module = "warren._engine", frozen, get_all)]
pub struct TLSConnection {
    /// Names it to `TLSServer.hand_over`.
    number: u64,
    /// A socket with plain bytes; it is the caller's.
    fd: RawFd,
    peer: (String, u16),
    local: (String, u16),
    server_name: Option<String>,
    version: &'static str,
    cipher: String,
    alpn: Option<String>,
}

/// A port that speaks TLS, on a thread of its own. Python gets plain bytes.
#[pyclass(module = "warren._engine", frozen)]
pub struct TLSServer {
    server: Server,
}

#[pymethods]
impl TLSServer {
    /// Serve a listening socket; `listener` is the server's from here.
    #[new]
    fn new(listener: RawFd, config: &TLSConfig) -> PyResult<Self> {
        let server = Server::start(owned(listener)?, Arc::clone(&config.configs))
            .map_err(|error| EngineError::new_err(format!("the TLS thread did not start: {error}")))?;
        Ok(Self { server })
    }

    /// Readable while `accepted` has something to give.
    fn fileno(&self) -> RawFd {
        self.server.fd()
    }

    fn accepted(&self) -> Vec<TLSConnection> {
        let accepted = self.server.accepted().into_iter();
        accepted
            .map(|each| TLSConnection {
                number: each.number,
                fd: each.plain.into_raw_fd(),
                peer: (each.peer.ip().to_string(), each.peer.port()),
                local: (each.local.ip().to_string(), each.local.port()),
                server_name: each.details.server_name,
                version: each.details.version,
                cipher: each.details.cipher,
                alpn: each.details.alpn,
            })
            .collect()
    }

    /// Show other certificates from the next handshake on.
    fn reload(&self, config: &TLSConfig) -> PyResult<()> {
        self.server.reload(Arc::clone(&config.configs)).map_err(closed)
    }

    /// Give a connection to a relay. `fd`: another descriptor of the socket that came with it, ours from here.
    #[pyo3(signature = (number, fd, relay, *, response = Vec::new(), initial = Vec::new(), websocket = false))]
    fn hand_over(
        &self,
        number: u64,
        fd: RawFd,
        relay: &Relay,
        response: Vec<u8>,
        initial: Vec<u8>,
        websocket: bool,
    ) -> PyResult<()> {
        let plain = owned(fd)?;
        let relay = relay.intake().map_err(closed)?;
        self.server.hand_over(HandOver { number, plain, relay, response, initial, websocket }).map_err(closed)
    }

    fn stop_accepting(&self) -> PyResult<()> {
        self.server.stop_accepting().map_err(closed)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = self.server.counters();
        let found = PyDict::new(py);
        for (name, counter) in [
            ("accepted", &counters.accepted),
            ("handshakes", &counters.handshakes),
            ("handshakes_failed", &counters.handshakes_failed),
            ("handshakes_dropped", &counters.handshakes_dropped),
            ("accept_pauses", &counters.accept_pauses),
            ("handed_over", &counters.handed_over),
            ("handshaking", &counters.handshaking),
            ("open", &counters.open),
        ] {
            found.set_item(name, counter.load(Ordering::Relaxed))?;
        }
        Ok(found)
    }

    /// Send what was written, for at most so long, and close every connection. Idempotent.
    #[pyo3(signature = (*, within_seconds = 0.0))]
    fn close(&self, py: Python<'_>, within_seconds: f64) -> PyResult<()> {
        let within = Duration::try_from_secs_f64(within_seconds)
            .map_err(|error| InvalidConfig::new_err(format!("within_seconds: {error}")))?;
        py.detach(|| self.server.close(within));
        Ok(())
    }
}

fn owned(fd: RawFd) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(InvalidConfig::new_err(format!("{fd} is no file descriptor")));
    }
    // SAFETY: the caller hands over a descriptor that it owns and will not use again.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` wants it
fn closed(error: std::io::Error) -> PyErr {
    EngineClosed::new_err(error.to_string())
}

/// Add the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TLSConfig>()?;
    module.add_class::<TLSConnection>()?;
    module.add_class::<TLSServer>()
}
