//! Keeps a directory on another host as it is here, over ssh. Both sides are this program.
//!
//! On the host that keeps the copy, in `authorized_keys`:
//!
//! ```text
//! restrict,command="tree_mirror serve DEST STATE" ssh-ed25519 AAAA…
//! ```
//!
//! On the host that has the directory, once, or with `--follow` for every path that is written to its
//! standard input, one a line:
//!
//! ```text
//! tree_mirror push SOURCE --state DIR --host H --port P --user U --identity FILE --host-key 'ssh-ed25519 AAAA…'
//! ```
//!
//! It exits with 0 where the copy is as the source, 2 where something was left for a later run (what could
//! not be read, changed meanwhile, or was not deleted), 1 where nothing came of it.
//!
//! `--zstd` compresses; `--report FILE` appends the process's peak memory to FILE, for benchmarks.

use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use pefo_core::cancel::Cancel;
use pefo_core::clock::SystemClock;
use pefo_core::disk::{Attributes, Disk};
use pefo_core::keys::{random_bytes, system_random};
use pefo_core::progress::Silent;
use pefo_core::{Error, RelPath, Result};
use pefo_transport::delta::Seed;
use pefo_transport::receive::IdleLimited;
use pefo_transport::{
    SshTarget, Synced, TreeConnection, TreeOptions, TreeReceiver, TreeReceiverOptions, TreeSource,
};

const TOOL: &str = concat!("tree_mirror ", env!("CARGO_PKG_VERSION"));
const USAGE: &str = "usage: tree_mirror serve DEST STATE [--report FILE]\n       tree_mirror push SOURCE --state DIR --host H --port P --user U --identity FILE --host-key KEY [--zstd] [--follow] [--report FILE]";

#[expect(
    clippy::print_stderr,
    reason = "a program's last words; standard output may be the line"
)]
fn main() -> ExitCode {
    let mut arguments = Arguments(std::env::args().skip(1).collect());
    let report = arguments.value("--report").map(PathBuf::from);
    let done = match arguments.next().as_deref() {
        Some("serve") => serve(&mut arguments).map(|()| true),
        Some("push") => push(&mut arguments),
        _ => Err(Error::invalid(USAGE)),
    };
    let done = done.and_then(|complete| {
        report.map_or(Ok(()), |path| report_memory(&path))?;
        Ok(complete)
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("{error}");
            if let Some(hint) = error.hint_text() {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The side that keeps the copy: one session on standard input and output.
fn serve(arguments: &mut Arguments) -> Result<()> {
    let (dest, state) = (arguments.required()?, arguments.required()?);
    let receiver = TreeReceiver::new(TreeReceiverOptions::new(dest, state, TOOL));
    let descriptor = |fd: std::os::fd::BorrowedFd<'_>| {
        let closed = |error| Error::io("take over", Path::new("standard input and output"), error);
        fd.try_clone_to_owned().map(File::from).map_err(closed)
    };
    let input = descriptor(std::io::stdin().as_fd())?;
    let mut output = descriptor(std::io::stdout().as_fd())?;
    let mut input = IdleLimited::new(input, Duration::from_secs(600));
    let seed = Seed(random_bytes(&system_random())?);
    receiver
        .serve(&mut input, &mut output, &Disk::new(), &SystemClock, seed)
        .map(drop)
}

/// The side that has the directory; whether the copy is now as the source is.
fn push(arguments: &mut Arguments) -> Result<bool> {
    let follow = arguments.flag("--follow");
    let compression = i32::from(arguments.flag("--zstd"));
    let state = PathBuf::from(arguments.required_value("--state")?);
    let target = SshTarget::new(
        arguments.required_value("--host")?,
        arguments
            .required_value("--port")?
            .parse()
            .map_err(|_| Error::invalid("--port is not a port"))?,
        arguments.required_value("--user")?,
        arguments.required_value("--identity")?,
        vec![arguments.required_value("--host-key")?],
    );
    let disk = Disk::new();
    disk.create_dir_all(&state, &Attributes::mode(0o700))?;
    let root = arguments.required()?;
    let options = TreeOptions::new(TOOL).compression(compression);
    // The directory is looked at while the line is being opened.
    let (looked, line) = std::thread::scope(|scope| {
        let opening = scope.spawn(|| TreeConnection::open(&target, options));
        let mut source = TreeSource::new(root).cached(state.join("digests"));
        let looked = source
            .scan(&SystemClock, &Cancel::new())
            .map(|scan| (source, scan));
        let failed = |_| Error::invalid("the line could not be opened");
        (looked, opening.join().map_err(failed).and_then(|line| line))
    });
    let ((mut source, scan), mut line) = (looked?, line?);
    let synced = line.sync(&source, scan, &Silent)?;
    let mut complete = synced.is_complete();
    show(&synced)?;
    if follow {
        for path in std::io::stdin().lock().lines() {
            let path =
                path.map_err(|error| Error::io("read", Path::new("standard input"), error))?;
            let path = RelPath::new(path)?;
            let synced = line.change(&mut source, &[path], &SystemClock, &Silent)?;
            complete &= synced.is_complete();
            show(&synced)?;
        }
    }
    line.leave()?;
    source.keep(&disk)?;
    Ok(complete)
}

fn show(synced: &Synced) -> Result<()> {
    let shown = serde_json::json!({
        "unchanged": synced.unchanged,
        "complete": synced.is_complete(),
        "written": synced.committed.written,
        "copied": synced.committed.copied,
        "deleted": synced.committed.deleted,
        "held": synced.committed.held,
        "skipped": synced.committed.skipped,
        "bytes_sent": synced.traffic.sent,
        "bytes_received": synced.traffic.received,
        "bytes_saved": synced.saved_bytes,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{shown}")
        .and_then(|()| out.flush())
        .map_err(|error| Error::io("write", Path::new("standard output"), error))
}

/// Appends `{"peak_rss_kib": n}`.
#[expect(
    clippy::disallowed_methods,
    reason = "a note for a benchmark is no state of anybody's"
)]
fn report_memory(path: &Path) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("0");
    let mut options = std::fs::OpenOptions::new();
    let opened = options.append(true).create(true).open(path);
    opened
        .and_then(|mut file| writeln!(file, "{{\"peak_rss_kib\":{kib}}}"))
        .map_err(|error| Error::io("write", path, error))
}

/// What stands on the command line.
struct Arguments(Vec<String>);

impl Arguments {
    fn next(&mut self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    fn required(&mut self) -> Result<String> {
        self.next().ok_or_else(|| Error::invalid(USAGE))
    }

    fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|argument| argument == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|argument| argument == name)?;
        self.0.remove(at);
        (at < self.0.len()).then(|| self.0.remove(at))
    }

    fn required_value(&mut self, name: &str) -> Result<String> {
        self.value(name).ok_or_else(|| Error::invalid(USAGE))
    }
}
