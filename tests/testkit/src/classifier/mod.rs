//! A classifier that answers as Puppet Enterprise's does, strict and stateful, with switches for
//! everything that goes wrong.
//!
//! It speaks `https://localhost:PORT/classifier-api/v1` over mutual TLS on a thread and a runtime of
//! its own, and is gone on drop. Clients are let in by a certificate whose CN is on the allow-list,
//! or by an RBAC token; errors have the documented status, kind and details. Groups live in memory:
//! what is imported is what is read back, unless a [`Fault`] says otherwise. Times are the double's
//! own and the same in every run.
//!
//! What the product's documentation leaves open is a switch in [`Behaviour`]. The API is there as far
//! as groups, classes and environments go; how a node is classified (`/v1/classified/nodes`, the
//! check-ins of `/v1/nodes`, rules translated for PuppetDB) is not: a double that evaluated rules would
//! be a second classifier to test. Such requests are answered as any unknown one, 404.
//!
//! The program `pefo-classifier-double` runs one on the command line; see `docs/testing.md`.
//!
//! ```no_run
//! use pefo_testkit::classifier::{ClassifierDouble, Fault, Injection, Options, Route};
//!
//! let double = ClassifierDouble::start(Options::default().allow("mastera.lab"));
//! let client = double.client("mastera.lab"); // certificate and key, PEM
//! double.inject(Injection::new(Fault::ServerError).on(Route::Import).times(1));
//! # drop(client);
//! ```

#![expect(
    clippy::expect_used,
    reason = "a test double that cannot start should say so and stop the test"
)]

mod answer;
mod behaviour;
mod catalogue;
mod check;
mod family;
mod fault;
mod fault_name;
mod large;
mod pki;
mod refusal;
mod routes;
mod rule;
mod schema;
mod server;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

pub use behaviour::Behaviour;
pub use fault::{Fault, Injection, Route};
pub use fault_name::BadInjection;
pub use large::large_hierarchy;
pub use pki::{ClientPem, Pki, ServerName};
use state::State;

/// How a double starts.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// CNs of client certificates that are let in.
    pub allowed: Vec<String>,
    /// RBAC tokens.
    pub tokens: Vec<(String, Token)>,
    /// The groups it starts with; a lone root where there are none.
    pub groups: Vec<Value>,
    /// What the product's documentation leaves open.
    pub behaviour: Behaviour,
    /// Keys and certificates made elsewhere, such as by a real Puppet CA; otherwise it makes its own.
    pub pki: Option<Pki>,
    /// What its own server certificate says.
    pub server_name: ServerName,
    /// The port of 127.0.0.1; 0 is any free one.
    pub port: u16,
    /// Whether it has never read classes from its master: it knows none, whatever is deployed, and
    /// `last-class-update` is null until the first `update-classes`.
    pub never_updated: bool,
}

/// What an RBAC token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Token {
    /// Everything.
    Valid,
    /// It was, once.
    Expired,
    /// An administrator took it back.
    Revoked,
    /// Its user was revoked.
    OfRevokedUser,
    /// Its user may not edit groups.
    Powerless,
}

impl Options {
    /// Lets client certificates with this CN in.
    #[must_use]
    pub fn allow(mut self, cn: impl Into<String>) -> Self {
        self.allowed.push(cn.into());
        self
    }

    /// Knows this token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>, kind: Token) -> Self {
        self.tokens.push((token.into(), kind));
        self
    }

    /// Starts with these groups, whose classes and environments are there.
    #[must_use]
    pub fn groups(mut self, groups: Vec<Value>) -> Self {
        self.groups = groups;
        self
    }

    /// Behaves like this.
    #[must_use]
    pub fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// Uses keys and certificates made elsewhere.
    #[must_use]
    pub fn pki(mut self, pki: Pki) -> Self {
        self.pki = Some(pki);
        self
    }

    /// Sets what its own server certificate says.
    #[must_use]
    pub fn server_name(mut self, name: ServerName) -> Self {
        self.server_name = name;
        self
    }

    /// Listens on this port of 127.0.0.1; 0 is any free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Has never read classes from its master.
    #[must_use]
    pub fn never_updated(mut self) -> Self {
        self.never_updated = true;
        self
    }
}

/// One request, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path below `/classifier-api`.
    pub path: String,
    /// The query, where there was one.
    pub query: Option<String>,
    /// The client certificate's CN, where there was one.
    pub cn: Option<String>,
    /// Its `Content-Length`, where it had one.
    pub content_length: Option<u64>,
}

