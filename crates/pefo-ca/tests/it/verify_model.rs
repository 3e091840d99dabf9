//! Any history, and any one file that changes after it: what is named is what changed.

use pefo_ca::verify::Difference;
use pefo_testkit::ca::Keys;
use proptest::prelude::*;

use super::*;
use crate::model::{acts, perform};
use crate::verify::compared;

#[derive(Debug, Clone, Copy)]
enum Alter {
    Remove,
    Halve,
    Append,
    AddCert,
    AddRequest,
}

/// Does it to one file of the standby; its path.
fn alter(pair: &Pair, alter: Alter, pick: prop::sample::Index) -> String {
    let mut files = contents(&pair.b);
    files.remove("root_key.pem");
    let (path, bytes) = files.iter().nth(pick.index(files.len())).unwrap();
    let (path, bytes) = match alter {
        Alter::Remove => {
            std::fs::remove_file(pair.b.join(path)).unwrap();
            return path.clone();
        }
        Alter::Halve => (path.clone(), bytes[..bytes.len() / 2].to_vec()),
        Alter::Append => (path.clone(), [bytes, b"# x\n".as_slice()].concat()),
        Alter::AddCert => ("signed/added.test.pem".to_owned(), bytes.clone()),
        Alter::AddRequest => ("requests/added.test.pem".to_owned(), bytes.clone()),
    };
    std::fs::write(pair.b.join(&path), bytes).unwrap();
    path
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_a_standby_that_follows_is_the_same(acts in acts(), in_place in any::<bool>()) {
        let mut pair = Pair::with(options().keys(Keys::Ecdsa).write_in_place(in_place));
        for (hour, act) in acts.iter().enumerate() {
            perform(&mut pair, act, i64::try_from(hour).unwrap());
        }
        let before = compared(&pair);
        let plan = pair.follow();
        prop_assert!(before.is_same() || !plan.is_empty(), "nothing to do about\n{before}");
        let after = compared(&pair);
        prop_assert!(after.is_same(), "{after}");
    }

    #[test]
    fn one_file_that_changes_is_the_one_that_is_named(
        acts in acts(),
        how in prop_oneof![Just(Alter::Remove), Just(Alter::Halve), Just(Alter::Append), Just(Alter::AddCert), Just(Alter::AddRequest)],
        pick in any::<prop::sample::Index>(),
    ) {
        let mut pair = Pair::with(options().keys(Keys::Ecdsa));
        for (hour, act) in acts.iter().enumerate() {
            perform(&mut pair, act, i64::try_from(hour).unwrap());
        }
        pair.follow();
        let before = compared(&pair).differences;
        let path = alter(&pair, how, pick);
        let after = compared(&pair).differences;
        let changed: Vec<&Difference> = before
            .iter()
            .filter(|difference| !after.contains(difference))
            .chain(after.iter().filter(|difference| !before.contains(difference)))
            .collect();
        // A comment behind a key leaves the same key.
        let is_silent = path == "ca_key.pem" && matches!(how, Alter::Append);
        prop_assert_eq!(changed.is_empty(), is_silent, "{} {:?}", path, changed);
        // Whether a request is answered hangs on the certificate.
        let request = path.replace("signed/", "requests/");
        for difference in &changed {
            let named = difference.item.path();
            prop_assert!(named == path || named == request, "{difference} though {path} was altered");
        }
        let is_at_source = pair.a.dir().join(&path).exists();
        if is_at_source && matches!(how, Alter::Remove) && !path.starts_with("requests/") {
            prop_assert!(changed.iter().any(|difference| difference.defect), "{path}");
        }
    }
}
