//! The tree, what is known of it, and what is being made of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pefo_core::cancel::Cancel;
use pefo_core::clock::Clock;
use pefo_core::digest::Digest;
use pefo_core::digest_cache::{DigestCache, Identity};
use pefo_core::disk::{Attributes, Disk, Rooted};
use pefo_core::lock::Lock;
use pefo_core::{Error, ErrorKind, RelPath, Result};

use super::TreeReceiverOptions;
use super::commit::{self, Replaced, Steps};
use super::filling::Filling;
use super::places;
use super::plan::{Plan, Tree};
use super::service::Line;
use super::signatures;
use super::stage::Stage;
use crate::delta::Seed;
use crate::exchange::{self, Turn as _, Want, out_of_turn};
use crate::frame::Frame;
use crate::message::Capabilities;
use crate::receive::{Limits, space};
use crate::tree::entry::{Entry, FileNode, Node};
use crate::tree::message::{Commit, Committed, Differs, Summary};
use crate::tree::{scan, summary};

const CACHE: &str = "digests";

/// What a sender says its tree is, in part or in whole.
pub(super) struct Change {
    pub(super) entries: Vec<Entry>,
    /// The places of files among them.
    pub(super) files: Vec<u32>,
    /// All of these follow at once.
    pub(super) eager: bool,
    /// The buckets they are all of, and the logarithm of their count.
    pub(super) differs: Option<(Differs, u8)>,
}

impl Change {
    fn names(&self, path: &RelPath) -> bool {
        let at = self.entries.binary_search_by(|entry| entry.path.cmp(path));
        at.is_ok()
    }

    /// Whether what stands at the path will be as the change says, or be gone.
    fn is_about(&self, path: &RelPath) -> bool {
        match &self.differs {
            Some((differs, bits)) => differs.contains(summary::bucket_of(path, *bits)),
            None => self.names(path),
        }
    }
}

pub(super) struct Keeper<'a> {
    options: TreeReceiverOptions,
    disk: &'a Disk,
    clock: &'a dyn Clock,
    can: Capabilities,
    stage: Stage,
    dest: Option<Rooted>,
    cache: DigestCache,
    /// What this session has put into the tree, as it was right afterwards.
    fresh: Vec<(Identity, Digest)>,
    /// Long files that this session has put into the tree, whose signatures are to be made.
    unsigned: Vec<(RelPath, FileNode)>,
    /// What the last change replaced; freed once it was answered.
    replaced: Replaced,
    /// A seed for signatures.
    seed: Seed,
    /// What stands, as it was found; nothing was changed since.
    found: Option<Vec<(RelPath, Node)>>,
    /// It was looked at before anything was asked.
    is_ahead: bool,
    /// What stands, as it was found and changed.
    tree: Option<Tree>,
    _lock: Lock,
}

impl<'a> Keeper<'a> {
    /// Takes the tree's lock and ends what a crash interrupted.
    pub(super) fn open(
        options: &TreeReceiverOptions,
        disk: &'a Disk,
        clock: &'a dyn Clock,
        seed: Seed,
        can: Capabilities,
    ) -> Result<Self> {
        let mut options = options.clone();
        // A symlink in the place of the tree is the owner's wish; its target is what is kept.
        if let Ok(real) = options.dest.canonicalize() {
            options.dest = real;
        }
        disk.create_dir_all(&options.state, &Attributes::mode(0o700))?;
        places::check(&options)?;
        let lock = take_lock(&options, clock)?;
        let mut stage = Stage::open(&options, disk, seed)?;
        let dest = open_dest(&options.dest, disk)?;
        if commit::recover(&mut stage, dest.as_ref(), &options)? {
            tracing::info!("an interrupted change was ended");
        }
        Ok(Self {
            cache: DigestCache::load(&options.state.join(CACHE)),
            options,
            disk,
            clock,
            can,
            stage,
            dest,
            fresh: Vec::new(),
            unsigned: Vec::new(),
            replaced: Replaced::default(),
            seed,
            found: None,
            is_ahead: false,
            tree: None,
            _lock: lock,
        })
    }

    /// Keeps what was learnt; losing it costs reading only.
    pub(super) fn close(mut self) {
        self.learn();
        if let Err(error) = self.sign() {
            tracing::warn!(%error, "a long file's signature was not kept");
        }
        let path = self.options.state.join(CACHE);
        if let Err(error) = self.cache.store(self.disk, &path) {
            tracing::warn!(%error, "the digest cache was not stored");
        }
    }

