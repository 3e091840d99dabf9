//! Two hosts: programs that send on one, an sshd that starts what receives on the other, and a line
//! between them that fails when it is told to.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pefo_testkit::line::{Direction, Line};
use pefo_testkit::skip::Skip;
use pefo_testkit::sshd::{ClientKey, Options, Sshd};
use pefo_testkit::wait;
use pefo_transport::SshTarget;
use rustix::process::{Pid, Signal};

/// What a busy machine needs at most.
pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const BOTH: [Direction; 2] = [Direction::Forward, Direction::Back];

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) line: Line,
    sshd: Sshd,
    client: ClientKey,
    user: String,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn goes_through(self) -> Self {
        assert!(self.status.success(), "{self:?}");
        self
    }

    /// It failed, and said why and what to do.
    #[track_caller]
    pub(crate) fn is_told(&self) {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        assert!(self.err.contains("hint: "), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

impl World {
    pub(crate) fn new() -> Result<Self, Skip> {
        let sshd = Sshd::start(&Options::default())?;
        let dir = scratch();
        let client = ClientKey::generate(dir.path());
        let id = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(id.stdout).unwrap().trim().to_owned();
        Ok(Self {
            line: Line::to(("127.0.0.1", sshd.port())),
            dir,
            sshd,
            client,
            user,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lets the far host start a program for whoever logs in; it notes its process id first.
    pub(crate) fn receiver(&self, command: &str) {
        let (script, pid) = (self.path("receiver.sh"), self.path("receiver.pid"));
        let (pid, new) = (pid.display(), self.path("receiver.new"));
        let new = new.display();
        std::fs::write(
            &script,
            format!("echo $$ > {new}\nmv {new} {pid}\nexec {command}\n"),
        )
        .unwrap();
        self.sshd.authorize(&format!(
            "restrict,command=\"exec sh {}\" {}",
            script.display(),
            self.client.public_line()
        ));
    }

    /// The end of the line, for a sender in this process.
    pub(crate) fn target(&self) -> SshTarget {
        SshTarget::new(
            "127.0.0.1",
            self.line.port(),
            self.user.clone(),
            self.client.path(),
            vec![self.sshd.host_public_key()],
        )
    }

    /// Host, port, user, identity and host key: the same for a program.
    pub(crate) fn far_end(&self) -> [String; 5] {
        [
            "127.0.0.1".to_owned(),
            self.line.port().to_string(),
            self.user.clone(),
            self.client.path().display().to_string(),
            self.sshd.host_public_key(),
        ]
    }

    /// Forgets the receiver that was last started.
    pub(crate) fn forget_receiver(&self) {
        drop(std::fs::remove_file(self.path("receiver.pid")));
    }

    pub(crate) fn receiver_pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.path("receiver.pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    /// `kill -9`, where it still lives; tells whether it did.
    pub(crate) fn kill_receiver(&self) -> bool {
        let Some(pid) = self.receiver_pid() else {
            return false;
        };
        // Once it has ended, its number may be another's.
        let shown = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        let shown = String::from_utf8_lossy(&shown.unwrap_or_default()).into_owned();
        shown.contains(self.dir.path().to_str().unwrap())
            && rustix::process::kill_process(pid, Signal::KILL).is_ok()
    }

    pub(crate) fn passed(&self) -> [u64; 2] {
        BOTH.map(|direction| self.line.passed(direction))
    }

    /// What passed in each direction while `work` was done.
    pub(crate) fn passing(&self, work: impl FnOnce()) -> [u64; 2] {
        let before = self.passed();
        work();
        let after = self.passed();
        [after[0] - before[0], after[1] - before[1]]
    }

    /// Runs a sender to its end, and tells how long after the receiver's start that was.
    pub(crate) fn working_time(&self, sender: &mut Command) -> Duration {
        self.forget_receiver();
        let mut child = quiet(sender).spawn().unwrap();
        wait::until("the receiver", LONG, || self.receiver_pid().is_some());
        let begun = Instant::now();
        assert!(child.wait().unwrap().success());
        begun.elapsed()
    }

    /// Starts a sender, and kills one side so long after the receiver has begun; tells whether there
    /// was anything to kill.
    pub(crate) fn kill_after(&self, sender: &mut Command, side: Side, life: Duration) -> bool {
        self.forget_receiver();
        let mut child = quiet(sender).spawn().unwrap();
        wait::until("the receiver", LONG, || self.receiver_pid().is_some());
        // The deadline is the moment of the kill.
        let ended = wait::within(life, || child.try_wait().unwrap()).is_some();
        match side {
            Side::Receiver => {
                let killed = !ended && self.kill_receiver();
                child.wait().unwrap();
                killed
            }
            Side::Sender => {
                child.kill().unwrap();
                !child.wait().unwrap().success()
            }
        }
    }
}

/// Which process goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

/// Runs it to its end, which must come: a program that is told nothing gives up after a minute.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Run {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = wait::within(3 * LONG, || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended.is_some(), "{command:?} hangs: {output:?}");
    Run {
        status: output.status,
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What came of a run that was tried as long as another one held the lock.
#[track_caller]
pub(crate) fn in_time<T>(came: Option<T>) -> T {
    came.unwrap_or_else(|| panic!("the lock stays"))
}

/// An example program, built before the tests are run.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let program = target.join("examples").join(name);
    assert!(
        program.is_file(),
        "no {}: run 'cargo build -p pefo-transport --examples'",
        program.display()
    );
    program
}

/// In memory where there is such a place: how slow a disk is, is not what these tests are about.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap()
}

/// So many rounds, or a multiple of that where it was asked for.
pub(crate) fn rounds(usual: u32) -> u32 {
    usual * number("PEFO_FAULT_ROUNDS").map_or(1, |times| times.max(1) as u32)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Evenly spread numbers from 0 to `end`, with both.
pub(crate) fn spread(count: u32, end: u64) -> impl Iterator<Item = u64> {
    let steps = u64::from(count.max(2) - 1);
    (0..=steps).map(move |step| end * step / steps)
}

/// Random moments, the same for the same seed.
pub(crate) struct Moments {
    pub(crate) seed: u64,
    state: u64,
}

impl Moments {
    pub(crate) fn new() -> Self {
        let seed = number("PEFO_FAULT_SEED").unwrap_or_else(|| {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            now.as_nanos() as u64
        });
        Self {
            seed,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// Somewhere within this time.
    pub(crate) fn within(&mut self, time: Duration) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        time.mul_f64((self.state >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// Bytes that do not shrink, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

/// What the test needs, or its end where this machine does not have it.
macro_rules! need {
    ($made:expr) => {
        match pefo_testkit::skip::need($made) {
            Some(made) => made,
            None => return,
        }
    };
}
pub(crate) use need;
