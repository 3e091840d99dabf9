//! Programs run as another system account, and what the system says of accounts.

use std::ffi::OsString;
use std::sync::Arc;

use pefo_core::launch::{Finished, Invocation, Launcher};
use pefo_core::{Error, ErrorKind, Result};

/// Runs programs as another account, through util-linux's setpriv: groups initialised, nothing
/// inherited but what the invocation sets.
pub struct AccountLauncher {
    account: String,
    inner: Arc<dyn Launcher>,
}

impl AccountLauncher {
    /// Runs everything as `account`, started through `inner`.
    pub fn new(account: impl Into<String>, inner: Arc<dyn Launcher>) -> Self {
        Self {
            account: account.into(),
            inner,
        }
    }
}

impl Launcher for AccountLauncher {
    fn run(&self, invocation: &Invocation) -> Result<Finished> {
        let mut outer = Invocation::new("setpriv")
            .arg(format!("--reuid={}", self.account))
            .arg(format!("--regid={}", self.account))
            .arg("--init-groups")
            .arg("--no-new-privs")
            .arg("--");
        outer = outer.arg(invocation.program.clone());
        for argument in &invocation.arguments {
            outer = outer.arg(argument.clone());
        }
        outer.environment = invocation.environment.clone();
        // The working directory of root may be closed to the account.
        outer.directory = invocation.directory.clone().or_else(|| Some("/".into()));
        outer.input = invocation.input.clone();
        self.inner.run(&outer)
    }
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