    /// Makes the signatures of what has come, now that nobody waits. As the files are read anyway, their
    /// digests are known from then on: when they came they were too young for that.
    fn sign(&mut self) -> Result<()> {
        let (Some(dest), Some(tree)) = (&self.dest, &self.tree) else {
            return Ok(());
        };
        if self.unsigned.is_empty() {
            return Ok(());
        }
        let beneath = dest.reading()?;
        // The longest last: by then it is no longer young.
        self.unsigned.sort_by_key(|(_, file)| file.size);
        for (path, file) in &self.unsigned {
            let before = self.clock.now().into();
            let stood = dest.stat(path)?.map(|stands| stands.identity);
            let open = beneath.file(path)?;
            let signatures = &self.stage.signatures;
            let is_its = signatures.make(open, file.size, &file.digest, self.seed)?;
            if let Some(stood) = stood.filter(|_| is_its) {
                self.cache.put(stood, file.digest, before);
            }
        }
        let files = tree.values().filter_map(Node::file);
        let standing: BTreeSet<Digest> = files
            .filter(|file| file.size >= signatures::LEAST_BYTES)
            .map(|file| file.digest)
            .collect();
        self.stage
            .signatures
            .forget_all_but(|digest| standing.contains(digest))
    }

    fn learn(&mut self) {
        let now = self.now();
        for (identity, digest) in std::mem::take(&mut self.fresh) {
            self.cache.put(identity, digest, now);
        }
    }

    fn now(&self) -> SystemTime {
        self.clock.now().into()
    }

    /// Looks at all that stands.
    fn look(&mut self) -> Result<Vec<(RelPath, Node)>> {
        let Some(dest) = &self.dest else {
            return Ok(Vec::new());
        };
        let now: SystemTime = self.clock.now().into();
        let scan = scan::scan(
            dest.path(),
            &mut self.cache,
            now,
            scan::all_threads(),
            &Cancel::new(),
        )?;
        // What stands and cannot be told must not count as gone.
        match scan.unreadable.into_iter().next() {
            Some(error) => Err(error.context("the tree that is kept here")),
            None => Ok(scan.entries),
        }
    }

    /// What stands, for a change; looked at where nobody has.
    fn standing(&mut self) -> Result<Tree> {
        self.is_ahead = false;
        match (self.tree.take(), self.found.take()) {
            (Some(tree), _) => Ok(tree),
            (None, Some(found)) => Ok(found.into_iter().collect()),
            (None, None) => Ok(self.look()?.into_iter().collect()),
        }
    }

    /// Looks at the tree while the sender looks at its own.
    pub(super) fn look_ahead(&mut self) -> Result<()> {
        self.found = Some(self.look()?);
        self.is_ahead = true;
        Ok(())
    }

    /// Where the tree differs from the one summed up. It is looked at anew each time: a comparison is
    /// there to find what nobody told.
    pub(super) fn compare(&mut self, theirs: &Summary) -> Result<Differs> {
        let ahead = std::mem::take(&mut self.is_ahead);
        let found = match self.found.take().filter(|_| ahead) {
            Some(found) => found,
            None => {
                self.tree = None;
                self.learn();
                self.look()?
            }
        };
        let ours = summary::summarize(&found, theirs.bucket_bits);
        self.found = Some(found);
        summary::compare(theirs, &ours)
    }

