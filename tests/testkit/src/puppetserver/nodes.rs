//! Nodes, and what a puppetserver's CA does for them.
//!
//! Shapes: Puppet's HTTP API, `puppet-ca/v1` (`certificate_request`, `certificate_status`,
//! `certificate_statuses`, `certificate`, `clean`, `certificate_revocation_list`) and `puppet/v3/node`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::Instance;
use super::http::{Answer, Identity, Request, run};
use crate::{place, wait};

/// A node: its key, its signing request and, once signed, its certificate.
#[derive(Debug, Clone)]
pub struct Agent {
    certname: String,
    directory: PathBuf,
    key: PathBuf,
}

impl Agent {
    /// Makes an RSA key and a PKCS#10 request for `certname` in `directory`.
    ///
    /// # Panics
    /// Where openssl fails.
    pub fn new(directory: &Path, certname: &str) -> Self {
        let key = directory.join(format!("{certname}.key"));
        run(Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(&key)
            .arg("2048"));
        Self::with_key(directory, certname, key)
    }

    /// Another node, which has this one's key: many keys would take long to make.
    ///
    /// # Panics
    /// Where openssl fails.
    #[must_use]
    pub fn sharing_its_key(&self, certname: &str) -> Self {
        Self::with_key(&self.directory, certname, self.key.clone())
    }

    fn with_key(directory: &Path, certname: &str, key: PathBuf) -> Self {
        let agent = Self {
            certname: certname.to_owned(),
            directory: directory.to_owned(),
            key,
        };
        run(Command::new("openssl")
            .args(["req", "-new", "-subj", &format!("/CN={certname}"), "-key"])
            .arg(&agent.key)
            .arg("-out")
            .arg(agent.file("csr")));
        agent
    }

    /// The node's name.
    pub fn certname(&self) -> &str {
        &self.certname
    }

    /// The signing request, PEM.
    pub fn request(&self) -> String {
        place::read(&self.file("csr"))
    }

    /// Certificate and key; the certificate's file exists once an instance has signed it.
    pub fn identity(&self) -> Identity {
        Identity {
            certificate: self.file("pem"),
            key: self.key.clone(),
        }
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.directory
            .join(format!("{}.{extension}", self.certname))
    }
}

impl Instance {
    /// Makes a key and a request for a node and submits it; it waits in `requests/` then.
    ///
    /// # Panics
    /// Where the server does not take it.
    pub fn agent(&self, certname: &str) -> Agent {
        let agent = Agent::new(&self.directory().join("agents"), certname);
        self.submit(&agent);
        agent
    }

    /// Submits a node's request.
    ///
    /// # Panics
    /// Where the server does not take it.
    pub fn submit(&self, agent: &Agent) {
        self.request(&submission(agent))
            .expect_accepted("submit a request");
    }

    /// Submits the requests of many nodes and signs them, one after the other as they came. The
    /// certificates are not fetched.
    ///
    /// # Panics
    /// Where the server refuses one.
    pub fn submit_and_sign_each(&self, agents: &[Agent]) {
        let requests = agents
            .iter()
            .flat_map(|agent| [submission(agent), self.new_state(&agent.certname, "signed")]);
        self.request_each(&requests.collect::<Vec<_>>());
    }

