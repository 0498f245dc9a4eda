//! What a person should know of a report, in sentences.

use super::super::outbox::NetInfo;

/// Say what is unusual, and what follows from it; the gravest first.
pub fn warnings(info: &NetInfo, wanted_port: u16, port: u16) -> Vec<String> {
    let mut said = Vec::new();
    if info.captive_portal == Some(true) {
        said.push("a captive portal answers in place of the relays: sign in to this network first".into());
    }
    said.extend(udp(info));
    if info.mapping_varies_by_destination == Some(true) {
        said.push(
            "the NAT gives every destination another port (a hard NAT): direct connections work only to peers that are \
             not behind such a NAT or a strict firewall, or with a port mapping"
                .into(),
        );
    }
    for (region, reason) in &info.region_errors {
        said.push(format!("the relay of region {region} cannot be used: {reason}"));
    }
    for (region, reason) in &info.forced_websocket {
        said.push(format!("the relay of region {region} is reached by WebSocket: {reason}"));
    }
    if wanted_port != 0 && port != wanted_port {
        said.push(format!("UDP port {wanted_port} was taken, so that {port} is used"));
    }
    said
}

fn udp(info: &NetInfo) -> Vec<String> {
    let servers = &info.stun_servers;
    if servers.is_empty() {
        // Nothing was measured yet, or there is nobody to ask.
        let measured = !info.region_latency.is_empty();
        let sentence = "the map names no STUN server: this machine cannot learn its public address, so that direct \
                        connections work in its own network only";
        return if measured { vec![sentence.into()] } else { Vec::new() };
    }
    let silent: Vec<_> = servers.iter().filter(|server| server.mapped.is_empty()).collect();
    if !info.udp {
        let sendable = info.ipv4_can_send || info.ipv6_can_send;
        let what = if sendable { "UDP is blocked on the way" } else { "no UDP packet can be sent" };
        let count =
            if servers.len() == 1 { "the STUN server".into() } else { format!("the {} STUN servers", servers.len()) };
        return vec![format!("nothing came back from {count}: {what}, so that everything is relayed")];
    }
    // A family that this machine does not have is no news.
    let silent = silent.into_iter().filter(|server| server.error == "no answer" || server.address.is_empty());
    silent
        .map(|server| {
            let place = if server.address.is_empty() { String::new() } else { format!(" at {}", server.address) };
            format!("the STUN server {}{place} cannot be used: {}", server.name, server.error)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::outbox::StunServer;
    use super::*;

    fn server(mapped: &str, error: &str) -> StunServer {
        let (mapped, error) = (mapped.to_owned(), error.to_owned());
        StunServer { name: "s".into(), address: "192.0.2.1:3478".into(), mapped, error, ..StunServer::default() }
    }

    fn measured(servers: Vec<StunServer>) -> NetInfo {
        let udp = servers.iter().any(|server| !server.mapped.is_empty());
        let region_latency = [("1-v4".to_owned(), 0.01)].into();
        NetInfo { stun_servers: servers, udp, ipv4_can_send: true, region_latency, ..NetInfo::default() }
    }

    #[test]
    fn a_healthy_network_has_none() {
        let healthy = measured(vec![server("203.0.113.5:1", ""), server("", "this machine has no IPv6")]);
        assert_eq!(warnings(&healthy, 0, 4000), Vec::<String>::new());
        assert_eq!(warnings(&NetInfo::default(), 4000, 4000), Vec::<String>::new(), "before anything was measured");
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let one = |info: NetInfo| {
            let said = warnings(&info, 0, 0);
            assert_eq!(said.len(), 1, "{said:?}");
            said[0].clone()
        };
        assert!(one(measured(vec![server("", "no answer")])).contains("UDP is blocked"));
        let silent = NetInfo { ipv4_can_send: false, ..measured(vec![server("", "x"), server("", "x")]) };
        assert!(one(silent).contains("the 2 STUN servers: no UDP packet can be sent"));
        assert!(one(measured(Vec::new())).contains("names no STUN server"));
        let half = measured(vec![server("203.0.113.5:1", ""), server("", "no answer")]);
        assert!(one(half).contains("s at 192.0.2.1:3478 cannot be used: no answer"));
        let healthy = || measured(vec![server("203.0.113.5:1", "")]);
        assert!(one(NetInfo { mapping_varies_by_destination: Some(true), ..healthy() }).contains("hard NAT"));
        assert!(one(NetInfo { captive_portal: Some(true), ..healthy() }).contains("captive portal"));
        assert!(one(NetInfo { region_errors: [(2, "refused".into())].into(), ..healthy() }).contains("region 2"));
        assert!(one(NetInfo { forced_websocket: [(2, "400".into())].into(), ..healthy() }).contains("WebSocket: 400"));
        assert!(warnings(&healthy(), 4000, 4001)[0].contains("4000 was taken"));
    }
}
