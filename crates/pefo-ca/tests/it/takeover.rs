//! A host that takes over: its serials, its CRLs, and what it takes from the one before.

mod block;
mod merge;
mod signing;
mod split;
mod union;

use std::process::Command;

use pefo_ca::crl::Crl;
use pefo_ca::serial::Serial;
use pefo_ca::takeover::CrlSigner;

use super::*;

fn signer(dir: &Path) -> CrlSigner {
    let snapshot = snap(dir);
    let layout = CaLayout::at(dir).unwrap();
    CrlSigner::load(&layout, snapshot.chain().unwrap().signing()).unwrap()
}

/// Our CRL in `ca_crl.pem`.
fn our_crl(dir: &Path) -> Crl {
    let snapshot = snap(dir);
    let signing = snapshot.chain().unwrap().signing();
    snapshot.ca_crl().unwrap().find(signing).unwrap().clone()
}

fn serial(number: u32) -> Serial {
    Serial::from(number)
}

/// Runs OpenSSL; `None`, and a line that says so, where there is none.
#[expect(clippy::print_stdout, reason = "a test that was skipped says so")]
fn openssl(args: &[&str], dir: &Path) -> Option<std::process::Output> {
    match Command::new("openssl").args(args).current_dir(dir).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: openssl: {error}");
            None
        }
    }
}

/// What OpenSSL, which knows nothing of this crate, says of the first CRL of a file.
fn openssl_verifies(dir: &Path, crls: &str) -> bool {
    let args = [
        "crl",
        "-in",
        crls,
        "-noout",
        "-verify",
        "-CAfile",
        "ca_crt.pem",
    ];
    openssl(&args, dir).is_none_or(|output| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success() && said.contains("verify OK")
    })
}
