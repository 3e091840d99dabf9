//! A server on another host is reached by TLS with certificates of Puppet's CA, or not at all.

use std::path::{Path, PathBuf};

use pefo_core::disk::{Attributes, Disk};
use pefo_core::{Error, ErrorKind};
use pefo_db::{RestoreOptions, RestoreOutcome, Server, ServerTls};
use pefo_testkit::ca::{CaOptions, Credentials, Keys, TestCa};
use pefo_testkit::postgres::ClusterOptions;

use crate::bench::Bench;

/// Our role, and the common name of our certificate.
const SPARE: &str = "puppet-b.test";

/// A cluster with TLS as `localhost`, the CA of its certificate, and a directory for ours.
struct Encrypted {
    bench: Bench,
    ca: TestCa,
    dir: tempfile::TempDir,
}

fn authority(dir: &Path, keys: Keys) -> TestCa {
    let mut ca = TestCa::create(dir, CaOptions::default().keys(keys)).unwrap();
    ca.sign(SPARE).unwrap();
    ca
}

impl Encrypted {
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut ca = authority(&dir.path().join("ca"), Keys::Rsa);
        ca.sign("localhost").unwrap();
        let own = ca.credentials("localhost").unwrap();
        let bench = Bench::start_with(&ClusterOptions::default().tls(own))?;
        let roles = format!("create role \"{SPARE}\" login superuser; create role other login");
        bench.cluster.sql("postgres", &roles).unwrap();
        Some(Self { bench, ca, dir })
    }

    fn server(&self, host: &str, user: &str) -> Server {
        Server::on_tcp(host, user).port(self.bench.cluster.port())
    }

    /// As the operator configures it: every file where it belongs.
    fn tls(&self) -> ServerTls {
        self.written("ours", &self.ca.credentials(SPARE).unwrap())
    }

    fn written(&self, name: &str, credentials: &Credentials) -> ServerTls {
        let dir = self.dir.path().join(name);
        Disk::new()
            .create_dir(&dir, &Attributes::mode(0o700))
            .unwrap();
        let write = |name: &str, pem: &str| -> PathBuf {
            let path = dir.join(name);
            overwrite(&path, pem, 0o600);
            path
        };
        ServerTls::new(
            write("ca.pem", &credentials.ca_pem),
            write("cert.pem", &credentials.cert_pem),
            write("key.pem", &credentials.key_pem),
        )
    }
}

fn overwrite(path: &Path, pem: &str, mode: u32) {
    Disk::new()
        .publish(path, pem.as_bytes(), &Attributes::mode(mode))
        .unwrap();
}

async fn failure(server: Server) -> Error {
    pefo_db::list(&server).await.unwrap_err()
}

/// The message without what is another in each run, and the hint.
fn shown(error: &Error, encrypted: &Encrypted) -> String {
    let dir = encrypted.dir.path().display().to_string();
    let port = encrypted.bench.cluster.port().to_string();
    let text = format!("{error}\n{}", error.hint_text().unwrap());
    text.replace(&dir, "DIR").replace(&port, "PORT")
}

