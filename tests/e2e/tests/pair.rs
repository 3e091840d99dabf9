//! A pair of masters that the other tests start from, and how pairing itself behaves.

use pefo_testkit::ca::{CaOptions, TestCa};
use pefo_testkit::masters::{self, Master, built_binary};
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
        let mut a = skip::need(Master::prepare(&built_binary(), A))?;
        let mut b = skip::need(Master::prepare(&built_binary(), B))?;
        let ca = TestCa::create(&a.cadir(), options).unwrap();
        for master in [&mut a, &mut b] {
            let cadir = master.cadir();
            master.use_cadir(&cadir, "owner = \"root\"\ngroup = \"root\"");
        }
        Some(Self { a, b, ca })
    }

    /// Paired.
    pub(crate) fn paired() -> Option<Self> {
        let pair = Self::prepared()?;
        masters::pair(&pair.a, &pair.b);
        Some(pair)
    }

    /// Paired, and B seeded with A's CA.
    pub(crate) fn seeded() -> Option<Self> {
        Some(Self::paired()?.seed())
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
