//! `Engine` as Python sees it: convert, call, convert back.

use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::{AddressInUse, EngineClosed, EngineError, InvalidConfig};
use super::events::{self, EngineStats, PeerStats};
use crate::driver::{
    self, Closed, Config, Congestion, DerpMap, DialUdpError, Driver, Node, PeerConfig, Proxies, StackChoice,
};
use crate::wire::keys::{self, Key};

/// An IPv6 link inside the tunnel carries at least this (RFC 8200 §5), and a UDP packet outside at most that.
const MTU_RANGE: std::ops::RangeInclusive<usize> = 1280..=9000;
/// An interface holds so many addresses.
const MAX_ADDRESSES: usize = 8;

/// One node of the network.
#[pyclass(module = "warren._engine", frozen)]
pub struct Engine {
    driver: Driver,
    public_key: Key,
    disco_public_key: Key,
    next_token: AtomicU64,
}

impl From<Closed> for PyErr {
    fn from(_: Closed) -> Self {
        EngineClosed::new_err("the engine is closed")
    }
}

fn invalid(message: impl Into<String>) -> PyErr {
    InvalidConfig::new_err(message.into())
}

fn key(bytes: &[u8], what: &str) -> PyResult<Key> {
    Key::try_from(bytes).map_err(|_| invalid(format!("{what} has 32 bytes, not {}", bytes.len())))
}

fn address(text: &str) -> PyResult<Ipv6Addr> {
    let bare = text.strip_suffix("/128").unwrap_or(text);
    bare.parse().map_err(|_| invalid(format!("`{text}` is no IPv6 address")))
}

fn port(number: u32) -> PyResult<u16> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(invalid(format!("{number} is no port"))),
    }
}

fn duration(seconds: f64, what: &str) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid(format!("{what} cannot be {seconds}")))
}

/// Refuse what would break the lines of an HTTP request.
fn header(name: String, value: String) -> PyResult<(String, String)> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
        return Err(invalid(format!("`{name}` is no header, or its value has control characters")));
    }
    Ok((name, value))
}

/// Read `{"https": …, "http": …, "no": …}`, the values of the variables of those names.
fn proxies(texts: &HashMap<String, String>) -> PyResult<Proxies> {
    let text = |name: &str| texts.get(name).map_or("", String::as_str);
    if let Some(unknown) = texts.keys().find(|name| !["https", "http", "no"].contains(&name.as_str())) {
        return Err(invalid(format!("proxies has `{unknown}`: use https, http and no")));
    }
    Ok(Proxies::parse(text("https"), text("http"), text("no")))
}

impl Engine {
    fn token(&self) -> u64 {
        self.next_token.fetch_add(1, Ordering::Relaxed)
    }