/// The running double.
#[derive(Debug)]
pub struct ClassifierDouble {
    shared: Arc<Shared>,
    pki: Pki,
    server: server::Server,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked with the lock in hand has its own message.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClassifierDouble {
    /// Starts a double on 127.0.0.1.
    ///
    /// # Panics
    /// Where the certificates cannot be made or used, or the port cannot be bound.
    pub fn start(options: Options) -> Self {
        Self::try_start(options).expect("bind a port of 127.0.0.1")
    }

    /// Starts a double on 127.0.0.1, where its port is free.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    ///
    /// # Panics
    /// Where the certificates cannot be made or used.
    pub fn try_start(options: Options) -> std::io::Result<Self> {
        let pki = options
            .pki
            .clone()
            .unwrap_or_else(|| Pki::make(options.server_name));
        let port = options.port;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(options)),
        });
        let server = server::Server::start(&pki, Arc::clone(&shared), port)?;
        Ok(Self {
            shared,
            pki,
            server,
        })
    }

    /// `https://localhost:PORT/classifier-api`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/classifier-api", self.server.port())
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The CA's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.pki.ca_pem
    }

    /// What it serves with.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// A client certificate for this CN, signed by the double's own CA.
    ///
    /// # Panics
    /// Where the double was given a PKI made elsewhere: its CA's key is not here.
    pub fn client(&self, cn: &str) -> ClientPem {
        self.pki.client(cn)
    }

    /// The groups, as `GET /v1/groups` would show them in their stored order.
    pub fn groups(&self) -> Vec<Value> {
        self.shared.state().shown()
    }

    /// Replaces the groups behind the API's back; their classes and environments are there.
    pub fn set_groups(&self, groups: Vec<Value>) {
        let mut state = self.shared.state();
        state.catalogue.deploy_for(&groups);
        state.read_classes();
        state.replace(groups.into_iter().filter_map(object).collect());
    }

    /// Puts the classes, parameters and environments that these groups use onto the master; the
    /// classifier sees them after the next `update-classes`.
    pub fn deploy_classes_of(&self, groups: &[Value]) {
        self.shared.state().catalogue.deploy_for(groups);
    }

    /// Puts classes onto the master, as `GET /v1/classes` would give them: a parameter of null is
    /// required. The classifier sees them after the next `update-classes`.
    pub fn deploy_classes(&self, classes: &[Value]) {
        self.shared.state().catalogue.deploy(classes);
    }

    /// Takes a class off the master, in every environment; the classifier sees that after the next
    /// `update-classes`.
    pub fn undeploy_class(&self, class: &str) {
        self.shared.state().catalogue.undeploy(class);
    }

    /// Takes a parameter off a class, in every environment; the classifier sees that after the next
    /// `update-classes`.
    pub fn undeploy_parameter(&self, class: &str, parameter: &str) {
        let mut state = self.shared.state();
        state.catalogue.undeploy_parameter(class, parameter);
    }

    /// Shows only these groups and all below them, in the lists of `groups` and `group-children`: what
    /// a user sees who may view these. Single groups are found all the same.
    pub fn show_only<'a>(&self, ids: impl IntoIterator<Item = &'a str>) {
        let ids = ids.into_iter().map(str::to_owned).collect();
        self.shared.state().visible = Some(ids);
    }

    /// Changes what the documentation leaves open.
    pub fn set_behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.state().behaviour);
    }

    /// Injects a fault where it naturally belongs, for good.
    pub fn set_fault(&self, fault: Fault) {
        self.inject(Injection::new(fault));
    }

    /// Injects a fault.
    pub fn inject(&self, injection: Injection) {
        self.shared.state().injections.push(injection);
    }

    /// Takes all faults away.
    pub fn clear_faults(&self) {
        self.shared.state().injections.clear();
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().log.clone()
    }

    /// How many requests were made with this method and path.
    pub fn count(&self, method: &str, path: &str) -> usize {
        self.shared
            .state()
            .log
            .iter()
            .filter(|request| request.method == method && request.path == path)
            .count()
    }

    /// How many times a hierarchy was installed, whole or not.
    pub fn installed(&self) -> usize {
        self.shared.state().installed
    }
}

/// The root group as a fresh installation has it.
pub fn root_group() -> Value {
    json!({
        "name": "All Nodes", "id": state::ROOT, "parent": state::ROOT, "environment": "production",
        "environment_trumps": false, "rule": ["and", ["~", "name", ".*"]], "variables": {}, "classes": {}
    })
}

pub(crate) fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}
