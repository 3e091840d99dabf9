//! pefo's side of the tree and delta rows: the example program `tree_mirror` of pefo-transport.
//!
//! `tree_mirror push SOURCE …` logs in with a key that may run one command, `tree_mirror serve DEST
//! STATE …`, and brings DEST up to SOURCE; what it prints is one line of JSON for each sync. Both ends
//! append their peak memory to the file of `--report` as they end. With `--follow` the session stays
//! open and takes relative paths, a line each.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use pefo_core::{Error, ErrorKind, Result};
use pefo_testkit::wait;
use serde::Deserialize;

use crate::process::{self, LIMIT, milliseconds};
use crate::ssh::{Ssh, shell_word};
use crate::world::{Place, World};

/// How long the far end may take to write its report once the near end has ended.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// What a sync did.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Synced {
    /// Whether there was nothing to do.
    pub(crate) unchanged: bool,
    /// How many files were written.
    pub(crate) written: u64,
    /// How many paths were deleted.
    pub(crate) deleted: u64,
}

impl Synced {
    /// Refuses a sync that did something else than the row is about.
    ///
    /// # Errors
    /// Other counts than these.
    pub(crate) fn expect(&self, written: u64, deleted: u64) -> Result<()> {
        let unchanged = written == 0 && deleted == 0;
        if (self.unchanged, self.written, self.deleted) == (unchanged, written, deleted) {
            return Ok(());
        }
        let message =
            format!("{written} files were to be written and {deleted} deleted, but {self:?}");
        Err(Error::invalid(message))
    }
}

/// One pair of source and destination, with the state that both ends keep between syncs.
pub(crate) struct Mirror<'a> {
    world: &'a World,
    ssh: &'a Ssh,
    place: &'a Place,
    source: PathBuf,
    port: u16,
    zstd: bool,
    sessions: usize,
}

impl<'a> Mirror<'a> {
    /// A mirror of `source` to an empty destination, without any state, through `port`.
    ///
    /// # Errors
    /// Directories that can not be made, a program that is not built.
    pub(crate) fn new(
        world: &'a World,
        ssh: &'a Ssh,
        place: &'a Place,
        source: &Path,
        port: u16,
        zstd: bool,
    ) -> Result<Self> {
        let mirror = Self {
            world,
            ssh,
            place,
            source: source.to_owned(),
            port,
            zstd,
            sessions: 0,
        };
        mirror.forget()?;
        let mut command = format!(
            "{} serve {} {} --report {}",
            shell_word(world.mirror()?),
            shell_word(&mirror.destination()),
            shell_word(&place.path().join("receiver-state")),
            shell_word(&mirror.report("receiver"))
        );
        if zstd {
            command.push_str(" --zstd");
        }
        ssh.admit(&command);
        Ok(mirror)
    }

    /// The destination.
    pub(crate) fn destination(&self) -> PathBuf {
        self.place.path().join("pefo")
    }

    /// Empties the destination and both ends' states.
    ///
    /// # Errors
    /// Directories that can not be emptied.
    pub(crate) fn forget(&self) -> Result<()> {
        for name in ["pefo", "receiver-state", "sender-state"] {
            self.place.fresh(name)?;
        }
        Ok(())
    }

    /// One sync in a session of its own; what it took in milliseconds, and what it did. What the receiver
    /// does after its answer (it makes signatures of long files) is waited for, so that nobody's next run
    /// stands beside it.
    ///
    /// # Errors
    /// A program that fails or does not answer as agreed.
    pub(crate) fn push(&mut self) -> Result<(f64, Synced)> {
        self.sessions += 1;
        let ended = process::run(&mut self.command()?, self.place.path())?;
        let synced = parse(&ended.stdout)?;
        self.reports("receiver")?;
        Ok((ended.milliseconds(), synced))
    }

    /// Opens a session that stays open, and waits for its first sync.
    ///
    /// # Errors
    /// As [`Mirror::push`].
    pub(crate) fn follow(&mut self) -> Result<Following> {
        self.sessions += 1;
        let complaints = self.place.path().join("stderr");
        let mut command = self.command()?;
        command
            .arg("--follow")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(process::create(&complaints)?);
        let following = Following::start(&mut command, complaints)?;
        following.answer()?;
        Ok(following)
    }