    /// Signs a node's pending request over HTTP, and fetches the certificate into the agent's files.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn sign(&self, agent: &Agent) {
        self.set_state(&agent.certname, "signed")
            .expect_accepted("sign");
        self.fetch(agent);
    }

    /// Fetches the certificate of a node, which this server or its peer signed, into the agent's files.
    ///
    /// # Panics
    /// Where the server has none.
    pub fn fetch(&self, agent: &Agent) {
        let path = format!("/puppet-ca/v1/certificate/{}", agent.certname);
        let pem = self
            .request(&Request::get(path))
            .expect_accepted("fetch a certificate");
        place::write(&agent.file("pem"), pem);
    }

    /// [`Instance::agent`], then [`Instance::sign`].
    ///
    /// # Panics
    /// As those.
    pub fn enrol(&self, certname: &str) -> Agent {
        let agent = self.agent(certname);
        self.sign(&agent);
        agent
    }

    /// Revokes a node's certificate over HTTP; `signed/` stays as it is.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn revoke(&self, certname: &str) {
        self.set_state(certname, "revoked")
            .expect_accepted("revoke");
    }

    /// Revokes the certificates of many nodes, one after the other.
    ///
    /// # Panics
    /// Where the server refuses one.
    pub fn revoke_each(&self, agents: &[Agent]) {
        let requests = agents
            .iter()
            .map(|agent| self.new_state(&agent.certname, "revoked"));
        self.request_each(&requests.collect::<Vec<_>>());
    }

    /// Cleans the certificates of many nodes at once, as `puppetserver ca clean` does: one new CRL for
    /// all. The files in `signed/` go with it, or half a minute later.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn clean_all(&self, agents: &[Agent]) {
        let names: Vec<&str> = agents.iter().map(Agent::certname).collect();
        let body = serde_json::json!({ "certnames": names }).to_string();
        let request = Request::put("/puppet-ca/v1/clean", "application/json", body);
        self.request(&request.identity(self.identity()))
            .expect_accepted("clean");
    }

    /// Revokes a node's certificate and has the server forget it: the file in `signed/` goes 30 s later.
    ///
    /// # Panics
    /// Where the server refuses.
    pub fn clean(&self, certname: &str) {
        self.revoke(certname);
        let request = Request::delete(status_path(certname)).identity(self.identity());
        self.request(&request).expect_accepted("clean");
    }

    /// What the server's CA says of a name: `requested`, `signed` or `revoked`; `None` where it knows nothing.
    ///
    /// # Panics
    /// Where the answer is neither.
    pub fn state_of(&self, certname: &str) -> Option<String> {
        match self.request(&Request::get(status_path(certname)).identity(self.identity())) {
            Answer::Status { code: 404, .. } => None,
            answer => {
                let body = answer.expect_accepted("ask for a certificate's state");
                let value: Value = match serde_json::from_str(&body) {
                    Ok(value) => value,
                    Err(error) => panic!("the state of {certname} is no JSON: {error}: {body}"),
                };
                value
                    .get("state")
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            }
        }
    }

    /// What the server's CA says of every name that it has a request or a certificate of.
    ///
    /// # Panics
    /// Where the answer is no list of that.
    pub fn states(&self) -> BTreeMap<String, Value> {
        let request = Request::get("/puppet-ca/v1/certificate_statuses/all");
        let body = self
            .request(&request.identity(self.identity()))
            .expect_accepted("ask for all states");
        let states: Vec<Value> = match serde_json::from_str(&body) {
            Ok(states) => states,
            Err(error) => panic!("the states are no list: {error}: {body}"),
        };
        let named = |state: Value| match state.get("name").and_then(Value::as_str) {
            Some(name) => (name.to_owned(), state),
            None => panic!("a state without a name: {state}"),
        };
        states.into_iter().map(named).collect()
    }

    /// An authenticated request as a node makes it, for its own node object: 200, or a TLS refusal.
    ///
    /// # Panics
    /// Where the server can not be reached.
    pub fn ask(&self, agent: &Agent) -> Answer {
        let path = format!("/puppet/v3/node/{}?environment=production", agent.certname);
        self.request(&Request::get(path).identity(agent.identity()))
    }

    /// Asks until the server refuses the node's certificate, and says how long that took.
    ///
    /// # Panics
    /// Where `limit` passes first.
    pub fn wait_until_refused(&self, agent: &Agent, limit: Duration) -> Duration {
        let what = format!("{} to refuse {}", self.certname(), agent.certname);
        wait::until(&what, limit, || self.ask(agent).is_refused())
    }

    /// The CRL that the server hands to agents, PEM: the signing CA's first, then its ancestors'.
    ///
    /// # Panics
    /// Where the server does not answer with 200.
    pub fn crl(&self) -> String {
        self.request(&Request::get(
            "/puppet-ca/v1/certificate_revocation_list/ca",
        ))
        .expect_accepted("fetch the CRL")
    }

    fn set_state(&self, certname: &str, state: &str) -> Answer {
        self.request(&self.new_state(certname, state))
    }

    fn new_state(&self, certname: &str, state: &str) -> Request {
        let body = format!("{{\"desired_state\":\"{state}\"}}");
        let request = Request::put(status_path(certname), "application/json", body);
        request.identity(self.identity())
    }
}

fn status_path(certname: &str) -> String {
    format!("/puppet-ca/v1/certificate_status/{certname}")
}

fn submission(agent: &Agent) -> Request {
    let path = format!("/puppet-ca/v1/certificate_request/{}", agent.certname);
    Request::put(path, "text/plain", agent.request())
}
