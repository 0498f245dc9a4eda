//! What proxies say, and what people write about them.

use super::streams::{reads, MAX_REASON};
use crate::driver::proxy::Handshake;
use crate::driver::Proxies;

const URLS: [&str; 4] = ["http://p", "https://me:x@p", "socks5://p", "socks5://me:x@p"];
/// Longer answers end by their length, wherever that was noticed.
const MAX_ANSWER: usize = 8 << 10;

/// All that is said to a proxy that answers so, and how it ends.
fn talk(url: &str, reads: &[&[u8]]) -> (Vec<u8>, Result<bool, String>) {
    let proxies = Proxies::parse(url, "", "");
    let proxy = proxies.find(true, "relay.example", 443).expect("usable").expect("a proxy");
    let mut handshake = Handshake::new(proxy, "relay.example", 443).expect("a name that fits");
    let (mut said, mut open) = (Vec::new(), Ok(false));
    for read in reads {
        let mut rest = *read;
        while !rest.is_empty() && open == Ok(false) {
            said.extend_from_slice(handshake.to_send());
            handshake.note_sent(handshake.to_send().len());
            assert!(handshake.wanted() > 0);
            let (now, after) = rest.split_at(rest.len().min(handshake.wanted()));
            (open, rest) = (handshake.take(now), after);
        }
    }
    (said, open)
}

/// A handshake with a proxy: it ends the same however the answer was cut, with words that fit on a screen.
pub fn proxy(data: &[u8]) {
    let whole = data.get(9..).unwrap_or_default();
    if whole.len() > MAX_ANSWER {
        return;
    }
    let url = URLS[usize::from(data.get(8).copied().unwrap_or_default()) % URLS.len()];
    let cut = [&data[..data.len().min(8)], whole].concat();
    let (said, end) = talk(url, &[whole]);
    assert_eq!((said, end.clone()), talk(url, &reads(&cut)));
    if let Err(reason) = end {
        assert!(reason.len() <= MAX_REASON && !reason.chars().any(char::is_control), "{reason:?}");
    }
}

/// The variables of the environment, and the server that a proxy is wanted for: one line each.
pub fn proxy_settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (url, no, host) = (line(), line(), line());
    let proxies = Proxies::parse(url, "", no);
    for port in [80, 443] {
        if let Ok(Some(proxy)) = proxies.find(true, host, port) {
            assert!(!url.trim().is_empty() && proxies.lead_by(&proxy.host) && proxy.port > 0);
            let _ = Handshake::new(proxy, host, port);
            // What is excepted with a proxy of one kind is excepted with any.
            assert!(Proxies::parse("http://other", "", no).find(true, host, port).is_ok_and(|found| found.is_some()));
        }
    }
}
