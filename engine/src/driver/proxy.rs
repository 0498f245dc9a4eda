//! HTTP proxies between us and the relays: which one to use, and the request that opens a tunnel through it.
//!
//! The rules are those that programs share: `HTTPS_PROXY` for relays with TLS, `HTTP_PROXY` for those without,
//! `NO_PROXY` for exceptions, and never for this machine itself. Either way the relay is reached by `CONNECT`: a relay's
//! connection is no HTTP exchange that a proxy could forward. The proxy resolves the relay's name.

use std::net::IpAddr;

use super::base64::base64;

/// A proxy's answer with longer headers is not one.
pub const MAX_ANSWER: usize = 16 << 10;

/// One proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

/// The proxies of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// What is written but cannot be used is an error for whoever would need it, and for nobody else.
    https: Option<Result<Proxy, String>>,
    http: Option<Result<Proxy, String>>,
    exceptions: Vec<Exception>,
}

/// Something that is reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    Everything,
    Network {
        address: IpAddr,
        bits: u8,
        port: Option<u16>,
    },
    /// A name, and what ends with a dot and that name; the name itself unless it was written with a leading dot.
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Read the values of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`; empty ones count as absent.
    pub fn parse(https: &str, http: &str, no: &str) -> Self {
        let read = |text: &str| (!text.trim().is_empty()).then(|| Proxy::parse(text.trim()));
        let exceptions = no.split([',', ' ']).map(str::trim).filter(|text| !text.is_empty());
        Self { https: read(https), http: read(http), exceptions: exceptions.map(Exception::parse).collect() }
    }

    /// The proxy for a server; `tls` says whether it is reached by TLS. The error is a sentence.
    pub fn find(&self, tls: bool, host: &str, port: u16) -> Result<Option<&Proxy>, String> {
        let Some(proxy) = (if tls { self.https.as_ref() } else { self.http.as_ref() }) else { return Ok(None) };
        let name = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = name.parse().ok();
        let here = name == "localhost" || address.is_some_and(|address| address.is_loopback());
        let excepted = self.exceptions.iter().any(|exception| exception.covers(&name, address, port));
        if here || excepted {
            return Ok(None);
        }
        proxy.as_ref().map(Some).map_err(String::clone)
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, String> {
        let unusable = |why: &str| format!("the proxy `{}` cannot be used: {why}", without_secret(text));
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(unusable("only proxies reached by http:// are supported"));
        }
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        let (host, port) = split_port(place);
        let port = match port {
            None => 80,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| unusable("its port is no port"))?,
        };
        if host.is_empty() || host.contains(|letter: char| letter.is_ascii_control() || letter == ' ') {
            return Err(unusable("it names no host"));
        }
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let mut plain = decoded(name);
            plain.push(b':');
            plain.extend(decoded(password));
            format!("Basic {}", base64(&plain))
        });
        Ok(Self { host: host.to_owned(), port, authorization })
    }

    /// The request for a tunnel to a server.
    pub fn connect_request(&self, host: &str, port: u16) -> String {
        let host = host.trim_matches(['[', ']']);
        let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut text = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
        if let Some(authorization) = &self.authorization {
            text.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        text.push_str("\r\n");
        text
    }

    /// How people know it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Judge a proxy's answer, up to the empty line. The error is a sentence.
pub fn check_answer(proxy: &str, head: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(head);
    let line = text.split("\r\n").next().unwrap_or_default();
    let status: Option<u16> =
        line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).and_then(|status| status.parse().ok());
    match status {
        Some(200..=299) => Ok(()),
        Some(407) => Err(format!("the proxy {proxy} wants another name or password (407): put them into its URL")),
        Some(403 | 405) => Err(format!("the proxy {proxy} forbids a tunnel to the relay ({})", line.trim())),
        Some(_) => Err(format!("the proxy {proxy} did not open a tunnel to the relay ({})", line.trim())),
        None => Err(format!("{proxy} is no HTTP proxy")),
    }
}

impl Exception {
    fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::Everything;
        }
        let lower = text.to_ascii_lowercase();
        if let Some((network, bits)) = lower.split_once('/') {
            if let (Ok(address), Ok(bits)) = (network.parse(), bits.parse()) {
                return Self::Network { address, bits, port: None };
            }
        }
        let (host, port) = if lower.parse::<IpAddr>().is_ok() { (&lower[..], None) } else { split_port(&lower) };
        let port = port.and_then(|port| port.parse().ok());
        if let Ok(address) = host.parse::<IpAddr>() {
            return Self::Network { address, bits: if address.is_ipv4() { 32 } else { 128 }, port };
        }
        let name = host.trim_start_matches('*').trim_end_matches('.');
        Self::Domain { itself: !name.starts_with('.'), name: name.trim_start_matches('.').to_owned(), port }
    }

    fn covers(&self, name: &str, address: Option<IpAddr>, port: u16) -> bool {
        let same_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Self::Everything => true,
            Self::Network { address: network, bits, port } => {
                same_port(port) && address.is_some_and(|address| within(address, *network, *bits))
            }
            Self::Domain { name: domain, itself, port } => {
                let under = name.strip_suffix(domain.as_str()).is_some_and(|front| front.ends_with('.'));
                same_port(port) && (under || (*itself && name == domain))
            }
        }
    }
}

/// Whether an address has the first `bits` bits of a network's.
fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, all) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(u32::from(a)), u128::from(u32::from(n)), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (u128::from(a), u128::from(n), 128),
        _ => return false,
    };
    let shift = all - u32::from(bits).min(all);
    address.checked_shr(shift).unwrap_or(0) == network.checked_shr(shift).unwrap_or(0)
}

/// Cut `host:port`, `[v6]:port`, `host` or `[v6]`.
fn split_port(place: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
}

/// Undo percent-encoding.
fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, more @ ..] = rest {
        let hex = more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    bytes
}

/// A URL as it may be shown.
fn without_secret(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((front, place)) => {
            let scheme = front.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
            format!("{scheme}…@{place}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no: &str) -> Proxies {
        Proxies::parse("http://one:3128", "two", no)
    }

    #[test]
    fn the_scheme_chooses_the_proxy_and_this_machine_has_none() {
        let proxies = proxies("");
        let found = |tls, host| proxies.find(tls, host, 443).expect("usable").map(Proxy::name);
        assert_eq!(found(true, "relay.example"), Some("one:3128".into()));
        assert_eq!(found(false, "relay.example"), Some("two:80".into()));
        assert_eq!([found(true, "localhost"), found(true, "127.0.0.9"), found(false, "[::1]")], [None, None, None]);
        assert_eq!(Proxies::default().find(true, "relay.example", 443), Ok(None));
    }

    #[test]
    fn exceptions_are_domains_addresses_networks_and_ports() {
        let excepted = |no: &str, host: &str, port| proxies(no).find(true, host, port) == Ok(None);
        assert!(excepted("example.com", "example.com", 443));
        assert!(excepted("other, example.com", "a.Example.com.", 443));
        assert!(!excepted("example.com", "anexample.com", 443));
        assert!(excepted(".example.com", "a.example.com", 443) && !excepted(".example.com", "example.com", 443));
        assert!(excepted("*.example.com", "a.example.com", 443));
        assert!(excepted("*", "anything", 443));
        assert!(excepted("10.0.0.0/8", "10.1.2.3", 443) && !excepted("10.0.0.0/8", "11.1.2.3", 443));
        assert!(excepted("fd00::/8", "[fd12::1]", 443) && !excepted("fd00::/8", "10.0.0.1", 443));
        assert!(excepted("0.0.0.0/0", "10.0.0.1", 443) && !excepted("10.0.0.1/99", "10.0.0.2", 443));
        assert!(excepted("fd12::1", "fd12::1", 443));
        assert!(excepted("relay:8443", "relay", 8443) && !excepted("relay:8443", "relay", 443));
        assert!(!excepted("10.0.0.1:80", "10.0.0.1", 443) && excepted("[fd12::1]:443", "fd12::1", 443));
    }

    #[test]
    fn the_request_names_the_relay_and_carries_the_password() {
        let found = Proxies::parse("http://me:p%40ss%zz@[fd00::1]:8080/x", "", "");
        let proxy = found.find(true, "relay.example", 443).expect("usable").expect("a proxy");
        assert_eq!(proxy.name(), "fd00::1:8080");
        assert_eq!(
            proxy.connect_request("relay.example", 8443),
            format!(
                "CONNECT relay.example:8443 HTTP/1.1\r\nHost: relay.example:8443\r\n\
                 Proxy-Authorization: Basic {}\r\n\r\n",
                base64(b"me:p@ss%zz")
            )
        );
        assert!(proxy.connect_request("::2", 1).starts_with("CONNECT [::2]:1 HTTP/1.1"));
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_password() {
        let proxies = Proxies::parse("socks5://me:secret@host:1", "", "near");
        let error = proxies.find(true, "relay.example", 443).expect_err("no such proxies");
        assert_eq!((proxies.find(true, "near", 443), proxies.find(false, "x", 80)), (Ok(None), Ok(None)));
        assert!(error.contains("socks5://…@host:1") && !error.contains("secret"), "{error}");
        for text in ["http://", "http://host:0", "http://host:x", "http://ho st"] {
            assert!(Proxies::parse(text, "", "").find(true, "x", 443).is_err(), "{text}");
        }
    }

    #[test]
    fn answers_are_judged_in_words() {
        assert_eq!(check_answer("p:1", b"HTTP/1.1 200 Connection established"), Ok(()));
        let refused = |head: &[u8]| check_answer("p:1", head).expect_err("refused");
        assert!(refused(b"HTTP/1.1 407 Proxy Authentication Required").contains("password"));
        assert!(refused(b"HTTP/1.0 403 Forbidden").contains("forbids"));
        assert!(refused(b"HTTP/1.1 502 Bad Gateway\r\nx: y").contains("502 Bad Gateway"));
        assert!(refused(b"SSH-2.0").contains("no HTTP proxy"));
    }
}