    /// Takes what a change needs and puts it into the tree.
    ///
    /// # Errors
    /// `Cancelled` where the sender abandoned it.
    pub(super) fn take(&mut self, line: &mut Line<'_>, change: &Change) -> Result<Committed> {
        let tree = self.standing()?;
        self.check_size(&tree, change)?;
        let extra = match &change.differs {
            None => Vec::new(),
            Some(_) => tree
                .keys()
                .filter(|path| change.is_about(path) && !change.names(path))
                .cloned()
                .collect(),
        };
        let plan = Plan::make(&tree, &change.entries, extra, change.differs.is_some())?;
        let reading = self.dest.as_ref().map(Rooted::reading).transpose()?;
        let mut filling = self.stage.filling(&change.entries, &tree, reading);
        let copied = self.fill(&mut filling, line, change, &plan)?;
        let (staged, skipped) = (filling.staged, filling.skipped.len() as u64);
        let commit = match line.hear()? {
            Frame::Commit(commit) => commit,
            Frame::Abandon => return Err(exchange::abandoned()),
            other => return Err(out_of_turn(&other)),
        };
        if skipped > 0 && !plan.clear.is_empty() {
            return Err(Error::refused(
                "tree-shape",
                "what stands in the way of a file would go, and the file did not come",
            )
            .hint("the source changes while it is sent; run it again")
            .retryable(true));
        }
        let guard = self.guard(&plan, commit, tree.len() as u64)?;
        let steps = Steps::of(&plan, &change.entries, &staged, guard.is_none());
        let committed = Committed {
            written: staged.len() as u64 - copied,
            copied,
            adjusted: (plan.adjust.len() + plan.directories.len()) as u64,
            deleted: (plan.clear.len() + steps.deletes()) as u64,
            held: (plan.delete.len() - steps.deletes()) as u64,
            skipped,
            guard,
        };
        self.put(&steps, &plan, tree.is_empty())?;
        self.remember(tree, change, &steps)?;
        Ok(committed)
    }

    /// Brings together all content that the plan needs; tells how much of it stood in the tree.
    fn fill(
        &self,
        filling: &mut Filling<'_>,
        line: &mut Line<'_>,
        change: &Change,
        plan: &Plan,
    ) -> Result<u64> {
        if change.eager {
            // What comes unasked is taken as it comes.
            filling.recollect(&[])?;
            exchange::take(line, change.files.iter().copied(), filling)?;
            return Ok(0);
        }
        let moved = plan.copies.iter().map(|(index, _)| *index);
        let mut content: Vec<u32> = plan.content.iter().copied().chain(moved).collect();
        content.sort_unstable();
        filling.recollect(&content)?;
        // Before a copy is made for nothing; what deltas take beyond that is known later.
        let (bytes, files) = filling.missing(&content)?;
        self.check_space(bytes, files)?;
        let mut copied = 0;
        for (index, from) in &plan.copies {
            if !filling.staged.contains(index) && filling.copy(*index, from)? {
                copied += 1;
            }
        }
        let wants = filling.wants(&content, self.can.ask)?;
        self.check_space(wanted_bytes(&wants, &change.entries), wants.len() as u64)?;
        let count = u32::try_from(change.entries.len()).unwrap_or(u32::MAX);
        exchange::ask(line, count, &wants, filling)?;
        exchange::take(line, wants.iter().map(|(index, _)| *index), filling)?;
        Ok(copied)
    }

    /// Why nothing is deleted, where that is so.
    fn guard(&self, plan: &Plan, commit: Commit, standing: u64) -> Result<Option<String>> {
        let deletes = (plan.delete.len() + plan.clear.len()) as u64;
        let held = self.options.guard.holds(deletes, standing);
        match held {
            Some(words) if !plan.clear.is_empty() => Err(Error::refused("mass-delete", words)
                .hint("if that is meant, raise the receiver's delete guard for one run")),
            Some(words) => Ok(Some(words)),
            None if commit.delete || plan.delete.is_empty() => Ok(None),
            None => Ok(Some(
                "source-unreadable: a part of the source could not be read".to_owned(),
            )),
        }
    }

    fn put(&mut self, steps: &Steps, plan: &Plan, is_empty: bool) -> Result<()> {
        if is_empty && !steps.is_empty() {
            commit::publish(&mut self.stage, &self.options, self.disk, &plan.directories)?;
            self.dest = open_dest(&self.options.dest, self.disk)?;
            return Ok(());
        }
        if let Some(dest) = &self.dest {
            self.replaced = commit::commit(&mut self.stage, dest, steps, &self.options)?;
        }
        Ok(())
    }

    /// Follows a change in what is known.
    fn remember(&mut self, mut tree: Tree, change: &Change, steps: &Steps) -> Result<()> {
        let Some(dest) = &self.dest else {
            return Ok(());
        };
        steps.removed().for_each(|path| {
            tree.remove(path);
        });
        for (path, mode) in steps.directories() {
            tree.insert(path.clone(), Node::Directory { mode: *mode });
        }
        for path in steps.filed() {
            let at = change
                .entries
                .binary_search_by(|entry| entry.path.cmp(path));
            let entry = at.ok().and_then(|at| change.entries.get(at));
            let Some(Node::File(file)) = entry.and_then(|entry| entry.node) else {
                continue;
            };
            tree.insert(path.clone(), Node::File(file));
            if file.size >= signatures::LEAST_BYTES {
                self.unsigned.push((path.clone(), file));
            }
            // Whoever wrote to it since has moved its mtime from where we put it.
            if let Some(stands) = dest.stat(path)?
                && (stands.identity.size, stands.identity.mtime) == (file.size, file.mtime)
            {
                self.fresh.push((stands.identity, file.digest));
            }
        }
        self.tree = Some(tree);
        Ok(())
    }

