//! Restores a dump beside the live database, compares it with its manifest, and swaps it in only if told to.
//!
//! ```text
//! cargo run --example db_restore -- /var/run/postgresql 5432 postgres pe-rbac /var/lib/dumps/pe-rbac [--swap]
//! ```

#![expect(clippy::print_stdout, reason = "the example prints what it does")]

use std::path::Path;
use std::sync::Arc;

use pefo_core::clock::SystemClock;
use pefo_core::launch::DirectLauncher;
use pefo_core::progress::Silent;
use pefo_core::{Error, Result};
use pefo_db::{
    DatabaseName, DumpManifest, RestoreOptions, Server, ServerFacts, Tools, discard, plan_restore,
    prepare, swap_in,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, port, user, database, dir, rest @ ..] = arguments.as_slice() else {
        return Err(Error::invalid(
            "give the socket's directory, port, user, database and the dump's directory",
        ));
    };
    let port = port
        .parse()
        .map_err(|_| Error::invalid(format!("{port:?} is no port")))?;
    let server = Server::on_socket(socket, user).port(port);
    let tools = Tools::new(Arc::new(DirectLauncher::default()));
    let (database, dir) = (DatabaseName::new(database.as_str())?, Path::new(dir));

    // Facts and manifest make a plan, which is a value: it can be shown, or refuse.
    let manifest = DumpManifest::read(dir)?;
    let facts = ServerFacts::gather(&server, &tools, &manifest, &database).await?;
    let plan = plan_restore(&manifest, &facts, &database, &RestoreOptions::default())?;
    for step in plan.steps() {
        println!("plan: {step}");
    }
    let prepared = prepare(&server, &tools, &plan, dir, &SystemClock, &Silent).await?;
    println!(
        "{} holds {} tables with {} rows, as dumped; {database} was not touched",
        prepared.shadow, prepared.report.tables, prepared.report.rows
    );
    // Here an embedder stops whatever uses the database.
    if !rest.iter().any(|word| word == "--swap") {
        return discard(&server, &prepared).await;
    }
    let report = swap_in(&server, prepared, &SystemClock, &Silent).await?;
    if let Some(swap) = report.swap {
        println!(
            "{database} is live, unreachable for {} ms",
            swap.unreachable_ms
        );
    }
    Ok(())
}
