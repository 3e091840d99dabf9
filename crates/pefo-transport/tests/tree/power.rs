//! Power loss while a tree changes: of all the fsyncs that takes none can be spared, and those there
//! are make the whole old tree or the whole new one, however much of the rest reached the disk, on a
//! disk that promises no more than POSIX does.

use std::io::{Cursor, Write};
use std::path::Path;

use pefo_core::clock::SystemClock;
use pefo_core::disk::Disk;
use pefo_core::disk::power::{Findings, Order, Stage, without_each_sync};
use pefo_transport::TreeReceiver;
use pefo_transport::delta::Seed;
use pefo_transport::frame::{Frame, PREAMBLE, decode_agreed, encode};
use pefo_transport::message::{Capabilities, Protocols};
use pefo_transport::tree::TreeServed;
use pefo_transport::tree::message::Open;

use crate::world::{World, chmod, scratch, show};

/// Hears a receiver, and notes each commit that it answers.
struct Answers<'a> {
    stage: &'a Stage,
    said: Vec<u8>,
    heard: usize,
}

impl Write for Answers<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.said.extend_from_slice(bytes);
        while let Some((frame, used)) =
            decode_agreed(&self.said[self.heard..], Capabilities::TREE).unwrap()
        {
            self.heard += used;
            if let Frame::Committed(_) = frame {
                self.stage.answered();
            }
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_tree(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
            let file = std::fs::File::options().append(true).open(&to).unwrap();
            let time = from.metadata().unwrap().modified().unwrap();
            file.set_modified(time).unwrap();
        }
    }
    let mode = from.metadata().unwrap().permissions();
    std::fs::set_permissions(to, mode).unwrap();
}

/// A receiver that keeps `home/dest`, with `home/state`, hears this.
fn serve(
    world: &World,
    home: &Path,
    said: &[u8],
    output: &mut dyn Write,
    disk: &Disk,
) -> pefo_core::Result<TreeServed> {
    let mut options = world.options.clone();
    options.dest = home.join("dest");
    options.state = home.join("state");
    let seed = Seed([7; 16]);
    TreeReceiver::new(options).serve(&mut Cursor::new(said), output, disk, &SystemClock, seed)
}

/// Paths, modes, content.
type Stands = Vec<(String, u32, Option<Vec<u8>>)>;

/// What stands after a session that asks for nothing has ended what was interrupted; nothing where it
/// could not.
fn recovered(world: &World, home: &Path) -> Option<Stands> {
    let mut said = PREAMBLE.to_vec();
    let open = Frame::Open(Open {
        protocol: Protocols::OURS,
        tool: "test".into(),
        capabilities: vec![],
    });
    for frame in [open, Frame::Bye] {
        encode(&frame, &mut said).unwrap();
    }
    serve(world, home, &said, &mut Vec::new(), &Disk::new()).ok()?;
    Some(stands(&home.join("dest")))
}

fn stands(dest: &Path) -> Stands {
    let shown = show(dest).into_iter();
    shown
        .map(|(path, (mode, file))| (path, mode, file.map(|(_, _, content)| content)))
        .collect()
}

/// The changes of a source, one after the other.
type Changes<'a> = &'a [fn(&World)];

/// Takes out each fsync of the sessions that bring the copy, which stands with or without a `state`, to
/// where each of `changes` brings the source.
fn hunt(world: &World, with_state: bool, changes: Changes<'_>) -> Findings {
    let before = scratch();
    for (name, is_kept) in [("dest", true), ("state", with_state)] {
        let from = world.dir.path().join(name);
        if is_kept && from.exists() {
            copy_tree(&from, &before.path().join(name));
        }
    }
    let mut states = vec![stands(&world.dest())];
    let mut sessions = Vec::new();
    for change in changes {
        change(world);
        sessions.push(world.record());
        states.push(stands(&world.source()));
    }
    let scratch = scratch();
    let findings = without_each_sync(
        scratch.path(),
        Order::Any,
        |dir| {
            for entry in std::fs::read_dir(before.path()).unwrap() {
                let entry = entry.unwrap();
                copy_tree(&entry.path(), &dir.join(entry.file_name()));
            }
        },
        |stage| {
            for said in &sessions {
                let mut answers = Answers {
                    stage,
                    said: Vec::new(),
                    heard: PREAMBLE.len(),
                };
                serve(world, stage.dir(), said, &mut answers, &stage.disk()).unwrap();
            }
        },
        |dir, answers| {
            // A tree that shows must not wait beside itself as well.
            let twice = ["state/stage/d/e", "dest/d/e"].map(|path| dir.join(path).exists());
            let Some(now) = recovered(world, dir) else {
                return false;
            };
            let is = |nth: usize| states.get(nth) == Some(&now);
            let is_whole = answers == 0 || twice != [true, true];
            is_whole && (is(answers) || is(answers + 1))
        },
    );
    findings.unwrap()
}

/// A copy of a tree that has one of each.
fn world() -> World {
    let world = World::new();
    for path in ["replaced", "d/replaced", "gone", "e/gone", "adjusted"] {
        world.write(path, path.as_bytes());
    }
    world.sync();
    world
}

fn every_kind(world: &World) {
    world.write("d/replaced", b"new");
    world.write("new/file", b"new");
    world.remove("gone");
    world.remove("e");
    chmod(&world.source().join("adjusted"), 0o600);
}

#[test]
fn a_file_that_changes_alone_needs_each_of_its_fsyncs() {
    let findings = hunt(&world(), true, &[|world| world.write("replaced", b"new")]);
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 2, "{findings:?}");
}

#[test]
fn a_first_copy_needs_each_of_its_fsyncs() {
    let world = World::new();
    std::fs::create_dir(world.state()).unwrap();
    let findings = hunt(
        &world,
        true,
        &[|world| {
            world.write("a", b"1");
            world.write("d/e", b"22");
        }],
    );
    findings.assert_each_is_needed();
    assert_eq!(findings.syncs.len(), 3, "{findings:?}");
}

#[test]
fn a_change_of_every_kind_and_the_one_after_it_need_each_of_their_fsyncs() {
    // The state is made here, and relied on at once; and were the steps to come back after the
    // second change, they would undo it.
    let again: fn(&World) = |world| world.write("gone", b"back");
    let findings = hunt(&world(), false, &[every_kind, again]);
    findings.assert_each_is_needed();
}
