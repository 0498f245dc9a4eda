//! A tunnel through a SOCKS5 proxy (RFC 1928), with a name and a password where it wants them (RFC 1929); pure.
//!
//! The relay's name goes to the proxy as it is, whether the URL says `socks5` or `socks5h`, as Go's programs do: a machine
//! that needs a proxy often cannot resolve names of the world outside.

use std::net::IpAddr;

use super::{Login, Proxy};

const VERSION: u8 = 5;
/// RFC 1929 §2: the version of the sub-negotiation.
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const NAME_AND_PASSWORD: u8 = 2;
const NOTHING_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;
const PORT_BYTES: usize = 2;

/// A conversation with a proxy.
#[derive(Debug)]
pub struct Socks {
    proxy: String,
    login: Option<Login>,
    /// What asks for the tunnel, until it is sent.
    request: Vec<u8>,
    state: State,
    input: Vec<u8>,
    need: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Which way to log in.
    Method,
    /// Whether the name and the password are right.
    Login,
    /// Whether there is a tunnel.
    Reply,
    /// From where the proxy connected, which nobody needs to know.
    From,
    /// The same, where it is a name.
    FromName,
}

impl Socks {
    pub fn begin(proxy: &Proxy, host: &str, port: u16, out: &mut Vec<u8>) -> Result<Self, String> {
        let request = request(host, port).ok_or_else(|| format!("the name {host} is too long for SOCKS"))?;
        match &proxy.login {
            None => out.extend_from_slice(&[VERSION, 1, NO_LOGIN]),
            Some(_) => out.extend_from_slice(&[VERSION, 2, NO_LOGIN, NAME_AND_PASSWORD]),
        }
        let (proxy, login) = (proxy.name(), proxy.login.clone());
        Ok(Self { proxy, login, request, state: State::Method, input: Vec::new(), need: 2 })
    }

    pub fn wanted(&self) -> usize {
        self.need - self.input.len()
    }

    pub fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(self.wanted()));
            self.input.extend_from_slice(now);
            bytes = rest;
            if self.wanted() == 0 {
                let input = std::mem::take(&mut self.input);
                if self.step(&input, out)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Go on with all that was waited for.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<bool, String> {
        (self.state, self.need) = match self.state {
            State::Method => self.method(input, out)?,
            State::Login if input[1] == 0 => self.ask(out),
            State::Login => {
                return Err(format!("the proxy {} refuses the name or the password in its URL", self.proxy))
            }
            State::Reply => {
                self.check(input)?;
                match input[3] {
                    IPV4 => (State::From, 4 + PORT_BYTES),
                    IPV6 => (State::From, 16 + PORT_BYTES),
                    DOMAIN => (State::FromName, 1),
                    _ => return Err(self.broken()),
                }
            }
            State::FromName => (State::From, usize::from(input[0]) + PORT_BYTES),
            State::From => return Ok(true),
        };
        Ok(false)
    }

    fn method(&self, input: &[u8], out: &mut Vec<u8>) -> Result<(State, usize), String> {
        let proxy = &self.proxy;
        match (input, &self.login) {
            ([VERSION, NO_LOGIN], _) => Ok(self.ask(out)),
            ([VERSION, NAME_AND_PASSWORD], Some(login)) => {
                out.push(LOGIN_VERSION);
                for part in [&login.name, &login.password] {
                    out.push(u8::try_from(part.len()).unwrap_or(u8::MAX)); // it was checked when the URL was read
                    out.extend_from_slice(part);
                }
                Ok((State::Login, 2))
            }
            ([VERSION, NOTHING_ACCEPTABLE], None) => {
                Err(format!("the proxy {proxy} wants a name and a password: put them into its URL"))
            }
            ([VERSION, NOTHING_ACCEPTABLE], Some(_)) => {
                Err(format!("the proxy {proxy} takes no name and password, nor goes on without"))
            }
            ([VERSION, _], _) => Err(self.broken()),
            (b"HT", _) => Err(format!("{proxy} is no SOCKS5 proxy but speaks HTTP: write http:// before its name")),
            _ => Err(format!("{proxy} is no SOCKS5 proxy")),
        }
    }

    fn ask(&self, out: &mut Vec<u8>) -> (State, usize) {
        out.extend_from_slice(&self.request);
        (State::Reply, 4)
    }

    /// Judge the first four bytes of the reply.
    fn check(&self, input: &[u8]) -> Result<(), String> {
        let proxy = &self.proxy;
        let why = match (input[0], input[1]) {
            (VERSION, 0) => return Ok(()),
            (VERSION, 2) => return Err(format!("the proxy {proxy} forbids a tunnel to the relay (SOCKS reply 2)")),
            (VERSION, 1) => "it failed",
            (VERSION, 3) => "network unreachable",
            (VERSION, 4) => "host unreachable",
            (VERSION, 5) => "connection refused",
            (VERSION, 6) => "the time to live ran out",
            (VERSION, 7) => "it opens no tunnels",
            (VERSION, 8) => "it does not know this kind of address",
            (VERSION, _) => "a reason that is not known",
            _ => return Err(self.broken()),
        };
        Err(format!("the proxy {proxy} did not open a tunnel to the relay (SOCKS reply {}: {why})", input[1]))
    }

    fn broken(&self) -> String {
        format!("the proxy {} broke the SOCKS protocol", self.proxy)
    }
}

