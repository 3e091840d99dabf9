//! The health endpoint over real HTTP, on hosts whose station, proofs and clock the test writes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use pefo_cli::config::Health;
use pefo_cli::health::serve;
use pefo_cli::pipeline::apply::{CaughtUp, caught_up_path};
use pefo_core::cancel::Cancel;
use pefo_core::disk::Disk;
use pefo_core::generation::DataSet;
use pefo_core::record;
use pefo_core::reign::{Epoch, Station};
use pefo_testkit::wait;

use crate::pair::{PASSIVE, Pair, Setup, Side, timestamp};

/// Runs `questions` while the endpoint of `side` answers at the address that they are given.
fn while_serving(side: &mut Side, questions: impl FnOnce(&Side, &str)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let listen = address.parse().unwrap();
    side.host.config.health = Some(Health { listen });
    let side = &*side;
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&side.host, &cancel));
        wait::until("the endpoint", Duration::from_secs(20), || {
            TcpStream::connect(&address).is_ok()
        });
        // Whatever a question finds, the endpoint is stopped.
        let asked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| questions(side, &address)));
        cancel.cancel();
        serving.join().unwrap();
        if let Err(panicked) = asked {
            std::panic::resume_unwind(panicked);
        }
    });
}

/// The answer's code and its line, once the files may be looked at again.
fn ask(side: &Side, address: &str, path: &str) -> String {
    side.clock.advance(Duration::from_millis(200));
    again(address, path)
}

/// The answer at the same moment.
fn again(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    format!("{} {}", &head[9..12], body.trim_end())
}

#[test]
fn an_active_whose_reign_has_ended_or_that_is_about_to_hand_it_over_serves_nobody() {
    let (mut pair, _ca) = Pair::new(Setup::default());
    let of_b = pair.b.host.signing_key().unwrap();
    let me = pair.b.host.introduction().unwrap();
    while_serving(&mut pair.a, |a, address| {
        assert_eq!(ask(a, address, "/active"), "200 active in epoch 1");
        let (station, _) = a.host.station().unwrap();
        let record = station.successor(&me.site, &me.certname, &of_b, Epoch(2), timestamp(1));
        let ended = Station {
            rival: Some(String::from_utf8(record.unwrap()).unwrap()),
            ..station.clone()
        };
        let store =
            |station: &Station| station.store(&Disk::new(), &a.host.station_path()).unwrap();
        store(&ended);
        // Within the moment in which the files are not looked at, the answer is the old one.
        assert_eq!(again(address, "/active"), "200 active in epoch 1");
        let told = ask(a, address, "/active");
        assert!(
            told.starts_with("503 ") && told.contains(&format!("{PASSIVE} reigns with epoch 2")),
            "{told}"
        );
        store(
            &station
                .clone()
                .about_to(pefo_core::reign::Role::Passive, Epoch(2)),
        );
        let told = ask(a, address, "/active");
        assert!(
            told.starts_with("503 this host is about to be the passive in epoch 2"),
            "{told}"
        );
        store(&station);
        assert_eq!(ask(a, address, "/active"), "200 active in epoch 1");
        // What cannot be read is told, and read again as soon as it can be.
        std::fs::write(a.host.station_path(), "{").unwrap();
        let told = ask(a, address, "/ready");
        assert!(
            told.starts_with("503 not known: ") && told.contains("station.json"),
            "{told}"
        );
        store(&station);
        assert_eq!(ask(a, address, "/ready"), "200 ready");
    });
}

#[test]
fn lag_grows_with_the_clock_alone_and_a_new_proof_ends_it() {
    let (mut pair, _ca) = Pair::new(Setup::default());
    while_serving(&mut pair.b, |b, address| {
        let proves = || {
            let now = b.host.clock.now();
            let proof = CaughtUp {
                heartbeat: now,
                at: now,
            };
            let path = caught_up_path(&b.host, &DataSet::Ca);
            record::store(&Disk::new(), &path, &proof, 0o600).unwrap();
        };
        let limit = "/passive?lag=30s";
        assert_eq!(
            ask(b, address, limit),
            "503 passive in epoch 1; lag ca unknown of 30 s allowed"
        );
        proves();
        assert_eq!(
            ask(b, address, limit),
            "200 passive in epoch 1; lag ca 1 s of 30 s allowed"
        );
        b.clock.advance(Duration::from_secs(29));
        assert_eq!(
            again(address, limit),
            "200 passive in epoch 1; lag ca 30 s of 30 s allowed"
        );
        b.clock.advance(Duration::from_secs(1));
        assert_eq!(
            again(address, limit),
            "503 passive in epoch 1; lag ca 31 s of 30 s allowed"
        );
        proves();
        assert_eq!(
            ask(b, address, limit),
            "200 passive in epoch 1; lag ca 1 s of 30 s allowed"
        );
    });
}
