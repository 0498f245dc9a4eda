//! Sessions against rustls' own client, in memory. Sockets are tested from Python.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{ClientAuth, Configs, Fault, Pair, Session, Settings};
use crate::noise::Noise;

const CERTIFICATE: &[u8] = include_bytes!("testdata/certificate.pem");
const KEY: &[u8] = include_bytes!("testdata/key.pem");

fn settings() -> Settings {
    let pair = Pair { chain_pem: CERTIFICATE.to_vec(), key_pem: KEY.to_vec(), names: vec!["localhost".into()] };
    Settings {
        pairs: vec![pair],
        tls13_only: false,
        ciphers: Vec::new(),
        client_ca_pem: Vec::new(),
        client_auth: ClientAuth::None,
    }
}

fn configs() -> Arc<Configs> {
    Arc::new(Configs::new(&settings()).unwrap())
}

fn client(version: &'static rustls::SupportedProtocolVersion) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// A session and a client, with bytes cut into reads of at most `read`.
struct Link {
    session: Session,
    client: ClientConnection,
    read: usize,
    /// What the client has said.
    plain: Vec<u8>,
    buffer: Vec<u8>,
}

impl Link {
    fn new(version: &'static rustls::SupportedProtocolVersion, read: usize) -> Self {
        let buffer = vec![0; Session::MAX_PARTIAL + (64 << 10)];
        let mut link =
            Self { session: Session::new(configs()), client: client(version), read, plain: Vec::new(), buffer };
        link.carry().unwrap();
        link
    }

    /// Carry bytes both ways until neither side has any.
    fn carry(&mut self) -> Result<(), Fault> {
        loop {
            let mut sent = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut sent).unwrap();
            }
            let mut out = Vec::new();
            for chunk in sent.chunks(self.read) {
                self.receive(chunk, &mut out)?;
            }
            if sent.is_empty() && out.is_empty() {
                return Ok(());
            }
            self.give(&out);
        }
    }

    fn receive(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let start = self.session.begin_input(&mut self.buffer);
        self.buffer[start..start + chunk.len()].copy_from_slice(chunk);
        self.session.receive(&mut self.buffer[..start + chunk.len()], &mut self.plain, out)
    }

    fn give(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }

    /// Seal bytes for the client, and give what it read.
    fn answer(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.session.seal(plain, &mut sealed).unwrap();
        let mut read = Vec::new();
        for chunk in sealed.chunks(7000) {
            self.give(chunk);
            let mut part = [0; 1 << 16];
            while let Ok(count) = self.client.reader().read(&mut part) {
                if count == 0 {
                    break;
                }
                read.extend_from_slice(&part[..count]);
            }
        }
        read
    }
}

#[test]
fn bytes_pass_both_ways_however_they_are_cut() {
    let body: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for read in [1, 5, 100, 16_000, 64 << 10] {
            let mut link = Link::new(version, read);
            assert!(link.session.established());
            for part in body.chunks(30_000) {
                link.client.writer().write_all(part).unwrap();
                link.carry().unwrap();
            }
            assert!(link.plain == body, "reads of {read}");
            assert!(link.answer(&body) == body, "reads of {read}");
            assert_eq!(link.answer(b""), b"");
        }
    }
}

#[test]
fn keys_may_be_renewed_in_mid_stream() {
    let mut link = Link::new(&rustls::version::TLS13, 100);
    for round in 0..5 {
        link.client.refresh_traffic_keys().unwrap();
        link.client.writer().write_all(b"after").unwrap();
        link.carry().unwrap();
        assert_eq!(link.plain.len(), 5 * (round + 1));
        assert_eq!(link.answer(b"answer"), b"answer");
    }
}

#[test]
fn an_end_in_due_form_is_seen_and_sent() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut link = Link::new(version, 1000);
        link.client.writer().write_all(b"last words").unwrap();
        link.client.send_close_notify();
        link.carry().unwrap();
        assert_eq!(link.plain, b"last words");
        assert!(link.session.peer_closed());
        let mut out = Vec::new();
        link.session.seal(b"still said", &mut out).unwrap();
        link.session.close(&mut out);
        link.give(&out);
        let mut read = Vec::new();
        link.client.reader().read_to_end(&mut read).unwrap();
        assert_eq!(read, b"still said");
    }
}

