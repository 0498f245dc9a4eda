//! Who issued a certificate, as far as a person must be told: the names in it, read from DER (RFC 5280 §4.1).

/// A name is shown up to this many characters.
const MAX_SHOWN: usize = 160;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTF16: u8 = 0x1e;

/// Whose a certificate is, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub subject: String,
    pub issuer: String,
}

/// Read the names in a certificate; `None` when it is malformed.
pub fn names(certificate: &[u8]) -> Option<Names> {
    let (whole, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(whole, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    let (_, _, rest) = element(rest)?; // serial number
    let (_, rest) = expect(rest, SEQUENCE)?; // signature algorithm
    let (issuer, rest) = expect(rest, SEQUENCE)?;
    let (_, rest) = expect(rest, SEQUENCE)?; // validity
    let (subject, _) = expect(rest, SEQUENCE)?;
    Some(Names { subject: shown(subject)?, issuer: shown(issuer)? })
}

/// Write a distinguished name, the most telling part first: `CN=…, O=…`.
fn shown(mut name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !name.is_empty() {
        let (set, rest) = expect(name, SET)?;
        name = rest;
        let (attribute, _) = expect(set, SEQUENCE)?;
        let (kind, value) = expect(attribute, OBJECT)?;
        let (tag, value, _) = element(value)?;
        let (rank, label) = match kind {
            [0x55, 4, 3] => (0, "CN"),
            [0x55, 4, 10] => (1, "O"),
            [0x55, 4, 11] => (2, "OU"),
            [0x55, 4, 6] => (3, "C"),
            _ => continue,
        };
        parts.push((rank, format!("{label}={}", text(tag, value))));
    }
    parts.sort();
    let whole = parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(", ");
    Some(whole.chars().filter(|letter| !letter.is_control()).take(MAX_SHOWN).collect())
}

fn text(tag: u8, value: &[u8]) -> String {
    if tag == UTF16 {
        let units = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        return String::from_utf16_lossy(&units.collect::<Vec<_>>());
    }
    String::from_utf8_lossy(value).into_owned()
}

/// Take an element of one kind off the front: its contents, and what follows.
fn expect(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, contents, rest) = element(bytes)?;
    (tag == wanted).then_some((contents, rest))
}

/// Take an element off the front: its tag, its contents, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, first, rest @ ..] = bytes else { return None };
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((*tag, contents, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with another implementation (Python's `cryptography`): serial number 7, signed with Ed25519.
    const SAMPLE: &str = "\
        308201083081bba003020102020107300506032b65703042310b3009060355040613024348311b3019060355040a0c12\
        4578616d706c65205ac3bc726963682041473116301406035504030c0d496e7370656374696f6e2043413020170d3236\
        303130313030303030305a180f32303530303832333030303030305a30183116301406035504030c0d72656c61792e65\
        78616d706c65302a300506032b657003210003a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc86641255\
        31b8300506032b65700341007badd42a19a543330747bd5b7944c0d92388f321db2d82ce096bef4baf9129c5972f5d53\
        29262647a0ab1c4ad5474e9546373e901a4ad88aa90cf28a48138806";

    fn sample() -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&SAMPLE[at..at + 2], 16).expect("hexadecimal");
        (0..SAMPLE.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn the_names_are_read() {
        let found = names(&sample()).expect("a certificate");
        assert_eq!(found.subject, "CN=relay.example");
        assert_eq!(found.issuer, "CN=Inspection CA, O=Example Zürich AG, C=CH");
    }

    #[test]
    fn whatever_is_cut_or_changed_is_no_reason_to_fall() {
        let sample = sample();
        for at in 0..sample.len() {
            let _ = names(&sample[..at]);
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = sample.clone();
                changed[at] = value;
                let _ = names(&changed);
            }
        }
        assert_eq!(names(b""), None);
        assert_eq!(names(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn a_name_cannot_write_control_characters() {
        let mut changed = sample();
        let at = changed.windows(10).position(|window| window == b"Inspection").expect("the name");
        changed[at] = 0x1b;
        assert_eq!(names(&changed).expect("a certificate").issuer, "CN=nspection CA, O=Example Zürich AG, C=CH");
    }
}
