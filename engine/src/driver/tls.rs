//! How relays prove who they are.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate;

/// Relays speak HTTP/1.1 only: `Upgrade` does not exist after it.
const ALPN: &[u8] = b"http/1.1";

/// Makes connections' TLS settings; the roots are read when the first one is needed.
pub struct Tls {
    ca_pem: Option<Vec<u8>>,
    strict: Option<Arc<ClientConfig>>,
    insecure: Option<Arc<ClientConfig>>,
}

impl Tls {
    /// Trust the certificates in `ca_pem` and those the system trusts. The error is a sentence.
    pub fn new(ca_pem: Option<Vec<u8>>) -> Result<Self, String> {
        let mut tls = Self { ca_pem, strict: None, insecure: None };
        if tls.ca_pem.is_some() {
            tls.config(false)?;
        }
        Ok(tls)
    }

    /// The settings for one connection.
    pub fn config(&mut self, insecure: bool) -> Result<Arc<ClientConfig>, String> {
        let held = if insecure { &self.insecure } else { &self.strict };
        if let Some(config) = held {
            return Ok(config.clone());
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let verifier: Arc<dyn ServerCertVerifier> = if insecure {
            Arc::new(Anyone(provider))
        } else {
            let strict = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider).build();
            Arc::new(Strict(strict.map_err(|error| format!("TLS cannot be set up: {error}"))?))
        };
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let config = Arc::new(config);
        let held = if insecure { &mut self.insecure } else { &mut self.strict };
        Ok(held.insert(config).clone())
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.as_deref().unwrap_or_default()) {
            let certificate = certificate.map_err(|error| format!("tls_ca_pem is malformed: {error}"))?;
            store.add(certificate).map_err(|error| format!("tls_ca_pem holds a bad certificate: {error}"))?;
        }
        if self.ca_pem.is_some() && store.is_empty() {
            return Err("tls_ca_pem holds no certificate".into());
        }
        let found = rustls_native_certs::load_native_certs(); // heeds SSL_CERT_FILE and SSL_CERT_DIR
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(format!(
                "no certificate authority is known{why}: install the system's, or set SSL_CERT_FILE or tls_ca_pem"
            ));
        }
        Ok(store)
    }
}

/// The relay's key, where a certificate beside its real chain tells it (`derpkey` and 64 hex digits as common name).
pub fn relay_key(certificates: &[CertificateDer<'_>]) -> Option<[u8; 32]> {
    const MARK: &[u8] = b"derpkey";
    certificates.iter().find_map(|certificate| {
        let at = certificate.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
        let hex = std::str::from_utf8(certificate.get(at..at + 64)?).ok()?;
        let mut key = [0; 32];
        for (byte, digits) in key.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(key)
    })
}

/// Accepts what a known authority signed, and says in words why not.
#[derive(Debug)]
struct Strict(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Strict {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(certificate, intermediates, server, ocsp, now).map_err(|error| match error {
            Error::InvalidCertificate(problem) => Error::General(explain(&problem, certificate, server)),
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Say why a certificate is not accepted, and what to do about it.
fn explain(problem: &CertificateError, certificate: &[u8], server: &ServerName<'_>) -> String {
    let server = server.to_str();
    match problem {
        CertificateError::UnknownIssuer => {
            let issuer = match certificate::names(certificate) {
                Some(names) if names.issuer == names.subject => format!("it signed itself ({})", names.subject),
                Some(names) => format!("it was issued by {}", names.issuer),
                None => "it cannot be read".into(),
            };
            format!(
                "the certificate of {server} is not trusted: {issuer}, which is no authority known here; a firewall that                  inspects TLS does this: add its authority to the system's, or name it in SSL_CERT_FILE"
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {server} has expired, or this machine's clock is wrong")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {server} is not valid yet, or this machine's clock is wrong")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let whose =
                certificate::names(certificate).map(|names| format!(" ({})", names.subject)).unwrap_or_default();
            format!("the certificate that {server} showed is for another name{whose}")
        }
        other => format!("the certificate of {server} is not accepted: {other}"),
    }
}

/// Accepts every certificate: for regions marked `InsecureForTests`.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
