//! The DERP map: which relays and STUN servers there are.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

const DEFAULT_RELAY_PORT: u16 = 443;
const DEFAULT_STUN_PORT: u16 = 3478;

/// All regions, by number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DerpMap {
    pub regions: BTreeMap<u16, Region>,
    /// Multiplies the measured latency of a region.
    pub scores: BTreeMap<u16, f64>,
}

/// The relays of one place, best first.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Region {
    pub region_code: String,
    pub avoid: bool,
    #[serde(deserialize_with = "nullable")]
    pub nodes: Vec<RelayNode>,
}

/// One server: a relay, a STUN server, or both.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RelayNode {
    pub name: String,
    pub host_name: String,
    pub cert_name: String,
    #[serde(rename = "IPv4")]
    pub ipv4: String,
    #[serde(rename = "IPv6")]
    pub ipv6: String,
    #[serde(rename = "STUNPort")]
    pub stun_port: i32,
    #[serde(rename = "STUNOnly")]
    pub stun_only: bool,
    #[serde(rename = "DERPPort")]
    pub derp_port: u16,
    pub insecure_for_tests: bool,
    #[serde(rename = "ForceHTTP")]
    pub force_http: bool,
    #[serde(rename = "STUNTestIP")]
    pub stun_test_ip: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Written {
    #[serde(deserialize_with = "nullable")]
    regions: BTreeMap<String, Option<Region>>,
    #[serde(deserialize_with = "nullable")]
    home_params: HomeParams,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct HomeParams {
    #[serde(deserialize_with = "nullable")]
    region_score: BTreeMap<String, f64>,
}

/// Go writes an absent list or map as null.
fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(input: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

impl DerpMap {
    /// Read a map; the error is a sentence.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let malformed = |error: serde_json::Error| format!("the DERP map is malformed: {error}");
        // Through an object, or a list would pass for a struct.
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json).map_err(malformed)?;
        let written: Written = serde_json::from_value(object.into()).map_err(malformed)?;
        let mut map = Self::default();
        for (id, region) in written.regions {
            let number = id.parse().ok().filter(|number| *number > 0);
            let number = number
                .ok_or_else(|| format!("the DERP map has a region `{id}`, which is no number from 1 to 65535"))?;
            map.regions.insert(number, region.unwrap_or_default());
        }
        for (id, score) in written.home_params.region_score {
            if let (Ok(number), true) = (id.parse(), score > 0.0) {
                map.scores.insert(number, score);
            }
        }
        Ok(map)
    }

    /// The regions that have a relay.
    pub fn relays(&self) -> impl Iterator<Item = u16> + '_ {
        self.regions.iter().filter(|(_, region)| region.relays().next().is_some()).map(|(id, _)| *id)
    }
}

impl Region {
    /// The nodes that relay, best first.
    pub fn relays(&self) -> impl Iterator<Item = &RelayNode> {
        self.nodes.iter().filter(|node| !node.stun_only)
    }
}

impl RelayNode {
    pub fn relay_port(&self) -> u16 {
        if self.derp_port == 0 {
            DEFAULT_RELAY_PORT
        } else {
            self.derp_port
        }
    }

    /// Whether another description leads to the same relay.
    pub fn same_relay(&self, other: &Self) -> bool {
        let place = |node: &Self| (node.relay_port(), node.force_http, node.insecure_for_tests, node.stun_only);
        let names = |node: &Self| [&node.host_name, &node.cert_name, &node.ipv4, &node.ipv6].map(String::clone);
        place(self) == place(other) && names(self) == names(other)
    }

    /// The port of the STUN server, if there is one.
    pub fn stun_port(&self) -> Option<u16> {
        match self.stun_port {
            0 => Some(DEFAULT_STUN_PORT),
            port => u16::try_from(port).ok(),
        }
    }

    /// The addresses that the map itself gives; empty: ask the DNS.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let v4 = self.ipv4.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
        let v6 = self.ipv6.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
        let named = v4.into_iter().chain(v6).collect::<Vec<_>>();
        if !named.is_empty() {
            return named;
        }
        self.host_name.trim_matches(['[', ']']).parse().ok().into_iter().collect()
    }

    /// Whether an address family may be used: a text that is no address of it switches it off.
    pub fn allows(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.ipv4.is_empty() || self.ipv4.parse::<Ipv4Addr>().is_ok(),
            IpAddr::V6(_) => self.ipv6.is_empty() || self.ipv6.parse::<Ipv6Addr>().is_ok(),
        }
    }

    /// The name in the server's certificate.
    pub fn tls_name(&self) -> &str {
        let name = if self.cert_name.is_empty() { &self.host_name } else { &self.cert_name };
        name.trim_matches(['[', ']'])
    }

    /// The `Host` header.
    pub fn host_header(&self) -> String {
        let host = match self.host_name.parse::<Ipv6Addr>() {
            Ok(_) => format!("[{}]", self.host_name),
            Err(_) => self.host_name.clone(),
        };
        let default = if self.force_http { 80 } else { 443 };
        if self.derp_port == 0 || self.derp_port == default {
            host
        } else {
            format!("{host}:{}", self.derp_port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_as_the_server_writes_it() {
        let json = br#"{"HomeParams":null,"Regions":{"999":{"EmbeddedRelay":true,"RegionID":999,"RegionCode":"coder",
            "RegionName":"Coder","Nodes":[{"Name":"999b","RegionID":999,"HostName":"::1","STUNPort":-1,"DERPPort":3000,
            "ForceHTTP":true}]},"1000":{"Nodes":[{"Name":"x","HostName":"stun.example","STUNOnly":true,"STUNPort":0}]},
            "7":{"Nodes":null}}}"#;
        let map = DerpMap::parse(json).expect("a valid map");
        assert_eq!(map.relays().collect::<Vec<_>>(), [999]);
        let node = &map.regions[&999].nodes[0];
        assert_eq!((node.relay_port(), node.stun_port(), node.host_header()), (3000, None, "[::1]:3000".into()));
        assert_eq!(node.addresses(), ["::1".parse::<IpAddr>().expect("an address")]);
        assert_eq!(map.regions[&1000].nodes[0].stun_port(), Some(3478));
    }

    #[test]
    fn the_port_is_443_even_without_tls() {
        let node = RelayNode { host_name: "relay.example".into(), force_http: true, ..RelayNode::default() };
        assert_eq!((node.relay_port(), node.host_header()), (443, "relay.example".into()));
    }

    #[test]
    fn malformed_maps_are_refused_with_a_sentence() {
        for json in
            [&b"{"[..], b"[]", br#"{"Regions":{"0":{}}}"#, br#"{"Regions":{"70000":{}}}"#, br#"{"Regions":{"a":{}}}"#]
        {
            assert!(DerpMap::parse(json).is_err_and(|error| error.starts_with("the DERP map")));
        }
    }
}
