//! A throwaway OpenSSH server on a free port of 127.0.0.1, or of a host of a [`crate::network`].
//!
//! What it guarantees: a configuration, host key, log and key file of its own, nothing of
//! `/etc/ssh`; only public keys are accepted, for the accounts it was given; the key file belongs to
//! root and `StrictModes` is on (as root). It is ready when it has sent its banner, and on drop the
//! server and every session are dead.
//!
//! As root it lets any account in that [`Options::account`] names; as an ordinary user it serves
//! that user alone (sshd can not become another), with `StrictModes` off, because the key file then
//! lies below the world-writable temporary directory.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::child::Child;
use crate::network::Host;
use crate::processes::{descendants, kill_all};
use crate::skip::{self, Skip};
use crate::{place, wait};

const SSHD: &str = "/usr/sbin/sshd";
/// Another process may take a port between our looking for a free one and sshd's binding it.
const PORTS_TRIED: u32 = 5;
const READY_LIMIT: Duration = Duration::from_secs(20);

/// Whom the server lets in, and what else stands in its configuration.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The accounts that may log in; where there is none, the one this process runs as.
    pub accounts: Vec<String>,
    /// Further lines of sshd_config(5), put first, since sshd takes the first value of a keyword.
    pub config: Vec<String>,
    /// The host of a network that the server runs on, at that host's address; where there is none, it
    /// runs on this machine, at 127.0.0.1.
    pub host: Option<Host>,
}

impl Options {
    /// Lets `name` log in.
    #[must_use]
    pub fn account(mut self, name: impl Into<String>) -> Self {
        self.accounts.push(name.into());
        self
    }

    /// Adds a line of sshd_config(5), which takes precedence over the test kit's own.
    #[must_use]
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.config.push(line.into());
        self
    }

    /// Runs the server on a host of a network, at that host's address.
    #[must_use]
    pub fn host(mut self, host: &Host) -> Self {
        self.host = Some(host.clone());
        self
    }

    fn address(&self) -> Ipv4Addr {
        self.host
            .as_ref()
            .map_or(Ipv4Addr::LOCALHOST, Host::address)
    }
}

/// A running server.
#[derive(Debug)]
pub struct Sshd {
    // Dropped in this order: the process first, its directory last.
    child: Child,
    address: SocketAddr,
    host: Option<Host>,
    directory: TempDir,
}

impl Sshd {
    /// Starts a server and waits for its banner.
    ///
    /// # Errors
    /// A skip, where OpenSSH's server is not installed.
    ///
    /// # Panics
    /// Where it does not start; the message shows its log.
    pub fn start(options: &Options) -> Result<Self, Skip> {
        on(options.host.as_ref(), || Self::start_here(options))
    }

    fn start_here(options: &Options) -> Result<Self, Skip> {
        skip::require_path(Path::new(SSHD), "needs-sshd", "openssh-server")?;
        skip::require_path(
            Path::new("/usr/bin/ssh-keygen"),
            "needs-ssh-keygen",
            "openssh-client",
        )?;
        if rustix::process::geteuid().is_root() {
            place::make_traversable(Path::new("/run/sshd"));
        }
        let directory = place::directory("sshd");
        keygen(&directory.path().join("host_key"), "pefo test host");
        place::write(&directory.path().join("authorized_keys"), "");
        place::set_mode(&directory.path().join("authorized_keys"), 0o644);
        for _ in 0..PORTS_TRIED {
            let address = free_address(options.address());
            place::write(
                &directory.path().join("sshd_config"),
                config(options, directory.path(), address),
            );
            let mut child = launch(directory.path());
            let ready = wait::within(READY_LIMIT, || {
                let ended = child.ended().is_some();
                (ended || banner(address)).then_some(!ended)
            });
            match ready {
                Some(true) => {
                    return Ok(Self {
                        child,
                        address,
                        host: options.host.clone(),
                        directory,
                    });
                }
                Some(false) if log_of(directory.path()).contains("Address already in use") => {}
                _ => panic!("sshd did not start: {}", log_of(directory.path())),
            }
        }
        panic!(
            "sshd found no free port in {PORTS_TRIED} tries: {}",
            log_of(directory.path())
        );
    }

