//! Which disk a byte goes to, and whose data directory it is.

use pefo_core::disk::{Attributes, Disk};
use proptest::prelude::*;

use super::*;

fn volume(path: &str, device: u64, free_bytes: u64) -> Volume {
    Volume {
        path: path.into(),
        device,
        free_bytes,
    }
}

fn disks() -> Disks {
    Disks {
        tablespaces: BTreeMap::from([
            ("pg_default".to_owned(), volume("/data", 1, 100)),
            ("fast".to_owned(), volume("/fast", 2, 100)),
        ]),
        wal: volume("/data/pg_wal", 1, 100),
        max_wal_bytes: 30,
    }
}

#[test]
fn what_goes_to_one_disk_is_added_up() {
    let fits = BTreeMap::from([("pg_default", 70), ("fast", 100)]);
    assert_eq!(disks().shortages(&fits, 30), Vec::<String>::new());
    let (one, other) = (
        BTreeMap::from([("pg_default", 71)]),
        BTreeMap::from([("fast", 101)]),
    );
    insta::assert_snapshot!(disks().shortages(&one, 30).join("\n"), @"/data has 100 bytes free, about 101 are needed");
    insta::assert_snapshot!(disks().shortages(&other, 30).join("\n"), @"/fast has 100 bytes free, about 101 are needed");
}

#[test]
fn a_data_directory_is_told_by_its_control_file() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(control_file_identifier(dir.path()), None);
    let global = dir.path().join("global");
    Disk::new()
        .create_dir(&global, &Attributes::mode(0o700))
        .unwrap();
    let mut bytes = (-7_i64).to_ne_bytes().to_vec();
    Disk::new()
        .publish(
            &global.join("pg_control"),
            &bytes[..7],
            &Attributes::mode(0o600),
        )
        .unwrap();
    assert_eq!(control_file_identifier(dir.path()), None);
    bytes.extend([0; 8184]);
    Disk::new()
        .publish(&global.join("pg_control"), &bytes, &Attributes::mode(0o600))
        .unwrap();
    assert_eq!(control_file_identifier(dir.path()).as_deref(), Some("-7"));
}

proptest! {
    #[test]
    fn a_disk_is_short_exactly_where_more_goes_to_it_than_it_has(default: u64, fast: u64, wal: u64, free: u64, shared: bool) {
        let mut disks = disks();
        for volume in disks.tablespaces.values_mut().chain([&mut disks.wal]) {
            volume.free_bytes = free;
            volume.device = if shared { 1 } else { volume.device };
        }
        let short = disks.shortages(&BTreeMap::from([("pg_default", default), ("fast", fast)]), wal);
        let over = |bytes: u128| usize::from(bytes > u128::from(free));
        let sum = u128::from(default) + u128::from(wal);
        let expected = if shared { over(sum + u128::from(fast)) } else { over(sum) + over(fast.into()) };
        // What overflows is more than any disk has.
        prop_assume!(free < u64::MAX);
        prop_assert_eq!(short.len(), expected);
    }
}
