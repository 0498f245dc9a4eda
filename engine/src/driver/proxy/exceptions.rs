//! What is reached without a proxy: this machine, and what `NO_PROXY` names, as Go's programs understand it.
//!
//! Both sides of Warren pass the table in `tests/vectors/no_proxy.json`, which was checked against Go's own
//! (`golang.org/x/net/http/httpproxy`). We are more lenient in three things that people write: white space separates, too,
//! a dot at the end of a name says nothing, and an IPv6 address may have brackets without a port.

use std::net::IpAddr;

use super::split_port;

/// The exceptions of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exceptions(Vec<Exception>);

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

impl Exceptions {
    pub fn parse(no: &str) -> Self {
        let lower = no.to_ascii_lowercase();
        let texts = lower.split(|letter: char| letter == ',' || letter.is_whitespace()).filter(|text| !text.is_empty());
        Self(texts.filter_map(Exception::parse).collect())
    }

    pub fn cover(&self, host: &str, port: u16) -> bool {
        let name = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let address = name.parse().ok().map(|address: IpAddr| address.to_canonical());
        let here = name == "localhost" || address.is_some_and(|address| address.is_loopback());
        here || self.0.iter().any(|exception| exception.covers(&name, address, port))
    }
}

impl Exception {
    /// Read one; `None` for what can match nothing.
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Some(network) = text.split_once('/') {
            return Self::network(network);
        }
        let (host, port) = if text.parse::<IpAddr>().is_ok() { (text, None) } else { split_port(text) };
        let port = match port {
            None | Some("") => None,
            Some(port) => Some(port.parse().ok()?),
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = address.to_canonical();
            return Some(Self::Network { address, bits: if address.is_ipv4() { 32 } else { 128 }, port });
        }
        let name = host.strip_prefix("*.").map_or(host, |rest| &host[host.len() - rest.len() - 1..]);
        let name = name.trim_end_matches('.');
        let bare = name.strip_prefix('.').unwrap_or(name);
        (!bare.is_empty()).then(|| Self::Domain { itself: bare.len() == name.len(), name: bare.to_owned(), port })
    }

    fn network((address, bits): (&str, &str)) -> Option<Self> {
        let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        if bits > if address.is_ipv4() { 32 } else { 128 } {
            return None;
        }
        let canonical = address.to_canonical();
        // The first 96 bits of an IPv4 address written as an IPv6 one are always the same.
        let bits = if canonical.is_ipv4() && address.is_ipv6() { bits.saturating_sub(96) } else { bits };
        Some(Self::Network { address: canonical, bits, port: None })
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
                address.is_none() && same_port(port) && (under || (*itself && name == domain))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        no: String,
        host: String,
        port: u16,
        covered: bool,
    }

    #[test]
    fn the_table_that_all_of_us_pass() {
        let text = include_str!("../../../../tests/vectors/no_proxy.json");
        let table: std::collections::HashMap<String, Vec<Case>> = serde_json::from_str(text).expect("a table");
        for case in ["as_go", "more_lenient"].iter().flat_map(|part| &table[*part]) {
            let covered = Exceptions::parse(&case.no).cover(&case.host, case.port);
            assert_eq!(covered, case.covered, "NO_PROXY={} {}:{}", case.no, case.host, case.port);
        }
    }
}
