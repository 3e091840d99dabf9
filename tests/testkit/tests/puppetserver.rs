//! One real puppetserver on a seeded CA: it issues its own certificate, signs, revokes, and refuses
//! what it has revoked. It takes 30 to 90 s, nearly all of it the start of the JVM.

use std::process::Command;
use std::time::Duration;

use pefo_testkit::puppetserver::{Instance, Options, Request};
use pefo_testkit::{place, skip};

/// The file watch of the server's CRL is polled by the JVM; 0.3 s is usual.
const CRL_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_server_on_a_seeded_ca_accepts_what_it_signed_and_refuses_what_it_revoked() {
    let parent = place::directory("puppetserver");
    let options = Options::default().alt_name("puppet.pefo.test");
    let Some(origin) = skip::need(Instance::prepare(
        parent.path(),
        "puppet-a.pefo.test",
        &options,
    )) else {
        return;
    };
    origin.setup_ca();
    let mut server = Instance::prepare(parent.path(), "puppet-b.pefo.test", &options).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .args([origin.cadir(), server.cadir()])
        .status()
        .unwrap();
    assert!(copied.success());
    let seconds = server.start().as_secs_f64();
    // Seen with --nocapture.
    eprintln!("puppetserver was up after {seconds:.1} s");

    // Its own certificate came from the seeded CA, bears both names, and may sign.
    for host in [server.certname(), "puppet.pefo.test"] {
        let status = server.request(&Request::get("/status/v1/simple").host(host));
        assert_eq!(status.expect_accepted("ask for the status"), "running");
    }
    let node = server.agent("node1.pefo.test");
    assert_eq!(
        server.state_of("node1.pefo.test").as_deref(),
        Some("requested")
    );
    assert_eq!(server.state_of("nobody.pefo.test"), None);
    server.sign(&node);
    assert_eq!(
        server.state_of("node1.pefo.test").as_deref(),
        Some("signed")
    );
    assert!(server.ask(&node).is_accepted(), "{:?}", server.ask(&node));
    // Another's node object is refused by HTTP, which is not the same as refused by TLS.
    let other =
        server.request(&Request::get("/puppet/v3/node/x.pefo.test").identity(node.identity()));
    assert!(!other.is_accepted() && !other.is_refused(), "{other:?}");
    let stays = server.enrol("node2.pefo.test");

    let before = server.crl();
    server.revoke("node1.pefo.test");
    let took = server.wait_until_refused(&node, CRL_LIMIT);
    eprintln!(
        "the revocation took effect after {:.2} s",
        took.as_secs_f64()
    );
    assert_ne!(server.crl(), before);
    assert_eq!(
        server.state_of("node1.pefo.test").as_deref(),
        Some("revoked")
    );
    assert!(server.ask(&stays).is_accepted());

    let seconds = server.reload().as_secs_f64();
    eprintln!("reloaded after {seconds:.1} s");
    assert!(server.ask(&node).is_refused() && server.ask(&stays).is_accepted());
    server.stop();
    assert!(!server.is_running());
}
