//! Hosts of their own on one machine, and the lines between them: network namespaces.
//!
//! A [`Network`] is a handful of [`Host`]s, each a network namespace with an address of its own
//! (198.18.0.0/15, RFC 2544, which is nobody's), joined by a bridge that stands in a namespace too.
//! Processes are put on a host by [`Host::command`] or [`Host::enter`]; files, users and process ids
//! are the machine's own, so a test sees and kills what runs there.
//!
//! What it guarantees:
//!
//! - Nothing of the machine's own network is touched: it gets no interface, no address and no route, and
//!   there is no way between it and a host.
//! - What is cut is silence. Frames vanish, whichever side sends; nobody is told (no reset, no
//!   "unreachable", no link that goes down), so a connection hangs until somebody's patience ends, and
//!   goes on where it was once the line is mended. Hosts know each other's hardware addresses from the
//!   beginning, so that no failed ARP query tells what a router on the way would not.
//! - On drop every process on its hosts is killed and the namespaces are deleted. Those of a test process
//!   that was killed go when the next network is made. iproute2's `/run/netns`, a mount of its own, stays.

mod host;
mod namespace;

use std::sync::atomic::{AtomicU32, Ordering};

pub use self::host::Host;
use self::namespace::Namespace;
use crate::skip::{self, Skip};

/// The name of the bridge, and of the namespace it stands in.
const LAN: &str = "lan";
/// A hardware address that nobody has: what is sent there is lost.
const NOBODY: &str = "02:00:c6:12:ff:ff";

/// Hosts joined by a bridge, gone on drop with every process on them.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
    // Only held: dropped, each takes its processes with it.
    namespaces: Vec<Namespace>,
}

impl Network {
    /// A network of hosts with these names, each reaching each other. A name is made of lower-case
    /// letters and digits; `lan` is taken.
    ///
    /// # Errors
    /// A skip, where this process is not root, iproute2 or util-linux is missing, or the kernel gives no
    /// network namespace, bridge or pair of interfaces, as in most containers.
    ///
    /// # Panics
    /// Where a name will not do, or what the kernel gave can not be set up.
    pub fn create<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Skip> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        skip::require_root("a network of namespaces")?;
        namespace::require_programs()?;
        namespace::remove_leftovers();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{}{}-{count}", namespace::PREFIX, std::process::id());
        let lan = Namespace::add(&format!("{prefix}-{LAN}"))?;
        namespace::have(&["-n", lan.name(), "link", "add", LAN, "type", "bridge"])?;
        lan.ip(&["link", "set", LAN, "up"]);
        let mut network = Self {
            hosts: Vec::new(),
            namespaces: vec![lan],
        };
        for (number, name) in (1..=u8::MAX - 1).zip(names) {
            let taken = name == LAN || network.hosts.iter().any(|host| host.name() == name);
            assert!(!taken, "the host name {name} is taken");
            let host = Host::new(name, number, &prefix);
            network.namespaces.push(Namespace::add(&host.namespace())?);
            host.set_up()?;
            network.hosts.push(host);
        }
        for (from, to) in network.pairs() {
            from.finds(to, true);
        }
        Ok(network)
    }

    /// The host of this name.
    ///
    /// # Panics
    /// Where there is none.
    pub fn host(&self, name: &str) -> &Host {
        match self.hosts.iter().find(|host| host.name() == name) {
            Some(host) => host,
            None => panic!("there is no host {name} in this network"),
        }
    }

    /// All hosts, in the order in which they were named.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Cuts a host off from all others until [`Network::mend`]: all that it sends and is sent is lost.
    ///
    /// # Panics
    /// Where the host is none of this network, or the kernel does not do it.
    pub fn cut(&self, host: &Host) {
        self.own(host).unplug();
    }

    /// Undoes [`Network::cut`].
    ///
    /// # Panics
    /// As [`Network::cut`].
    pub fn mend(&self, host: &Host) {
        self.own(host).plug();
    }

    /// Cuts the line between two hosts, which both still reach the others, until
    /// [`Network::mend_between`]. It is kept apart from [`Network::cut`]: each is mended by its own.
    ///
    /// # Panics
    /// As [`Network::cut`].
    pub fn cut_between(&self, one: &Host, other: &Host) {
        self.set_between(one, other, false);
    }

    /// Undoes [`Network::cut_between`].
    ///
    /// # Panics
    /// As [`Network::cut`].
    pub fn mend_between(&self, one: &Host, other: &Host) {
        self.set_between(one, other, true);
    }

    fn set_between(&self, one: &Host, other: &Host, whole: bool) {
        self.own(one).finds(other, whole);
        self.own(other).finds(one, whole);
    }

    fn own<'a>(&self, host: &'a Host) -> &'a Host {
        assert!(
            self.hosts.contains(host),
            "{host:?} is no host of this network"
        );
        host
    }

    fn pairs(&self) -> impl Iterator<Item = (&Host, &Host)> {
        let with_each = |from| self.hosts.iter().map(move |to| (from, to));
        let pairs = self.hosts.iter().flat_map(with_each);
        pairs.filter(|(from, to)| from != to)
    }
}
