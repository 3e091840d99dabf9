//! TLS for Puppet's own certificates: ring, the given CA and nothing else.
//!
//! The provider is handed to rustls explicitly; no process-wide default is read or set, so an
//! embedder's own choice stays alone.

use std::sync::Arc;

use pefo_core::{Error, ErrorKind, Result};
use reqwest::header::{HeaderMap, HeaderValue};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::Credentials;

pub(crate) fn config(ca_pem: &[u8], credentials: &Credentials) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem, "the CA certificate")? {
        roots
            .add(certificate)
            .map_err(|error| wrong("the CA certificate cannot be used", error))?;
    }
    let builder = builder()?.with_root_certificates(roots);
    match credentials {
        Credentials::Token(_) => Ok(builder.with_no_client_auth()),
        Credentials::Certificate {
            certificate_pem,
            key_pem,
        } => {
            let chain = certificates(certificate_pem, "the client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| {
                wrong(
                    "the client's private key is not PEM (PKCS#1, PKCS#8 or SEC1)",
                    error,
                )
            })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| wrong("the client's certificate and key do not fit", error))
        }
    }
}

/// For a client that speaks no TLS: nobody is trusted.
pub(crate) fn none() -> Result<ClientConfig> {
    let trusting_nobody = builder()?.with_root_certificates(RootCertStore::empty());
    Ok(trusting_nobody.with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("TLS versions", error))
}

pub(crate) fn token_header(token: &str) -> Result<HeaderMap> {
    let mut value = HeaderValue::from_str(token.trim()).map_err(|_| {
        Error::new(
            ErrorKind::Config,
            "the RBAC token has characters a header cannot hold",
        )
    })?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(
        reqwest::header::HeaderName::from_static("x-authentication"),
        value,
    )]))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&format!("{what} is not PEM"), error))?;
    if found.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            format!("{what}: no certificate in the PEM"),
        ));
    }
    Ok(found)
}

fn wrong(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Config, format!("{what}: {error}")).with_source(error)
}