    /// The address it listens at: 127.0.0.1, or its host's.
    pub fn address(&self) -> IpAddr {
        self.address.ip()
    }

    /// The port at that address.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The server's own directory: configuration, keys, log. Others may enter it; it vanishes on drop.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The host's private key file.
    pub fn host_key_path(&self) -> PathBuf {
        self.directory().join("host_key")
    }

    /// The host's public key, `ssh-ed25519 AAAA…`, without a comment.
    pub fn host_public_key(&self) -> String {
        public_key(&self.host_key_path())
    }

    /// The host key's fingerprint as OpenSSH shows it: `SHA256:…`.
    pub fn host_fingerprint(&self) -> String {
        let text = run(Command::new("ssh-keygen")
            .arg("-lf")
            .arg(self.host_key_path().with_extension("pub")));
        match text.split_whitespace().nth(1) {
            Some(fingerprint) => fingerprint.to_owned(),
            None => panic!("ssh-keygen shows no fingerprint in {text:?}"),
        }
    }

    /// The line of a known_hosts file that pins this server at its own port.
    pub fn known_hosts_line(&self) -> String {
        format!(
            "[{}]:{} {}",
            self.address(),
            self.port(),
            self.host_public_key()
        )
    }

    /// Writes a known_hosts file with [`Sshd::known_hosts_line`] into the server's directory.
    pub fn known_hosts(&self) -> PathBuf {
        let path = self.directory().join("known_hosts");
        place::write(&path, format!("{}\n", self.known_hosts_line()));
        place::set_mode(&path, 0o644);
        path
    }

    /// The file sshd reads keys from; it belongs to whoever runs the test.
    pub fn authorized_keys_path(&self) -> PathBuf {
        self.directory().join("authorized_keys")
    }

    /// Adds a line to the authorized keys of every account of this server: options and a public
    /// key, for instance `restrict,command="pefo receive" ssh-ed25519 AAAA…`.
    pub fn authorize(&self, line: &str) {
        let path = self.authorized_keys_path();
        let before = place::read(&path);
        place::write(&path, format!("{before}{}\n", line.trim_end()));
    }

    /// Takes every key back; sessions that are open stay open.
    pub fn revoke_all(&self) {
        place::write(&self.authorized_keys_path(), "");
    }

    /// What the server has logged so far, at `LogLevel VERBOSE`.
    pub fn log(&self) -> String {
        log_of(self.directory())
    }

    /// Kills every open session, as a crash of the network would; the server goes on.
    pub fn kill_sessions(&self) {
        kill_all(&descendants(self.child.id()));
    }

    /// Ends the server and every session, as a reboot does, and starts it again: the same port, the same
    /// keys.
    ///
    /// # Panics
    /// Where it does not start again.
    pub fn restart(&mut self) {
        self.end();
        let host = self.host.clone();
        on(host.as_ref(), || self.start_again());
    }

    fn start_again(&mut self) {
        let started = wait::within(READY_LIMIT, || {
            // The port may be held by what has just ended.
            self.child = launch(self.directory.path());
            let ready = wait::within(READY_LIMIT, || {
                let ended = self.child.ended().is_some();
                (ended || banner(self.address)).then_some(!ended)
            });
            (ready == Some(true)).then_some(())
        });
        assert!(
            started.is_some(),
            "sshd did not start again: {}",
            self.log()
        );
    }

    /// Ends the server and every session, until [`Sshd::restart`].
    pub fn stop(&mut self) {
        self.end();
    }

    fn end(&mut self) {
        if self.child.ended().is_some() {
            // Its process id is nobody's now, or another's.
            return;
        }
        // Each session has left the server's process group, and loses its parent with the server: so
        // hold the server first, find what it started, and end both.
        self.child.signal(Signal::STOP);
        let sessions = descendants(self.child.id());
        self.child.kill();
        kill_all(&sessions);
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.end();
    }
}

