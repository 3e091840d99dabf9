//! The ssh server that pefo and its peer both log in to, over the same loopback, with a key each.
//!
//! pefo's key may run one command and nothing else, as the transfer account's is bound; the peer's may
//! run what it likes, as rsync needs it. Both pin the host's key, and no configuration of the user's or
//! the system's plays a part. As root both log in as the test kit's transfer account, whose shell is
//! `/bin/sh` as a transfer account's is: another's may run start-up files before it runs the command.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use pefo_core::{Error, Result};
use pefo_testkit::account::TransferAccount;
use pefo_testkit::skip::{self, Skip};
use pefo_testkit::sshd::{ClientKey, Options, Sshd};

/// The throwaway server and both keys.
pub(crate) struct Ssh {
    sshd: Sshd,
    user: String,
    /// Whose the receivers' directories must be, where it is not this process's account that logs in.
    owner: Option<(u32, u32)>,
    pefo: ClientKey,
    peer: ClientKey,
}

impl Ssh {
    /// Starts it, for receivers that work below `work`.
    ///
    /// # Errors
    /// A skip, where OpenSSH is not installed.
    pub(crate) fn start(work: &Path) -> Result<Self, Skip> {
        skip::require_path(Path::new("/usr/bin/ssh"), "needs-ssh", "openssh-client")?;
        let account = TransferAccount::ensure().ok().filter(|_| is_open(work));
        let owner = account
            .as_ref()
            .map(|account| (account.uid(), account.gid()));
        let user = account.map_or_else(this_user, |account| account.name().to_owned());
        let sshd = Sshd::start(&Options::default().account(&user))?;
        let pefo = ClientKey::generate_named(sshd.directory(), "pefo_key");
        let peer = ClientKey::generate_named(sshd.directory(), "peer_key");
        Ok(Self {
            user,
            owner,
            sshd,
            pefo,
            peer,
        })
    }

    /// Lets pefo's key run `command` and nothing else, and the peer's key in.
    pub(crate) fn admit(&self, command: &str) {
        self.sshd.revoke_all();
        self.sshd.authorize(&self.peer.public_line());
        let command = command.replace('\\', "\\\\").replace('"', "\\\"");
        self.sshd.authorize(&format!(
            "restrict,command=\"{command}\" {}",
            self.pefo.public_line()
        ));
    }

    /// The server's own port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.sshd.port()
    }

    /// Whose the receivers' directories must be, where it is not this process's account that logs in.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// The account that logs in.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The host's public key, `ssh-ed25519 AAAA…`.
    pub(crate) fn host_key(&self) -> String {
        self.sshd.host_public_key()
    }

    /// pefo's private key file.
    pub(crate) fn pefo_identity(&self) -> &Path {
        self.pefo.path()
    }

    /// A known_hosts file that pins the server at `port`, which may be that of a line to it.
    ///
    /// # Errors
    /// A file that can not be written.
    fn known_hosts(&self, port: u16) -> Result<PathBuf> {
        let path = self.sshd.directory().join(format!("known_hosts-{port}"));
        let line = format!("[127.0.0.1]:{port} {}\n", self.host_key());
        #[expect(
            clippy::disallowed_methods,
            reason = "the server's scratch directory is no data of pefo's"
        )]
        let written = std::fs::write(&path, line);
        written.map_err(|error| Error::io("write", &path, error))?;
        Ok(path)
    }

    /// The ssh command of a peer: the user's own configuration plays no part in it.
    ///
    /// # Errors
    /// A known_hosts file that can not be written.
    pub(crate) fn peer_command(&self, port: u16) -> Result<String> {
        Ok(format!(
            "ssh -F /dev/null -p {port} -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} \
             -o StrictHostKeyChecking=yes -o BatchMode=yes",
            self.peer.path().display(),
            self.known_hosts(port)?.display()
        ))
    }
}

/// Whether any account may pass through all directories on the way.
fn is_open(path: &Path) -> bool {
    let passes = |dir: &Path| dir.metadata().is_ok_and(|meta| meta.mode() & 0o001 != 0);
    path.ancestors().all(passes)
}

/// The name of the account this process runs as.
fn this_user() -> String {
    let named = Command::new("id").arg("-un").output();
    let text = named.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Quotes a word for a POSIX shell.
pub(crate) fn shell_word(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}
