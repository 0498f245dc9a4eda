//! UPnP's Internet Gateway Device: how it is searched, described and asked. Texts only; no sockets here.

use std::net::Ipv4Addr;

/// Whom to ask who is there (UPnP Device Architecture §1.3).
pub const SEARCH_ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);
/// Kinds of connection that map ports, best first.
const SERVICES: [&str; 3] = ["WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1"];
/// Error codes of AddPortMapping.
pub const ONLY_PERMANENT: u16 = 725;
pub const CONFLICT: u16 = 718;

/// Where a gateway's service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub host: String,
    pub port: u16,
    pub path: String,
    pub kind: String,
}

/// Ask for gateways; those that are there answer within `seconds`.
pub fn search_request(version: u8) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
         ST: urn:schemas-upnp-org:device:InternetGatewayDevice:{version}\r\n\r\n"
    )
}

/// Where an answer to the search says that the description is: host, port and path.
pub fn location(answer: &[u8]) -> Option<(String, u16, String)> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut lines = text.split("\r\n");
    if !lines.next()?.starts_with("HTTP/1.1 200") {
        return None;
    }
    let headers = lines.filter_map(|line| line.split_once(':'));
    let mut found = headers.filter(|(name, _)| name.trim().eq_ignore_ascii_case("location"));
    split_url(found.next()?.1.trim())
}

/// Cut `http://host:port/path`.
fn split_url(url: &str) -> Option<(String, u16, String)> {
    let rest = url.strip_prefix("http://")?;
    let (place, path) = rest.split_once('/').map_or((rest, ""), |(place, path)| (place, path));
    let (host, port) = place.rsplit_once(':').unwrap_or((place, "80"));
    let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    (clean(host) && clean(path)).then_some((host.to_owned(), port.parse().ok()?, format!("/{path}")))
}

/// Find the service that maps ports in a description that came from `host` and `port`.
pub fn service(description: &str, host: &str, port: u16) -> Option<Service> {
    let document = roxmltree::Document::parse(description).ok()?;
    let text = |node: roxmltree::Node<'_, '_>, name: &str| {
        let child = node.children().find(|child| child.tag_name().name() == name)?;
        Some(child.text()?.trim().to_owned())
    };
    let services = document.descendants().filter(|node| node.tag_name().name() == "service");
    let described: Vec<(String, String)> =
        services.filter_map(|node| Some((text(node, "serviceType")?, text(node, "controlURL")?))).collect();
    let wanted = |kind: &&str| described.iter().find(|(found, _)| found.ends_with(&format!(":service:{kind}")));
    let (kind, control) = SERVICES.iter().find_map(wanted)?;
    let (to, at, path) = match split_url(control) {
        Some(absolute) => absolute,
        None => (host.to_owned(), port, format!("/{}", control.trim_start_matches('/'))),
    };
    // Nobody may send us elsewhere.
    let clean = path.bytes().all(|byte| byte.is_ascii_graphic()) && !kind.contains(['"', '<', '>', '&', '\r', '\n']);
    (to == host && clean).then(|| Service { host: to, port: at, path, kind: kind.clone() })
}

/// The request for an action of the service.
pub fn request(service: &Service, action: &str, arguments: &[(&str, String)]) -> String {
    let arguments: String = arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
    let kind = &service.kind;
    let body = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
         <u:{action} xmlns:u=\"{kind}\">{arguments}</u:{action}></s:Body></s:Envelope>\r\n"
    );
    format!(
        "POST {} HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"{kind}#{action}\"\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        service.path,
        service.host,
        service.port,
        body.len()
    )
}

/// What AddPortMapping is told.
pub fn mapping(own: Ipv4Addr, internal: u16, external: u16, seconds: u32) -> Vec<(&'static str, String)> {
    vec![
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", external.to_string()),
        ("NewProtocol", "UDP".into()),
        ("NewInternalPort", internal.to_string()),
        ("NewInternalClient", own.to_string()),
        ("NewEnabled", "1".into()),
        ("NewPortMappingDescription", "warren".into()),
        ("NewLeaseDuration", seconds.to_string()),
    ]
}

/// What DeletePortMapping is told.
pub fn removal(external: u16) -> Vec<(&'static str, String)> {
    vec![("NewRemoteHost", String::new()), ("NewExternalPort", external.to_string()), ("NewProtocol", "UDP".into())]
}

/// The value with this name in an answer's body.
pub fn value(body: &str, name: &str) -> Option<String> {
    let document = roxmltree::Document::parse(body).ok()?;
    let node = document.descendants().find(|node| node.tag_name().name() == name)?;
    Some(node.text()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTION: &str = r#"<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
        <serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
        <controlURL>/other</controlURL></service></serviceList><deviceList><device><serviceList><service>
        <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/ctl/IPConn</controlURL>
        </service></serviceList></device></deviceList></device></root>"#;

    #[test]
    fn an_answer_to_the_search_says_where_the_description_is() {
        let answer = b"HTTP/1.1 200 OK\r\nST: x\r\nLocation: http://192.168.1.1:5000/rootDesc.xml\r\n\r\n";
        assert_eq!(location(answer), Some(("192.168.1.1".into(), 5000, "/rootDesc.xml".into())));
        assert_eq!(location(b"NOTIFY * HTTP/1.1\r\nLocation: http://h/x\r\n\r\n"), None);
        assert_eq!(location(b"HTTP/1.1 200 OK\r\nLocation: file:///x\r\n\r\n"), None);
        assert_eq!(location(b"HTTP/1.1 200 OK\r\nLocation: http://h:x/\r\n\r\n"), None);
        assert_eq!(location(b"\xff"), None);
    }

    #[test]
    fn the_service_is_found_and_cannot_be_elsewhere() {
        let found = service(DESCRIPTION, "192.168.1.1", 5000).expect("a service");
        assert_eq!((found.port, &found.path[..]), (5000, "/ctl/IPConn"));
        assert_eq!(found.kind, "urn:schemas-upnp-org:service:WANIPConnection:1");
        let absolute = DESCRIPTION.replace("/ctl/IPConn", "http://192.168.1.1:5001/x");
        assert_eq!(service(&absolute, "192.168.1.1", 5000).map(|found| found.port), Some(5001));
        let foreign = DESCRIPTION.replace("/ctl/IPConn", "http://203.0.113.5/x");
        assert_eq!(service(&foreign, "192.168.1.1", 5000), None);
        let split = DESCRIPTION.replace("/ctl/IPConn", "/x HTTP/1.1");
        assert_eq!(service(&split, "192.168.1.1", 5000), None);
        assert_eq!(service("<root>", "h", 1), None);
        for end in 0..DESCRIPTION.len() {
            let _ = service(&DESCRIPTION[..end], "h", 1);
        }
    }

    #[test]
    fn requests_and_answers_are_soap() {
        let service = service(DESCRIPTION, "192.168.1.1", 5000).expect("a service");
        let text = request(&service, "AddPortMapping", &mapping(Ipv4Addr::new(192, 168, 1, 2), 4000, 4001, 7200));
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("POST /ctl/IPConn HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n"));
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert_eq!(value(body, "NewInternalClient"), Some("192.168.1.2".into()));
        assert_eq!(value(body, "NewLeaseDuration"), Some("7200".into()));
        assert_eq!(value("<a><errorCode> 725 </errorCode></a>", "errorCode"), Some("725".into()));
        assert_eq!(value("nonsense", "errorCode"), None);
    }
}
