//! A pair of masters that the other tests start from, and how pairing itself behaves.

use pefo_testkit::ca::{CaOptions, TestCa};
use pefo_testkit::masters::{self, Master, built_binary};
use pefo_testkit::network::Network;
use pefo_testkit::skip;

pub(crate) const A: &str = "puppet-a.lab";
pub(crate) const B: &str = "puppet-b.lab";

/// Two masters; A has a CA, both name their cadirs.
pub(crate) struct Pair {
    pub(crate) a: Master,
    pub(crate) b: Master,
    pub(crate) ca: TestCa,
}

impl Pair {
    /// Prepared, not yet paired.
    pub(crate) fn prepared() -> Option<Self> {
        Self::prepared_with(CaOptions::default())
    }

    /// As [`Pair::prepared`], with a CA of another kind.
    pub(crate) fn prepared_with(options: CaOptions) -> Option<Self> {
        let a = skip::need(Master::prepare(&built_binary(), A))?;
        let b = skip::need(Master::prepare(&built_binary(), B))?;
        Some(Self::of(a, b, options))
    }

    /// Prepared on the hosts `a` and `b` of a network.
    pub(crate) fn prepared_on(network: &Network) -> Option<Self> {
        let prepare = |name, host| {
            skip::need(Master::prepare_on(
                &built_binary(),
                name,
                network.host(host),
            ))
        };
        let (a, b) = (prepare(A, "a")?, prepare(B, "b")?);
        Some(Self::of(a, b, CaOptions::default()))
    }

    fn of(mut a: Master, mut b: Master, options: CaOptions) -> Self {
        let ca = TestCa::create(&a.cadir(), options).unwrap();
        for master in [&mut a, &mut b] {
            let cadir = master.cadir();
            master.use_cadir(&cadir, "owner = \"root\"\ngroup = \"root\"");
        }
        Self { a, b, ca }
    }

    /// Paired.
    pub(crate) fn paired() -> Option<Self> {
        Some(Self::prepared()?.pair())
    }

    /// Paired, and B seeded with A's CA.
    pub(crate) fn seeded() -> Option<Self> {
        Some(Self::paired()?.seed())
    }

    /// As [`Pair::seeded`], on the hosts `a` and `b` of a network.
    pub(crate) fn seeded_on(network: &Network) -> Option<Self> {
        Some(Self::prepared_on(network)?.pair().seed())
    }

    fn pair(self) -> Self {
        masters::pair(&self.a, &self.b);
        self
    }

    /// Seeds B with A's CA.
    pub(crate) fn seed(self) -> Self {
        self.a.pefo(["ca", "push", "--seed"]).exits(0);
        self.b.pefo(["ca", "apply"]).exits(0);
        self
    }

    /// Push from A, apply on B.
    pub(crate) fn sync(&self) {
        self.a.pefo(["ca", "push"]).exits(0);
        self.b.pefo(["ca", "apply"]).exits(0);
    }
}
