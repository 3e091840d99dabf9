//! A planned change and back: agents call one name, and notice nothing.

use std::path::Path;

use pefo_testkit::line::Line;
use pefo_testkit::puppetserver::{Agent, Instance, agent_available};
use pefo_testkit::{skip, wait};

use super::watching::Watched;
use super::{A, B, CRL_LIMIT};

/// What the hook wrote last: who reigns.
fn reigns(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.trim().to_owned()
}

impl Watched<'_> {
    pub(super) fn an_agent_of_the_shared_name_works_across_a_switchover_and_back(&mut self) {
        if skip::need(agent_available()).is_none() {
            return;
        }
        let node = self.live()[5].clone();
        let pair = self.pair();
        // The hook moves the shared name, as an operator's does with DNS or a load balancer.
        let file = pair.a.directory().join("shared-name");
        for master in [&mut pair.active, &mut pair.passive] {
            let hook = format!("echo $3 > {}", file.display());
            master.configure(&format!(
                "[hooks]\nrole_changed = [\"sh\", \"-c\", \"{hook}\"]\n\n"
            ));
        }
        pair.a.fetch(&node);
        let shared = Line::to(("127.0.0.1", pair.a.port()));
        works(&pair.a, &node, &shared);
        for (turn, to) in [B, A].into_iter().enumerate() {
            let (from, begun) = match turn {
                0 => (&pair.active, "to B"),
                _ => (&pair.passive, "back to A"),
            };
            let run = pair.timed(begun, || from.pefo(["switchover", "--json"]));
            let rto = run.clone().exits(0).json()["details"]["rto_ms"]
                .as_u64()
                .unwrap();
            pair.tell(
                "of that from the stop to the reign",
                std::time::Duration::from_millis(rto),
            );
            wait::until("the hook", CRL_LIMIT, || reigns(&file) == to);
            let (serves, spare) = match turn {
                0 => (&pair.b, &pair.a),
                _ => (&pair.a, &pair.b),
            };
            shared.lead_to(("127.0.0.1", serves.port()));
            works(serves, &node, &shared);
            // The one that reigns signs and revokes, and the other one does as it does.
            let fresh = serves.enrol(&format!("switched{turn}.pefo.test"));
            let arrives = spare
                .cadir()
                .join(format!("signed/{}.pem", fresh.certname()));
            wait::until("the new certificate at the spare", CRL_LIMIT, || {
                arrives.exists()
            });
            assert!(spare.ask(&fresh).is_accepted());
            serves.revoke(fresh.certname());
            spare.wait_until_refused(&fresh, CRL_LIMIT);
        }
        pair.passive.pefo(["ca", "verify"]).exits(0);
    }
}

/// The agent's run against the shared name succeeds.
fn works(of: &Instance, node: &Agent, shared: &Line) {
    let run = of.run_agent_through(node, shared.port());
    assert!(run.stdout.contains("from the test kit"), "{run:?}");
}
