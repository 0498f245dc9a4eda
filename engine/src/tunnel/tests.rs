use super::*;

fn pair() -> (Session, Session) {
    let (a, b) = ([0x48; 32], [0x50; 32]);
    let public = |private: [u8; 32]| PublicKey::from(&StaticSecret::from(private)).to_bytes();
    (Session::new(&a, &public(b), 7), Session::new(&b, &public(a), 9))
}

fn inner(length: usize) -> Vec<u8> {
    let mut packet = vec![0; length];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    packet
}

#[test]
fn a_packet_waits_for_the_handshake_and_then_arrives() {
    let (mut left, mut right) = pair();
    let (mut out, mut back) = (vec![0; 2048], vec![0; 2048]);
    let initiation = left.seal(&inner(60), &mut out).expect("an initiation");
    assert_eq!(addressee(&out[..initiation]), Some(Addressee::Unknown));
    let Opened::Reply(response) = right.open(None, &out[..initiation], &mut back) else { panic!("no response") };
    assert_eq!(addressee(&back[..response]), Some(Addressee::Session(7)));
    let Opened::Reply(keepalive) = left.open(None, &back[..response], &mut out) else { panic!("no keepalive") };
    assert_eq!(addressee(&out[..keepalive]), Some(Addressee::Session(9)));
    assert_eq!(right.open(None, &out[..keepalive], &mut back), Opened::Nothing);
    let sealed = left.next_waiting(&mut out).expect("the packet that waited");
    assert_eq!(right.open(None, &out[..sealed], &mut back), Opened::Packet(60));
    assert_eq!(left.next_waiting(&mut out), None);
    assert_eq!(right.open(None, &out[..sealed], &mut back), Opened::Rejected, "a replay");
}

#[test]
fn the_initiator_is_read_from_the_initiation() {
    let (mut left, _) = pair();
    let mut out = vec![0; 2048];
    let length = left.seal(&inner(60), &mut out).expect("an initiation");
    let private = [0x50; 32];
    let public = PublicKey::from(&StaticSecret::from(private)).to_bytes();
    let expected = PublicKey::from(&StaticSecret::from([0x48; 32])).to_bytes();
    assert_eq!(initiator(&private, &public, &out[..length]), Some(expected));
    out[60] ^= 1;
    assert_eq!(initiator(&private, &public, &out[..length]), None);
}

#[test]
fn garbage_is_rejected() {
    let (mut left, _) = pair();
    let mut out = vec![0; 2048];
    for length in 0..200 {
        for kind in 0..6 {
            let mut datagram = vec![0xa5; length];
            if length >= 4 {
                datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            addressee(&datagram);
            assert_eq!(left.open(None, &datagram, &mut out), Opened::Rejected);
        }
    }
}

#[test]
fn a_flood_of_handshakes_is_asked_for_cookies_and_garbage_is_refused() {
    let (mut left, _) = pair();
    let mut out = vec![0; 2048];
    let length = left.seal(&inner(60), &mut out).expect("an initiation");
    let gate = Gate::new(&PublicKey::from(&StaticSecret::from([0x50; 32])).to_bytes());
    let (source, mut answer) = (IpAddr::from([192, 0, 2, 1]), [0; MAX_CONTROL]);
    let mut forged = out[..length].to_vec();
    forged[120] ^= 1;
    assert_eq!(gate.admit(source, &forged, &mut answer), Admission::Refused);
    for _ in 0..ANONYMOUS_HANDSHAKES {
        assert_eq!(gate.admit(source, &out[..length], &mut answer), Admission::Admitted);
    }
    assert_eq!(gate.admit(source, &out[..length], &mut answer), Admission::Cookie(64));
    assert_eq!(left.open(None, &answer[..64], &mut out), Opened::Nothing, "the cookie is for the initiator");
}
