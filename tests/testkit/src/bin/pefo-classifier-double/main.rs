//! `pefo-classifier-double`: the classifier double as a program, to test tools in any language against.
//!
//! It listens on 127.0.0.1 only, prints one line of JSON on standard output once it does (where, and
//! which certificates it has written), and runs until a signal ends it. It has nothing to put away:
//! groups live in memory, and the certificates stay for who was given their paths. Its exit code is 2
//! for a command line that cannot be understood, 1 where it cannot start.

mod arguments;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser as _;
use pefo_core::disk::{Attributes, Disk};
use pefo_testkit::classifier::ClassifierDouble;
use serde_json::{Map, Value, json};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(_double) => loop {
            // The default action of SIGINT and SIGTERM is all that is needed.
            std::thread::park();
        },
        Err(error) => {
            drop(writeln!(
                std::io::stderr(),
                "pefo-classifier-double: {error}"
            ));
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<ClassifierDouble, String> {
    let double = ClassifierDouble::try_start(arguments.options()).map_err(|error| {
        format!(
            "failed to bind port {} of 127.0.0.1: {error}",
            arguments.port
        )
    })?;
    double.deploy_classes(arguments.classes());
    double.deploy_classes_of(arguments.groups_of_classes());
    for injection in &arguments.faults {
        double.inject(injection.clone());
    }
    let mut line = json!({"url": double.url(), "port": double.port()});
    if let Some(dir) = &arguments.pki {
        let written = write_pki(&double, dir, &arguments.allow);
        line["pki"] = written.map_err(|error| format!("failed to write certificates: {error}"))?;
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("failed to say where it listens: {error}"))?;
    Ok(double)
}

/// Writes the CA's, the server's and the clients' certificates and keys, and tells their paths.
fn write_pki(double: &ClassifierDouble, dir: &Path, cns: &[String]) -> pefo_core::Result<Value> {
    let disk = Disk::new();
    disk.create_dir_all(dir, &Attributes::mode(0o700))?;
    let put = |name: String, pem: &str, mode: u32| {
        let path = dir.join(name);
        disk.publish(&path, pem.as_bytes(), &Attributes::mode(mode))?;
        Ok::<_, pefo_core::Error>(json!(path))
    };
    let pair = |name: &str, certificate: &str, key: &str| {
        Ok::<_, pefo_core::Error>(json!({
            "certificate": put(format!("{name}.pem"), certificate, 0o644)?,
            "key": put(format!("{name}.key"), key, 0o600)?,
        }))
    };
    let mut clients = Map::new();
    for cn in cns {
        let client = double.client(cn);
        let written = pair(
            &format!("client-{cn}"),
            &client.certificate_pem,
            &client.key_pem,
        )?;
        clients.insert(cn.clone(), written);
    }
    let pki = double.pki();
    Ok(json!({
        "ca": put("ca.pem".to_owned(), &pki.ca_pem, 0o644)?,
        "server": pair("server", &pki.server_certificate_pem, &pki.server_key_pem)?,
        "clients": clients,
    }))
}
