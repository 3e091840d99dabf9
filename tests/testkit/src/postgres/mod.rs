//! A throwaway PostgreSQL cluster, and a database of the shape of PE's RBAC to put into it.
//!
//! It guarantees: nothing outside its own temporary directory is touched, no fixed port is bound
//! (the socket is named after a free port, which is also listened on where TCP is asked for), and
//! the server is stopped when the [`Cluster`] is dropped, or when the test process dies. Root runs it as the user `postgres`, since
//! PostgreSQL refuses to run as root; anybody else runs it as themselves.

#![expect(
    clippy::disallowed_methods,
    reason = "the testkit makes and removes directories of its own, and polls"
)]

mod rbac;
mod tap;

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use pefo_core::{Error, ErrorKind, Result};
use tempfile::TempDir;

pub use tap::Tap;

use crate::ca::Credentials;
use crate::child::Child;
use crate::skip::Skip;

/// How a [`Cluster`] is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// Also listen on 127.0.0.1, with passwords (`scram-sha-256`) for everybody.
    pub tcp: bool,
    /// Also listen on 127.0.0.1 by TLS only, with these as the server's own: everybody needs a certificate
    /// of that CA whose common name is the role.
    pub tls: Option<Credentials>,
    /// Let fsync work; off by default, since a throwaway cluster has nothing to lose.
    pub fsync: bool,
    /// Let the superuser in by peer authentication only, as PE's PostgreSQL does; without it
    /// everybody on the socket is trusted.
    pub peer: bool,
    /// Name of the bootstrap superuser.
    pub superuser: String,
    /// More lines for `postgresql.conf`.
    pub settings: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            tcp: false,
            tls: None,
            fsync: false,
            peer: false,
            superuser: "postgres".to_owned(),
            settings: Vec::new(),
        }
    }
}

impl ClusterOptions {
    /// Listens on 127.0.0.1 too.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Listens on 127.0.0.1 too, by TLS with client certificates.
    #[must_use]
    pub fn tls(mut self, own: Credentials) -> Self {
        self.tls = Some(own);
        self
    }

    /// Keeps fsync on.
    #[must_use]
    pub fn fsync(mut self) -> Self {
        self.fsync = true;
        self
    }

    /// Peer authentication only for the superuser.
    #[must_use]
    pub fn peer(mut self) -> Self {
        self.peer = true;
        self
    }

    /// Another name for the bootstrap superuser; with [`ClusterOptions::peer`] it must be the name
    /// of the operating system's user.
    #[must_use]
    pub fn superuser(mut self, name: impl Into<String>) -> Self {
        self.superuser = name.into();
        self
    }

    /// Adds one line to `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, line: impl Into<String>) -> Self {
        self.settings.push(line.into());
        self
    }
}

/// A running cluster; stopped at once, and removed, when dropped.
#[derive(Debug)]
pub struct Cluster {
    server: Child,
    bin_dir: PathBuf,
    port: u16,
    options: ClusterOptions,
    dir: TempDir,
}

/// The newest PostgreSQL's directory of programs: Debian's `/usr/lib/postgresql/*/bin`, else where
/// `initdb` and `postgres` are found on `PATH`.
pub fn bin_dir() -> Option<PathBuf> {
    let complete = |dir: &Path| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, dir)| complete(dir))
        .collect();
    versions.sort();
    if let Some((_, dir)) = versions.pop() {
        return Some(dir);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|dir| complete(dir))
}

/// Why no cluster can run here, where none can.
pub fn skip_reason() -> Option<String> {
    if bin_dir().is_none() {
        return Some("PostgreSQL's server is not installed".to_owned());
    }
    if is_root() && postgres_ids().is_none() {
        return Some(
            "running as root and there is no user 'postgres' to run PostgreSQL as".to_owned(),
        );
    }
    None
}

impl Cluster {
    /// Starts a cluster with trust on its socket only.
    ///
    /// # Errors
    /// The skip `needs-postgresql`, where [`skip_reason`] gives one.
    ///
    /// # Panics
    /// Where PostgreSQL is there and does not start.
    pub fn start() -> Result<Self, Skip> {
        Self::start_with(&ClusterOptions::default())
    }

    /// Starts a cluster.
    ///
    /// # Errors
    /// The skip `needs-postgresql`, where [`skip_reason`] gives one.
    ///
    /// # Panics
    /// Where PostgreSQL is there and does not start.
    pub fn start_with(options: &ClusterOptions) -> Result<Self, Skip> {
        let skip = |why: String| Skip::new("needs-postgresql", why);
        if let Some(reason) = skip_reason() {
            return Err(skip(reason));
        }
        let bin_dir =
            bin_dir().ok_or_else(|| skip("PostgreSQL's server is not installed".to_owned()))?;
        match Self::launch(options, bin_dir) {
            Ok(cluster) => Ok(cluster),
            Err(error) => panic!("start PostgreSQL: {error}"),
        }
    }

