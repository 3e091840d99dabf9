//! Both masters and all that is between them, and the passive at work.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use pefo_ca::watch::{Hint, Watcher};
use pefo_cli::arguments::Change;
use pefo_cli::pipeline::ack;
use pefo_cli::pipeline::apply::{self, Passive};
use pefo_cli::pipeline::watch::{Active, Feed, Follower};
use pefo_core::ack::Ack;
use pefo_core::disk::Hook;
use pefo_core::disk::fault::StopAt;
use pefo_core::disk::power::{Crash, Loss, Order};
use pefo_core::generation::{DataSet, Position};
use pefo_core::reign::Epoch;
use pefo_core::{Digest, Result};
use pefo_testkit::ca::TestCa;

use crate::check::Seen;
use crate::line::{Line, generations};
use crate::moves::Fate;
use crate::pair::{Pair, Tree, timestamp};
use crate::source::{Copy, Source, View};

/// What was put aside of the active.
pub(crate) struct Aside {
    pub(crate) ca: Copy,
    pub(crate) state: Tree,
}

/// Two masters, and all that is between them.
pub(crate) struct World<'w> {
    pub(crate) pair: &'w Pair,
    pub(crate) active: &'w Active<'w>,
    pub(crate) source: Source,
    pub(crate) watcher: Option<Watcher>,
    pub(crate) feed: Option<Feed<'w>>,
    pub(crate) hints: Vec<Hint>,
    /// What a state of the source is, by its name.
    pub(crate) states: HashMap<Digest, View>,
    pub(crate) line: Line,
    pub(crate) follower: Option<Follower<'w>>,
    /// The passive's own server.
    pub(crate) own_ca: TestCa,
    pub(crate) has_block: bool,
    pub(crate) seen: Seen,
}

impl<'w> World<'w> {
    pub(crate) fn new(pair: &'w Pair, active: &'w Active<'w>, ca: TestCa, has_block: bool) -> Self {
        let own_ca = ca.twin(&pair.b.cadir()).unwrap();
        Self {
            pair,
            active,
            source: Source::new(ca),
            watcher: None,
            feed: None,
            hints: Vec::new(),
            states: HashMap::new(),
            line: Line::new(Position {
                epoch: Epoch(1),
                sequence: 1,
            }),
            follower: None,
            own_ca,
            has_block,
            seen: Seen::default(),
        }
    }

    /// What the passive's root says it has applied.
    pub(crate) fn ack(&self) -> Option<Ack> {
        ack::own(&self.pair.b.host, &DataSet::Ca).unwrap()
    }

    pub(crate) fn empty_spool(&mut self) {
        let dir = generations(&self.pair.b.host.config.site.spool_dir);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }

    /// Runs something on the passive that may be killed, or with which the power goes.
    fn fated(&mut self, fate: Fate, run: impl FnOnce(&mut Self)) {
        let root = self.pair.b.root.clone();
        let switch = self.pair.b.switch.clone();
        match fate {
            Fate::Lives => run(self),
            Fate::ChildKilledAt(at) => {
                *self.pair.b.child_stop.lock().unwrap() = Some(usize::from(at));
                run(self);
                *self.pair.b.child_stop.lock().unwrap() = None;
            }
            Fate::KilledAt(at) => {
                let stop = Arc::new(StopAt::new(usize::from(at)));
                switch.set(Some(stop.clone()));
                run(self);
                switch.set(None);
                if stop.has_stopped() {
                    self.follower = None;
                }
            }
            Fate::PowerLostAt(at, loss) => {
                let crash = Arc::new(Crash::at(usize::from(at), &root).unwrap());
                let hook: Arc<dyn Hook> = crash.clone();
                switch.set(Some(hook));
                run(self);
                switch.set(None);
                self.follower = None;
                // What was said before is to be true after.
                self.hear();
                let losses = crash.recorder().losses(Order::Any).unwrap();
                let loss = losses[usize::from(loss) % losses.len()];
                self.lose_power(&crash, loss, &root);
            }
        }
    }

    fn lose_power(&self, crash: &Crash, loss: Loss, root: &Path) {
        let after = self.pair.aside("after");
        std::fs::create_dir(&after).unwrap();
        crash.recorder().lose_power(&after, loss).unwrap();
        std::fs::remove_dir_all(root).unwrap();
        std::fs::rename(after, root).unwrap();
    }

    /// The watch's next round.
    pub(crate) fn round(&mut self, fate: Fate) {
        let host = &self.pair.b.host;
        let lock = host.lock("apply-ca").unwrap();
        self.fated(fate, |it| {
            // What it ends with is not what it says but what stands there.
            drop(it.try_round());
        });
        drop(lock);
    }

    /// The watch's next round, through a hook.
    pub(crate) fn round_with(&mut self, hook: Arc<dyn Hook>) {
        let host = &self.pair.b.host;
        let lock = host.lock("apply-ca").unwrap();
        self.pair.b.switch.set(Some(hook));
        drop(self.try_round());
        self.pair.b.switch.set(None);
        drop(lock);
    }

    fn try_round(&mut self) -> Result<()> {
        let host = &self.pair.b.host;
        let passive = Passive::open(host)?;
        let follower = self.follower.get_or_insert_with(|| Follower::new(host));
        follower.round(&passive)
    }

    /// `pefo ca apply`, while nobody watches.
    pub(crate) fn apply(&mut self, fate: Fate) {
        self.follower = None;
        let host = &self.pair.b.host;
        self.fated(fate, |_| {
            drop(apply::run(host, &DataSet::Ca, &Change::default()));
        });
    }

    pub(crate) fn stop_follower(&mut self) {
        self.follower = None;
    }

    /// Sets both clocks, which may be wrong by some hours.
    pub(crate) fn set_clocks(&self, (a, b): (i64, i64)) {
        self.pair.a.clock.set(timestamp(self.source.hour + a));
        self.pair.b.clock.set(timestamp(self.source.hour + b));
    }

    /// Every position that was ever told of.
    pub(crate) fn positions(&self) -> BTreeSet<Position> {
        self.source.past.views.keys().copied().collect()
    }
}
