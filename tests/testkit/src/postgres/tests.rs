//! The throwaway cluster itself.

use super::*;

fn cluster(options: &ClusterOptions) -> Option<Cluster> {
    crate::skip::need(Cluster::start_with(options))
}

#[test]
fn a_cluster_serves_an_rbac_like_database_and_is_gone_when_dropped() {
    let Some(cluster) = cluster(&ClusterOptions::default()) else {
        return;
    };
    assert!(cluster.socket_dir().as_os_str().len() < 100);
    cluster.create_rbac_like("pe-rbac").unwrap();
    let count = "select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace \
                 where relkind = 'r' and nspname in ('public', 'rbac', 'Audit log')";
    let tables: u32 = cluster
        .query_text("pe-rbac", count)
        .unwrap()
        .parse()
        .unwrap();
    assert!((35..60).contains(&tables), "{tables} tables");
    let size: u64 = cluster
        .query_text("pe-rbac", "select pg_database_size('pe-rbac') / 1000000")
        .unwrap()
        .parse()
        .unwrap();
    let empty: u64 = cluster
        .query_text("postgres", "select pg_database_size('template0') / 1000000")
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        (4..14).contains(&(size - empty)),
        "{size} MB, {empty} MB of it empty"
    );

    let (dir, pid) = (cluster.socket_dir().to_owned(), cluster.server.id());
    drop(cluster);
    assert!(!dir.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_failed_statement_is_an_error_with_what_psql_said() {
    let Some(cluster) = cluster(&ClusterOptions::default()) else {
        return;
    };
    let error = cluster
        .sql("postgres", "select 1; select nothing from nowhere;")
        .unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn with_peer_authentication_the_superuser_is_let_in_as_the_system_user_only() {
    if !crate::skip::unless(
        is_root(),
        "needs-root",
        "two system users, of whom one is let in, need root",
    ) {
        return;
    }
    let Some(cluster) = cluster(&ClusterOptions::default().peer().tcp()) else {
        return;
    };
    assert_eq!(
        cluster
            .query_text("postgres", "select current_user")
            .unwrap(),
        "postgres"
    );
    let psql = cluster.bin_dir().join("psql");
    let as_root = Command::new(psql)
        .args([
            "-d",
            &cluster.connection_string("postgres"),
            "-c",
            "select 1",
        ])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&as_root.stderr).contains("Peer authentication failed"));
}
