//! TLS to a server on another host, by certificates as Puppet's CA issues them.
//!
//! It guarantees: the server's certificate is signed by the given CA, which is the only one trusted, and
//! is for the name that the server was asked for under; we show a certificate of our own; and nothing is
//! said in plain text to a server that has no TLS. The same holds for our own sessions (rustls, ring) and
//! for PostgreSQL's programs (libpq's `verify-full`). What fails is told apart: the server's CA, its name,
//! its lack of TLS, and what it has against our certificate.

use std::error::Error as StdError;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pefo_core::disk::read_capped;
use pefo_core::launch::Invocation;
use pefo_core::{Error, ErrorKind, Result};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::server::{Server, describe};

const MAX_BYTES: u64 = 1 << 20;

/// The certificates by which a server on another host is reached; files in PEM, read at each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerTls {
    /// The CA that signed the server's certificate; no other is trusted.
    pub ca_cert: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Its key: mode 0600, or 0640 where root owns it, as libpq demands.
    pub key: PathBuf,
}

impl ServerTls {
    /// The CA's certificate, ours, and the key to ours.
    pub fn new(
        ca_cert: impl Into<PathBuf>,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        Self {
            ca_cert: ca_cert.into(),
            cert: cert.into(),
            key: key.into(),
        }
    }

    /// How our own sessions connect.
    ///
    /// # Errors
    /// `Config` where a file is not what it should be, or libpq would not take the key; `Io` where one
    /// cannot be read.
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect> {
        self.check_key_mode()?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca_cert)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(&self.ca_cert, "CA certificate", error))?;
        }
        let key = PrivateKeyDer::from_pem_slice(&read_capped(&self.key, MAX_BYTES)?)
            .map_err(|error| unusable(&self.key, "private key (PKCS#1, PKCS#8 or SEC1)", error))?;
        // Handed in, so that an embedder's process-wide choice stays alone.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&self.cert, "certificate", error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&self.cert)?, key)
            .map_err(|error| unusable(&self.cert, "certificate for the configured key", error))?;
        Ok(MakeRustlsConnect::new(config))
    }

    /// The same for libpq.
    pub(crate) fn environment(&self, invocation: Invocation) -> Invocation {
        invocation
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.ca_cert.as_os_str())
            .env("PGSSLCERT", self.cert.as_os_str())
            .env("PGSSLKEY", self.key.as_os_str())
            // Else whoever runs the program with a Kerberos ticket gets encryption without these checks.
            .env("PGGSSENCMODE", "disable")
    }

    /// libpq's rule, looked at first: its own complaint would come once a snapshot is held.
    fn check_key_mode(&self) -> Result<()> {
        let meta =
            std::fs::metadata(&self.key).map_err(|error| Error::io("examine", &self.key, error))?;
        let forbidden = if meta.uid() == 0 { 0o037 } else { 0o077 };
        if meta.mode() & forbidden == 0 {
            return Ok(());
        }
        let path = self.key.display();
        let message = format!(
            "private key {path} has mode {:04o}: PostgreSQL's programs use no key that others may read",
            meta.mode() & 0o7777
        );
        Err(Error::new(ErrorKind::Config, message).hint(
            "0600 is right, or 0640 where root owns it; where Puppet needs its key readable for its group, \
             give pefo a copy of its own",
        ))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = read_capped(path, MAX_BYTES)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, "certificate", error))?;
    if found.is_empty() {
        let message = format!("{} holds no certificate in PEM", path.display());
        return Err(Error::new(ErrorKind::Config, message));
    }
    Ok(found)
}

fn unusable(path: &Path, what: &str, error: impl StdError + Send + Sync + 'static) -> Error {
    let message = format!("{} is no usable {what}: {error}", path.display());
    Error::new(ErrorKind::Config, message).with_source(error)
}

/// What it means that a connection with `tls` failed; `None` where that has nothing to do with it.
pub(crate) fn failure(
    server: &Server,
    tls: &ServerTls,
    error: &tokio_postgres::Error,
) -> Option<Error> {
    let place = format!("PostgreSQL at {} port {}", server.host, server.port);
    if let Some(said) = error.as_db_error() {
        return said.code().code().starts_with("28").then(|| {
            let message = format!(
                "{place} refused {:?} with the client certificate {}: {}",
                server.user,
                tls.cert.display(),
                said.message()
            );
            Error::new(ErrorKind::Denied, message).hint(
                "its pg_hba.conf needs a line 'hostssl … cert' for this host, database and role; the certificate's \
                 common name must be the role's name, or pg_ident.conf must map it to it",
            )
        });
    }
    if let Some(error) = chain(error).find_map(|error| error.downcast_ref::<rustls::Error>()) {
        return Some(handshake_failure(&place, tls, error));
    }
    let said = describe(error);
    if said.contains("server does not support TLS") {
        let message = format!("{place} has no TLS, and nothing was sent to it in plain text");
        return Some(
            Error::new(ErrorKind::Protocol, message)
                .hint("set ssl = on with a certificate of the Puppet CA in its postgresql.conf"),
        );
    }
    // In TLS 1.3 a client's certificate is judged once the client is through, and a server that hangs up
    // at once may take its own words back with it.
    let hung_up = chain(error).any(|error| {
        use io::ErrorKind as Io;
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                Io::UnexpectedEof | Io::ConnectionReset | Io::BrokenPipe
            )
        })
    });
    (hung_up || error.is_closed()).then(|| refused_certificate(&place, tls, "it hung up"))
}

fn handshake_failure(place: &str, tls: &ServerTls, error: &rustls::Error) -> Error {
    let new_certificate =
        "give the server a certificate with dns_alt_names for this name, or use a name it has";
    match error {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        }) => {
            let message = if presented.is_empty() {
                format!(
                    "the certificate of {place} has no DNS alternative names (SAN); its common name alone is not accepted"
                )
            } else {
                format!(
                    "the certificate of {place} is for other names: {}",
                    presented.join(", ")
                )
            };
            Error::new(ErrorKind::Protocol, message).hint(new_certificate)
        }
        // Two Puppet CAs are often named alike; then the issuer is known and its signature is wrong.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            let message = format!(
                "the certificate of {place} is not signed by the CA in {}",
                tls.ca_cert.display()
            );
            Error::new(ErrorKind::Protocol, message)
                .hint("configure the certificate of the CA that signed it ([database] tls.ca_cert)")
        }
        rustls::Error::AlertReceived(alert) => {
            refused_certificate(place, tls, &format!("{alert:?}"))
        }
        other => Error::new(ErrorKind::Protocol, format!("TLS with {place}: {other}")),
    }
}

fn refused_certificate(place: &str, tls: &ServerTls, how: &str) -> Error {
    let message = format!(
        "{place} refused the client certificate {}: {how}",
        tls.cert.display()
    );
    Error::new(ErrorKind::Denied, message).hint(
        "is it signed by the CA in the server's ssl_ca_file, and neither expired nor revoked? the server's log says more",
    )
}

/// Every error of the chain, also those an `io::Error` wraps.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}