    /// Removes what earlier sessions began and nobody needs once all there is has come. Nothing is wrong
    /// where it stays.
    pub(super) fn tidy(&mut self) {
        let tidied = self.stage.clear_parts().and_then(|()| self.stage.tidy());
        told(tidied);
    }

    /// The same after a change: the stage itself was gone through when the change began, and what came
    /// since was placed. Empty directories stay for the next one, which a hint then need not make.
    pub(super) fn tidy_after_change(&mut self) {
        self.replaced = Replaced::default();
        told(self.stage.clear_parts());
    }

    /// Forgets what was begun.
    pub(super) fn abandon(&mut self) -> Result<()> {
        self.stage.clear()?;
        self.stage.clear_parts()
    }

    fn check_size(&self, tree: &Tree, change: &Change) -> Result<()> {
        let limits = &self.options.limits;
        let size = |node: &Node| node.file().map_or(0, |file| file.size);
        let coming = || {
            change
                .entries
                .iter()
                .filter_map(|entry| entry.node.as_ref())
        };
        let longest = coming().map(size).max().unwrap_or(0);
        let (mut count, mut bytes) = (coming().count() as u64, 0_u64);
        if limits.tree_bytes < u64::MAX {
            let staying = tree.iter().filter(|(path, _)| !change.is_about(path));
            let all = coming().chain(staying.map(|(_, node)| node));
            bytes = all.fold(0, |sum, node| sum.saturating_add(size(node)));
        }
        if change.differs.is_some() {
            count += tree.keys().filter(|path| !change.is_about(path)).count() as u64;
        } else {
            // Some may be counted twice; a change of a few paths is not worth the exact number.
            count += tree.len() as u64;
        }
        if count > u64::from(limits.entries)
            || bytes > limits.tree_bytes
            || longest > limits.file_bytes
        {
            let message = format!(
                "the tree would have {count} files and directories, a file {longest} bytes; {} of {} in all and {} a file may be",
                limits.entries, limits.tree_bytes, limits.file_bytes
            );
            return Err(Error::refused("tree-size", message).hint("raise the receiver's limits"));
        }
        Ok(())
    }

    fn check_space(&self, bytes: u64, files: u64) -> Result<()> {
        let limits = Limits::default().free_bytes(self.options.limits.free_bytes);
        let free = space::check_free(&self.options.state, bytes, files, &limits);
        free.map_err(|error| match error.rule() {
            Some("spool-full") => error.hint("make room there; the tree is as it was"),
            _ => error,
        })
    }
}

/// Bytes that will be written for what is wanted.
fn wanted_bytes(wants: &[(u32, Want)], entries: &[Entry]) -> u64 {
    wants.iter().fold(0, |sum, (index, want)| {
        let entry = usize::try_from(*index).ok().and_then(|at| entries.get(at));
        let file = entry
            .and_then(|entry| entry.node.as_ref())
            .and_then(Node::file);
        let size = file.map_or(0, |file| file.size);
        sum.saturating_add(match want {
            Want::From(from) => size.saturating_sub(*from),
            _ => size,
        })
    })
}

fn told(tidied: Result<()>) {
    if let Err(error) = tidied {
        tracing::warn!(%error, "what an earlier session began stays");
    }
}

/// The tree's lock; a session that is just ending is waited for.
fn take_lock(options: &TreeReceiverOptions, clock: &dyn Clock) -> Result<Lock> {
    const AGAIN: Duration = Duration::from_millis(20);
    let path = options.state.join("lock");
    let begun = clock.monotonic();
    loop {
        match Lock::take(&path) {
            Err(error)
                if error.kind() == ErrorKind::Locked
                    && clock.monotonic().saturating_sub(begun) < options.lock_wait =>
            {
                clock.wait(AGAIN);
            }
            other => return other,
        }
    }
}

fn open_dest(dest: &Path, disk: &Disk) -> Result<Option<Rooted>> {
    match Rooted::open(disk, dest) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(None),
        other => other.map(Some),
    }
}
