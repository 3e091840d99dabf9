//! Makes a copy of NEW out of OLD and the differences, as two hosts would, and says what that took.
//!
//! ```text
//! cargo run --release -p pefo-transport --example delta_copy -- OLD NEW TARGET
//! ```
//!
//! On two hosts, the signature and the delta cross the line; the first and the last step happen where
//! OLD is, the second where NEW is. TARGET appears whole or not at all, and may be OLD itself.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use pefo_core::disk::{Attributes, Disk, NewFile};
use pefo_core::{Error, Result};
use pefo_transport::delta::{PatchLimits, Seed, SignatureOptions, diff, patch, signature};

#[expect(clippy::print_stderr, reason = "a program's last words")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program may print")]
fn run() -> Result<()> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [old, new, target] = &paths[..] else {
        return Err(Error::invalid("usage: delta_copy OLD NEW TARGET"));
    };

    let begin = Instant::now();
    let (file, bytes) = open(old)?;
    let mut signature_bytes = Vec::new();
    let options = SignatureOptions::new(seed()?);
    signature::write(
        BufReader::with_capacity(1 << 18, file),
        bytes,
        &options,
        &mut signature_bytes,
    )
    .map_err(|error| error.context(old.display()))?;
    let signature = signature::parse(&signature_bytes)?;
    let layout = signature.layout();
    println!(
        "signature: {} bytes for {} blocks of {} ({} ms)",
        signature_bytes.len(),
        layout.blocks(),
        layout.block_bytes(),
        begin.elapsed().as_millis()
    );

    let begin = Instant::now();
    let (file, bytes) = open(new)?;
    let mut delta =
        tempfile::tempfile().map_err(|error| Error::io("make a temp file for", target, error))?;
    let diffed =
        diff(&signature, file, bytes, &mut delta).map_err(|error| error.context(new.display()))?;
    println!(
        "delta: {} bytes, {} literal, {} copied ({} ms)",
        diffed.delta_bytes,
        diffed.literal_bytes,
        diffed.copied_bytes,
        begin.elapsed().as_millis()
    );

    let begin = Instant::now();
    let disk = Disk::new();
    let temp = target.with_extension("delta_copy");
    delta
        .rewind()
        .map_err(|error| Error::io("rewind", target, error))?;
    // The digest is known here from the delta's maker; on two hosts, from a signed manifest.
    let limits = PatchLimits::new(bytes).digest(diffed.digest);
    let written = (|| {
        let mut out = Out(disk.create(&temp, &Attributes::mode(0o644))?);
        patch(open(old)?.0, delta, &mut out, &limits)?;
        out.0.finish_durable()?;
        disk.rename(&temp, target)
    })();
    if written.is_err() {
        disk.remove_file(&temp)?;
    }
    written?;
    println!(
        "{}: {} ({} ms)",
        target.display(),
        diffed.digest,
        begin.elapsed().as_millis()
    );
    Ok(())
}

fn open(path: &Path) -> Result<(File, u64)> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (bytes, file) = opened.map_err(|error| Error::io("open", path, error))?;
    Ok((file, bytes))
}

/// A seed for one signature.
fn seed() -> Result<Seed> {
    let source = Path::new("/dev/urandom");
    let mut seed = [0; 16];
    let (mut random, _) = open(source)?;
    random
        .read_exact(&mut seed)
        .map_err(|error| Error::io("read", source, error))?;
    Ok(Seed(seed))
}

/// A new file as a stream.
struct Out(NewFile);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
