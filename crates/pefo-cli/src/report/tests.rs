use std::time::Duration;

use pefo_core::Certname;
use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::reign::{Epoch, Role};
use pefo_core::run::Outcome;
use proptest::prelude::*;

use crate::outcome::Health;

use super::data::{Amiss, DrillTold, Point, Refusal, ReportData, RunTold, Series, Told};
use super::page::page;
use super::text::summary;

const UNTIL: i64 = 1_763_800_000;
const DAY: u64 = 86_400;

fn ago(seconds: u64) -> Timestamp {
    Timestamp::from_unix_seconds(UNTIL)
        .unwrap()
        .minus(Duration::from_secs(seconds))
}

fn certname(name: &str) -> Certname {
    Certname::new(name).unwrap()
}

fn amiss(text: &str) -> Amiss {
    Amiss {
        what: text.to_owned(),
        hint: Some(text.to_owned()),
    }
}

fn told(dataset: DataSet, points: Vec<Point>) -> Told {
    Told {
        dataset,
        peer: None,
        health: Health::Ok,
        lag_seconds: Some(8),
        last_success: Some(ago(30)),
        amiss: Vec::new(),
        lag: Series {
            points,
            warn: Some(60.0),
            critical: Some(300.0),
        },
    }
}

/// A host that is set up and of which there is nothing to tell yet.
fn new() -> ReportData {
    ReportData {
        certname: certname("puppet-b.lab"),
        role: Role::Passive,
        epoch: Epoch(1),
        holder: certname("puppet-a.lab"),
        reigns_since: ago(3_600),
        health: Health::Critical,
        amiss: Vec::new(),
        peers: vec![certname("puppet-a.lab")],
        tool: "pefo 0.1.0".to_owned(),
        from: ago(DAY),
        until: ago(0),
        datasets: Vec::new(),
        runs: Vec::new(),
        refusals: Vec::new(),
        drills: Vec::new(),
    }
}

/// One of everything, with `text` wherever anybody but this program has a say.
fn said(text: &str) -> ReportData {
    let dataset = || DataSet::Database(text.to_owned());
    let points = [
        (600, Some(8.0)),
        (540, Some(9.0)),
        (480, None),
        (420, Some(400.0)),
    ];
    let points = points.map(|(seconds, value)| Point {
        at: ago(seconds),
        seconds: value,
    });
    ReportData {
        amiss: vec![amiss(text)],
        datasets: vec![Told {
            amiss: vec![amiss(text)],
            ..told(dataset(), points.to_vec())
        }],
        runs: vec![RunTold {
            began: ago(90),
            took_ms: 1_234,
            command: text.to_owned(),
            dataset: Some(dataset()),
            outcome: Outcome::Refused,
            error: Some(text.to_owned()),
            overruled: vec![text.to_owned()],
        }],
        refusals: vec![Refusal {
            rule: text.to_owned(),
            dataset: Some(dataset()),
            times: 2,
            last: ago(90),
            reason: text.to_owned(),
        }],
        drills: vec![DrillTold {
            began: ago(5_000),
            outcome: Outcome::Partial,
            rto_ms: 2_100,
            rpo_seconds: Some(900),
            failed: vec![text.to_owned()],
        }],
        ..new()
    }
}

/// A page with a line for each element.
fn lines(page: &str) -> String {
    let (head, body) = page.split_once("<body>").unwrap();
    let (head, style) = head.split_once("<style>").unwrap();
    assert!(style.ends_with("</style></head>"));
    format!("{head}\n{body}").replace("><", ">\n<")
}

