//! A classifier that answers as Puppet Enterprise's does, strict and stateful, with switches for
//! everything that goes wrong.
//!
//! It speaks `https://localhost:PORT/classifier-api/v1` over mutual TLS on a thread and a runtime of
//! its own, and is gone on drop. Clients are let in by a certificate whose CN is on the allow-list,
//! or by an RBAC token; errors have the documented status, kind and details. Groups live in memory:
//! what is imported is what is read back, unless a [`Fault`] says otherwise.
//!
//! What the product's documentation leaves open is a switch in [`Behaviour`].
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
mod fault;
mod groups;
mod large;
mod pki;
mod routes;
mod server;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

pub use fault::{Fault, Injection, Route};
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
    /// Its user may not edit groups.
    Powerless,
}

/// What the documentation leaves open, and settings of the real one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Behaviour {
    /// Whether configuration data is on; off, it is left out of answers and refused in imports.
    pub config_data: bool,
    /// Whether an import with missing classes is refused (422) rather than taken and marked.
    pub strict_classes: bool,
    /// Whether every change sets a new serial number and edit time.
    pub serial_bump: bool,
    /// Whether every `GET /v1/groups` has another order.
    pub reordered: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            config_data: true,
            strict_classes: false,
            serial_bump: true,
            reordered: false,
        }
    }
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
    /// Starts a double on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// Where the certificates cannot be made or used, or no port can be bound.
    pub fn start(options: Options) -> Self {
        let pki = options
            .pki
            .clone()
            .unwrap_or_else(|| Pki::make(options.server_name));
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(options)),
        });
        let server = server::Server::start(&pki, Arc::clone(&shared));
        Self {
            shared,
            pki,
            server,
        }
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
        state.deploy(&groups);
        state.read_classes();
        state.replace(groups.into_iter().filter_map(object).collect());
    }

    /// Puts the classes, parameters and environments that these groups use onto the master; the
    /// classifier sees them after the next `update-classes`.
    pub fn deploy_classes_of(&self, groups: &[Value]) {
        self.shared.state().deploy(groups);
    }

    /// Takes a class off the master, in every environment; the classifier sees that after the next
    /// `update-classes`.
    pub fn undeploy_class(&self, class: &str) {
        self.shared.state().undeploy(class);
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
