//! What a relay answers to the request for an upgrade: whether frames may follow, and if not, whether something on the
//! way is to blame.

use ring::digest;

use super::base64::base64;
use super::derp::Ended;

/// So much of an error's body is quoted.
const MAX_QUOTE: usize = 200;

/// Judge the answer to the upgrade.
pub(crate) fn check_upgrade(head: &[u8], body: &[u8], accept: Option<&str>) -> Result<(), Ended> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status: u16 = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| Ended::because("the relay's answer is not HTTP"))?;
    if status != 101 {
        let body = String::from_utf8_lossy(&body[..body.len().min(MAX_QUOTE)]);
        if accept.is_none() && (400..500).contains(&status) {
            return Err(Ended::wants_websocket(format!(
                "GET failed with status code {status} (a proxy could be disallowing the use of 'Upgrade: derp'): {}",
                body.trim()
            )));
        }
        let reason = format!("the relay answered {status} instead of upgrading: {}", body.trim());
        // A server that is in trouble says 5xx; what says 2xx or 3xx to an upgrade is no relay.
        let stranger = accept.is_none() && status < 400;
        return Err(if stranger { Ended::suspicious(reason) } else { Ended::because(reason) });
    }
    let Some(accept) = accept else { return Ok(()) };
    let header = |wanted: &str| {
        let mut found = head.split("\r\n").filter_map(|line| line.split_once(':'));
        found.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned())
    };
    if header("sec-websocket-accept").as_deref() != Some(accept) {
        return Err(Ended::because("the answer to the WebSocket handshake is not for ours"));
    }
    if header("sec-websocket-protocol").as_deref() != Some("derp") {
        return Err(Ended::because("the relay does not speak DERP over WebSocket"));
    }
    Ok(())
}

/// What a WebSocket server answers to a nonce (RFC 6455 §4.2.2).
pub fn accept_for(nonce: &str) -> String {
    let text = format!("{nonce}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6455_section_1_3_accept_value() {
        assert_eq!(accept_for("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_4xx_asks_for_websocket_and_others_do_not() {
        let judge =
            |head: &str, accept| check_upgrade(head.as_bytes(), b"Invalid\n", accept).map_err(|e| e.websocket_reason);
        assert!(judge("HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP", None).is_ok());
        let reason =
            "GET failed with status code 400 (a proxy could be disallowing the use of 'Upgrade: derp'): Invalid";
        assert_eq!(judge("HTTP/1.1 400 Bad Request", None), Err(Some(reason.into())));
        assert_eq!(judge("HTTP/1.1 200 OK", None), Err(None));
        assert_eq!(judge("HTTP/1.1 502 Bad Gateway", None), Err(None));
        assert_eq!(judge("HTTP/1.1 400 Bad Request", Some("x")), Err(None));
        assert_eq!(judge("SSH-2.0-x", None), Err(None));
        assert!(judge("HTTP/1.1 101 x\r\nsec-websocket-accept: x\r\nSec-WebSocket-Protocol: derp", Some("x")).is_ok());
        assert_eq!(
            judge("HTTP/1.1 101 x\r\nsec-websocket-accept: y\r\nSec-WebSocket-Protocol: derp", Some("x")),
            Err(None)
        );
    }
}
