#![expect(
    clippy::disallowed_methods,
    reason = "tests lay out hostile directories by hand"
)]

use super::*;

fn rel(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

const FILE: Attributes = Attributes::mode(0o640);

struct World {
    dir: tempfile::TempDir,
    rooted: Rooted,
}

/// `root/` to work in, `outside/` to stay out of.
fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    for name in ["root", "root/real", "outside"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("outside/precious"), "x").unwrap();
    std::os::unix::fs::symlink("../outside", dir.path().join("root/link")).unwrap();
    std::os::unix::fs::symlink("../outside/precious", dir.path().join("root/file")).unwrap();
    let rooted = Rooted::open(&Disk::new(), &dir.path().join("root")).unwrap();
    World { dir, rooted }
}

impl World {
    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(path)).unwrap()
    }
}

fn write(rooted: &Rooted, path: &str, bytes: &[u8]) {
    let mut file = rooted.create(&rel(path), &FILE).unwrap();
    file.write(bytes).unwrap();
    file.finish().unwrap();
}

#[test]
fn no_change_goes_through_a_symlink() {
    let world = world();
    let rooted = &world.rooted;
    let rules = [
        rooted.create(&rel("link/new"), &FILE).err(),
        rooted.create_dir(&rel("link/dir"), 0o755).err(),
        rooted.create_dir(&rel("link"), 0o755).err(),
        rooted.remove_file(&rel("link/precious")).err(),
        rooted.remove_tree(&rel("link/precious")).err(),
        rooted.set_attributes(&rel("link/precious"), &FILE).err(),
        rooted.set_attributes(&rel("file"), &FILE).err(),
        rooted.resume(&rel("file"), &FILE).err(),
        rooted.sync_dir(Some(&rel("link"))).err(),
        rooted.stat(&rel("link/precious")).err(),
    ]
    .map(|error| error.and_then(|error| error.rule().map(str::to_owned)));
    for (at, rule) in rules.iter().enumerate() {
        assert_eq!(rule.as_deref(), Some("spool-symlink"), "{at}");
    }
    write(rooted, "real/a", b"1");
    assert_eq!(
        rooted
            .rename(&rel("real/a"), rooted, &rel("link/a"))
            .unwrap_err()
            .rule(),
        Some("spool-symlink")
    );
    // At the name itself the symlink is replaced or removed, not followed.
    assert!(rooted.create(&rel("file"), &FILE).is_err());
    rooted.rename(&rel("real/a"), rooted, &rel("file")).unwrap();
    rooted.remove_tree(&rel("link")).unwrap();
    assert_eq!(world.read("root/file"), "1");
    assert_eq!(world.read("outside/precious"), "x");
}

#[test]
fn what_is_made_has_its_attributes_and_can_be_gone_on_with() {
    let world = world();
    let rooted = &world.rooted;
    rooted.create_parents(&rel("a/b/c"), 0o750).unwrap();
    write(rooted, "a/b/c", b"begun");
    let mut file = rooted
        .resume(&rel("a/b/c"), &Attributes::mode(0o604))
        .unwrap();
    file.write(b" and ended").unwrap();
    file.finish().unwrap();
    assert_eq!(world.read("root/a/b/c"), "begun and ended");
    assert_eq!(rooted.stat(&rel("a/b/c")).unwrap().unwrap().mode, 0o604);
    let dir = rooted.stat(&rel("a/b")).unwrap().unwrap();
    assert_eq!((dir.kind, dir.mode), (EntryKind::Directory, 0o750));
    assert_eq!(rooted.stat(&rel("a/none")).unwrap(), None);
    assert_eq!(rooted.stat(&rel("none/none")).unwrap(), None);
}

#[test]
fn a_second_name_and_a_tree_removed_leave_the_first() {
    let world = world();
    let rooted = &world.rooted;
    write(rooted, "real/a", b"1");
    rooted.create_parents(&rel("x/y/z"), 0o755).unwrap();
    rooted
        .hard_link(&rel("real/a"), rooted, &rel("x/y/z"))
        .unwrap();
    std::os::unix::fs::symlink("../../../outside", world.dir.path().join("root/x/y/out")).unwrap();
    rooted.remove_tree(&rel("x")).unwrap();
    assert_eq!(rooted.stat(&rel("x")).unwrap(), None);
    assert_eq!(world.read("root/real/a"), "1");
    assert_eq!(world.read("outside/precious"), "x");
}

#[test]
fn a_directory_that_moves_is_not_taken_for_the_one_before() {
    let world = world();
    let rooted = &world.rooted;
    write(rooted, "real/a", b"1");
    rooted.rename(&rel("real"), rooted, &rel("moved")).unwrap();
    rooted.create_dir(&rel("real"), 0o755).unwrap();
    write(rooted, "real/b", b"2");
    assert_eq!(world.read("root/moved/a"), "1");
    assert_eq!(world.read("root/real/b"), "2");
}

#[test]
fn a_directory_below_stays_the_same_one_where_it_is_renamed_and_is_no_symlink() {
    let world = world();
    let rooted = &world.rooted;
    assert_eq!(
        rooted.dir(&rel("link")).unwrap_err().rule(),
        Some("spool-symlink")
    );
    let below = rooted.dir(&rel("real")).unwrap();
    rooted.rename(&rel("real"), rooted, &rel("moved")).unwrap();
    write(&below, "a", b"1");
    assert_eq!(world.read("root/moved/a"), "1");
    assert_eq!(below.reading().unwrap().read(&rel("a"), 9).unwrap(), b"1");
}