    fn ask<R: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Node, Instant) -> R + Send + 'static,
    ) -> PyResult<R> {
        Ok(py.detach(|| self.driver.ask(work))?)
    }

    fn tell(&self, work: impl FnOnce(&mut Node, Instant) + Send + 'static) -> PyResult<()> {
        Ok(self.driver.tell(work)?)
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (
        private_key, disco_private_key, addresses, *, listen_port = 0, stack = "auto", block_direct = false,
        force_websockets = false, tls_ca_pem = None, relay_headers = None, proxies = None, port_mapping = false,
        forward_to_loopback = false, mtu = 1280, congestion_control = "auto"
    ))]
    #[allow(clippy::too_many_arguments)] // the signature is the seam's
    fn new(
        py: Python<'_>,
        private_key: &[u8],
        disco_private_key: &[u8],
        addresses: Vec<String>,
        listen_port: u16,
        stack: &str,
        block_direct: bool,
        force_websockets: bool,
        tls_ca_pem: Option<&[u8]>,
        relay_headers: Option<HashMap<String, String>>,
        proxies: Option<HashMap<String, String>>,
        port_mapping: bool,
        forward_to_loopback: bool,
        mtu: usize,
        congestion_control: &str,
    ) -> PyResult<Self> {
        let stack = match stack {
            "auto" => StackChoice::Auto,
            "kernel" => StackChoice::Kernel,
            "portable" => StackChoice::Portable,
            other => return Err(invalid(format!("`{other}` is no stack: use kernel, portable or auto"))),
        };
        let congestion = match congestion_control {
            "auto" => Congestion::Auto,
            "bbr" => Congestion::Bbr,
            "cubic" => Congestion::Cubic,
            other => return Err(invalid(format!("`{other}` is no congestion control: use bbr, cubic or auto"))),
        };
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            return Err(invalid(format!("a node has 1 to {MAX_ADDRESSES} addresses, not {}", addresses.len())));
        }
        if !MTU_RANGE.contains(&mtu) {
            return Err(invalid(format!("the MTU cannot be {mtu}")));
        }
        let headers = relay_headers.unwrap_or_default().into_iter().map(|(name, value)| header(name, value));
        let config = Config {
            private_key: key(private_key, "private_key")?,
            disco_private_key: key(disco_private_key, "disco_private_key")?,
            addresses: addresses.iter().map(|text| address(text)).collect::<PyResult<_>>()?,
            listen_port,
            block_direct,
            force_websockets,
            tls_ca_pem: tls_ca_pem.map(<[u8]>::to_vec),
            relay_headers: headers.collect::<PyResult<_>>()?,
            proxies: self::proxies(&proxies.unwrap_or_default())?,
            port_mapping,
            forward_to_loopback,
            mtu,
            stack,
            congestion,
        };
        let public_key = keys::public_key(&config.private_key);
        let disco_public_key = keys::public_key(&config.disco_private_key);
        let driver = py.detach(|| Driver::start(config)).map_err(invalid)?;
        Ok(Self { driver, public_key, disco_public_key, next_token: AtomicU64::new(1) })
    }

    #[getter]
    fn public_key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.public_key)
    }

    #[getter]
    fn disco_public_key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.disco_public_key)
    }

    /// Which stack runs.
    #[getter]
    fn stack(&self) -> &'static str {
        self.driver.stack().name
    }

    /// Why that stack.
    #[getter]
    fn stack_reason(&self) -> &str {
        &self.driver.stack().reason
    }

    /// The kernel's congestion control.
    #[getter]
    fn congestion_control(&self) -> &str {
        &self.driver.stack().congestion
    }

    /// The bound UDP port.
    #[getter]
    fn local_port(&self) -> u16 {
        self.driver.local_port()
    }

    /// A descriptor that is readable while `events()` has something.
    fn fileno(&self) -> RawFd {
        self.driver.fd()
    }

    /// Drain what happened since the last call.
    fn events(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let events = py.detach(|| self.driver.outbox().drain());
        events.into_iter().map(|event| events::event(py, event)).collect()
    }

    fn set_derp_map(&self, derp_map_json: &[u8]) -> PyResult<()> {
        let map = DerpMap::parse(derp_map_json).map_err(invalid)?;
        self.tell(|node, now| node.set_derp_map(now, map))
    }

    #[pyo3(signature = (block, /))]
    fn set_block_direct(&self, block: bool) -> PyResult<()> {
        self.tell(move |node, now| node.set_block_direct(now, block))
    }

    #[pyo3(signature = (key, *, disco_key, allowed_ips, home_region, endpoints, keepalive, fallback_regions = Vec::new()))]
    #[allow(clippy::too_many_arguments)] // the signature is the seam's
    fn set_peer(
        &self,
        key: &[u8],
        disco_key: &[u8],
        allowed_ips: Vec<String>,
        home_region: u16,
        endpoints: Vec<String>,
        keepalive: bool,
        fallback_regions: Vec<u16>,
    ) -> PyResult<()> {
        let endpoint = |text: &String| {
            text.parse::<SocketAddr>()
                .map_err(|_| invalid(format!("`{text}` is no endpoint: use ip:port or [ip6]:port")))
        };
        let config = PeerConfig {
            key: self::key(key, "a peer's key")?,
            disco_key: self::key(disco_key, "a peer's disco_key")?,
            addresses: allowed_ips.iter().map(|text| address(text)).collect::<PyResult<_>>()?,
            home_region,
            fallback_regions,
            endpoints: endpoints.iter().map(endpoint).collect::<PyResult<_>>()?,
            keepalive,
        };
        self.tell(|node, now| node.set_peer(now, config))
    }

    fn remove_peer(&self, key: &[u8]) -> PyResult<()> {
        let key = self::key(key, "a peer's key")?;
        self.tell(move |node, now| node.remove_peer(now, &key))
    }

    #[pyo3(signature = (address, port, *, timeout_seconds = 30.0))]
    fn dial(&self, address: &str, port: u32, timeout_seconds: f64) -> PyResult<u64> {
        let (address, port) = (self::address(address)?, self::port(port)?);
        let timeout = duration(timeout_seconds, "timeout_seconds")?;
        let token = self.token();
        self.tell(move |node, now| node.dial(now, token, address, port, timeout))?;
        Ok(token)
    }

    fn cancel_dial(&self, token: u64) -> PyResult<()> {
        self.tell(move |node, now| node.cancel_dial(now, token))
    }

    fn listen(&self, py: Python<'_>, port: u32) -> PyResult<()> {
        let port = self::port(port)?;
        self.ask(py, move |node, _| node.listen(port))?
            .map_err(|_| AddressInUse::new_err(format!("port {port} is listened on already")))
    }

    fn unlisten(&self, port: u32) -> PyResult<()> {
        let port = self::port(port)?;
        self.tell(move |node, _| node.unlisten(port))
    }

    fn dial_udp(&self, py: Python<'_>, address: &str, port: u32) -> PyResult<RawFd> {
        let (ip, port) = (self::address(address)?, self::port(port)?);
        match self.ask(py, move |node, now| node.dial_udp(now, ip, port))? {
            Ok(fd) => Ok(fd.into_raw_fd()),
            Err(DialUdpError::Unreachable) => Err(EngineError::new_err(format!("no peer has the address {address}"))),
            Err(DialUdpError::Exhausted) => Err(EngineError::new_err("no more UDP flows can be opened")),
        }
    }

    #[pyo3(signature = (key, *, kind = "disco", timeout_seconds = 5.0))]
    fn ping(&self, key: &[u8], kind: &str, timeout_seconds: f64) -> PyResult<u64> {
        let key = self::key(key, "a peer's key")?;
        let tunnel = match kind {
            "disco" => false,
            "tunnel" => true,
            other => return Err(invalid(format!("`{other}` is no kind of ping: use disco or tunnel"))),
        };
        let timeout = duration(timeout_seconds, "timeout_seconds")?;
        let token = self.token();
        self.tell(move |node, now| node.ping(now, token, &key, tunnel, timeout))?;
        Ok(token)
    }

    /// The network changed: re-open sockets, probe endpoints and paths again.
    fn rebind(&self) -> PyResult<()> {
        self.tell(|node, now| node.rebind(now, crate::driver::NETWORK_CHANGED))
    }

    /// Measure the network now.
    fn netcheck(&self) -> PyResult<u64> {
        let token = self.token();
        self.tell(move |node, now| node.begin_netcheck(now, Some(token)))?;
        Ok(token)
    }

    /// Per-peer statistics.
    fn peers(&self, py: Python<'_>) -> PyResult<Vec<PeerStats>> {
        let views = self.ask(py, |node, now| node.peer_views(now))?;
        views.into_iter().map(|view| events::peer_stats(py, view)).collect()
    }

    fn stats(&self, py: Python<'_>) -> PyResult<EngineStats> {
        events::engine_stats(py, &self.ask(py, |node, _| node.totals())?)
    }

    #[pyo3(signature = (fd))]
    fn capture(&self, fd: Option<RawFd>) -> PyResult<()> {
        let copy = fd.map(driver::duplicate).transpose();
        let copy = copy.map_err(|error| invalid(format!("the descriptor cannot be used: {error}")))?;
        self.tell(|node, _| node.set_capture(copy))
    }

    /// Stop the thread and close every connection; waits at most a second. Idempotent.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.driver.close());
    }
}

/// Make a private key, clamped for Curve25519.
#[pyfunction]
fn generate_key(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &keys::clamp(driver::random_key()))
}

/// Derive the public key of a private key.
#[pyfunction]
fn public_key<'py>(py: Python<'py>, private_key: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &keys::public_key(&key(private_key, "private_key")?)))
}

/// Join two stream sockets until both directions end; takes both descriptors.
#[pyfunction]
fn splice(py: Python<'_>, left_fd: RawFd, right_fd: RawFd) -> PyResult<()> {
    if left_fd < 0 || right_fd < 0 || left_fd == right_fd {
        return Err(invalid(format!("{left_fd} and {right_fd} are not two descriptors")));
    }
    // SAFETY: the caller hands over descriptors that it owns and will not use again.
    let (left, right) = unsafe { (OwnedFd::from_raw_fd(left_fd), OwnedFd::from_raw_fd(right_fd)) };
    py.detach(|| driver::splice::splice(left, right)).map_err(EngineError::new_err)
}

/// Add the class and the functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Engine>()?;
    module.add_function(wrap_pyfunction!(generate_key, module)?)?;
    module.add_function(wrap_pyfunction!(public_key, module)?)?;
    module.add_function(wrap_pyfunction!(splice, module)?)
}