/// An Ed25519 key pair of a client, without a passphrase.
#[derive(Debug, Clone)]
pub struct ClientKey {
    path: PathBuf,
}

impl ClientKey {
    /// Makes a key pair `id_ed25519` in `directory`.
    ///
    /// # Panics
    /// Where `ssh-keygen` fails, or a key is there already.
    pub fn generate(directory: &Path) -> Self {
        Self::generate_named(directory, "id_ed25519")
    }

    /// Makes a key pair with a file name of its own in `directory`.
    ///
    /// # Panics
    /// As [`ClientKey::generate`].
    pub fn generate_named(directory: &Path, name: &str) -> Self {
        let path = directory.join(name);
        keygen(&path, "pefo test client");
        Self { path }
    }

    /// The private key file, mode 0600.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public key, `ssh-ed25519 AAAA…`, without a comment.
    pub fn public_line(&self) -> String {
        public_key(&self.path)
    }
}

/// Does `work` on that host, or here. What is started there stays there.
fn on<T: Send>(host: Option<&Host>, work: impl FnOnce() -> T + Send) -> T {
    match host {
        Some(host) => host.enter(work),
        None => work(),
    }
}

/// Starts the server of a directory that is prepared.
fn launch(directory: &Path) -> Child {
    Child::spawn(
        Command::new(SSHD)
            .args(["-D", "-f"])
            .arg(directory.join("sshd_config"))
            .arg("-E")
            .arg(directory.join("log")),
    )
}

/// A port of 127.0.0.1 that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    free_address(Ipv4Addr::LOCALHOST).port()
}

/// That address, with a port that was free a moment ago.
fn free_address(ip: Ipv4Addr) -> SocketAddr {
    match TcpListener::bind((ip, 0)).and_then(|listener| listener.local_addr()) {
        Ok(address) => address,
        Err(error) => panic!("find a free port of {ip}: {error}"),
    }
}

fn config(options: &Options, directory: &Path, address: SocketAddr) -> String {
    let root = rustix::process::geteuid().is_root();
    let (at, ip, port) = (directory.display(), address.ip(), address.port());
    let strict = if root { "yes" } else { "no" };
    let accounts = if options.accounts.is_empty() {
        run(Command::new("id").arg("-un")).trim().to_owned()
    } else {
        options.accounts.join(" ")
    };
    let own = format!(
        "Port {port}\nListenAddress {ip}\nHostKey {at}/host_key\nPidFile {at}/pid\n\
         AuthorizedKeysFile {at}/authorized_keys\nStrictModes {strict}\nAllowUsers {accounts}\n\
         AuthenticationMethods publickey\nPubkeyAuthentication yes\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\nUseDNS no\n\
         PrintMotd no\nLogLevel VERBOSE\nMaxStartups 200\nSubsystem sftp internal-sftp\n"
    );
    options
        .config
        .iter()
        .map(|line| format!("{line}\n"))
        .chain([own])
        .collect()
}

/// Whether a server answers with an SSH identification (RFC 4253 §4.2).
fn banner(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let mut start = [0; 4];
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .is_ok()
        && stream.read_exact(&mut start).is_ok()
        && &start == b"SSH-"
}

fn log_of(directory: &Path) -> String {
    std::fs::read(directory.join("log"))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn keygen(path: &Path, comment: &str) {
    assert!(
        !path.exists(),
        "there is a key in {} already",
        path.display()
    );
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(path));
}

fn public_key(private: &Path) -> String {
    let mut name = private.as_os_str().to_owned();
    name.push(".pub");
    let line = place::read(Path::new(&name));
    line.split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}

fn run(command: &mut Command) -> String {
    match command.output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => panic!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => panic!("run {command:?}: {error}"),
    }
}

#[cfg(test)]
mod tests;
