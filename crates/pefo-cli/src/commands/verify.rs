//! `pefo verify`: would the spare serve the same, data set by data set?

use std::time::Duration;

use pefo_core::generation::DataSet;
use pefo_core::reign::Role;

use crate::host::Host;
use crate::outcome::{Health, Report};
use crate::pipeline;

/// Compares what each data set holds. On the active the CA and the code can be compared, by what its peers say;
/// the rest is the passive's to tell.
pub(super) fn run(host: &Host, timeout: u64) -> Report {
    let role = match host.station() {
        Ok((station, _)) => station.role,
        Err(error) => return Report::unknown(error),
    };
    let timeout = Duration::from_secs(timeout);
    let verified = |dataset: &DataSet| {
        let report = match (dataset, role) {
            (DataSet::Ca, Role::Active) => pipeline::verify::on_active(host, timeout),
            (DataSet::Ca, Role::Passive) => pipeline::verify::on_passive(host, false),
            (DataSet::Classifier, _) => pipeline::nc::verify(host),
            (DataSet::Database(name), _) => Ok(super::db::verify(host, std::slice::from_ref(name))),
            (DataSet::Files, _) => pipeline::files::verify(host),
            (DataSet::Code, Role::Active) => pipeline::code::on_active(host, timeout),
            (DataSet::Code, Role::Passive) => pipeline::code::on_passive(host),
        };
        report.unwrap_or_else(Report::unknown)
    };
    let reports = host
        .datasets()
        .into_iter()
        .filter(|dataset| role == Role::Passive || matches!(dataset, DataSet::Ca | DataSet::Code))
        .map(|dataset| verified(&dataset).about(dataset));
    together(reports.collect())
}

/// One answer of several: the worst counts, and the first line says of how many.
fn together(reports: Vec<Report>) -> Report {
    let health = |report: &Report| report.health.unwrap_or(Health::Unknown);
    let worst = reports.iter().map(health).max().unwrap_or(Health::Unknown);
    let well = reports.iter().filter(|report| health(report) == Health::Ok);
    let head = format!(
        "PEFO {}: {} of {} data sets would be served the same\n",
        worst.word(),
        well.count(),
        reports.len()
    );
    let reports = reports.into_iter().map(|report| {
        let name = report.dataset.as_ref().map(ToString::to_string);
        let text = match report.text.strip_prefix("PEFO ") {
            Some(rest) => format!("{}: {rest}", name.unwrap_or_default()),
            None => report.text,
        };
        Report { text, ..report }
    });
    let mut all = Report::all(reports.collect());
    all.text.insert_str(0, &head);
    all.health(worst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pefo_core::Error;
    use serde_json::json;

    #[test]
    fn the_worst_counts_and_each_is_told_by_name() {
        let well = Report::ok(json!({}), "PEFO OK: 0 defects | defects=0\n").health(Health::Ok);
        let unknown = Report::unknown(Error::invalid("nobody answers"));
        let all = together(vec![
            well.about(DataSet::Ca),
            unknown.about(DataSet::Classifier),
        ]);
        insta::assert_snapshot!(all.text, @r"
        PEFO UNKNOWN: 1 of 2 data sets would be served the same
        ca: OK: 0 defects | defects=0
        nc: UNKNOWN: nobody answers
        ");
        assert_eq!((all.code(), all.errors.len()), (3, 1));
        assert_eq!(together(Vec::new()).code(), 3);
    }
}
