//! A sender that means ill, and a tree into which somebody has planted things.

use pefo_core::disk::Disk;
use pefo_core::{Digest, ErrorKind};
use pefo_transport::frame::{Frame, PREAMBLE, encode};
use pefo_transport::message::{FileHead, Protocols};
use pefo_transport::tree::message::{Commit, Committed, EntriesHead, Open, Scope};

use crate::world::{World, show};

/// An entry's bytes, whatever its path.
fn entry(path: &[u8], mode: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = (path.len() as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(path);
    bytes.push(1);
    bytes.extend_from_slice(&mode.to_le_bytes());
    bytes.extend_from_slice(&1_i64.to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
    bytes.extend_from_slice(Digest::of(content).as_bytes());
    bytes
}

fn directory(path: &[u8]) -> Vec<u8> {
    let mut bytes = (path.len() as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(path);
    bytes.push(0);
    bytes.extend_from_slice(&0o755_u32.to_le_bytes());
    bytes
}

/// A session that puts these entries, each file "x", without asking.
fn script(entries: &[Vec<u8>]) -> Vec<u8> {
    let body = entries.concat();
    let mut frames = vec![
        Frame::Open(Open {
            protocol: Protocols::OURS,
            tool: "ill".into(),
            capabilities: vec!["ask".into()],
        }),
        Frame::Entries(EntriesHead {
            scope: Scope::Paths,
            entries: entries.len() as u32,
            bytes: body.len() as u64,
            eager: true,
        }),
        Frame::Data(body),
    ];
    for (index, entry) in (0_u32..).zip(entries) {
        // Files only: the byte behind the path.
        if entry[2 + u16::from_le_bytes([entry[0], entry[1]]) as usize] == 1 {
            frames.push(Frame::File(FileHead { index, size: 1 }));
            frames.push(Frame::Data(b"x".to_vec()));
        }
    }
    frames.push(Frame::Commit(Commit { delete: true }));
    frames.push(Frame::Bye);
    let mut bytes = PREAMBLE.to_vec();
    for frame in &frames {
        encode(frame, &mut bytes).unwrap();
    }
    bytes
}

fn copy() -> World {
    let world = World::new();
    world.write("inside", b"1");
    world.write("dir/file", b"2");
    world.sync();
    std::fs::create_dir(world.dir.path().join("outside")).unwrap();
    std::fs::write(world.dir.path().join("outside/precious"), "x").unwrap();
    world
}

#[test]
fn the_script_of_these_tests_works_where_nothing_is_wrong() {
    let world = copy();
    let (said, served) = world.recite(&script(&[entry(b"new", 0o644, b"x")]), &Disk::new());
    served.unwrap();
    assert!(
        matches!(
            &said[..],
            [_, Frame::Committed(Committed { written: 1, .. })]
        ),
        "{said:?}"
    );
    assert_eq!(std::fs::read(world.dest().join("new")).unwrap(), b"x");
}

#[test]
fn no_path_leads_outside_the_tree() {
    let world = copy();
    let before = show(world.dir.path());
    for path in [
        b"../outside/precious".as_slice(),
        b"/etc/passwd",
        b"a/../../outside/precious",
        b"./inside",
        b"a//b",
        b"",
        b"nul\0",
        b"line\nfeed",
        b"back\\slash",
        b"\xff\xfe",
        &[b'x'; 2000],
    ] {
        let (_, served) = world.recite(&script(&[entry(path, 0o644, b"x")]), &Disk::new());
        let error = served.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{path:?}: {error}");
    }
    assert_eq!(show(world.dir.path()), before);
}

#[test]
fn a_planted_symlink_leads_no_write_outside() {
    for (plant, target, entries) in [
        (
            "dir",
            "../outside",
            vec![entry(b"dir/precious", 0o644, b"x")],
        ),
        (
            "dir",
            "../outside",
            vec![directory(b"dir"), entry(b"dir/precious", 0o644, b"x")],
        ),
        (
            "inside",
            "../outside/precious",
            vec![entry(b"inside", 0o600, b"x")],
        ),
    ] {
        let world = copy();
        let planted = world.dest().join(plant);
        if planted.is_dir() {
            std::fs::remove_dir_all(&planted).unwrap();
        } else {
            std::fs::remove_file(&planted).unwrap();
        }
        std::os::unix::fs::symlink(target, &planted).unwrap();
        drop(world.recite(&script(&entries), &Disk::new()));
        let outside = show(&world.dir.path().join("outside"));
        assert_eq!(outside.len(), 1);
        let (mode, file) = &outside["precious"];
        assert_eq!(
            (mode & 0o777, &file.as_ref().unwrap().2[..]),
            (0o644, b"x".as_slice())
        );
        // An honest sync puts it right, whatever was planted.
        world.sync();
        world.same();
    }
}

#[test]
fn a_symlink_planted_while_the_session_is_open_leads_no_write_outside() {
    let world = copy();
    let mut said = script(&[entry(b"dir/precious", 0o644, b"x")]);
    // The tree is looked at when the entries come; what is planted then is not known to be a symlink.
    let commit = said.split_off(said.len() - 2 * 8 - b"{\"delete\":true}".len());
    let planting = Planting {
        first: std::io::Cursor::new(said),
        then: std::io::Cursor::new(commit),
        plant: Some(|| {
            std::fs::remove_dir_all(world.dest().join("dir")).unwrap();
            std::os::unix::fs::symlink("../outside", world.dest().join("dir")).unwrap();
        }),
    };
    let mut planting = planting;
    let mut output = Vec::new();
    let served = world.receiver().serve(
        &mut planting,
        &mut output,
        &Disk::new(),
        &pefo_core::clock::SystemClock,
        pefo_transport::delta::Seed([1; 16]),
    );
    assert_eq!(served.unwrap_err().rule(), Some("spool-symlink"));
    assert_eq!(
        std::fs::read(world.dir.path().join("outside/precious")).unwrap(),
        b"x"
    );
    assert_eq!(show(&world.dir.path().join("outside")).len(), 1);
}

struct Planting<F> {
    first: std::io::Cursor<Vec<u8>>,
    then: std::io::Cursor<Vec<u8>>,
    plant: Option<F>,
}

impl<F: FnOnce()> std::io::Read for Planting<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.first.read(buffer)?;
        if count > 0 {
            return Ok(count);
        }
        if let Some(plant) = self.plant.take() {
            plant();
        }
        self.then.read(buffer)
    }
}

#[test]
fn entries_of_no_tree_and_bits_that_give_rights_away_are_refused() {
    let world = copy();
    let before = show(&world.dest());
    for (entries, rule) in [
        (vec![entry(b"su", 0o4755, b"x")], "tree-mode"),
        (vec![entry(b"none/file", 0o644, b"x")], "tree-shape"),
        (vec![entry(b"inside/file", 0o644, b"x")], "tree-shape"),
        (vec![entry(b"dir", 0o644, b"x")], "tree-shape"),
    ] {
        let (_, served) = world.recite(&script(&entries), &Disk::new());
        assert_eq!(served.unwrap_err().rule(), Some(rule));
    }
    assert_eq!(show(&world.dest()), before);
}

#[test]
fn content_that_is_not_what_was_announced_is_not_taken() {
    let world = copy();
    let (said, served) = world.recite(&script(&[entry(b"inside", 0o644, b"y")]), &Disk::new());
    served.unwrap();
    assert!(matches!(
        &said[..],
        [
            _,
            Frame::Committed(Committed {
                written: 0,
                skipped: 1,
                ..
            })
        ]
    ));
    assert_eq!(std::fs::read(world.dest().join("inside")).unwrap(), b"1");
}

#[test]
fn more_than_the_receiver_takes_is_refused_before_it_comes() {
    let mut world = copy();
    let limits = world.options.limits.clone();
    for (limits, entries) in [
        (limits.clone().entries(3), vec![entry(b"new", 0o644, b"x")]),
        (
            limits.clone().tree_bytes(2),
            vec![entry(b"new", 0o644, b"x")],
        ),
        (
            limits.clone().file_bytes(0),
            vec![entry(b"new", 0o644, b"x")],
        ),
    ] {
        world.options.limits = limits;
        let (_, served) = world.recite(&script(&entries), &Disk::new());
        assert_eq!(served.unwrap_err().rule(), Some("tree-size"));
    }
    world.options.limits = limits.free_bytes(u64::MAX / 2);
    world.write("new", &[1; 100]);
    assert_eq!(world.try_sync().unwrap_err().rule(), Some("spool-full"));
}
