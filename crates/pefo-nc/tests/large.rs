//! A big site's classification, all the way: 5,000 groups.

mod common;

use common::{ACTIVE, PASSIVE, at, client_of, map, name, policy, target, tree};
use pefo_nc::import::{Holds, apply, plan};
use pefo_nc::transform::{Mention, TransformOptions, transform};
use pefo_nc::{CertnameMap, Envelope, TreeDiff, TreeDigest};
use pefo_testkit::classifier::{ClassifierDouble, Options, large_hierarchy};

#[test]
fn five_thousand_groups_keep_every_byte_but_the_masters_name() {
    let here = tree(large_hierarchy(ACTIVE, 1));
    assert_eq!(here.len(), 5_000);
    let transformed = transform(&here, &map(), &TransformOptions::default());
    assert!(
        transformed.rewrites.len() > 10_000,
        "{}",
        transformed.rewrites.len()
    );
    for mention in [
        Mention::LongerName,
        Mention::InsideText,
        Mention::Regex,
        Mention::UnlistedPlace,
    ] {
        assert!(
            transformed
                .residuals
                .iter()
                .any(|residual| residual.mention == mention),
            "no {mention:?}"
        );
    }
    let diff = TreeDiff::between(&here, &transformed.tree);
    assert!(diff.added.is_empty() && diff.removed.is_empty());
    assert_eq!(
        TreeDigest::of(&diff.apply(&here).unwrap()),
        TreeDigest::of(&transformed.tree)
    );

    // Upper-case pins come back in lower case; after the first way there and back nothing changes.
    let back = CertnameMap::one(name(PASSIVE), name(ACTIVE));
    let home = transform(&transformed.tree, &back, &TransformOptions::default()).tree;
    let there_again = transform(&home, &map(), &TransformOptions::default()).tree;
    assert_eq!(there_again.to_json(), transformed.tree.to_json());

    let envelope = Envelope::new(name(ACTIVE), at(0), here);
    assert_eq!(
        Envelope::parse(&envelope.to_bytes().unwrap()).unwrap(),
        envelope
    );
}

#[tokio::test]
async fn five_thousand_groups_are_imported_and_the_second_time_nothing_is_done() {
    let groups = large_hierarchy(ACTIVE, 2);
    let double = ClassifierDouble::start(Options::default().allow(PASSIVE));
    double.deploy_classes_of(&groups);
    let client = client_of(&double);
    let export = Envelope::new(name(ACTIVE), at(0), tree(groups));
    let first = plan(&export, target(&client).await, &policy()).unwrap();
    let report = apply(&client, &first, &Default::default(), &mut |_: Option<
        &Envelope,
    >| { Ok(()) })
    .await;
    assert_eq!(report.into_result().unwrap().holds, Holds::New);
    let second = plan(&export, target(&client).await, &policy()).unwrap();
    assert!(!second.needs_import(), "{}", second.diff());
    assert_eq!(double.installed(), 1);
}