/// The request for a tunnel; `None` for a name that is too long.
fn request(host: &str, port: u16) -> Option<Vec<u8>> {
    let host = host.trim_matches(['[', ']']);
    let mut request = vec![VERSION, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            request.push(IPV4);
            request.extend_from_slice(&address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(IPV6);
            request.extend_from_slice(&address.octets());
        }
        Err(_) => {
            request.extend_from_slice(&[DOMAIN, u8::try_from(host.len()).ok()?]);
            request.extend_from_slice(host.as_bytes());
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::super::{Handshake, Proxies};

    fn begin(url: &str, host: &str) -> Result<Handshake, String> {
        let proxies = Proxies::parse(url, "", "");
        Handshake::new(proxies.find(true, "relay.example", 443).expect("usable").expect("a proxy"), host, 443)
    }

    /// Talk with a proxy that says these things, cut into single bytes: what was said to it, and how it ended.
    fn talk(url: &str, host: &str, answers: &[&[u8]]) -> (Vec<Vec<u8>>, Result<bool, String>) {
        let mut handshake = begin(url, host).expect("a handshake");
        let mut said = Vec::new();
        let mut open = Ok(false);
        for answer in answers {
            said.push(handshake.to_send().to_vec());
            handshake.note_sent(handshake.to_send().len());
            for byte in *answer {
                assert!(handshake.wanted() > 0 && open == Ok(false), "it reads what is not the proxy's");
                open = handshake.take(&[*byte]);
            }
        }
        (said, open)
    }

    #[test]
    fn without_a_login() {
        let reply = [5, 0, 0, 1, 10, 0, 0, 1, 0, 80];
        let (said, open) = talk("socks5://p", "relay.example", &[&[5, 0], &reply]);
        assert_eq!(said[0], [5, 1, 0]);
        assert_eq!(said[1], b"\x05\x01\x00\x03\x0drelay.example\x01\xbb");
        assert_eq!(open, Ok(true));
    }

    #[test]
    fn with_a_login_and_addresses() {
        let named = [5, 0, 0, 3, 2, b'h', b'i', 0, 80];
        let (said, open) = talk("socks5h://me:p%40ss@p", "10.0.0.1", &[&[5, 2], &[1, 0], &named]);
        assert_eq!(said[..2], [vec![5, 2, 0, 2], b"\x01\x02me\x04p@ss".to_vec()]);
        assert_eq!(said[2], [5, 1, 0, 1, 10, 0, 0, 1, 1, 187]);
        assert_eq!(open, Ok(true));
        let mut v6 = vec![5, 0, 0, 4];
        v6.extend_from_slice(&[0; 18]);
        let (said, open) = talk("socks5://me@p", "[fd00::1]", &[&[5, 0], &v6]);
        assert_eq!((said[1][3], said[1].len(), open), (4, 22, Ok(true)));
    }

    #[test]
    fn what_the_proxy_refuses_is_said() {
        let refused = |url, answers: &[&[u8]]| talk(url, "relay", answers).1.expect_err("refused");
        assert!(refused("socks5://p", &[&[5, 255]]).contains("wants a name and a password"));
        assert!(refused("socks5://me:x@p", &[&[5, 255]]).contains("takes no name and password"));
        assert!(refused("socks5://me:x@p", &[&[5, 2], &[1, 1]]).contains("refuses the name or the password"));
        assert!(refused("socks5://p", &[&[5, 0], &[5, 2, 0, 1]]).contains("forbids a tunnel"));
        assert!(refused("socks5://p", &[&[5, 0], &[5, 5, 0, 1]]).contains("reply 5: connection refused"));
        assert!(refused("socks5://p", &[&[5, 0], &[5, 99, 0, 1]]).contains("reply 99"));
        assert!(refused("socks5://p", &[&[5, 0], &[5, 0, 0, 9]]).contains("broke the SOCKS protocol"));
        assert!(refused("socks5://p", &[&[5, 2]]).contains("broke the SOCKS protocol"));
        assert!(refused("socks5://p", &[b"HT"]).contains("write http://"));
        assert_eq!(refused("socks5://p:9", &[b"SS"]), "socks5://p:9 is no SOCKS5 proxy");
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        assert!(begin("socks5://p", &"x".repeat(256)).expect_err("too long").contains("too long"));
    }
}
