//! The files an instance consists of, and the command that starts it.

#![expect(
    clippy::disallowed_methods,
    reason = "an instance's own configuration is no data of pefo's"
)]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::Instance;
use crate::place;

/// Debian's packaged configuration, of which we take what is not about places.
pub(super) const PACKAGED: &str = "/etc/puppet/puppetserver";

/// Makes the directories and writes every file; owners are the caller's business.
pub(super) fn write(instance: &Instance) {
    let at = instance.directory();
    let server = instance.confdir().join("puppetserver");
    for name in [
        "code/environments/production/manifests",
        "ssl",
        "var",
        "run",
        "log",
        "tmp",
        "agents",
    ] {
        make(&at.join(name));
    }
    for name in ["conf.d", "services.d"] {
        make(&server.join(name));
    }
    for name in [
        "conf.d/auth.conf",
        "conf.d/web-routes.conf",
        "services.d/bootstrap.cfg",
        "services.d/ca.cfg",
    ] {
        let (from, to) = (Path::new(PACKAGED).join(name), server.join(name));
        if let Err(error) = fs::copy(&from, &to) {
            panic!("copy {}: {error}", from.display());
        }
    }
    let here = at.display();
    write_ca(instance, false);
    // Nothing is sent anywhere, neither metrics nor a question for updates.
    place::write(
        &server.join("conf.d/product.conf"),
        "product: { check-for-updates: false }\n",
    );
    place::write(
        &server.join("conf.d/metrics.conf"),
        "metrics: { server-id: localhost }\n",
    );
    let logback = server.join("logback.xml");
    place::write(
        &server.join("conf.d/global.conf"),
        format!("global: {{ logging-config: {} }}\n", logback.display()),
    );
    place::write(
        &logback,
        format!(
            "<configuration>\n  <appender name=\"FILE\" class=\"ch.qos.logback.core.FileAppender\">\n    \
             <file>{here}/log/puppetserver.log</file>\n    \
             <encoder><pattern>%d %-5p [%c{{2}}] %m%n</pattern></encoder>\n  </appender>\n  \
             <root level=\"info\"><appender-ref ref=\"FILE\"/></root>\n</configuration>\n"
        ),
    );
    place::write(
        &server.join("conf.d/puppetserver.conf"),
        format!(
            "jruby-puppet: {{\n    ruby-load-path: [/usr/lib/puppetserver/ruby/vendor_ruby]\n    \
             gem-home: {here}/var/jruby-gems\n    \
             gem-path: [${{jruby-puppet.gem-home}}, \"/usr/lib/puppetserver/vendored-jruby-gems\"]\n    \
             server-conf-dir: {here}/conf\n    server-code-dir: {here}/code\n    server-var-dir: {here}/var\n    \
             server-run-dir: {here}/run\n    server-log-dir: {here}/log\n    max-active-instances: 1\n}}\n\
             http-client: {{}}\nprofiler: {{}}\n"
        ),
    );
    place::write(
        &at.join("code/environments/production/manifests/site.pp"),
        "node default { notify { 'from the test kit': } }\n",
    );
    write_port(instance);
}

/// Writes the CA service's own configuration.
pub(super) fn write_ca(instance: &Instance, enable_infra_crl: bool) {
    place::write(
        &instance.confdir().join("puppetserver/conf.d/ca.conf"),
        format!("certificate-authority: {{ enable-infra-crl: {enable_infra_crl} }}\n"),
    );
}

/// Writes the two files that name the port.
pub(super) fn write_port(instance: &Instance) {
    let (at, port, certname) = (
        instance.directory().display(),
        instance.port(),
        instance.certname(),
    );
    let cadir = instance.cadir();
    let mut names = vec![certname];
    names.extend(instance.options.dns_alt_names.iter().map(String::as_str));
    place::write(
        &instance
            .confdir()
            .join("puppetserver/conf.d/webserver.conf"),
        format!(
            "webserver: {{\n    client-auth: want\n    ssl-host: 127.0.0.1\n    ssl-port: {port}\n}}\n"
        ),
    );
    // cadir is set outright: where it is not, an `ssl/ca` left from older versions would win.
    place::write(
        &instance.puppet_conf(),
        format!(
            "[main]\nconfdir = {at}/conf\ncodedir = {at}/code\nssldir = {at}/ssl\ncertname = {certname}\n\
             server = {certname}\nserverport = {port}\nca_port = {port}\ncadir = {}\n\
             [server]\nca_name = {}\ndns_alt_names = {}\nca_ttl = 5y\nautosign = false\nvardir = {at}/var\n\
             rundir = {at}/run\nlogdir = {at}/log\n",
            cadir.display(),
            instance.options.ca_name,
            names.join(","),
        ),
    );
}

/// Empties the count of starts, which the server raises each time it is up.
pub(super) fn reset_restart_file(instance: &Instance) {
    let path = instance.directory().join("run/restart");
    place::write(&path, "0");
    if let Err(error) =
        std::os::unix::fs::chown(&path, Some(instance.user.uid()), Some(instance.user.gid()))
    {
        panic!("give {} to the server: {error}", path.display());
    }
}

/// How often the server has come up since [`reset_restart_file`]; `None` while it writes.
pub(super) fn restart_count(instance: &Instance) -> Option<u32> {
    fs::read_to_string(instance.directory().join("run/restart"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// The JVM's command line, as the account `puppet`, with the umask of the packaged service.
///
/// The heap is the least that serves one JRuby; the optimising compiler is off, because a server of
/// a few minutes never earns back what it costs.
pub(super) fn java(instance: &Instance) -> Command {
    let at = instance.directory();
    let here = at.display();
    let server = instance.confdir().join("puppetserver");
    let mut command = instance.as_puppet("/bin/sh");
    command
        .args([
            "-c",
            "umask 027; exec \"$@\"",
            "java",
            "/usr/bin/java",
            "-Xms512m",
            "-Xmx768m",
        ])
        .arg(format!("-Djava.io.tmpdir={here}/tmp"))
        .arg("-Djruby.logger.class=com.puppetlabs.jruby_utils.jruby.Slf4jLogger")
        .args([
            "-Djruby.lib=/usr/share/jruby/lib",
            "-XX:+CrashOnOutOfMemoryError",
            "-XX:TieredStopAtLevel=1",
        ])
        .arg(format!("-XX:ErrorFile={here}/log/jvm-error-%p.log"))
        .args(["-jar", super::JAR, "--config"])
        .arg(server.join("conf.d"))
        .arg("--bootstrap-config")
        .arg(server.join("services.d"))
        .arg("--restart-file")
        .arg(at.join("run/restart"))
        .env("TMPDIR", at.join("tmp"));
    let console = at.join("log/console.log");
    match File::create(&console).and_then(|file| file.try_clone().map(|copy| (file, copy))) {
        Ok((out, err)) => command.stdout(out).stderr(err),
        Err(error) => panic!("open {}: {error}", console.display()),
    };
    command
}

fn make(path: &Path) {
    if let Err(error) = fs::create_dir_all(path) {
        panic!("make {}: {error}", path.display());
    }
}
