//! Parsers that take a stream, however it was cut, and the documents that come in streams.

use crate::driver::upgrade::check_upgrade;
use crate::driver::websocket;
use crate::driver::DerpMap;
use crate::wire::derp::{self, Decoder, Frame};
use crate::wire::keys::{self, SharedKey, SEAL_OVERHEAD};

/// Longest reason that may reach a person: a status line, some words, and a short quotation.
pub(super) const MAX_REASON: usize = 2_000;

/// Cut `data` into reads whose lengths its first bytes say.
pub(super) fn reads(data: &[u8]) -> Vec<&[u8]> {
    let (lengths, mut rest) = data.split_at(data.len().min(8));
    let mut reads = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (read, after) = rest.split_at(rest.len().min(1 + usize::from(*length)));
        reads.push(read);
        rest = after;
    }
    reads
}

/// Frames until the stream ends or breaks, and whether it broke.
fn frames(reads: &[&[u8]]) -> (Vec<String>, bool) {
    let (mut decoder, mut seen) = (Decoder::new(), Vec::new());
    for read in reads {
        decoder.feed(read);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    check_frame(&frame);
                    seen.push(format!("{frame:?}"));
                }
                Ok(None) => break,
                Err(_) => return (seen, true),
            }
        }
        assert!(decoder.pending() <= derp::HEADER_LEN + derp::MAX_FRAME_LEN);
    }
    (seen, false)
}

/// What is read can be written again, and is read the same.
fn check_frame(frame: &Frame<'_>) {
    let mut written = Vec::new();
    derp::encode(&mut written, frame);
    if matches!(frame, Frame::Unknown(_)) {
        return;
    }
    let (kind, length) = derp::parse_header(&written).expect("a whole frame");
    assert_eq!(length, written.len() - derp::HEADER_LEN);
    assert!(length <= derp::limit(kind));
    assert_eq!(derp::parse(kind, &written[derp::HEADER_LEN..]).as_ref(), Ok(frame));
}

/// DERP: the same frames come out however the stream was cut.
pub fn derp(data: &[u8]) {
    let whole = data.get(8..).unwrap_or_default();
    assert_eq!(frames(&[whole]), frames(&reads(data)));
}

/// The sealed documents of a login: only who has the key is heard, and only with a document.
pub fn derp_login(data: &[u8]) {
    let (client, relay) = ([0x48; 32], [0x50; 32]);
    let ours = SharedKey::new(&client, &keys::public_key(&relay));
    let stranger = SharedKey::new(&[0x51; 32], &keys::public_key(&relay));
    assert!(derp::open_server_info(&ours, data).is_err() && derp::open_client_info(&ours, data).is_err());
    let mut sealed = Vec::new();
    ours.seal_into(&mut sealed, &[7; 24], data);
    assert_eq!(sealed.len(), data.len() + SEAL_OVERHEAD);
    assert!(derp::open_server_info(&stranger, &sealed).is_err());
    if let Ok(info) = derp::open_server_info(&ours, &sealed) {
        let mut frame = Vec::new();
        derp::put_server_info(&mut frame, &ours, &[8; 24], &info);
        assert_eq!(derp::open_server_info(&ours, &frame[derp::HEADER_LEN..]), Ok(info));
    }
    if let Ok(info) = derp::open_client_info(&ours, &sealed) {
        let mut frame = Vec::new();
        derp::put_client_info(&mut frame, &ours, &keys::public_key(&client), &[8; 24], &info);
        assert_eq!(derp::open_client_info(&ours, &frame[derp::HEADER_LEN + 32..]), Ok(info));
    }
}

/// The DERP map: it is read or refused with a sentence, and what it says of a node never fails later.
pub fn derp_map(data: &[u8]) {
    match DerpMap::parse(data) {
        Err(sentence) => assert!(sentence.starts_with("the DERP map")),
        Ok(map) => {
            assert!(map.relays().count() <= map.regions.len());
            for node in map.regions.values().flat_map(|region| &region.nodes) {
                let _ = (node.relay_port(), node.stun_port(), node.tls_name(), node.host_header());
                node.addresses().into_iter().for_each(|address| {
                    let _ = node.allows(address);
                });
            }
            assert!(map.scores.values().all(|score| *score > 0.0));
        }
    }
}

/// Data, pongs, whether it was closed, and whether it broke.
type Unwrapped = (Vec<u8>, Vec<Vec<u8>>, bool, bool);

fn unwrapped(reads: &[&[u8]]) -> Unwrapped {
    let (mut decoder, mut data, mut pongs, mut closed) = (websocket::Decoder::default(), Vec::new(), Vec::new(), false);
    for read in reads {
        match decoder.feed(read, &mut data) {
            Ok(notes) => {
                pongs.extend(notes.pongs);
                closed |= notes.closed;
            }
            // What a broken read brought before it broke depends on the cut, and nobody looks at it.
            Err(_) => return (Vec::new(), Vec::new(), false, true),
        }
    }
    (data, pongs, closed, false)
}

/// WebSocket: the same bytes come out however the stream was cut, and no more than went in.
pub fn websocket(data: &[u8]) {
    let whole = data.get(8..).unwrap_or_default();
    let unwrapped_whole = unwrapped(&[whole]);
    assert_eq!(unwrapped_whole, unwrapped(&reads(data)));
    let (bytes, pongs, _, _) = unwrapped_whole;
    assert!(bytes.len() + pongs.iter().map(Vec::len).sum::<usize>() <= whole.len());
}

/// The answer to an upgrade: it is accepted, or refused with words that fit on a screen.
pub fn upgrade(data: &[u8]) {
    let end = data.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 4..]));
    let head = &head[..head.len().min(16 << 10)];
    for accept in [None, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")] {
        let Err(ended) = check_upgrade(head, body, accept) else { continue };
        assert!(ended.reason.len() <= MAX_REASON);
        assert!(ended.websocket_reason.is_none() || accept.is_none());
    }
}
