//! The rows, a module for each group.

mod ca;
mod db;
mod delta;
mod health;
mod nc;
mod reign;
mod run;
mod status;
mod tree;

use crate::row::Row;

/// Every row, in the order of the report.
pub(crate) fn all() -> Vec<Row> {
    [
        tree::rows(),
        delta::rows(),
        ca::rows(),
        db::rows(),
        nc::rows(),
        reign::rows(),
        run::rows(),
        status::rows(),
        health::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_with_its_group_in_front_and_some_pairs() {
        let rows = all();
        let mut names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        assert!(names.iter().all(|name| name.contains('_')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows.len());
        assert!(rows.iter().all(|row| row.pairs > 0));
    }
}
