//! What a TLS server shows and accepts, made of PEM files and the operator's wishes.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

/// `Upgrade` does not exist after HTTP/1.1.
const ALPN: &[u8] = b"http/1.1";

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    /// One that is shown must be good.
    Optional,
    Required,
}

/// A certificate with its chain, its key, and the DNS names it is for, in lower case.
#[derive(Debug, Clone)]
pub struct Pair {
    pub chain_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
    pub names: Vec<String>,
}

/// What an operator says about TLS.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The first is shown to whom no other fits.
    pub pairs: Vec<Pair>,
    pub tls13_only: bool,
    /// Suites of TLS 1.2 by OpenSSL's names; all when empty.
    pub ciphers: Vec<String>,
    pub client_ca_pem: Vec<u8>,
    pub client_auth: ClientAuth,
}

/// The settings of a handshake, with and without ALPN.
#[derive(Debug)]
pub struct Configs {
    http1: Arc<ServerConfig>,
    /// For who offers protocols that we do not speak: rustls would refuse it, though HTTP/1.1 needs no ALPN at all.
    bare: Arc<ServerConfig>,
}

impl Configs {
    /// Make them. The error is a sentence: what cannot be served with this engine.
    ///
    /// # Errors
    /// Something of the settings is wrong, or only other implementations of TLS can do it.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let provider = Arc::new(provider(&settings.ciphers)?);
        let versions = if settings.tls13_only { &[&TLS13][..] } else { &[&TLS13, &TLS12][..] };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = match verifier(settings, Arc::clone(&provider))? {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut bare = builder.with_cert_resolver(Arc::new(ByName::new(&settings.pairs, &provider)?));
        // A client that comes back saves a round trip and us a signature; nothing is kept for it here.
        bare.ticketer = ring::Ticketer::new().map_err(|error| format!("no tickets can be made: {error}"))?;
        let mut http1 = bare.clone();
        http1.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { http1: Arc::new(http1), bare: Arc::new(bare) })
    }

    /// Choose for one client.
    pub fn choose(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let known = hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ALPN));
        Arc::clone(if known { &self.http1 } else { &self.bare })
    }
}

/// Make the provider with the suites of TLS 1.2 that are wanted; those of TLS 1.3 are always there, as with OpenSSL.
fn provider(ciphers: &[String]) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if ciphers.is_empty() {
        return Ok(provider);
    }
    let mut suites: Vec<_> = provider.cipher_suites.iter().copied().filter(|suite| suite.version() == &TLS13).collect();
    for name in ciphers {
        suites.push(match name.as_str() {
            "ECDHE-ECDSA-AES256-GCM-SHA384" => ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            "ECDHE-ECDSA-AES128-GCM-SHA256" => ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            "ECDHE-ECDSA-CHACHA20-POLY1305" => ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            "ECDHE-RSA-AES256-GCM-SHA384" => ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            "ECDHE-RSA-AES128-GCM-SHA256" => ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            "ECDHE-RSA-CHACHA20-POLY1305" => ring::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            _ => return Err(format!("the engine has no cipher suite {name}")),
        });
    }
    provider.cipher_suites = suites;
    Ok(provider)
}

fn verifier(settings: &Settings, provider: Arc<CryptoProvider>) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    if settings.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&settings.client_ca_pem) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| format!("the engine cannot use an authority of client certificates: {error}"))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if settings.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map(Some).map_err(|error| format!("the engine cannot verify client certificates: {error}"))
}

struct ByName {
    first: Arc<CertifiedKey>,
    keys: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl ByName {
    fn new(pairs: &[Pair], provider: &CryptoProvider) -> Result<Self, String> {
        let mut keys = Vec::new();
        for pair in pairs {
            keys.push((pair.names.clone(), Arc::new(certified(pair, provider)?)));
        }
        let first = keys.first().map(|(_, key)| Arc::clone(key)).ok_or("TLS needs a certificate")?;
        Ok(Self { first, keys })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let fits = |known: &String| *known == name || Some(known) == wildcard.as_ref();
        self.keys.iter().find(|(names, _)| names.iter().any(fits)).map(|(_, key)| key)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(hello.server_name().and_then(|name| self.find(name)).unwrap_or(&self.first)))
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.keys.iter().map(|(names, _)| names)).finish()
    }
}

fn certified(pair: &Pair, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pair.chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("a certificate is malformed: {error}"))?;
    if chain.is_empty() {
        return Err("a certificate file holds no certificate".into());
    }
    let key = PrivateKeyDer::from_pem_slice(&pair.key_pem).map_err(|error| format!("a key is malformed: {error}"))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| format!("the engine cannot use a key of this kind: {error}"))?;
    Ok(CertifiedKey::new(chain, key))
}