    /// The largest peak resident memory of both ends over all sessions so far, in KiB.
    ///
    /// # Errors
    /// An end that told nothing, or something else.
    pub(crate) fn peak_kib(&self) -> Result<u64> {
        let mut peak = 0;
        for end in ["sender", "receiver"] {
            for line in self.reports(end)?.lines() {
                let report: Report = serde_json::from_str(line).map_err(|error| {
                    Error::new(ErrorKind::Protocol, format!("report {line:?}: {error}"))
                })?;
                peak = peak.max(report.peak_rss_kib);
            }
        }
        Ok(peak)
    }

    /// What an end has told at the end of every session; the receiver may end later than the sender.
    fn reports(&self, end: &str) -> Result<String> {
        let path = self.report(end);
        let lines = wait::within(REPORT_LIMIT, || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            (text.lines().count() >= self.sessions && text.ends_with('\n')).then_some(text)
        });
        lines.ok_or_else(|| {
            let message = format!(
                "after {} sessions there are fewer lines in {}",
                self.sessions,
                path.display()
            );
            Error::new(ErrorKind::Protocol, message)
        })
    }

    fn report(&self, end: &str) -> PathBuf {
        self.place.path().join(format!("{end}-report"))
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(self.world.mirror()?);
        command
            .arg("push")
            .arg(&self.source)
            .arg("--state")
            .arg(self.place.path().join("sender-state"))
            .args(["--host", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--user", self.ssh.user()])
            .arg("--identity")
            .arg(self.ssh.pefo_identity())
            .args(["--host-key", &self.ssh.host_key()])
            .arg("--report")
            .arg(self.report("sender"));
        if self.zstd {
            command.arg("--zstd");
        }
        Ok(command)
    }
}

/// What an end tells about itself.
#[derive(Deserialize)]
struct Report {
    peak_rss_kib: u64,
}

/// A session that stays open; killed on drop.
pub(crate) struct Following {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
    complaints: PathBuf,
}

impl Following {
    fn start(command: &mut Command, complaints: PathBuf) -> Result<Self> {
        let mut child = process::spawn(command)?;
        let (answer, answers) = mpsc::channel();
        let output = child.stdout.take();
        // Ends with the program's output.
        std::thread::spawn(move || {
            for line in BufReader::new(output?).lines() {
                answer.send(line.ok()?).ok()?;
            }
            Some(())
        });
        Ok(Self {
            input: child.stdin.take(),
            child,
            answers,
            complaints,
        })
    }

    /// Syncs one path: the time from writing it until its answer, in milliseconds, and the answer.
    ///
    /// # Errors
    /// A program that has ended or does not answer as agreed.
    pub(crate) fn sync(&mut self, path: &str) -> Result<(f64, Synced)> {
        let begin = Instant::now();
        let line = format!("{path}\n");
        let written = self.input.as_mut().map(|input| {
            input.write_all(line.as_bytes())?;
            input.flush()
        });
        if !matches!(written, Some(Ok(()))) {
            return Err(self.ended("takes no path"));
        }
        let synced = self.answer()?;
        Ok((milliseconds(begin.elapsed()), synced))
    }

    /// Ends the session and waits for its end.
    ///
    /// # Errors
    /// A program that fails or stays.
    pub(crate) fn close(mut self) -> Result<()> {
        drop(self.input.take());
        let status = wait::within(LIMIT, || self.child.try_wait().ok().flatten());
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.ended(&format!("ended with {status}"))),
            None => Err(self.ended("does not end")),
        }
    }

    fn answer(&self) -> Result<Synced> {
        match self.answers.recv_timeout(LIMIT) {
            Ok(line) => parse(&line),
            Err(_) => Err(self.ended("gives no answer")),
        }
    }

    fn ended(&self, what: &str) -> Error {
        let said = process::quoted(&self.complaints);
        Error::new(ErrorKind::Child, format!("the open session {what}: {said}"))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It may have ended by itself; its ssh session ends with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn parse(line: &str) -> Result<Synced> {
    serde_json::from_str(line).map_err(|error| {
        let message = format!("tree_mirror answered {:?}: {error}", line.trim_end());
        Error::new(ErrorKind::Protocol, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line_of_json_and_held_against_what_the_row_is_about() {
        let line =
            r#"{"unchanged":false,"written":1,"deleted":0,"bytes_sent":9,"bytes_received":7}"#;
        let synced = parse(line).unwrap();
        synced.expect(1, 0).unwrap();
        let text = synced.expect(0, 0).unwrap_err().to_string();
        assert!(text.contains("0 files were to be written"), "{text}");
        assert!(parse("done\n").unwrap_err().to_string().contains("done"));
        assert!(parse(&format!("{line}\n{line}\n")).is_err());
    }
}
