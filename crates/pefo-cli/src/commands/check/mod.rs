//! `pefo check`: proves that this host can do its part, and that the pair fits together, each point by name;
//! answers as a monitoring plugin does.
//!
//! Nothing is changed. Each point stands by itself: one that fails keeps no other from being looked at, and each
//! fault says what to type. `docs/check.md` has the thresholds.

mod account;
mod ca;
mod data;
mod own;
mod peers;
mod point;
mod room;
mod services;

use pefo_core::reign::Role;

use crate::host::Host;
use crate::outcome::Report;
use point::Point;

/// Checks everything that this host's role needs.
pub(super) fn run(host: &Host) -> Report {
    let role = host.station().ok().map(|(station, _)| station.role);
    point::report(&points(host, role))
}

fn points(host: &Host, role: Option<Role>) -> Vec<Point> {
    let mut points = vec![
        own::reign(host),
        own::state(host),
        own::permissions(host),
        own::original(host),
        account::spool(host),
        account::login(host, role),
        account::sshd(host),
        account::host_keys(host),
    ];
    points.extend(role.into_iter().flat_map(|role| peers::points(host, role)));
    points.extend([
        ca::ca(host, role),
        ca::certificates(host),
        ca::names(host),
        services::services(host),
        services::hooks(host),
        room::room(host),
    ]);
    points.extend(data::points(host, role));
    points
}
