//! Owners by name: a user's number differs from host to host.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::bundle::Index;
use crate::error::{Error, Result};

/// The name of a user or a group: never a number, never an option of a program's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(String);

impl AccountName {
    /// Parses a name.
    ///
    /// # Errors
    /// `Invalid`, where it is empty, longer than 64 bytes, a number, begins with `-` or has other characters
    /// than letters, digits and `._-$@\`.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-$@\\".contains(&byte);
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(is_plain)
            && !name.starts_with('-')
            && !name.bytes().all(|byte| byte.is_ascii_digit());
        if is_name {
            Ok(Self(name))
        } else {
            Err(Error::invalid(format!("{name:?} is no name of an account")))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AccountName {
    type Error = Error;
    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<AccountName> for String {
    fn from(name: AccountName) -> Self {
        name.0
    }
}

/// What this host's system knows of accounts; handed in.
pub trait Accounts {
    /// A user's number.
    ///
    /// # Errors
    /// Where the system cannot be asked.
    fn user_id(&self, name: &AccountName) -> Result<Option<u32>>;
    /// A group's number.
    ///
    /// # Errors
    /// As [`Accounts::user_id`].
    fn group_id(&self, name: &AccountName) -> Result<Option<u32>>;
    /// A user's name.
    ///
    /// # Errors
    /// As [`Accounts::user_id`].
    fn user_name(&self, uid: u32) -> Result<Option<AccountName>>;
    /// A group's name.
    ///
    /// # Errors
    /// As [`Accounts::user_id`].
    fn group_name(&self, gid: u32) -> Result<Option<AccountName>>;
}

/// The numbers that an index's accounts have here; those that do not exist here are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    users: BTreeMap<AccountName, u32>,
    groups: BTreeMap<AccountName, u32>,
}

impl Ids {
    /// Looks up every account that `index` names.
    ///
    /// # Errors
    /// Where the system cannot be asked.
    pub fn of(index: &Index, accounts: &dyn Accounts) -> Result<Self> {
        let mut ids = Self::default();
        for (owner, group) in index.accounts() {
            if !ids.users.contains_key(owner)
                && let Some(uid) = accounts.user_id(owner)?
            {
                ids.users.insert(owner.clone(), uid);
            }
            if !ids.groups.contains_key(group)
                && let Some(gid) = accounts.group_id(group)?
            {
                ids.groups.insert(group.clone(), gid);
            }
        }
        Ok(ids)
    }

    /// User and group as numbers, or which of them does not exist here.
    ///
    /// # Errors
    /// What does not exist, as a fragment: `user pe-puppet`.
    pub fn pair(
        &self,
        owner: &AccountName,
        group: &AccountName,
    ) -> std::result::Result<(u32, u32), String> {
        let uid = self
            .users
            .get(owner)
            .ok_or_else(|| format!("user {owner}"))?;
        let gid = self
            .groups
            .get(group)
            .ok_or_else(|| format!("group {group}"))?;
        Ok((*uid, *gid))
    }

    #[cfg(test)]
    pub(super) fn knowing(users: &[(&str, u32)]) -> Self {
        let named = || {
            let named = users.iter();
            named.map(|(name, id)| (AccountName::new(*name).unwrap(), *id))
        };
        Self {
            users: named().collect(),
            groups: named().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_number_and_no_option() {
        for name in ["", "0", "1000", "-root", "a b", "a:b", "a/b", "a\n"] {
            assert!(AccountName::new(name).is_err(), "{name:?}");
        }
        for name in ["root", "pe-puppet", "_apt", "machine$", "svc.x"] {
            assert_eq!(AccountName::new(name).unwrap().as_str(), name);
        }
    }
}
