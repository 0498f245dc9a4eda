//! The wire formats against `tests/vectors`, which the Python codecs are tested against too, and against noise.

use serde_json::Value;

use super::derp::{self, Decoder, Frame, GoneReason, Malformed};
use super::disco::{self, Message};
use super::keys::{self, Key, SharedKey};
use super::stun;

const KEYS: &str = include_str!("../../../tests/vectors/keys.json");
const DERP: &str = include_str!("../../../tests/vectors/derp.json");
const STUN: &str = include_str!("../../../tests/vectors/stun.json");
const DISCO: &str = include_str!("../../../tests/vectors/disco.json");
const RECORDED: [&str; 3] = [
    include_str!("../../../tests/vectors/recorded/derp-agent.jsonl"),
    include_str!("../../../tests/vectors/recorded/derp-ping.jsonl"),
    include_str!("../../../tests/vectors/recorded/derp-ssh.jsonl"),
];

fn load(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap_or_else(|| panic!("{value} is no text"));
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn each<'a>(document: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    let rows = document[list].as_array().unwrap();
    assert!(!rows.is_empty());
    rows.iter()
}

fn shared(from: &Value, to: &Value) -> (SharedKey, Key) {
    let pairs = &load(KEYS)["pairs"];
    let (own, other) = (&pairs[from.as_str().unwrap()], &pairs[to.as_str().unwrap()]);
    (SharedKey::new(&array(&own["private"]), &array(&other["public"])), array(&own["public"]))
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

#[test]
fn derives_and_clamps_keys() {
    let document = load(KEYS);
    for pair in ["a", "b"] {
        let pair = &document["pairs"][pair];
        assert_eq!(keys::public_key(&array(&pair["private"])), array(&pair["public"]));
    }
    for row in each(&document, "clamped") {
        assert_eq!(keys::clamp(array(&row["random"])), array(&row["private"]));
    }
}

fn frame_of(row: &Value, key: Key, sealed: &[u8], packet: &[u8]) -> String {
    let number = |name: &str| u32::try_from(row[name].as_u64().unwrap()).unwrap();
    let frame = match row["kind"].as_str().unwrap() {
        "server_key" => Frame::ServerKey { key },
        "client_info" => Frame::ClientInfo { key, sealed },
        "server_info" => Frame::ServerInfo { sealed },
        "send_packet" => Frame::SendPacket { to: key, packet },
        "recv_packet" => Frame::RecvPacket { from: key, packet },
        "keep_alive" => Frame::KeepAlive,
        "note_preferred" => Frame::NotePreferred { home: row["home"].as_bool().unwrap() },
        "peer_gone" if row["reason"] == 1 => Frame::PeerGone { key, reason: GoneReason::NotHere },
        "peer_gone" => Frame::PeerGone { key, reason: GoneReason::Disconnected },
        "watch_conns" => Frame::WatchConns,
        "ping" => Frame::Ping(array(&row["payload"])),
        "pong" => Frame::Pong(array(&row["payload"])),
        "restarting" => {
            Frame::Restarting { reconnect_in_ms: number("reconnect_in_ms"), try_for_ms: number("try_for_ms") }
        }
        "unknown" => Frame::Unknown(u8::try_from(number("number")).unwrap()),
        other => panic!("no frame is called {other}"),
    };
    format!("{frame:?}")
}

fn described(row: &Value) -> String {
    let optional = |name: &str| row.get(name).map(hex).unwrap_or_default();
    let key = row.get("key").map(array).unwrap_or_default();
    frame_of(row, key, &optional("sealed"), &optional("packet"))
}

#[test]
fn reads_and_writes_derp_frames() {
    let document = load(DERP);
    for row in each(&document, "frames").chain(each(&document, "lenient")) {
        let bytes = hex(&row["bytes"]);
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(format!("{frame:?}"), described(row), "{}", row["name"]);
        let mut encoded = Vec::new();
        derp::encode(&mut encoded, &frame);
        if each(&document, "frames").any(|exact| exact == row) {
            assert_eq!(encoded, bytes, "{}", row["name"]);
        }
        assert_eq!(decoder.pending(), 0);
    }
}

#[test]
fn refuses_malformed_derp_frames() {
    for row in each(&load(DERP), "malformed") {
        let mut decoder = Decoder::new();
        decoder.feed(&hex(&row["bytes"]));
        assert!(decoder.next_frame().is_err(), "{}", row["name"]);
    }
}

#[test]
fn seals_and_opens_logins() {
    let document = load(DERP);
    let row = &document["login"];
    let (to_b, a) = shared(&row["from"], &row["to"]);
    let (from_a, _) = shared(&row["to"], &row["from"]);
    let info = derp::ClientInfo { version: 2, can_ack_pings: true, ..Default::default() };
    let mut frame = Vec::new();
    derp::put_client_info(&mut frame, &to_b, &a, &array(&row["nonce"]), &info);
    assert_eq!(frame[derp::HEADER_LEN + 32..], hex(&row["sealed"]));
    assert_eq!(derp::open_client_info(&from_a, &hex(&row["sealed"])), Ok(info));

    let row = &document["login_answer"];
    let (to_a, _) = shared(&row["from"], &row["to"]);
    let info = derp::ServerInfo { version: 2, ..Default::default() };
    let mut frame = Vec::new();
    derp::put_server_info(&mut frame, &to_a, &array(&row["nonce"]), &info);
    assert_eq!(frame[derp::HEADER_LEN..], hex(&row["sealed"]));
    assert_eq!(derp::open_server_info(&to_b, &hex(&row["sealed"])), Ok(info));

    let mut forged = hex(&row["sealed"]);
    forged[30] ^= 1;
    assert_eq!(derp::open_server_info(&to_b, &forged), Err(Malformed::BadLogin));
}

#[test]
fn reads_logins_of_any_case() {
    let info: derp::ClientInfo = serde_json::from_str(r#"{"Version":2,"canAckPings":true,"new":[1]}"#).unwrap();
    assert_eq!(info, derp::ClientInfo { version: 2, can_ack_pings: true, ..Default::default() });
}

#[test]
fn decodes_recorded_sessions_in_any_split() {
    let mut random = Random(7);
    for (recorded, side) in RECORDED.iter().flat_map(|recorded| [(recorded, "client"), (recorded, "server")]) {
        let lines = recorded.lines().map(load);
        let stream: Vec<u8> = lines
            .filter(|line| line["kind"] == "bytes" && line["from"] == side)
            .flat_map(|line| hex(&line["data"]))
            .collect();
        let whole = frames(&stream, |_| stream.len());
        assert!(whole.len() >= 2, "a login and something after it");
        assert!(!whole.iter().any(|frame| frame.starts_with("Unknown")), "{whole:?}");
        assert_eq!(frames(&stream, |_| 1), whole);
        for _ in 0..50 {
            assert_eq!(frames(&stream, |left| 1 + random.below(left)), whole);
        }
    }
}

fn frames(mut stream: &[u8], mut next_length: impl FnMut(usize) -> usize) -> Vec<String> {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let (read, rest) = stream.split_at(next_length(stream.len()));
        stream = rest;
        decoder.feed(read);
        while let Some(frame) = decoder.next_frame().unwrap() {
            frames.push(format!("{frame:?}"));
        }
    }
    assert_eq!(decoder.pending(), 0);
    frames
}

#[test]
fn reads_and_writes_stun() {
    let document = load(STUN);
    for row in each(&document, "requests") {
        let bytes = hex(&row["bytes"]);
        assert!(stun::is_stun(&bytes));
        assert_eq!(stun::parse_request(&bytes), Some(array(&row["txid"])), "{}", row["name"]);
        if row["ours"] == true {
            assert_eq!(stun::request(&array(&row["txid"]))[..], bytes);
        }
    }
    for row in each(&document, "answers") {
        let bytes = hex(&row["bytes"]);
        let ip = row["address"].as_str().unwrap().parse().unwrap();
        let mapped = std::net::SocketAddr::new(ip, u16::try_from(row["port"].as_u64().unwrap()).unwrap());
        let answer = stun::Answer { txid: array(&row["txid"]), mapped };
        assert_eq!(stun::parse_answer(&bytes), Some(answer), "{}", row["name"]);
        if row["ours"] == true {
            assert_eq!(stun::answer(&answer.txid, mapped), bytes);
        }
        assert_eq!(stun::parse_request(&bytes), None);
    }
    for row in each(&document, "malformed") {
        assert_eq!(stun::parse_answer(&hex(&row["bytes"])), None, "{}", row["name"]);
    }
}

fn message_of(row: &Value) -> Message {
    match row["kind"].as_str().unwrap() {
        "ping" => Message::Ping { txid: array(&row["txid"]), node_key: row.get("node_key").map(array) },
        "pong" => {
            Message::Pong { txid: array(&row["txid"]), observed: row["observed"].as_str().unwrap().parse().unwrap() }
        }
        _ => {
            let endpoints = row["endpoints"].as_array().unwrap().iter();
            Message::CallMeMaybe { endpoints: endpoints.map(|text| text.as_str().unwrap().parse().unwrap()).collect() }
        }
    }
}

#[test]
fn reads_and_writes_disco_messages() {
    let document = load(DISCO);
    for row in each(&document, "inner") {
        let (message, begins) = (message_of(row), hex(&row["begins"]));
        let encoded = disco::encode(&message);
        assert_eq!(encoded.len() as u64, row["length"].as_u64().unwrap(), "{}", row["name"]);
        assert_eq!(encoded[..begins.len()], begins);
        assert!(encoded[begins.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(disco::decode(&encoded), Some(message));
    }
    for row in each(&document, "lenient") {
        assert_eq!(disco::decode(&hex(&row["bytes"])), Some(message_of(row)), "{}", row["name"]);
    }
    for row in each(&document, "malformed") {
        assert_eq!(disco::decode(&hex(&row["bytes"])), None, "{}", row["name"]);
    }
}

#[test]
fn seals_and_opens_disco_packets() {
    for row in each(&load(DISCO), "packets") {
        let (key, own) = shared(&row["from"], &row["to"]);
        let (other_key, _) = shared(&row["to"], &row["from"]);
        let packet = disco::seal(&key, &own, &array(&row["nonce"]), &message_of(row));
        assert_eq!(packet.len() as u64, row["length"].as_u64().unwrap());
        if let Some(bytes) = row.get("bytes") {
            assert_eq!(packet, hex(bytes));
        } else {
            let digest = ring::digest::digest(&ring::digest::SHA256, &packet);
            assert_eq!(digest.as_ref(), hex(&row["sha256"]), "{}", row["name"]);
        }
        assert_eq!(disco::sender(&packet), Some(own));
        assert_eq!(disco::open(&other_key, &packet), Some(message_of(row)));
        for flipped in [0, 6, 40, packet.len() - 1] {
            let mut forged = packet.clone();
            forged[flipped] ^= 1;
            let opened = disco::open(&other_key, &forged);
            // The sender's key in front only says which shared key to try: it is no part of the box.
            assert_eq!(opened.is_some(), flipped == 6, "byte {flipped}");
        }
        assert_eq!(disco::open(&other_key, &packet[..packet.len() - 1]), None);
    }
}

#[test]
fn no_noise_upsets_a_parser() {
    let mut random = Random(11);
    let (key, _) = shared(&"a".into(), &"b".into());
    let stun_rows = load(STUN);
    let samples: Vec<Vec<u8>> = each(&stun_rows, "answers").map(|row| hex(&row["bytes"])).collect();
    for round in 0..20_000 {
        let length = random.below(120);
        let mut noise = random.bytes(length);
        // Half the time a valid message with one byte wrong, which gets further than noise.
        if round % 2 == 0 {
            noise.clone_from(&samples[random.below(samples.len())]);
            let at = random.below(noise.len());
            noise[at] = random.below(256) as u8;
            noise.truncate(1 + random.below(noise.len()));
        }
        let _ = (stun::parse_answer(&noise), stun::parse_request(&noise));
        let _ = (disco::decode(&noise), disco::open(&key, &noise));
        let mut decoder = Decoder::new();
        decoder.feed(&noise);
        for _ in 0..noise.len() {
            if !matches!(decoder.next_frame(), Ok(Some(_))) {
                break;
            }
        }
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut random = Random(13);
    for _ in 0..2_000 {
        let mut bytes = random.bytes(18);
        let address = super::address_from_bytes(&bytes.clone().try_into().unwrap());
        if address.is_ipv4() {
            bytes[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]);
        }
        assert_eq!(super::address_to_bytes(address).to_vec(), bytes);
        let txid = random.bytes(12).try_into().unwrap();
        let answer = stun::parse_answer(&stun::answer(&txid, address)).unwrap();
        assert_eq!(answer, stun::Answer { txid, mapped: address });
        let length = random.below(3000);
        let packet = random.bytes(length);
        let key = random.bytes(32).try_into().unwrap();
        let mut stream = Vec::new();
        derp::encode(&mut stream, &Frame::SendPacket { to: key, packet: &packet });
        let mut decoder = Decoder::new();
        let cut = random.below(stream.len());
        decoder.feed(&stream[..cut]);
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.feed(&stream[cut..]);
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::SendPacket { to: key, packet: &packet })));
    }
}
