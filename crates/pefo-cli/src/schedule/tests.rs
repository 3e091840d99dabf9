use super::*;

fn config(more: &str) -> Config {
    Config::parse(&format!("[site]\ncertname = \"a.lab\"\n{more}")).unwrap()
}

const ALL: &str = "[classifier]\nurl = \"https://a.lab:4433/classifier-api\"\ncert = \"/c\"\nkey = \"/k\"\nca_cert = \"/ca\"\n\
     [database]\nnames = [\"pe-rbac\", \"pe-classifier\"]\n";

fn told(config: &Config) -> String {
    let plan = Plan::of(config);
    let line = |entry: &Entry| {
        let datasets: Vec<String> = entry.datasets.iter().map(ToString::to_string).collect();
        let (role, time) = (entry.role, entry.time.cron());
        format!(
            "{role}: {time} {} ({})\n",
            entry.command,
            datasets.join(" ")
        )
    };
    plan.entries().iter().map(line).collect()
}

#[test]
fn the_original_modules_times_are_the_defaults() {
    insta::assert_snapshot!(told(&config(ALL)), @r"
    active: * * * * * ca push (ca)
    active: 10 * * * * nc push (nc)
    active: 20 * * * * db push (db:pe-rbac db:pe-classifier)
    passive: * * * * * ca apply (ca)
    passive: 0 * * * * nc restore (nc)
    passive: 3 * * * * db restore (db:pe-rbac db:pe-classifier)
    ");
}

#[test]
fn what_is_not_configured_is_not_scheduled_and_a_drill_only_where_it_is_asked_for() {
    insta::assert_snapshot!(told(&config("[schedule]\ndrill = \"weekly\"")), @r"
    active: * * * * * ca push (ca)
    passive: * * * * * ca apply (ca)
    passive: 45 4 * * 0 drill ()
    ");
}

#[test]
fn what_is_due_next_depends_on_the_role_and_on_what_is_configured() {
    let config = config(ALL);
    let now: Timestamp = serde_json::from_value("2026-11-22T10:19:30.5Z".into()).unwrap();
    let due = |role, dataset: &str| {
        let dataset = dataset.parse().unwrap();
        next_due(&config, role, &dataset, now).map(|time| time.to_string())
    };
    let at = |text: &str| Some(text.to_owned());
    assert_eq!(due(Role::Active, "ca"), at("2026-11-22T10:20:00Z"));
    assert_eq!(due(Role::Active, "nc"), at("2026-11-22T11:10:00Z"));
    assert_eq!(due(Role::Active, "db:pe-rbac"), at("2026-11-22T10:20:00Z"));
    assert_eq!(due(Role::Passive, "db:pe-rbac"), at("2026-11-22T11:03:00Z"));
    assert_eq!(due(Role::Passive, "nc"), at("2026-11-22T11:00:00Z"));
    assert_eq!(due(Role::Passive, "db:another"), None);
}

mod files {
    use std::path::Path;

    use super::super::file::Place;
    use super::super::{Plan, cron, systemd};
    use super::{ALL, config};
    use crate::arguments::ScheduleShape;
    use crate::config::Config;

    fn place(config: &Config) -> Place<'_> {
        Place {
            config,
            config_path: Path::new("/etc/pefo/pefo.toml"),
            program: Path::new("/usr/bin/pefo"),
            cadir: Path::new("/etc/puppetlabs/puppetserver/ca"),
            files: &[],
            environments: None,
        }
    }

    fn units(config: &Config, shape: ScheduleShape) -> Vec<systemd::Unit> {
        systemd::units(&place(config), &Plan::of(config), shape).unwrap()
    }

    fn text(units: &[systemd::Unit], name: &str) -> String {
        let unit = units.iter().find(|unit| unit.name == name);
        unit.unwrap_or_else(|| panic!("no {name}")).text.clone()
    }

    fn names(units: &[systemd::Unit]) -> Vec<&str> {
        units.iter().map(|unit| unit.name.as_str()).collect()
    }

    /// The lines that one text has and the other has not.
    fn only<'a>(text: &'a str, other: &str) -> Vec<&'a str> {
        let known: Vec<&str> = other.lines().collect();
        text.lines().filter(|line| !known.contains(line)).collect()
    }

    #[test]
    fn cron_has_both_roles_commands_and_the_question_at_boot() {
        let config = config(ALL);
        let file = cron::table(&place(&config), &Plan::of(&config)).unwrap();
        assert_eq!(file.path, Path::new("etc/cron.d/pefo"));
        insta::assert_snapshot!(file.text, @r"
        # written by pefo: 'pefo schedule install' replaces it, 'pefo schedule remove' removes it.
        # Both roles' commands: each does nothing where it is the other role's.
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

        # Who reigns, before anything is signed.
        @reboot root /usr/bin/pefo --config /etc/pefo/pefo.toml --quiet fence
        # On the active: certificates and revocations.
        * * * * * root /usr/bin/pefo --config /etc/pefo/pefo.toml --quiet --scheduled ca push
        # On the active: classification.
        10 * * * * root /usr/bin/pefo --config /etc/pefo/pefo.toml --quiet --scheduled nc push
        # On the active: databases.
        20 * * * * root /usr/bin/pefo --config /etc/pefo/pefo.toml --quiet --scheduled db push
        # On the passive: certificates and revocations.
        * * * * * root /usr/bin/pefo --config /etc/pefo/pefo.toml --quiet --scheduled ca apply
        # On the passive: classification.
        0 * * * * root /usr/bin/pefo --config /etc/pefo/pefo.toml --quiet --scheduled nc restore
        # On the passive: databases.
        3 * * * * root /usr/bin/pefo --config /etc/pefo/pefo.toml --quiet --scheduled db restore
        ");
    }

    #[test]
    fn each_shape_has_its_units() {
        let config = config(ALL);
        let of = |shape| units(&config, shape);
        insta::assert_snapshot!(names(&of(ScheduleShape::Daemon)).join(" "), @"pefo-fence.service pefo.service");
        insta::assert_snapshot!(names(&of(ScheduleShape::Watch)).join(" "), @"pefo-fence.service pefo-watch.service pefo-nc-push.service pefo-nc-push.timer pefo-db-push.service pefo-db-push.timer pefo-nc-restore.service pefo-nc-restore.timer pefo-db-restore.service pefo-db-restore.timer");
        insta::assert_snapshot!(names(&of(ScheduleShape::Timers)).join(" "), @"pefo-fence.service pefo-ca-push.service pefo-ca-push.timer pefo-nc-push.service pefo-nc-push.timer pefo-db-push.service pefo-db-push.timer pefo-ca-apply.service pefo-ca-apply.timer pefo-nc-restore.service pefo-nc-restore.timer pefo-db-restore.service pefo-db-restore.timer");
    }

    #[test]
    fn the_units_read_as_an_administrator_would_write_them() {
        let config = config(ALL);
        let watch = units(&config, ScheduleShape::Watch);
        insta::assert_snapshot!(text(&watch, "pefo-watch.service"), @r"
        # written by pefo: 'pefo schedule install' replaces it, 'pefo schedule remove' removes it; own settings go into a
        # drop-in (systemctl edit).
        [Unit]
        Description=pefo: certificates and revocations as they happen
        Wants=network-online.target
        After=network-online.target pefo-fence.service
        StartLimitIntervalSec=0
        RequiresMountsFor=/var/lib/pefo /opt/pe_failover

        [Service]
        Type=notify
        NotifyAccess=main
        WatchdogSec=300
        Restart=on-failure
        RestartSec=10
        # The configuration is wrong: nothing but another one helps.
        RestartPreventExitStatus=2
        KillMode=mixed
        TimeoutStopSec=30
        ExecStart=/usr/bin/pefo --config /etc/pefo/pefo.toml ca watch
        UMask=0077
        NoNewPrivileges=yes
        ProtectSystem=strict
        PrivateDevices=yes
        PrivateMounts=yes
        ProtectClock=yes
        ProtectControlGroups=yes
        ProtectHostname=yes
        ProtectKernelLogs=yes
        ProtectKernelModules=yes
        ProtectKernelTunables=yes
        ProtectProc=invisible
        RestrictNamespaces=yes
        RestrictRealtime=yes
        LockPersonality=yes
        KeyringMode=private
        SystemCallArchitectures=native
        SystemCallErrorNumber=EPERM
        SystemCallFilter=@system-service
        SystemCallFilter=~@privileged @resources
        SystemCallFilter=@chown
        CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
        RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
        MemoryDenyWriteExecute=yes
        ProcSubset=pid
        ProtectHome=yes
        PrivateTmp=yes
        ReadWritePaths=-/etc/puppetlabs/puppetserver
        ReadWritePaths=-/var/lib/pefo

        [Install]
        WantedBy=multi-user.target
        ");
        insta::assert_snapshot!(text(&watch, "pefo-fence.service"), @r"
        # written by pefo: 'pefo schedule install' replaces it, 'pefo schedule remove' removes it; own settings go into a
        # drop-in (systemctl edit).
        [Unit]
        Description=pefo: who reigns, before anything is signed
        Wants=network-online.target
        After=network-online.target
        Before=puppetserver.service pe-puppetserver.service

        [Service]
        Type=oneshot
        RemainAfterExit=yes
        TimeoutStartSec=2min
        ExecStart=/usr/bin/pefo --config /etc/pefo/pefo.toml --quiet fence
        UMask=0077
        NoNewPrivileges=yes
        ProtectSystem=strict
        PrivateDevices=yes
        PrivateMounts=yes
        ProtectClock=yes
        ProtectControlGroups=yes
        ProtectHostname=yes
        ProtectKernelLogs=yes
        ProtectKernelModules=yes
        ProtectKernelTunables=yes
        ProtectProc=invisible
        RestrictNamespaces=yes
        RestrictRealtime=yes
        LockPersonality=yes
        KeyringMode=private
        SystemCallArchitectures=native
        SystemCallErrorNumber=EPERM
        SystemCallFilter=@system-service
        SystemCallFilter=~@privileged @resources
        SystemCallFilter=@chown
        CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
        RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
        MemoryDenyWriteExecute=yes
        ProcSubset=pid
        ProtectHome=yes
        PrivateTmp=yes
        ReadWritePaths=-/etc/puppetlabs/puppetserver
        ReadWritePaths=-/var/lib/pefo

        [Install]
        WantedBy=multi-user.target
        ");
        insta::assert_snapshot!(text(&watch, "pefo-db-push.timer"), @r"
        # written by pefo: 'pefo schedule install' replaces it, 'pefo schedule remove' removes it; own settings go into a
        # drop-in (systemctl edit).
        [Unit]
        Description=pefo: databases, on the active

        [Timer]
        OnCalendar=*-*-* *:20:00 UTC
        AccuracySec=1s
        Persistent=yes

        [Install]
        WantedBy=timers.target
        ");
        let (service, lasting) = (
            text(&watch, "pefo-db-push.service"),
            text(&watch, "pefo-watch.service"),
        );
        insta::assert_snapshot!(only(&service, &lasting).join("\n"), @r"
        Description=pefo: databases, on the active
        After=network-online.target
        Type=oneshot
        ExecStart=/usr/bin/pefo --config /etc/pefo/pefo.toml --scheduled db push
        ");
    }

    #[test]
    fn a_service_may_do_what_the_configuration_asks_of_it_and_no_more() {
        let plain = units(&config(ALL), ScheduleShape::Daemon);
        let plain = text(&plain, "pefo.service");
        let more = |more: &str| {
            let config = config(more);
            let units = units(&config, ScheduleShape::Daemon);
            only(&text(&units, "pefo.service"), &plain).join("\n")
        };
        insta::assert_snapshot!(more("[database]\nnames = [\"x\"]\nrun_as = \"pe-postgres\""), @r"
        SystemCallFilter=@chown @setuid capset
        CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID
        ");
        insta::assert_snapshot!(more("[hooks]\nrole_changed = [\"/usr/local/sbin/move\"]\n[schedule]\nwritable = [\"/srv/a b\"]"), @r#"
        SystemCallFilter=@chown @setuid capset
        CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID
        RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
        ReadWritePaths=-"/srv/a b"
        "#);
        insta::assert_snapshot!(more("[ca]\nssldir = \"/etc/puppetlabs/puppet/ssl\"\n[facts]\nfile = \"/etc/facter/facts.d/pefo.yaml\""), @r"
        ReadWritePaths=-/etc/facter/facts.d
        ReadWritePaths=-/etc/puppetlabs/puppet/ssl
        ");
        insta::assert_snapshot!(more("[services]\nmanager = \"puppet\"\non_fence = [\"pe-puppetserver\", \"sign\"]"), @r"
        SystemCallFilter=@chown @setuid capset
        CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID
        RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
        ReadWritePaths=-/opt/puppetlabs/puppet/cache
        ReadWritePaths=-/opt/puppetlabs/puppet/public
        ReadWritePaths=-/run/puppetlabs
        ReadWritePaths=-/var/cache/puppet
        ReadWritePaths=-/var/lib/puppet
        ReadWritePaths=-/var/log/puppetlabs
        ");
        let config = config(&format!("{ALL}[schedule]\nsandbox = false"));
        let free = units(&config, ScheduleShape::Daemon);
        assert!(!text(&free, "pefo.service").contains("Protect"));
    }
}