#[tokio::test]
async fn a_dump_and_a_restore_go_through_tls_sessions_and_programs_alike() {
    let Some(mut encrypted) = Encrypted::start() else {
        return;
    };
    encrypted.bench.server = encrypted.server("localhost", SPARE).tls(encrypted.tls());
    let bench = &encrypted.bench;
    bench.create_live(
        "create table t as select generate_series(1, 1000) as n; create table u (n int)",
    );
    // Over the network nobody is let in without TLS.
    let (dir, manifest) = bench.dump("live", "dump").await.unwrap();
    bench.cluster.sql("live", "delete from t").unwrap();
    let report = bench
        .restore("live", &dir, &RestoreOptions::default())
        .await
        .unwrap();
    assert_eq!(report.outcome, RestoreOutcome::Restored);
    assert_eq!(
        bench.differences("live", &manifest).await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_server_certificate_of_another_ca_is_refused() {
    let Some(encrypted) = Encrypted::start() else {
        return;
    };
    let other = authority(&encrypted.dir.path().join("other"), Keys::OtherRsa);
    let mut credentials = encrypted.ca.credentials(SPARE).unwrap();
    credentials.ca_pem = other.ca_pem().unwrap();
    let tls = encrypted.written("mixed", &credentials);
    let error = failure(encrypted.server("localhost", SPARE).tls(tls)).await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    insta::assert_snapshot!(shown(&error, &encrypted), @r#"
    the certificate of PostgreSQL at localhost port PORT is not signed by the CA in DIR/mixed/ca.pem
    configure the certificate of the CA that signed it ([database] tls.ca_cert)
    "#);
}

#[tokio::test]
async fn a_server_certificate_for_another_name_is_refused() {
    let Some(encrypted) = Encrypted::start() else {
        return;
    };
    let error = failure(encrypted.server("127.0.0.1", SPARE).tls(encrypted.tls())).await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    insta::assert_snapshot!(shown(&error, &encrypted), @r#"
    the certificate of PostgreSQL at 127.0.0.1 port PORT is for other names: DnsName("localhost")
    give the server a certificate with dns_alt_names for this name, or use a name it has
    "#);
}

#[tokio::test]
async fn a_role_that_the_client_certificate_does_not_name_is_refused() {
    let Some(encrypted) = Encrypted::start() else {
        return;
    };
    let error = failure(encrypted.server("localhost", "other").tls(encrypted.tls())).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    insta::assert_snapshot!(shown(&error, &encrypted), @r#"
    PostgreSQL at localhost port PORT refused "other" with the client certificate DIR/ours/cert.pem: certificate authentication failed for user "other"
    its pg_hba.conf needs a line 'hostssl … cert' for this host, database and role; the certificate's common name must be the role's name, or pg_ident.conf must map it to it
    "#);
}

#[tokio::test]
async fn a_client_certificate_of_another_ca_is_refused() {
    let Some(encrypted) = Encrypted::start() else {
        return;
    };
    let other = authority(&encrypted.dir.path().join("other"), Keys::OtherRsa);
    let mut credentials = other.credentials(SPARE).unwrap();
    credentials.ca_pem = encrypted.ca.ca_pem().unwrap();
    let tls = encrypted.written("foreign", &credentials);
    let error = failure(encrypted.server("localhost", SPARE).tls(tls)).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    // Whether the alert or the end of the connection comes first is the network's choice.
    assert!(
        shown(&error, &encrypted).starts_with(
            "PostgreSQL at localhost port PORT refused the client certificate DIR/foreign/cert.pem: "
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_without_tls_is_refused_and_hears_nothing_in_plain_text() {
    let Some(mut encrypted) = Encrypted::start() else {
        return;
    };
    let Some(plain) = Bench::start_with(
        &ClusterOptions::default()
            .tcp()
            .setting("log_connections = on"),
    ) else {
        return;
    };
    plain
        .cluster
        .sql(
            "postgres",
            "create role \"puppet-b.test\" login superuser password 'a secret'",
        )
        .unwrap();
    let tls = encrypted.tls();
    let passfile = encrypted.dir.path().join("pass");
    overwrite(&passfile, "*:*:*:*:a secret\n", 0o600);
    let server = Server::on_tcp("localhost", SPARE).passfile(&passfile);
    let server = server.port(plain.cluster.port());
    // It would let us in.
    pefo_db::list(&server).await.unwrap();
    let error = failure(server.clone().tls(tls.clone())).await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    encrypted.bench = plain;
    insta::assert_snapshot!(shown(&error, &encrypted), @r#"
    PostgreSQL at localhost port PORT has no TLS, and nothing was sent to it in plain text
    set ssl = on with a certificate of the Puppet CA in its postgresql.conf
    "#);
    let plain = &encrypted.bench;
    let authenticated = plain
        .cluster
        .log()
        .matches("connection authenticated")
        .count();
    assert_eq!(authenticated, 1, "{}", plain.cluster.log());
}

#[tokio::test]
async fn a_server_that_wants_tls_is_named_where_none_is_configured() {
    let Some(encrypted) = Encrypted::start() else {
        return;
    };
    let error = failure(encrypted.server("localhost", SPARE)).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(
        error.hint_text().unwrap().contains("set [database] tls"),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_anybody_is_asked() {
    let Some(encrypted) = Encrypted::start() else {
        return;
    };
    let tls = encrypted.tls();
    let server = encrypted.server("localhost", SPARE).tls(tls.clone());
    let pem = encrypted.ca.node_key_pem();
    overwrite(&tls.key, &pem, 0o644);
    let error = failure(server.clone()).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    insta::assert_snapshot!(shown(&error, &encrypted), @r#"
    private key DIR/ours/key.pem has mode 0644: PostgreSQL's programs use no key that others may read
    0600 is right, or 0640 where root owns it; where Puppet needs its key readable for its group, give pefo a copy of its own
    "#);
    overwrite(&tls.key, "not a key", 0o600);
    let error = failure(server.clone()).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("key.pem"), "{error}");
    overwrite(&tls.key, &pem, 0o600);
    overwrite(&tls.ca_cert, "", 0o600);
    let error = failure(server).await;
    assert!(error.message().contains("ca.pem"), "{error}");

    let socket = encrypted.bench.server.clone().tls(tls);
    let error = failure(socket).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("a socket's directory"), "{error}");
}
