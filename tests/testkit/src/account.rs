//! An unprivileged system account for tests, in the place of the transfer account.
//!
//! It has a shell, `/bin/sh`, and a password that matches nothing (`*`), so that sshd lets it in by
//! key: an account *locked* by `!` would be turned away. It owns its home, `/var/lib/pefo-testkit/home`,
//! and nothing else. It is made once and stays; making it is serialised between test processes by a
//! lock that dies with its holder.

#![expect(
    clippy::disallowed_methods,
    reason = "the lock between test processes is no data of pefo's"
)]

use std::fs::OpenOptions;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::FlockOperation;

use crate::place;
use crate::skip::{self, Skip};

/// The account's name.
pub const NAME: &str = "pefo-transfer";

const USERADD: &str = "/usr/sbin/useradd";

/// An account of this system: who it is and where it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
}

impl Account {
    /// Looks an account up in the system's user database.
    pub fn find(name: &str) -> Option<Self> {
        let output = Command::new("getent")
            .args(["passwd", name])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        // name:password:uid:gid:comment:home:shell, passwd(5)
        let fields: Vec<&str> = text.trim_end().split(':').collect();
        let [found, _, uid, gid, _, home, _] = fields.as_slice() else {
            return None;
        };
        Some(Self {
            name: (*found).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: PathBuf::from(home),
        })
    }

    /// The account's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its user id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its group id.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Its home, which it owns.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A command that runs `program` as the account: its ids, no other group, a bare environment, in
    /// its home. The caller adds arguments and runs it.
    pub fn command(&self, program: &str) -> Command {
        self.command_at(&self.home, program)
    }

    /// As [`Account::command`], with another home.
    ///
    /// It goes through `setpriv`, which keeps the process id: what is killed is the program itself.
    pub fn command_at(&self, home: &Path, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", self.uid))
            .arg(format!("--regid={}", self.gid))
            .args(["--clear-groups", "--", program]);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LC_ALL", "C")
            .env("SHELL", "/bin/sh")
            .envs([("USER", &self.name), ("LOGNAME", &self.name)])
            .env("HOME", home)
            .current_dir(home);
        command
    }

    /// Runs a shell script as the account, to its end.
    ///
    /// # Panics
    /// Where it can not be started.
    pub fn run(&self, script: &str) -> Output {
        run_as(self, ["/bin/sh", "-c", script])
    }
}

/// The tests' transfer account, an [`Account`] that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferAccount(Account);

impl TransferAccount {
    /// Finds the account, or makes it.
    ///
    /// # Errors
    /// A skip, where this process is not root or there is no `useradd`.
    ///
    /// # Panics
    /// Where `useradd` fails, or an account of that name exists that is not the test kit's.
    pub fn ensure() -> Result<Self, Skip> {
        skip::require_root("making a system account")?;
        skip::require_path(Path::new(USERADD), "needs-useradd", "passwd")?;
        place::make_traversable(Path::new(place::ROOT));
        let _lock = lock(&Path::new(place::ROOT).join("account.lock"));
        let home = Path::new(place::ROOT).join("home");
        let account = Account::find(NAME).unwrap_or_else(|| add(&home));
        assert_eq!(
            account.home, home,
            "the account {NAME} of this host is not the test kit's; remove it first"
        );
        if !home.is_dir() {
            place::make_traversable(&home);
        }
        let owner = |path: &Path| std::fs::metadata(path).map(|meta| meta.uid());
        if owner(&home).ok() != Some(account.uid)
            && let Err(error) =
                std::os::unix::fs::chown(&home, Some(account.uid), Some(account.gid))
        {
            panic!("give {} to {NAME}: {error}", home.display());
        }
        Ok(Self(account))
    }
}

impl Deref for TransferAccount {
    type Target = Account;
    fn deref(&self) -> &Account {
        &self.0
    }
}

/// Runs `command`, a program and its arguments, as `account`, to its end.
///
/// # Panics
/// Where `command` is empty or can not be started.
pub fn run_as<'a>(account: &Account, command: impl IntoIterator<Item = &'a str>) -> Output {
    let mut words = command.into_iter();
    let Some(program) = words.next() else {
        panic!("no program to run as {}", account.name)
    };
    match account.command(program).args(words).output() {
        Ok(output) => output,
        Err(error) => panic!("run {program} as {}: {error}", account.name),
    }
}

fn add(home: &Path) -> Account {
    let output = Command::new(USERADD)
        .args([
            "--system",
            "--user-group",
            "--shell",
            "/bin/sh",
            "--password",
            "*",
        ])
        .args([
            "--comment",
            "account of pefo's tests",
            "--no-create-home",
            "--home-dir",
        ])
        .arg(home)
        .arg(NAME)
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "useradd {NAME}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => panic!("run useradd: {error}"),
    }
    match Account::find(NAME) {
        Some(account) => account,
        None => panic!("useradd reported success, but there is no account {NAME}"),
    }
}

/// Holds an exclusive lock on `path` until the value is dropped.
fn lock(path: &Path) -> std::fs::File {
    let file = match OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
    {
        Ok(file) => file,
        Err(error) => panic!("open the lock {}: {error}", path.display()),
    };
    if let Err(error) = rustix::fs::flock(&file, FlockOperation::LockExclusive) {
        panic!("lock {}: {error}", path.display());
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_unprivileged_and_found_again() {
        let Some(account) = skip::need(TransferAccount::ensure()) else {
            return;
        };
        assert_ne!(account.uid(), 0);
        assert_eq!(TransferAccount::ensure().unwrap(), account);
        let output =
            account.run("id -u; id -G; pwd; touch mine && rm mine && echo writes; cat /etc/shadow");
        let text = String::from_utf8(output.stdout).unwrap();
        let home = account.home().display();
        assert_eq!(
            text,
            format!("{}\n{}\n{home}\nwrites\n", account.uid(), account.gid())
        );
        assert!(!output.status.success(), "the account reads /etc/shadow");
    }

    #[test]
    fn many_at_once_get_the_same_account() {
        if skip::need(TransferAccount::ensure()).is_none() {
            return;
        }
        let threads: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| TransferAccount::ensure().unwrap()))
            .collect();
        let mut accounts: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        accounts.dedup();
        assert_eq!(accounts.len(), 1);
    }
}