    fn launch(options: &ClusterOptions, bin_dir: PathBuf) -> Result<Self> {
        // Short on purpose: a socket's whole path must fit into 107 bytes, and TMPDIR may be long.
        let dir = tempfile::Builder::new()
            .prefix("pefo-pg-")
            .tempdir_in("/tmp");
        let dir =
            dir.map_err(|error| Error::io("create directory in", Path::new("/tmp"), error))?;
        let io = |error| Error::io("prepare", dir.path(), error);
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).map_err(io)?;
        if let Some((uid, gid)) = run_as() {
            chown(dir.path(), Some(uid), Some(gid)).map_err(io)?;
        }
        let data = dir.path().join("data");
        let mut initdb = as_server_user(&bin_dir.join("initdb"));
        initdb
            .arg("--pgdata")
            .arg(&data)
            .arg("--username")
            .arg(&options.superuser);
        initdb.args([
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--auth=trust",
        ]);
        succeed(initdb.output(), "initdb")?;
        std::fs::write(data.join("pg_hba.conf"), hba(options)).map_err(io)?;
        if let Some(own) = &options.tls {
            install(own, &data).map_err(io)?;
        }

        let port = free_port()?;
        std::fs::write(
            data.join("postgresql.auto.conf"),
            conf(options, dir.path(), port),
        )
        .map_err(io)?;
        let mut cluster = Self {
            server: spawn_server(&bin_dir, dir.path())?,
            bin_dir,
            port,
            options: options.clone(),
            dir,
        };
        if cluster.wait_until_ready()? {
            return Ok(cluster);
        }
        // The port was free when it was looked for and may be taken by now: look for another.
        if cluster.log().contains("could not bind") {
            return Self::launch(options, cluster.bin_dir.clone());
        }
        Err(Error::new(
            ErrorKind::Child,
            format!("postgres ended at once: {}", cluster.log()),
        ))
    }

    /// Stops the server in an orderly way and starts it again, on the same port.
    ///
    /// # Errors
    /// `Child`, where it does not end or does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.stop(rustix::process::Signal::INT);
        self.server = spawn_server(&self.bin_dir, self.dir.path())?;
        if self.wait_until_ready()? {
            return Ok(());
        }
        let message = format!("postgres ended at once: {}", self.log());
        Err(Error::new(ErrorKind::Child, message))
    }

    /// One of PostgreSQL's shutdowns, waited for; the child's own drop kills what has not ended by then.
    fn stop(&mut self, shutdown: rustix::process::Signal) {
        self.server.signal(shutdown);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.server.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it answers; `false` where the process ended.
    fn wait_until_ready(&mut self) -> Result<bool> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut ready = as_server_user(&self.bin_dir.join("pg_isready"));
            ready
                .arg("--host")
                .arg(self.socket_dir())
                .arg("--port")
                .arg(self.port.to_string());
            if ready
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
            {
                return Ok(true);
            }
            if self.server.ended().is_some() {
                return Ok(false);
            }
            if Instant::now() > deadline {
                return Err(Error::new(
                    ErrorKind::Child,
                    format!("postgres is not ready after 60 s: {}", self.log()),
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The directory of its unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The port: of the socket's name, and of 127.0.0.1 where TCP was asked for.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The bootstrap superuser.
    pub fn superuser(&self) -> &str {
        &self.options.superuser
    }

    /// Where this cluster's programs are.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The user and group the server runs as, where it is not ourselves.
    pub fn server_ids(&self) -> Option<(u32, u32)> {
        run_as()
    }

    /// A libpq connection string for `database` by the superuser over the socket.
    pub fn connection_string(&self, database: &str) -> String {
        let quoted = database.replace('\\', "\\\\").replace('\'', "\\'");
        let (dir, port, user) = (
            self.dir.path().display(),
            self.port,
            &self.options.superuser,
        );
        format!("host='{dir}' port={port} user='{user}' dbname='{quoted}'")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Runs SQL statements in `database` as the superuser; the first failure ends it.
    ///
    /// # Errors
    /// `Child`, with what psql said.
    pub fn sql(&self, database: &str, statements: &str) -> Result<()> {
        self.psql(database, statements).map(drop)
    }

    /// Runs a query in `database` as the superuser: one line a row, `|` between columns.
    ///
    /// # Errors
    /// `Child`, with what psql said.
    pub fn query_text(&self, database: &str, query: &str) -> Result<String> {
        self.psql(database, query)
            .map(|text| text.trim_end_matches('\n').to_owned())
    }

    fn psql(&self, database: &str, input: &str) -> Result<String> {
        let script = self
            .dir
            .path()
            .join(format!("{:?}.sql", std::thread::current().id()));
        std::fs::write(&script, input).map_err(|error| Error::io("write", &script, error))?;
        let mut psql = as_server_user(&self.bin_dir.join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &self.connection_string(database),
            "-f",
        ]);
        let output = succeed(
            psql.arg(&script).current_dir(self.dir.path()).output(),
            "psql",
        )?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes the database `name` of the shape of PE's RBAC: 40-odd tables, about 5 MB, its own owner
    /// role, grants, sequences, extensions, a partitioned log, views, every type worth testing.
    ///
    /// # Errors
    /// `Child`, with what psql said.
    pub fn create_rbac_like(&self, name: &str) -> Result<()> {
        self.sql("postgres", &rbac::roles())?;
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        self.sql(
            "postgres",
            &format!("create database {quoted} owner \"pe-rbac\" template template0;"),
        )?;
        self.sql(name, &rbac::schema(&quoted))
    }

    /// Makes only the roles that [`Cluster::create_rbac_like`] needs, as a spare has them.
    ///
    /// # Errors
    /// `Child`, with what psql said.
    pub fn create_rbac_roles(&self) -> Result<()> {
        self.sql("postgres", &rbac::roles())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The immediate one: its children end too, its shared memory is given back.
        self.stop(rustix::process::Signal::QUIT);
    }
}

/// The server on the data directory below `dir`.
fn spawn_server(bin_dir: &Path, dir: &Path) -> Result<Child> {
    let log = dir.join("log");
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&log);
    let file = file.map_err(|error| Error::io("open", &log, error))?;
    let mut server = as_server_user(&bin_dir.join("postgres"));
    server
        .arg("-D")
        .arg(dir.join("data"))
        .stdout(Stdio::null())
        .stderr(file);
    Ok(Child::spawn(&mut server))
}

/// Puts the server's certificates where [`conf`] says they are, for the server's eyes only.
fn install(own: &Credentials, data: &Path) -> std::io::Result<()> {
    for (name, pem) in [
        ("ca.pem", &own.ca_pem),
        ("cert.pem", &own.cert_pem),
        ("key.pem", &own.key_pem),
    ] {
        let path = data.join(name);
        std::fs::write(&path, pem)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        if let Some((uid, gid)) = run_as() {
            chown(&path, Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

fn hba(options: &ClusterOptions) -> String {
    let socket = if options.peer {
        format!(
            "local all \"{}\" peer\nlocal all all scram-sha-256\n",
            options.superuser
        )
    } else {
        "local all all trust\n".to_owned()
    };
    let network = match options.tls {
        Some(_) => "hostssl all all 127.0.0.1/32 cert clientcert=verify-full",
        None => "host all all 127.0.0.1/32 scram-sha-256",
    };
    format!("{socket}{network}\n")
}

fn conf(options: &ClusterOptions, dir: &Path, port: u16) -> String {
    let listen = if options.tcp || options.tls.is_some() {
        "127.0.0.1"
    } else {
        ""
    };
    let fsync = if options.fsync { "on" } else { "off" };
    let mut conf = format!(
        "listen_addresses = '{listen}'\nport = {port}\nunix_socket_directories = '{}'\nfsync = {fsync}\n\
         shared_buffers = '16MB'\nmax_connections = 60\nlog_min_messages = warning\n",
        dir.display()
    );
    if options.tls.is_some() {
        conf.push_str(
            "ssl = on\nssl_ca_file = 'ca.pem'\nssl_cert_file = 'cert.pem'\nssl_key_file = 'key.pem'\n",
        );
    }
    for line in &options.settings {
        conf.push_str(line);
        conf.push('\n');
    }
    conf
}

fn free_port() -> Result<u16> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|error| Error::io("bind", Path::new("127.0.0.1:0"), error))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run_as() -> Option<(u32, u32)> {
    if is_root() { postgres_ids() } else { None }
}

fn postgres_ids() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// `program` as the user the server runs as, with an environment that nothing leaks into.
fn as_server_user(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid=postgres",
                "--regid=postgres",
                "--init-groups",
                "--",
            ])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LC_ALL", "C.UTF-8");
    command.current_dir("/");
    command
}

fn succeed(output: std::io::Result<Output>, what: &str) -> Result<Output> {
    let output = output.map_err(|error| {
        Error::new(ErrorKind::Child, format!("run {what}: {error}")).with_source(error)
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(
        ErrorKind::Child,
        format!("{what}: {}: {}", output.status, said.trim_end()),
    ))
}

#[cfg(test)]
mod tests;
