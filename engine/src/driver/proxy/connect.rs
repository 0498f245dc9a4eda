//! A tunnel through an HTTP proxy: `CONNECT` (RFC 9110 §9.3.6); pure.

use super::{place, Proxy, Scheme};

/// A proxy's answer with longer headers is not one.
const MAX_ANSWER: usize = 16 << 10;
/// Bytes taken at a time. Nothing follows the answer before we speak again, so that more than the answer may be asked for.
const PIECE: usize = 4096;
/// So many of a proxy's words reach a person, and nothing that a terminal would obey.
const MAX_QUOTED: usize = 200;
/// The first byte of a TLS record with an alert.
const TLS_ALERT: u8 = 0x15;

/// A request for a tunnel that was made.
#[derive(Debug)]
pub struct Connect {
    proxy: String,
    tls: bool,
    answer: Vec<u8>,
}

impl Connect {
    pub fn begin(proxy: &Proxy, host: &str, port: u16, out: &mut Vec<u8>) -> Self {
        let place = place(host, port);
        out.extend_from_slice(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n").as_bytes());
        if let Some(login) = &proxy.login {
            out.extend_from_slice(format!("Proxy-Authorization: {}\r\n", login.basic()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        Self { proxy: proxy.name(), tls: proxy.scheme == Scheme::Https, answer: Vec::new() }
    }

    pub fn wanted(&self) -> usize {
        PIECE
    }

    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, String> {
        self.answer.extend_from_slice(bytes);
        if let Some(end) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") {
            return self.check(&self.answer[..end]).map(|()| true);
        }
        if self.answer.first().is_some_and(|first| *first != b'H') {
            return self.check(&self.answer).map(|()| false); // it may never end
        }
        if self.answer.len() >= MAX_ANSWER {
            return Err(format!("the proxy {} gives an answer without end", self.proxy));
        }
        Ok(false)
    }

    /// Judge the answer, up to the empty line.
    fn check(&self, head: &[u8]) -> Result<(), String> {
        let proxy = &self.proxy;
        let text = String::from_utf8_lossy(head);
        let line = text.split("\r\n").next().unwrap_or_default();
        let status: Option<u16> =
            line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let line: String = line.trim().chars().filter(|letter| !letter.is_control()).take(MAX_QUOTED).collect();
        match status {
            Some(200..=299) => Ok(()),
            Some(407) => match only_other_schemes(&text) {
                Some(schemes) => Err(format!(
                    "the proxy {proxy} wants a login by {schemes} (407), and only Basic is spoken here: put a helper in \
                     between that speaks it (px, cntlm)"
                )),
                None => Err(format!("the proxy {proxy} wants another name or password (407): put them into its URL")),
            },
            Some(403 | 405) => Err(format!("the proxy {proxy} forbids a tunnel to the relay ({line})")),
            Some(_) => Err(format!("the proxy {proxy} did not open a tunnel to the relay ({line})")),
            None if !self.tls && head.first() == Some(&TLS_ALERT) => {
                Err(format!("{proxy} is no HTTP proxy without TLS: write https:// before its name"))
            }
            None => Err(format!("{proxy} is no HTTP proxy")),
        }
    }
}

/// The ways to log in that a proxy offers, where `Basic` is none of them (RFC 9110 §11.7.1).
fn only_other_schemes(head: &str) -> Option<String> {
    let offers = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let offers = offers.filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authenticate"));
    let schemes = offers.filter_map(|(_, value)| value.split_whitespace().next());
    let schemes: Vec<&str> = schemes.map(|scheme| scheme.trim_end_matches(',')).collect();
    if schemes.is_empty() || schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) {
        return None;
    }
    Some(schemes.join(" or ").chars().filter(|letter| !letter.is_control()).take(MAX_QUOTED).collect())
}

#[cfg(test)]
mod tests {
    use super::super::Proxies;
    use super::*;
    use crate::driver::base64::base64;

    fn begin(url: &str, host: &str, port: u16) -> (Connect, String) {
        let proxies = Proxies::parse(url, "", "");
        let proxy = proxies.find(true, "relay.example", 443).expect("usable").expect("a proxy");
        let mut out = Vec::new();
        let connect = Connect::begin(proxy, host, port, &mut out);
        (connect, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn the_request_names_the_relay_and_carries_the_password() {
        let (_, request) = begin("http://me:p%40ss%zz@[fd00::1]:8080/x", "relay.example", 8443);
        let login = base64(b"me:p@ss%zz");
        assert_eq!(
            request,
            format!(
                "CONNECT relay.example:8443 HTTP/1.1\r\nHost: relay.example:8443\r\n\
                 Proxy-Authorization: Basic {login}\r\n\r\n"
            )
        );
        assert!(begin("http://p", "::2", 1).1.starts_with("CONNECT [::2]:1 HTTP/1.1"));
    }

    #[test]
    fn answers_are_judged_in_words_however_they_are_cut() {
        let judged = |url: &str, answer: &[u8]| {
            let mut connect = begin(url, "relay.example", 443).0;
            answer.iter().find_map(|byte| connect.take(&[*byte]).map(|open| open.then_some(())).transpose())
        };
        assert_eq!(judged("http://p", b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"), Some(Ok(())));
        assert_eq!(judged("http://p", b"HTTP/1.1 200 Connection established\r\n"), None);
        let refused = |url, answer| judged(url, answer).expect("an end").expect_err("refused");
        assert!(refused("http://p", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").contains("password"));
        let ntlm = b"HTTP/1.1 407 No\r\nproxy-authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n";
        assert!(refused("http://p", ntlm).contains("wants a login by Negotiate or NTLM (407), and only Basic"));
        let basic = b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: basic realm=\"x\"\r\n\r\n";
        assert!(refused("http://p", basic).contains("another name or password"));
        assert!(refused("http://p", b"HTTP/1.0 403 Forbidden\r\n\r\n").contains("forbids"));
        assert!(refused("https://p", b"HTTP/1.1 502 Bad Gateway\r\nx: y\r\n\r\n").contains("https://p:443 did not"));
        let long = [b"HTTP/1.1 500 \x1b]0;", &[b'x'; 999][..], b"\r\n\r\n"].concat();
        assert!(refused("http://p", &long).len() < 300 && !refused("http://p", &long).contains('\x1b'));
        assert!(refused("http://p", b"SSH-2.0").contains("no HTTP proxy"));
        assert!(refused("http://p", b"\x15\x03\x01").contains("write https://"));
        assert!(refused("http://p", &[b'H'; MAX_ANSWER]).contains("without end"));
    }
}
