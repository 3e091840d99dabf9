//! The spool loses, alters and buries what came: the watches mend it between themselves.

use pefo_testkit::wait;

use super::{LONG, Watched, accepted, newest, spooled};
use crate::pair::Pair;
use crate::spool::as_transfer;

fn running() -> Option<Watched> {
    let mut watched = Watched::seeded()?;
    watched.pair.ca.sign("first.lab").unwrap();
    watched.in_step();
    Some(watched)
}

/// Signs, and gives the batch once it is in B's spool.
fn arrives(pair: &mut Pair, certname: &str) -> String {
    // What was on its way before may still come, and take the first along.
    for again in 0..10 {
        let before = newest(&pair.b);
        pair.ca.sign(&format!("{again}.{certname}")).unwrap();
        wait::until("the batch", LONG, || newest(&pair.b) > before);
        let came = newest(&pair.b).unwrap();
        if came.extension().is_some_and(|end| end == "batch") {
            return came.display().to_string();
        }
    }
    panic!("no batch came");
}

#[test]
fn a_spool_that_is_emptied_by_hand_is_filled_again() {
    let Some(mut watched) = running() else { return };
    for (round, what) in ["generations/ca/*", "*"].into_iter().enumerate() {
        let spool = watched.pair.b.spool();
        as_transfer(&format!("cd {} && rm -rf {what}", spool.display()));
        watched.pair.ca.sign(&format!("node{round}.lab")).unwrap();
        watched.in_step();
    }
    watched.both_live();
}

#[test]
fn the_last_batch_lost_unseen_is_asked_for_though_nothing_comes_after_it() {
    let Some(mut watched) = running() else { return };
    watched.while_b_is_held(|pair| {
        let batch = arrives(pair, "node1.lab");
        as_transfer(&format!("rm {batch}"));
    });
    watched.in_step();
    watched.both_live();
}

#[test]
fn a_gap_is_closed_without_an_operator() {
    let Some(mut watched) = running() else { return };
    watched.while_b_is_held(|pair| {
        let batch = arrives(pair, "node1.lab");
        as_transfer(&format!("rm {batch}"));
        arrives(pair, "node2.lab");
    });
    watched.b_says("[batch-gap]");
    watched.pair.ca.sign("node3.lab").unwrap();
    watched.in_step();
    watched.both_live();
}

/// What is done to a batch, `$1`, before root looks at it, and how it is refused.
const ALTERATIONS: [(&str, &str, &str); 5] = [
    (
        "its end is changed",
        "printf x | dd of=$1 bs=1 seek=$(($(stat -c %s $1) - 9)) conv=notrunc 2>/dev/null",
        "[digest]",
    ),
    (
        "its manifest is changed",
        "sed -i 's/\"tool\":\"pefo/\"tool\":\"pefO/' $1",
        "[signature]",
    ),
    (
        "it is emptied",
        "truncate -s 0 $1",
        "the batch's file is cut",
    ),
    ("it grows without end", "truncate -s 1T $1", "[digest]"),
    (
        "its length is a lie",
        "printf '\\377\\377\\377\\377\\377\\377\\377\\377' | dd of=$1 conv=notrunc 2>/dev/null",
        "is larger than",
    ),
];

#[test]
fn a_batch_that_was_altered_is_refused_by_name_and_comes_again() {
    let Some(mut watched) = running() else { return };
    for (round, (what, script, answer)) in ALTERATIONS.into_iter().enumerate() {
        let said = watched.pair.b.watch_log().len();
        let name = format!("node{round}.lab");
        watched.while_b_is_held(|pair| {
            let batch = arrives(pair, &name);
            as_transfer(&format!("set -e; set -- {batch}; {script}"));
        });
        watched.until(what, || watched.pair.b.watch_log()[said..].contains(answer));
        watched.in_step();
    }
    watched.both_live();
}

#[test]
fn what_is_no_file_in_a_batchs_place_is_not_followed_and_the_batch_comes_again() {
    let Some(mut watched) = running() else { return };
    for (round, script) in [
        "ln -s /etc/shadow $1",
        "ln -s $1.away $1",
        "mkfifo $1",
        "mkdir $1",
    ]
    .into_iter()
    .enumerate()
    {
        watched.while_b_is_held(|pair| {
            let batch = arrives(pair, &format!("node{round}.lab"));
            as_transfer(&format!("set -e; set -- {batch}; mv $1 $1.away; {script}"));
        });
        watched.pair.ca.sign(&format!("after{round}.lab")).unwrap();
        watched.in_step();
    }
    watched.both_live();
}

#[test]
fn a_data_sets_directory_that_leads_elsewhere_is_refused_until_it_is_back() {
    let Some(mut watched) = running() else { return };
    let dir = spooled(&watched.pair.b).display().to_string();
    for (round, (planted, answer)) in [
        (format!("ln -s {dir}.away {dir}"), "[spool-symlink]"),
        (format!("mkfifo {dir}"), "[spool-symlink]"),
    ]
    .into_iter()
    .enumerate()
    {
        let said = watched.pair.b.watch_log().len();
        let before = accepted(&watched.pair.b).position;
        as_transfer(&format!("mv {dir} {dir}.away; {planted}"));
        watched.until(answer, || {
            watched.pair.b.watch_log()[said..].contains(answer)
        });
        assert_eq!(accepted(&watched.pair.b).position, before);
        as_transfer(&format!("rm {dir}; mv {dir}.away {dir}"));
        watched.pair.ca.sign(&format!("node{round}.lab")).unwrap();
        watched.in_step();
    }
    watched.both_live();
}

#[test]
fn a_flood_of_junk_is_refused_by_name_and_over_when_it_is_gone() {
    let Some(mut watched) = running() else { return };
    let dir = spooled(&watched.pair.b).display().to_string();
    let before = accepted(&watched.pair.b).position;
    as_transfer(&format!("cd {dir} && seq -f junk%.0f 100001 | xargs touch"));
    watched.b_says("[spool-entries]");
    assert_eq!(accepted(&watched.pair.b).position, before);
    as_transfer(&format!("cd {dir} && find . -name 'junk*' -delete"));
    watched.pair.ca.sign("node1.lab").unwrap();
    watched.in_step();
    watched.both_live();
}
