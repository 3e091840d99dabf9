//! Any history of an honest active, followed at any moments, ends in the same CA.

use std::collections::BTreeSet;

use pefo_testkit::ca::{Keys, Step};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Act {
    Sign(u8),
    SignHalf(u8, Step),
    Revoke(u8),
    Clean(u8),
    Renew(u8),
    Request(u8),
    Resign,
    Follow,
    TearTail,
}

pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let node = 0_u8..5;
    let step = prop_oneof![
        Just(Step::Request),
        Just(Step::Serial),
        Just(Step::Inventory),
        Just(Step::Signed)
    ];
    let act = prop_oneof![
        3 => node.clone().prop_map(Act::Sign),
        1 => (node.clone(), step).prop_map(|(node, step)| Act::SignHalf(node, step)),
        2 => node.clone().prop_map(Act::Revoke),
        2 => node.clone().prop_map(Act::Clean),
        1 => node.clone().prop_map(Act::Renew),
        1 => node.prop_map(Act::Request),
        1 => Just(Act::Resign),
        3 => Just(Act::Follow),
        1 => Just(Act::TearTail),
    ];
    proptest::collection::vec(act, 1..25)
}

pub(super) fn perform(pair: &mut Pair, act: &Act, hour: i64) {
    let moment = now() + time::Duration::hours(hour);
    pair.a.set_now(moment);
    let name = |node: &u8| format!("n{node}.test");
    let is_signed = |pair: &Pair, node: &u8| {
        pair.a
            .dir()
            .join(format!("signed/{}.pem", name(node)))
            .exists()
    };
    match act {
        Act::Sign(node) => drop(pair.a.sign(&name(node)).unwrap()),
        Act::SignHalf(node, step) => drop(pair.a.sign_until(&name(node), &[], *step).unwrap()),
        Act::Revoke(node) if is_signed(pair, node) => drop(pair.a.revoke(&name(node)).unwrap()),
        Act::Clean(node) if is_signed(pair, node) => drop(pair.a.clean(&name(node)).unwrap()),
        Act::Renew(node) if is_signed(pair, node) => drop(pair.a.renew(&name(node)).unwrap()),
        Act::Request(node) => pair.a.request(&name(node)).unwrap(),
        Act::Resign => pair.a.resign_crl(&[]).unwrap(),
        Act::Follow => drop(pair.follow()),
        Act::TearTail => {
            let path = pair.b.join("inventory.txt");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, format!("{text}0x00")).unwrap();
        }
        Act::Revoke(_) | Act::Clean(_) | Act::Renew(_) => {}
    }
}

/// Everything but requests/: one that is answered may linger at the source until the server deletes it.
fn without_requests(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    contents(dir)
        .into_iter()
        .filter(|(name, _)| !name.starts_with("requests/"))
        .collect()
}

fn requests(dir: &Path) -> BTreeSet<String> {
    contents(dir)
        .into_keys()
        .filter(|name| name.starts_with("requests/"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_standby_ends_where_its_source_does(acts in acts(), in_place in any::<bool>(), atomic in any::<bool>()) {
        let options = options().keys(Keys::Ecdsa).write_in_place(in_place).atomic_inventory(atomic);
        let mut pair = Pair::with(options);
        for (hour, act) in acts.iter().enumerate() {
            perform(&mut pair, act, i64::try_from(hour).unwrap());
        }
        pair.follow();
        prop_assert!(pair.plan().is_empty(), "a second plan has nothing to do: {}", pair.plan());
        prop_assert_eq!(without_requests(pair.a.dir()), without_requests(&pair.b));
        let (here, there) = (requests(&pair.b), requests(pair.a.dir()));
        prop_assert!(here.is_subset(&there), "{here:?} of {there:?}");
        for request in there.difference(&here) {
            prop_assert!(pair.a.dir().join(request.replace("requests/", "signed/")).exists(), "{request} is pending");
        }
    }
}