#[test]
fn a_page_of_a_host_with_a_little_to_tell() {
    insta::assert_snapshot!(lines(&page(&said("x"))), @r##"
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="generator" content="pefo 0.1.0">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <meta name="robots" content="noindex">
    <title>puppet-b.lab: CRITICAL, pefo</title>
    <header>
    <p class="kicker">pefo report</p>
    <h1>puppet-b.lab</h1>
    <p class="verdict">
    <span class="badge bad">
    <span aria-hidden="true">✕</span> CRITICAL</span>
    <span>passive in epoch 1</span>
    </p>
    <ul class="amiss">
    <li>
    <p>x</p>
    <p class="hint">x</p>
    </li>
    </ul>
    <dl class="facts">
    <div>
    <dt>Reigns</dt>
    <dd>puppet-a.lab</dd>
    </div>
    <div>
    <dt>Since</dt>
    <dd>
    <time datetime="2025-11-22T07:26:40Z">2025-11-22 07:26</time>
    </dd>
    </div>
    <div>
    <dt>Peer</dt>
    <dd>puppet-a.lab</dd>
    </div>
    <div>
    <dt>Told of</dt>
    <dd>
    <time datetime="2025-11-21T08:26:40Z">2025-11-21 08:26</time> to <time datetime="2025-11-22T08:26:40Z">2025-11-22 08:26</time> UTC</dd>
    </div>
    </dl>
    </header>
    <main>
    <section aria-labelledby="lag">
    <h2 id="lag">Lag</h2>
    <p class="lead">How long ago the spare last proved that it had applied everything the active had sent.</p>
    <div class="cards">
    <article class="card">
    <h3>db:x <span class="badge good">
    <span aria-hidden="true">✓</span> OK</span>
    </h3>
    <p class="figure">
    <strong>8 s</strong> now</p>
    <p class="figures">usually 9 s, at worst 6 min 40 s on 2025-11-22 08:19</p>
    <div class="plot">
    <div class="y" aria-hidden="true">
    <span style="bottom:0.00%">0</span>
    <span style="bottom:11.38%">1 s</span>
    <span style="bottom:39.38%">10 s</span>
    <span style="bottom:67.51%">1 min</span>
    </div>
    <div class="picture">
    <svg viewBox="0 0 1000 200" preserveAspectRatio="none" role="img" aria-labelledby="lag-0-title lag-0-desc">
    <title id="lag-0-title">Lag of db:x</title>
    <desc id="lag-0-desc">Lag of db:x, from 2025-11-21 08:26 to 2025-11-22 08:26: usually 9 s, at worst 6 min 40 s on 2025-11-22 08:19; there are 3 gaps.</desc>
    <rect class="gap" x="0" y="0" width="993.1" height="200">
    </rect>
    <rect class="gap" x="993.8" y="0" width="1.4" height="200">
    </rect>
    <rect class="gap" x="995.1" y="0" width="4.9" height="200">
    </rect>
    <line class="grid" x1="0" x2="1000" y1="200" y2="200">
    </line>
    <line class="grid" x1="0" x2="1000" y1="177.2" y2="177.2">
    </line>
    <line class="grid" x1="0" x2="1000" y1="121.2" y2="121.2">
    </line>
    <line class="grid" x1="0" x2="1000" y1="65" y2="65">
    </line>
    <line class="limit warn" x1="0" x2="1000" y1="65" y2="65">
    </line>
    <line class="limit critical" x1="0" x2="1000" y1="12.5" y2="12.5">
    </line>
    <path class="area" d="M993.1 127.8L993.8 124.4L993.8 200L993.1 200Z">
    </path>
    <path class="line" d="M993.1 127.8L993.8 124.4">
    </path>
    <path class="area" d="M995.1 3.1L995.1 200L995.1 200Z">
    </path>
    <path class="line" d="M995.1 3.1h0.01">
    </path>
    </svg>
    </div>
    <div class="x" aria-hidden="true">
    <span class="" style="left:14.81%">12:00</span>
    <span class="alternate" style="left:39.81%">18:00</span>
    <span class="" style="left:64.81%">22 Nov</span>
    <span class="alternate" style="left:89.81%">06:00</span>
    </div>
    </div>
    <p class="legend">
    <span>logarithmic scale</span>
    <span>
    <i class="key warn">
    </i>warn from 1 min</span>
    <span>
    <i class="key critical">
    </i>critical from 5 min</span>
    <span>
    <i class="key gap">
    </i>nothing was recorded</span>
    <span>times in UTC</span>
    </p>
    <p class="figures">last success: <time datetime="2025-11-22T08:26:10Z">2025-11-22 08:26</time>
    </p>
    <ul class="amiss">
    <li>
    <p>x</p>
    <p class="hint">x</p>
    </li>
    </ul>
    </article>
    </div>
    </section>
    <section aria-labelledby="refusals">
    <h2 id="refusals">Refusals</h2>
    <p class="lead">What a gate said no to, by rule; docs/refusals.md tells what each means and what to do.</p>
    <table role="table">
    <thead role="rowgroup">
    <tr role="row">
    <th role="columnheader" scope="col">Rule</th>
    <th role="columnheader" scope="col">Data set</th>
    <th role="columnheader" scope="col">Times</th>
    <th role="columnheader" scope="col">Last</th>
    <th role="columnheader" scope="col">Reason</th>
    </tr>
    </thead>
    <tbody role="rowgroup">
    <tr role="row">
    <td class="short" role="cell" data-name="Rule">
    <div>
    <code>x</code>
    </div>
    </td>
    <td class="" role="cell" data-name="Data set">
    <div>db:x</div>
    </td>
    <td class="short" role="cell" data-name="Times">
    <div>2</div>
    </td>
    <td class="short" role="cell" data-name="Last">
    <div>
    <time datetime="2025-11-22T08:25:10Z">2025-11-22 08:25</time>
    </div>
    </td>
    <td class="" role="cell" data-name="Reason">
    <div>x</div>
    </td>
    </tr>
    </tbody>
    </table>
    </section>
    <section aria-labelledby="drills">
    <h2 id="drills">Drills</h2>
    <div class="cards">
    <article class="card">
    <h3>RTO</h3>
    <p class="figure">
    <strong>2.1 s</strong> last</p>
    <p class="figures">how long the data's part of a takeover took</p>
    <div class="plot">
    <div class="y" aria-hidden="true">
    <span style="bottom:0.00%">0</span>
    <span style="bottom:21.65%">500 ms</span>
    <span style="bottom:43.29%">1 s</span>
    <span style="bottom:64.94%">1.5 s</span>
    <span style="bottom:86.58%">2 s</span>
    </div>
    <div class="picture">
    <svg viewBox="0 0 1000 200" preserveAspectRatio="none" role="img" aria-labelledby="rto-title rto-desc">
    <title id="rto-title">RTO of each drill</title>
    <desc id="rto-desc">RTO of each drill, from 2025-11-21 08:26 to 2025-11-22 08:26: usually 2.1 s, at worst 2.1 s on 2025-11-22 07:03.</desc>
    <line class="grid" x1="0" x2="1000" y1="200" y2="200">
    </line>
    <line class="grid" x1="0" x2="1000" y1="156.7" y2="156.7">
    </line>
    <line class="grid" x1="0" x2="1000" y1="113.4" y2="113.4">
    </line>
    <line class="grid" x1="0" x2="1000" y1="70.1" y2="70.1">
    </line>
    <line class="grid" x1="0" x2="1000" y1="26.8" y2="26.8">
    </line>
    <path class="stem" d="M942.1 200V18.2">
    </path>
    <path class="dot" d="M942.1 18.2h0.01">
    </path>
    </svg>
    </div>
    <div class="x" aria-hidden="true">
    <span class="" style="left:14.81%">12:00</span>
    <span class="alternate" style="left:39.81%">18:00</span>
    <span class="" style="left:64.81%">22 Nov</span>
    <span class="alternate" style="left:89.81%">06:00</span>
    </div>
    </div>
    <p class="legend">
    <span>times in UTC</span>
    </p>
    </article>
    <article class="card">
    <h3>RPO</h3>
    <p class="figure">
    <strong>15 min</strong> last</p>
    <p class="figures">the age of the oldest data set: no more could be lost</p>
    <div class="plot">
    <div class="y" aria-hidden="true">
    <span style="bottom:0.00%">0</span>
    <span style="bottom:30.30%">5 min</span>
    <span style="bottom:60.61%">10 min</span>
    <span style="bottom:90.91%">15 min</span>
    </div>
    <div class="picture">
    <svg viewBox="0 0 1000 200" preserveAspectRatio="none" role="img" aria-labelledby="rpo-title rpo-desc">
    <title id="rpo-title">RPO of each drill</title>
    <desc id="rpo-desc">RPO of each drill, from 2025-11-21 08:26 to 2025-11-22 08:26: usually 15 min, at worst 15 min on 2025-11-22 07:03.</desc>
    <line class="grid" x1="0" x2="1000" y1="200" y2="200">
    </line>
    <line class="grid" x1="0" x2="1000" y1="139.4" y2="139.4">
    </line>
    <line class="grid" x1="0" x2="1000" y1="78.8" y2="78.8">
    </line>
    <line class="grid" x1="0" x2="1000" y1="18.2" y2="18.2">
    </line>
    <path class="stem" d="M942.1 200V18.2">
    </path>
    <path class="dot" d="M942.1 18.2h0.01">
    </path>
    </svg>
    </div>
    <div class="x" aria-hidden="true">
    <span class="" style="left:14.81%">12:00</span>
    <span class="alternate" style="left:39.81%">18:00</span>
    <span class="" style="left:64.81%">22 Nov</span>
    <span class="alternate" style="left:89.81%">06:00</span>
    </div>
    </div>
    <p class="legend">
    <span>times in UTC</span>
    </p>
    </article>
    </div>
    <table role="table">
    <thead role="rowgroup">
    <tr role="row">
    <th role="columnheader" scope="col">When</th>
    <th role="columnheader" scope="col">Outcome</th>
    <th role="columnheader" scope="col">RTO</th>
    <th role="columnheader" scope="col">RPO</th>
    <th role="columnheader" scope="col">What failed</th>
    </tr>
    </thead>
    <tbody role="rowgroup">
    <tr role="row">
    <td class="short" role="cell" data-name="When">
    <div>
    <time datetime="2025-11-22T07:03:20Z">2025-11-22 07:03</time>
    </div>
    </td>
    <td class="short" role="cell" data-name="Outcome">
    <div>
    <span class="badge doubtful">
    <span aria-hidden="true">!</span> partial</span>
    </div>
    </td>
    <td class="" role="cell" data-name="RTO">
    <div>more than 2.1 s</div>
    </td>
    <td class="" role="cell" data-name="RPO">
    <div>15 min</div>
    </td>
    <td class="" role="cell" data-name="What failed">
    <div>
    <p>x</p>
    </div>
    </td>
    </tr>
    </tbody>
    </table>
    </section>
    <section aria-labelledby="runs">
    <h2 id="runs">Runs</h2>
    <p class="lead">1 runs, of which 1 did not end well; the newest first.</p>
    <table role="table">
    <thead role="rowgroup">
    <tr role="row">
    <th role="columnheader" scope="col">Began</th>
    <th role="columnheader" scope="col">Command</th>
    <th role="columnheader" scope="col">Data set</th>
    <th role="columnheader" scope="col">Outcome</th>
    <th role="columnheader" scope="col">Took</th>
    <th role="columnheader" scope="col">Reason</th>
    </tr>
    </thead>
    <tbody role="rowgroup">
    <tr role="row">
    <td class="short" role="cell" data-name="Began">
    <div>
    <time datetime="2025-11-22T08:25:10Z">2025-11-22 08:25</time>
    </div>
    </td>
    <td class="short" role="cell" data-name="Command">
    <div>
    <code>x</code>
    </div>
    </td>
    <td class="" role="cell" data-name="Data set">
    <div>db:x</div>
    </td>
    <td class="short" role="cell" data-name="Outcome">
    <div>
    <span class="badge bad">
    <span aria-hidden="true">✕</span> refused</span>
    </div>
    </td>
    <td class="short" role="cell" data-name="Took">
    <div>1.2 s</div>
    </td>
    <td class="" role="cell" data-name="Reason">
    <div>x<p>overruled: <code>x</code>
    </p>
    </div>
    </td>
    </tr>
    </tbody>
    </table>
    </section>
    </main>
    <footer>
    <p>Made by pefo 0.1.0 on puppet-b.lab, <time datetime="2025-11-22T08:26:40Z">2025-11-22 08:26</time> UTC, from this host's own state: what its peers have not told it stands not here.</p>
    </footer>
    </body>
    </html>
    "##);
}

#[test]
fn a_report_in_a_few_lines() {
    insta::assert_snapshot!(summary(&said("x")), @r##"
    puppet-b.lab: CRITICAL, passive in epoch 1; told of 2025-11-21 08:26 to 2025-11-22 08:26 UTC
      amiss                x
      db:x                 lag 8 s; usually 9 s, at worst 6 min 40 s on 2025-11-22 08:19
                           x
      runs                 1, of which 1 did not end well
      x                    refused db:x, 2 times, last 2025-11-22 08:25: x
      drills               1, last 2025-11-22 07:03 partial, RTO 2.10 s, RPO 15 min
    "##);
    insta::assert_snapshot!(summary(&new()), @r##"
    puppet-b.lab: CRITICAL, passive in epoch 1; told of 2025-11-21 08:26 to 2025-11-22 08:26 UTC
      runs                 0, of which 0 did not end well
      drills               none
    "##);
}

#[test]
fn the_same_data_give_the_same_page() {
    assert_eq!(page(&said("x")), page(&said("x")));
    assert_eq!(page(&new()), page(&new()));
}

/// What makes elements and attributes.
fn marks(page: &str) -> [usize; 3] {
    ['<', '>', '"'].map(|mark| page.matches(mark).count())
}

proptest! {
    #[test]
    fn nothing_that_anybody_says_breaks_out_of_its_place(text in "\\PC{1,30}|[<>\"'&=/ a-z]{1,30}|(</style>|<script>|\"><img src=x onerror=|-->|&#60;|javascript:){1,4}") {
        let page = page(&said(&text));
        prop_assert_eq!(marks(&page), marks(&self::page(&said("x"))));
        // What is told is still there to be read.
        let plain = page.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
        prop_assert!(plain.contains(&text));
    }
}
