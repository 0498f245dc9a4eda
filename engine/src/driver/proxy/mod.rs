//! Proxies between us and the relays: which one to use, and (`handshake`) what is said to it until the way is open.
//!
//! The rules are those that programs share: `HTTPS_PROXY` for relays with TLS, `HTTP_PROXY` for those without,
//! `NO_PROXY` for exceptions, and never for this machine itself. A proxy is reached by `http://`, by `https://` (TLS to the
//! proxy itself, and the relay's inside of that) or by `socks5://`, which `socks5h://` is another name of. A relay is
//! always reached through a tunnel: its connection is no HTTP exchange that a proxy could forward. The proxy resolves the
//! relay's name.

mod connect;
mod exceptions;
mod handshake;
mod socks;

use self::exceptions::Exceptions;
use super::base64::base64;

pub use self::handshake::Handshake;

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    /// HTTP inside of TLS.
    Https,
    Socks,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub scheme: Scheme,
    pub host: String,
    pub port: u16,
    login: Option<Login>,
}

/// A name and a password, as bytes: only HTTP and SOCKS give them an encoding.
#[derive(Clone, PartialEq, Eq)]
struct Login {
    name: Vec<u8>,
    password: Vec<u8>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login") // no secrets in logs
    }
}

/// The proxies of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// What is written but cannot be used is an error for whoever would need it, and for nobody else.
    https: Option<Result<Proxy, String>>,
    http: Option<Result<Proxy, String>>,
    exceptions: Exceptions,
}

impl Proxies {
    /// Read the values of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`; empty ones count as absent.
    pub fn parse(https: &str, http: &str, no: &str) -> Self {
        let read = |text: &str| (!text.trim().is_empty()).then(|| Proxy::parse(text.trim()));
        Self { https: read(https), http: read(http), exceptions: Exceptions::parse(no) }
    }

    /// The proxy for a server; `tls` says whether it is reached by TLS. The error is a sentence.
    pub fn find(&self, tls: bool, host: &str, port: u16) -> Result<Option<&Proxy>, String> {
        let Some(proxy) = (if tls { self.https.as_ref() } else { self.http.as_ref() }) else { return Ok(None) };
        if self.exceptions.cover(host, port) {
            return Ok(None);
        }
        proxy.as_ref().map(Some).map_err(String::clone)
    }

    /// Whether a name is that of a proxy.
    pub fn lead_by(&self, host: &str) -> bool {
        let is = |proxy: &Option<Result<Proxy, String>>| matches!(proxy, Some(Ok(proxy)) if proxy.host == host);
        is(&self.https) || is(&self.http)
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, String> {
        let unusable = |why: &str| format!("the proxy `{}` cannot be used: {why}", without_secret(text));
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (scheme, default) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            "socks5" | "socks5h" => (Scheme::Socks, 1080),
            _ => return Err(unusable("its URL must begin with http://, https://, socks5:// or socks5h://")),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
        let (host, port) = split_port(place);
        let port = match port {
            None | Some("") => default,
            Some(port) => port_number(port).ok_or_else(|| unusable("its port is no port"))?,
        };
        if host.contains(':') && !place.starts_with('[') {
            return Err(unusable("an IPv6 address stands in brackets"));
        }
        if host.is_empty() || host.contains(|letter: char| letter.is_ascii_control() || letter == ' ') {
            return Err(unusable("it names no host"));
        }
        let login = login.map(Login::parse);
        if scheme == Scheme::Socks && login.as_ref().is_some_and(|login| !login.fits_socks()) {
            return Err(unusable("SOCKS takes names of 1 to 255 bytes and passwords of up to 255"));
        }
        Ok(Self { scheme, host: host.to_owned(), port, login })
    }

    /// How people know it.
    pub fn name(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "",
            Scheme::Https => "https://",
            Scheme::Socks => "socks5://",
        };
        format!("{scheme}{}", place(&self.host, self.port))
    }
}

impl Login {
    fn parse(text: &str) -> Self {
        let (name, password) = text.split_once(':').unwrap_or((text, ""));
        Self { name: decoded(name), password: decoded(password) }
    }

    /// RFC 1929 §2 has one byte for each length, and a name of at least one.
    fn fits_socks(&self) -> bool {
        (1..=255).contains(&self.name.len()) && self.password.len() <= 255
    }

    /// The value of `Proxy-Authorization`.
    fn basic(&self) -> String {
        format!("Basic {}", base64(&[&self.name[..], b":", &self.password[..]].concat()))
    }
}

/// Write a host and a port, IPv6 addresses in brackets.
fn place(host: &str, port: u16) -> String {
    let host = host.trim_matches(['[', ']']);
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Cut `host:port`, `[v6]:port`, `host` or `[v6]`.
fn split_port(place: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
}

fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
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

    fn proxy(text: &str) -> Result<Proxy, String> {
        Proxies::parse(text, "", "").find(true, "relay.example", 443).map(|found| found.expect("a proxy").clone())
    }

    #[test]
    fn the_scheme_chooses_the_proxy_and_this_machine_has_none() {
        let proxies = Proxies::parse("http://one:3128", "two", "");
        let found = |tls, host| proxies.find(tls, host, 443).expect("usable").map(Proxy::name);
        assert_eq!(found(true, "relay.example"), Some("one:3128".into()));
        assert_eq!(found(false, "relay.example"), Some("two:80".into()));
        assert_eq!([found(true, "localhost"), found(true, "127.0.0.9"), found(false, "[::1]")], [None, None, None]);
        assert_eq!(Proxies::default().find(true, "relay.example", 443), Ok(None));
        assert!(proxies.lead_by("one") && proxies.lead_by("two") && !proxies.lead_by("relay.example"));
    }

    #[derive(serde::Deserialize)]
    struct Table {
        usable: Vec<Case>,
        unusable: Vec<String>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        url: String,
        scheme: String,
        host: String,
        port: u16,
        name: Option<String>,
        password: Option<String>,
    }

    #[test]
    fn urls_are_read_as_python_reads_them() {
        let table: Table =
            serde_json::from_str(include_str!("../../../../tests/vectors/proxy_urls.json")).expect("a table");
        for case in table.usable {
            let read = proxy(&case.url).expect("usable");
            let scheme = match case.scheme.as_str() {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                _ => Scheme::Socks,
            };
            assert_eq!((read.scheme, read.host.as_str(), read.port), (scheme, case.host.as_str(), case.port));
            let login = case.name.zip(case.password);
            let login = login.map(|(name, password)| Login { name: name.into(), password: password.into() });
            assert!(read.login == login, "{}", case.url);
        }
        for url in table.unusable {
            assert!(proxy(&url).is_err_and(|error| error.contains("cannot be used")), "{url}");
        }
    }

    #[test]
    fn people_see_the_scheme_unless_it_is_the_usual_one() {
        let name = |text| proxy(text).expect("usable").name();
        assert_eq!([name("http://host"), name("socks5h://host")], ["host:80", "socks5://host:1080"]);
        assert_eq!(name("https://[fd00::1]:8443/x"), "https://[fd00::1]:8443");
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_password() {
        let proxies = Proxies::parse("socks4://me:secret@host:1", "", "near");
        let error = proxies.find(true, "relay.example", 443).expect_err("no such proxies");
        assert_eq!((proxies.find(true, "near", 443), proxies.find(false, "x", 80)), (Ok(None), Ok(None)));
        assert!(error.contains("socks4://…@host:1") && !error.contains("secret"), "{error}");
    }
}
