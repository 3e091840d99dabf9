//! The listener: TLS with client certificates, one task a connection, on a thread of its own.

use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::{Extension, Router};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Pki, Shared, routes};

#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Who is at the other end of a connection, and how to hang up on them.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) cn: Option<String>,
    pub(crate) hang_up: Arc<Notify>,
}

impl Server {
    /// Port 0 is any free one.
    pub(crate) fn start(pki: &Pki, shared: Arc<Shared>, port: u16) -> std::io::Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(config(pki)));
        // Bound here, served there: callers may be inside a runtime of their own.
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener
            .set_nonblocking(true)
            .expect("a listener for tokio");
        let port = listener.local_addr().expect("the bound address").port();
        let (stop, stopped) = oneshot::channel();
        let router = Router::new().fallback(routes::answer).with_state(shared);
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime for the double");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener for tokio");
                tokio::select! {
                    () = accept(listener, acceptor, router) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("classifier-double".to_owned())
            .spawn(serve)
            .expect("a thread");
        Ok(Self {
            port,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(
                stream,
                acceptor.clone(),
                router.clone(),
            ))),
            // Out of file descriptors, or a client that left at once: the next one is served.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    // A handshake that fails is the client's to report.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let cn = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| common_name(chain.first()?));
    let hang_up = Arc::new(Notify::new());
    let service = TowerToHyperService::new(router.layer(Extension(Peer {
        cn,
        hang_up: Arc::clone(&hang_up),
    })));
    let serving =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = serving => {}
        () = hang_up.notified() => {}
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

fn config(pki: &Pki) -> ServerConfig {
    let certificates = |pem: &str, what: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pki.ca_pem, "the CA's certificate") {
        roots
            .add(certificate)
            .expect("a CA certificate that can be trusted");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Not having a certificate is no failure of TLS: a token may do, and 401 says so otherwise.
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .expect("a verifier of client certificates");
    let key = PrivateKeyDer::from_pem_slice(pki.server_key_pem.as_bytes())
        .expect("the server's private key");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            certificates(&pki.server_certificate_pem, "the server's certificate"),
            key,
        )
        .expect("a server certificate and its key")
}
