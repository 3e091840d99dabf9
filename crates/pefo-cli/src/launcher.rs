//! Programs run as another system account, and what the system says of accounts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use pefo_core::launch::{Finished, Invocation, Launcher, Watch};
use pefo_core::{Error, ErrorKind, Result};

/// Runs programs as another account, through util-linux's setpriv: groups initialised, nothing
/// inherited but what the invocation sets.
pub struct AccountLauncher {
    account: String,
    group: String,
    inner: Arc<dyn Launcher>,
}

impl AccountLauncher {
    /// Runs everything as `account` and the group of the same name, started through `inner`.
    pub fn new(account: impl Into<String>, inner: Arc<dyn Launcher>) -> Self {
        let account = account.into();
        Self {
            group: account.clone(),
            account,
            inner,
        }
    }

    /// Runs everything as an account that was looked up, and its primary group.
    pub fn of(account: &Account, inner: Arc<dyn Launcher>) -> Self {
        Self {
            account: account.name.clone(),
            group: account.gid.to_string(),
            inner,
        }
    }
}

impl AccountLauncher {
    fn through_setpriv(&self, invocation: &Invocation) -> Invocation {
        let outer = Invocation::new("setpriv")
            .arg(format!("--reuid={}", self.account))
            .arg(format!("--regid={}", self.group))
            .arg("--init-groups")
            .arg("--no-new-privs")
            .arg("--");
        let mut outer = around(outer, invocation);
        // The working directory of root may be closed to the account.
        outer.directory.get_or_insert_with(|| "/".into());
        outer
    }
}

/// setpriv becomes the program, so what is said to it is said to the program.
impl Launcher for AccountLauncher {
    fn run(&self, invocation: &Invocation) -> Result<Finished> {
        self.inner.run(&self.through_setpriv(invocation))
    }

    fn run_watched(&self, invocation: &Invocation, watch: &Watch<'_>) -> Result<Finished> {
        self.inner
            .run_watched(&self.through_setpriv(invocation), watch)
    }
}

/// Runs programs that get SIGTERM should this process die, however it dies: pefo itself asks the kernel
/// for that, and then becomes the program (`pefo db tied`).
pub struct TiedLauncher {
    pefo: PathBuf,
    inner: Arc<dyn Launcher>,
}

impl TiedLauncher {
    /// Ties everything to this process; started through `inner`, which must wait for a program on the
    /// thread that has started it: to the kernel, that one is the parent.
    ///
    /// # Errors
    /// `Io`, where this program's own file cannot be found.
    pub fn new(inner: Arc<dyn Launcher>) -> Result<Self> {
        let pefo = std::env::current_exe()
            .map_err(|error| Error::new(ErrorKind::Io, "find this program").with_source(error))?;
        Ok(Self { pefo, inner })
    }

    fn tied(&self, invocation: &Invocation) -> Invocation {
        let outer = Invocation::new(self.pefo.clone())
            .arg("db")
            .arg("tied")
            .arg(std::process::id().to_string())
            .arg("--");
        around(outer, invocation)
    }
}

impl Launcher for TiedLauncher {
    fn run(&self, invocation: &Invocation) -> Result<Finished> {
        self.inner.run(&self.tied(invocation))
    }

    fn run_watched(&self, invocation: &Invocation, watch: &Watch<'_>) -> Result<Finished> {
        self.inner.run_watched(&self.tied(invocation), watch)
    }
}

/// `invocation` as the last arguments of `outer`, and all else as it was.
fn around(outer: Invocation, invocation: &Invocation) -> Invocation {
    let mut whole = invocation.clone();
    whole.program = outer.program;
    whole.arguments = outer.arguments;
    whole.arguments.push(invocation.program.clone());
    whole.arguments.extend(invocation.arguments.iter().cloned());
    whole
}

/// A system account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its primary group's id.
    pub gid: u32,
    /// Its home directory.
    pub home: String,
}

/// Looks an account up the way the system does (files, LDAP, …).
///
/// # Errors
/// `Child`, where getent cannot be run or answers nonsense.
pub fn account(launcher: &dyn Launcher, name: &str) -> Result<Option<Account>> {
    let Some(fields) = getent(launcher, "passwd", name)? else {
        return Ok(None);
    };
    let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
    match (number(2), number(3), fields.get(5)) {
        (Some(uid), Some(gid), Some(home)) => Ok(Some(Account {
            name: name.to_owned(),
            uid,
            gid,
            home: home.clone(),
        })),
        _ => Err(Error::new(
            ErrorKind::Child,
            format!("getent passwd {name}: the answer is malformed"),
        )),
    }
}

/// Looks a group's id up.
///
/// # Errors
/// As [`account`].
pub fn group_id(launcher: &dyn Launcher, name: &str) -> Result<Option<u32>> {
    Ok(getent(launcher, "group", name)?.and_then(|fields| fields.get(2)?.parse().ok()))
}

/// The name of a user (`passwd`) or a group (`group`) with this number.
///
/// # Errors
/// As [`account`].
pub fn name_of(launcher: &dyn Launcher, database: &str, id: u32) -> Result<Option<String>> {
    let fields = getent(launcher, database, &id.to_string())?;
    Ok(fields.and_then(|fields| fields.into_iter().next()))
}

fn getent(launcher: &dyn Launcher, database: &str, name: &str) -> Result<Option<Vec<String>>> {
    let invocation = Invocation::new("getent")
        .arg(database)
        .arg(OsString::from(name));
    let finished = launcher.run(&invocation)?;
    if finished.code == Some(2) {
        return Ok(None);
    }
    let finished = finished.success(&invocation)?;
    let text = String::from_utf8_lossy(&finished.stdout);
    Ok(text
        .lines()
        .next()
        .map(|line| line.split(':').map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pefo_core::launch::DirectLauncher;

    #[test]
    fn what_is_run_as_an_account_is_heard_and_stopped_as_any_program() {
        use std::cell::RefCell;
        if !rustix::process::geteuid().is_root() {
            return pefo_testkit::skip::announce(&pefo_testkit::skip::Skip::new(
                "needs-root",
                "another account needs root",
            ));
        }
        let (cancel, lines) = (pefo_core::cancel::Cancel::new(), RefCell::new(Vec::new()));
        let hear = |line: &str| {
            lines.borrow_mut().push(line.to_owned());
            cancel.cancel();
        };
        let launcher = AccountLauncher::new("daemon", Arc::new(DirectLauncher::default()));
        let script = "id -un >&2; while :; do sh -c :; done";
        let error = launcher
            .run_watched(
                &Invocation::new("sh").arg("-c").arg(script),
                &Watch::new(&cancel, &hear),
            )
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(lines.into_inner(), ["daemon"]);
    }

    #[test]
    fn accounts_are_looked_up_as_the_system_does() {
        let root = account(&DirectLauncher::default(), "root")
            .unwrap()
            .unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(
            account(&DirectLauncher::default(), "no-such-account-here").unwrap(),
            None
        );
    }
}