#[test]
fn what_is_agreed_on_is_told() {
    let details = Link::new(&rustls::version::TLS12, 1000).session.details();
    assert_eq!(details.server_name.as_deref(), Some("localhost"));
    assert_eq!((details.version, details.alpn), ("TLSv1.2", None));
    assert!(details.cipher.contains("ECDHE_ECDSA"));
}

#[test]
fn plain_http_is_answered_and_garbage_gets_an_alert() {
    let first = |bytes: &[u8]| {
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        let fault = Session::new(configs()).receive(&mut bytes.to_vec(), &mut plain, &mut out);
        assert_eq!(plain, b"");
        (fault, out)
    };
    let (fault, out) = first(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(fault, Err(Fault::PlainHttp));
    let text = String::from_utf8(out).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())));

    let (fault, out) = first(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
    assert!(fault.is_err());
    assert_eq!(out.first(), Some(&0x15), "an alert");
    assert!(first(&[0; 64]).0.is_err());
}

#[test]
fn a_first_message_without_end_is_bounded() {
    let mut session = Session::new(configs());
    let mut buffer = vec![0; Session::MAX_PARTIAL + 4096];
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    // Records of handshake that together announce 16 MB.
    let mut record = vec![0x16, 3, 1, 4, 0];
    record.extend_from_slice(&[1, 0xff, 0xff, 0xff]);
    record.resize(5 + 1024, 0);
    let mut taken = 0;
    let refused = loop {
        let start = session.begin_input(&mut buffer);
        buffer[start..start + record.len()].copy_from_slice(&record);
        if session.receive(&mut buffer[..start + record.len()], &mut plain, &mut out).is_err() {
            break taken;
        }
        taken += record.len();
        assert!(taken < 1 << 20, "it takes for ever");
    };
    assert!(refused <= Session::MAX_PARTIAL);
}

#[test]
fn damage_ends_a_connection_and_nothing_else() {
    let mut noise = Noise::new(7);
    let mut recorded = Vec::new();
    client(&rustls::version::TLS13).write_tls(&mut recorded).unwrap();
    for _ in 0..3000 {
        let mut bytes = noise.mutate(&recorded);
        let mut session = Session::new(configs());
        let mut buffer = vec![0; Session::MAX_PARTIAL + (64 << 10)];
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        let read = 1 + noise.below(bytes.len().max(1));
        for chunk in bytes.chunks_mut(read) {
            let start = session.begin_input(&mut buffer);
            buffer[start..start + chunk.len()].copy_from_slice(chunk);
            if session.receive(&mut buffer[..start + chunk.len()], &mut plain, &mut out).is_err() {
                break;
            }
        }
        assert!(plain.is_empty() && !session.established());
        assert!(out.len() < 16 << 10, "an answer is no larger than a handshake");
    }
}

#[test]
fn damage_in_mid_stream_is_found() {
    let mut noise = Noise::new(8);
    for _ in 0..200 {
        let mut link = Link::new(&rustls::version::TLS13, 1 << 16);
        link.client.writer().write_all(&[7; 500]).unwrap();
        let mut sealed = Vec::new();
        link.client.write_tls(&mut sealed).unwrap();
        let damaged = noise.mutate(&sealed);
        let mut out = Vec::new();
        let result = link.receive(&damaged[..damaged.len().min(60_000)], &mut out);
        assert!(link.plain.is_empty() || link.plain == [7; 500], "nothing that was not said");
        if result.is_err() {
            assert!(link.session.seal(b"x", &mut out).is_err());
        }
    }
}

#[test]
fn settings_that_cannot_be_served_are_refused_with_the_reason() {
    let refusal = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        Configs::new(&settings).unwrap_err()
    };
    assert_eq!(
        refusal(|settings| settings.ciphers = vec!["AES128-SHA".into()]),
        "the engine has no cipher suite AES128-SHA"
    );
    assert_eq!(refusal(|settings| settings.pairs.clear()), "TLS needs a certificate");
    assert!(refusal(|settings| settings.client_auth = ClientAuth::Required).contains("client certificates"));
    assert!(refusal(|settings| settings.pairs[0].key_pem = b"none".to_vec()).contains("key"));
    assert!(refusal(|settings| settings.pairs[0].chain_pem.clear()).contains("no certificate"));
}
