use super::*;

/// The example with every commented key set.
fn uncommented() -> String {
    let is_setting = |line: &str| {
        let Some(rest) = line.strip_prefix("# ") else {
            return false;
        };
        rest.starts_with('[')
            || rest
                .split_once(" = ")
                .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    EXAMPLE
        .lines()
        .map(|line| if is_setting(line) { &line[2..] } else { line })
        .collect::<Vec<_>>()
        .join("\n")
        // The default is a socket, which has no TLS.
        .replace(
            "\nhost = \"/var/run/postgresql\"",
            "\nhost = \"db.example.com\"",
        )
}

#[test]
fn the_example_works_as_it_is() {
    let config = Config::parse(EXAMPLE).unwrap();
    assert_eq!(config.site.certname.as_str(), "puppet-a.example.com");
}

#[test]
fn the_example_names_every_key_and_shows_the_defaults() {
    // Read, and not checked: what the example shows are alternatives.
    let full: Config = unknown::parse(&uncommented()).unwrap();
    let minimal = Config::parse("[site]\ncertname = \"puppet-a.example.com\"").unwrap();
    let schedule = Schedule {
        writable: full.schedule.writable.clone(),
        ..minimal.schedule
    };
    assert_eq!(full.schedule, schedule);
    assert_eq!(full.retention, minimal.retention);
    assert_eq!(
        (full.status.warn_free, full.status.critical_free),
        (minimal.status.warn_free, minimal.status.critical_free)
    );
    assert_eq!(full.status.warn_skew, minimal.status.warn_skew);
    let (shown, default) = (full.files.clone().unwrap(), Files::default());
    assert_eq!(
        (shown.preset, shown.max_bytes),
        (default.preset, default.max_bytes)
    );
    assert_eq!(full.site.state_dir, minimal.site.state_dir);
    assert_eq!(full.site.spool_dir, minimal.site.spool_dir);
    assert_eq!(
        (full.ca.max_deletes, &full.ca.cadir),
        (minimal.ca.max_deletes, &minimal.ca.cadir)
    );
    assert_eq!(
        full.transport.connect_timeout,
        minimal.transport.connect_timeout
    );
    assert_eq!(full.transport.compression, minimal.transport.compression);
    let defaults = Code {
        program: full.code.as_ref().and_then(|code| code.program.clone()),
        config: full.code.as_ref().and_then(|code| code.config.clone()),
        token_file: full.code.as_ref().and_then(|code| code.token_file.clone()),
        command: vec!["/usr/local/sbin/deploy-code".into(), "{}".into()],
        run_as: Some("puppet".into()),
        ..Code::default()
    };
    assert_eq!(full.code.as_ref(), Some(&defaults));
    let written = toml::Table::try_from(&full).unwrap();
    let example: toml::Table = uncommented().parse().unwrap();
    for (section, keys) in &written {
        let keys = keys.as_table().cloned().unwrap_or_default();
        for key in keys.keys() {
            assert!(
                example[section].get(key).is_some(),
                "the example does not name {section}.{key}"
            );
        }
    }
}

#[test]
fn programs_that_would_never_run_are_errors() {
    let parse = |services: &str| {
        Config::parse(&format!(
            "[site]\ncertname = \"a.lab\"\n[services]\n{services}"
        ))
    };
    parse("manager = \"command\"\nbounce = [\"x\"]\nstop = [\"a\"]\nstart = [\"b\"]").unwrap();
    for (services, expected) in [
        ("stop = [\"halt\", \"{}\"]", "are for services.manager"),
        (
            "manager = \"command\"\nbounce = [\"x\"]\nstop = [\"a\"]",
            "needs services.stop and",
        ),
        ("bounce = [\"--now\"]", "is no service"),
    ] {
        let error = parse(services).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn what_is_shown_is_the_same_configuration_again() {
    let full: Config = unknown::parse(&uncommented()).unwrap();
    assert!(full.database.as_ref().unwrap().tls.is_some());
    let shown = toml::to_string(&full).unwrap();
    let again: Config = unknown::parse(&shown).unwrap();
    assert_eq!(again, full);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let error = Config::parse("[site]\ncertname = \"a.lab\"\n[ca]\nmax_delets = 3").unwrap_err();
    insta::assert_snapshot!(error, @"line 4: unknown key ca.max_delets");
    insta::assert_snapshot!(error.hint_text().unwrap(), @"did you mean ca.max_deletes?");
    let error = Config::parse(
        "[site]\ncertname = \"a.lab\"\n[database]\nhost = \"db\"\ntls = { ca_crt = \"/ca\" , ca_cert = \"/ca\", cert = \"/c\", key = \"/k\" }",
    )
    .unwrap_err();
    insta::assert_snapshot!(error, @"line 5: unknown key database.tls.ca_crt");
    insta::assert_snapshot!(error.hint_text().unwrap(), @"did you mean database.tls.ca_cert?");
    let error = Config::parse("[site]\ncertname = \"a.lab\"\n[sight]\nx = 3").unwrap_err();
    insta::assert_snapshot!(error, @"line 3: unknown key sight");
}

#[test]
fn a_wrong_value_is_named_with_its_line() {
    for (text, expected) in [
        ("[site]\ncertname = \"A.lab\"", "line 2"),
        (
            "[site]\ncertname = \"a.lab\"\n[schedule]\npush_minute = 61",
            "schedule.push_minute = 61",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[schedule]\nwritable = [\"log\"]",
            "schedule.writable: \"log\" is not an absolute path",
        ),
        (
            "[site]\ncertname = \"a.lab\"\nspool_dir = \"/var/lib/pefo/spool\"",
            "lie within one another",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[transport]\ncompression = \"gzip\"",
            "line 4",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[database]\ntls = { ca_cert = \"/ca\", cert = \"/c\", key = \"/k\" }",
            "is a socket's directory",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[database]\nhost = \"db\"\ntls = { ca_cert = \"/ca\", cert = \"c\", key = \"/k\" }",
            "database.tls.cert = \"c\"",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[database]\nhost = \"db\"\ntls = { ca_cert = \"/ca\", cert = \"/c\" }",
            "missing field `key`",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[facts]\nfile = \"facts.d/pefo.yaml\"",
            "line 4: facts.file = \"facts.d/pefo.yaml\" is not an absolute path",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[facts]\nfile = \"/facts.d/pefo.ini\"",
            "ends in none of .txt, .yaml, .yml and .json",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[puppetdb]\nurl = \"http://localhost:8080\"\ncert = \"/c\"",
            "puppetdb.cert and puppetdb.key belong together",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[puppetdb]\nurl = \"https://db.lab:8081\"\ncert = \"/c\"\nkey = \"/k\"",
            "puppetdb.url with https needs puppetdb.ca_cert",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[puppetdb]\nurl = \"http://db.lab:8080\"",
            "puppetdb.url: PuppetDB's URL \"http://db.lab:8080\": plain http is for this very host only",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[status]\nca = { warn_lag = \"5 minutes\" }",
            "is no span of time",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[status]\nca = { warn_lag = \"1 h\", critical_lag = \"5 min\" }",
            "status.ca: critical_lag = \"5 min\" would come before warn_lag = \"1 h\"",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[status]\nwarn_free = \"1 MiB\"",
            "status.critical_free = \"256 MiB\" would come before",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[hooks]\nfailed = [\"\"]",
            "hooks.failed names no program",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[metrics]\ntextfile = \"pefo.prom\"",
            "metrics.textfile = \"pefo.prom\" is not an absolute path",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[metrics]\ntextfile = \"/var/pefo.txt\"",
            "does not end in .prom",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[log]\nsyslog = \"log\"",
            "log.syslog = \"log\" is not an absolute path",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[files]\npreset = \"pe3\"",
            "line 4: unknown variant `pe3`, expected one of `auto`, `pe`",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[files]\npaths = [\"etc/x\"]",
            "line 4: path \"etc/x\" is not absolute",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[files]\npaths = [\"/var/lib/pefo/keys\"]",
            "/var/lib/pefo/keys is not to be carried: /var/lib/pefo is this program's own",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[ca]\ncadir = \"/srv/ca/\"\n[files]\npaths = [\"/srv\"]",
            "/srv holds /srv/ca, which is the CA's directory",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[files]\npaths = [\"/etc/puppetlabs/puppet/puppet.conf\"]",
            "names the host that it is of",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[files]\npreset = \"none\"",
            "leave nothing",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[files]\nmax_bytes = \"1 GiB\"",
            "files.max_bytes = \"1 GiB\" is not between",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[code]\nmanager = \"command\"",
            "code.manager = \"command\" and code.command belong together",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[code]\ncommand = [\"deploy\"]",
            "code.manager = \"command\" and code.command belong together",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[code]\nmanager = \"command\"\ncommand = [\"x\"]\nconfig = \"/r10k.yaml\"",
            "are not for code.manager = \"command\"",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[code]\ntoken_file = \"/root/token\"",
            "code.token_file is for code.manager = \"code-manager\"",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[code]\nenvironments = \"code\"",
            "code.environments = \"code\" is not an absolute path",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[code]\ntimeout = 0",
            "code.timeout = 0",
        ),
        (
            "[site]\ncertname = \"a.lab\"\n[code]\nmanager = \"g10k\"",
            "line 4",
        ),
        ("[site", "line 1"),
    ] {
        let error = Config::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
