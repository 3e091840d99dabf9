//! One host of a network: a namespace, an address, and what runs there.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::LinkNameSpaceType;

use super::namespace::{self, NSENTER};
use super::{LAN, NOBODY};
use crate::processes;
use crate::skip::Skip;

/// A host of a [`Network`](super::Network): its name and address, and the way in. A clone is the same
/// host. It stands as long as its network does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    name: String,
    number: u8,
    prefix: String,
}

impl Host {
    pub(super) fn new(name: &str, number: u8, prefix: &str) -> Self {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        assert!(
            !name.is_empty() && name.bytes().all(fits),
            "{name:?} will not do as the name of a host"
        );
        Self {
            name: name.to_owned(),
            number,
            prefix: prefix.to_owned(),
        }
    }

    /// Its name within its network.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address. Each network begins anew at 198.18.0.1, since none reaches another.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, self.number)
    }

    /// The name of its namespace, as `ip netns` shows it.
    pub fn namespace(&self) -> String {
        format!("{}-{}", self.prefix, self.name)
    }

    /// A command that runs `program` on this host. Files and mounts are the machine's own, and the process
    /// id is the program's: what is killed is the program itself.
    ///
    /// It is started by root, through `nsenter`: where another account is to run it, let the program be
    /// `setpriv`, not [`Command`]'s own `uid`. A program that is missing is exit code 127.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(NSENTER);
        command
            .arg(format!(
                "--net={}",
                namespace::path(&self.namespace()).display()
            ))
            .arg("--")
            .arg(program);
        command
    }

    /// Does `work` on this host, in a thread of its own: its sockets, and the threads and processes that it
    /// starts, are this host's and stay there. So a server of this kit is started here, at this host's
    /// 127.0.0.1, by `host.enter(|| …)`.
    ///
    /// # Panics
    /// Where `work` does, or the host's network is gone.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let outcome = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.move_here();
                work()
            });
            inside.join()
        });
        match outcome {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// The processes on this host.
    pub fn processes(&self) -> Vec<u32> {
        processes::of_network(&namespace::path(&self.namespace()))
    }

    /// Kills every process on this host with SIGKILL, and returns when none is left.
    ///
    /// # Panics
    /// Where one does not die.
    pub fn kill_all(&self) {
        namespace::kill_all(&self.namespace());
    }

    /// Gives the namespace its interface, plugged into the bridge.
    pub(super) fn set_up(&self) -> Result<(), Skip> {
        let (namespace, lan) = (&self.namespace(), &self.lan());
        // Made at both ends at once, so that neither end is ever the machine's own.
        namespace::have(&[
            "link",
            "add",
            "eth0",
            "netns",
            namespace,
            "address",
            &self.hardware_address(),
            "type",
            "veth",
            "peer",
            "name",
            &self.port(),
            "netns",
            lan,
        ])?;
        let address = format!("{}/24", self.address());
        namespace::ip(namespace, &["link", "set", "lo", "up"]);
        namespace::ip(namespace, &["address", "add", &address, "dev", "eth0"]);
        namespace::ip(namespace, &["link", "set", "eth0", "up"]);
        namespace::ip(lan, &["link", "set", &self.port(), "master", LAN, "up"]);
        Ok(())
    }

    /// Tells this host where `other` is, or sends all it has for it to nobody. The entry is permanent: it
    /// is never asked for again.
    pub(super) fn finds(&self, other: &Self, whole: bool) {
        let (address, hardware) = (other.address().to_string(), other.hardware_address());
        let at = if whole { &hardware } else { NOBODY };
        let entry = [
            "neighbour",
            "replace",
            &address,
            "lladdr",
            at,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ];
        namespace::ip(&self.namespace(), &entry);
    }

    /// Takes the host's end of the line off the bridge. The interfaces stay up: a host whose line is cut
    /// somewhere on the way is not told either.
    pub(crate) fn unplug(&self) {
        namespace::ip(&self.lan(), &["link", "set", &self.port(), "nomaster"]);
    }

    /// Undoes [`Host::unplug`].
    pub(crate) fn plug(&self) {
        namespace::ip(&self.lan(), &["link", "set", &self.port(), "master", LAN]);
    }

    fn lan(&self) -> String {
        format!("{}-{LAN}", self.prefix)
    }

    /// Its end of the line at the bridge.
    fn port(&self) -> String {
        format!("port{}", self.number)
    }

    /// Locally administered, and the address in it.
    fn hardware_address(&self) -> String {
        format!("02:00:c6:12:00:{:02x}", self.number)
    }

    /// Moves the calling thread, and it alone, into the namespace.
    fn move_here(&self) {
        let path = namespace::path(&self.namespace());
        let moved = std::fs::File::open(&path).and_then(|link| {
            let kind = Some(LinkNameSpaceType::Network);
            Ok(rustix::thread::move_into_link_name_space(
                link.as_fd(),
                kind,
            )?)
        });
        if let Err(error) = moved {
            panic!("enter {}: {error}", path.display());
        }
    }
}
