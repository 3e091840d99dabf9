//! Accounts as this host's system knows them (files, LDAP, …).

use pefo_core::Result;
use pefo_core::files::{AccountName, Accounts};
use pefo_core::launch::Launcher;

use crate::host::Host;
use crate::launcher::{account, group_id, name_of};

/// Asks the system.
pub(super) struct SystemAccounts<'a> {
    launcher: &'a dyn Launcher,
}

impl<'a> SystemAccounts<'a> {
    pub(super) fn of(host: &'a Host) -> Self {
        Self {
            launcher: &*host.launcher,
        }
    }

    /// One whose name is none is as good as none.
    fn name(&self, database: &str, id: u32) -> Result<Option<AccountName>> {
        let name = name_of(self.launcher, database, id)?;
        Ok(name.and_then(|name| AccountName::new(name).ok()))
    }
}

impl Accounts for SystemAccounts<'_> {
    fn user_id(&self, name: &AccountName) -> Result<Option<u32>> {
        Ok(account(self.launcher, name.as_str())?.map(|account| account.uid))
    }

    fn group_id(&self, name: &AccountName) -> Result<Option<u32>> {
        group_id(self.launcher, name.as_str())
    }

    fn user_name(&self, uid: u32) -> Result<Option<AccountName>> {
        self.name("passwd", uid)
    }

    fn group_name(&self, gid: u32) -> Result<Option<AccountName>> {
        self.name("group", gid)
    }
}
