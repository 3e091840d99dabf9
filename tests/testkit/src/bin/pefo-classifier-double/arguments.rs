//! The command line. Files are read while it is parsed, so that a bad one is a bad command line.

use std::path::PathBuf;

use clap::Parser;
use pefo_testkit::classifier::{Behaviour, Fault, Injection, Options, Route, Token};
use serde_json::Value;

/// A node classifier that answers as Puppet Enterprise's does, on 127.0.0.1, with faults on demand.
///
/// Once it listens it prints a line of JSON: url, port, and the paths of the certificates. It runs
/// until a signal ends it.
#[derive(Debug, Parser)]
#[command(name = "pefo-classifier-double", after_help = names())]
pub(crate) struct Arguments {
    /// The port; 0 is any free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port: u16,
    /// The groups it begins with, as GET /v1/groups gives them; what they use is deployed. Without
    /// any, a lone root
    #[arg(long, value_name = "FILE", value_parser = objects)]
    groups: Option<Objects>,
    /// Deploy the classes that these groups use too; seen after the next update-classes
    #[arg(long, value_name = "FILE", value_parser = objects)]
    classes_of_groups: Option<Objects>,
    /// Deploy these classes, as GET /v1/classes gives them; seen after the next update-classes
    #[arg(long, value_name = "FILE", value_parser = objects)]
    classes: Option<Objects>,
    /// Begin without ever having read classes from a master: none are known
    #[arg(long)]
    never_updated: bool,
    /// Let client certificates with this CN in, and write one; may be given again
    #[arg(long, value_name = "CN", value_parser = cn, requires = "pki")]
    pub(crate) allow: Vec<String>,
    /// Know this token: valid (the default), expired, revoked, of-revoked-user or powerless; may be
    /// given again
    #[arg(long, value_name = "TOKEN[=KIND]", value_parser = token)]
    token: Vec<(String, Token)>,
    /// Write ca.pem, server.pem and .key, client-CN.pem and .key into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) pki: Option<PathBuf>,
    /// Inject a fault; may be given again
    #[arg(long = "fault", value_name = "NAME[:ROUTE][:times=N][:after=N][:ms=N]")]
    pub(crate) faults: Vec<Injection>,
    /// Turn a switch on or off; may be given again
    #[arg(long, value_name = "NAME=on|off", value_parser = switch)]
    behaviour: Vec<(String, bool)>,
}

/// A JSON array of objects.
#[derive(Debug, Clone)]
struct Objects(Vec<Value>);

impl Arguments {
    pub(crate) fn options(&self) -> Options {
        let mut behaviour = Behaviour::default();
        for (name, on) in &self.behaviour {
            if let Some(switch) = behaviour.switch(name) {
                *switch = *on;
            }
        }
        let mut options = Options::default()
            .port(self.port)
            .behaviour(behaviour)
            .groups(listed(self.groups.as_ref()).to_vec());
        options.never_updated = self.never_updated;
        for cn in &self.allow {
            options = options.allow(cn);
        }
        for (token, kind) in &self.token {
            options = options.token(token, *kind);
        }
        options
    }

    pub(crate) fn classes(&self) -> &[Value] {
        listed(self.classes.as_ref())
    }

    pub(crate) fn groups_of_classes(&self) -> &[Value] {
        listed(self.classes_of_groups.as_ref())
    }
}

fn listed(objects: Option<&Objects>) -> &[Value] {
    objects
        .map(|Objects(values)| values.as_slice())
        .unwrap_or_default()
}

fn objects(path: &str) -> Result<Objects, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let values: Vec<Value> =
        serde_json::from_slice(&bytes).map_err(|error| format!("not a JSON array: {error}"))?;
    if values.iter().all(Value::is_object) {
        return Ok(Objects(values));
    }
    Err("not an array of JSON objects".to_owned())
}

/// A CN that can be part of a file's name.
fn cn(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(
        "a CN has letters, digits, '.', '-' and '_' here, because files are named for it"
            .to_owned(),
    )
}

fn token(text: &str) -> Result<(String, Token), String> {
    let (token, kind) = text.rsplit_once('=').unwrap_or((text, "valid"));
    let kind = match kind {
        "valid" => Token::Valid,
        "expired" => Token::Expired,
        "revoked" => Token::Revoked,
        "of-revoked-user" => Token::OfRevokedUser,
        "powerless" => Token::Powerless,
        _ => {
            return Err(format!(
                "{kind:?} is none of valid, expired, revoked, of-revoked-user, powerless"
            ));
        }
    };
    if token.is_empty() {
        return Err("the token is empty".to_owned());
    }
    Ok((token.to_owned(), kind))
}

fn switch(text: &str) -> Result<(String, bool), String> {
    let (name, state) = text
        .split_once('=')
        .ok_or("it is not NAME=on or NAME=off")?;
    if Behaviour::default().switch(name).is_none() {
        let names = Behaviour::names().join(", ");
        return Err(format!("there is no switch {name:?}, only {names}"));
    }
    match state {
        "on" => Ok((name.to_owned(), true)),
        "off" => Ok((name.to_owned(), false)),
        _ => Err(format!("{state:?} is neither on nor off")),
    }
}

/// The names that faults, routes and switches go by, with what the switches begin with.
fn names() -> String {
    let faults: Vec<&str> = Fault::names().collect();
    let routes: Vec<&str> = Route::names().collect();
    let mut behaviour = Behaviour::default();
    let switches = Behaviour::names().map(|name| {
        let on = behaviour.switch(name).is_some_and(|switch| *switch);
        format!("{name}={}", if on { "on" } else { "off" })
    });
    format!(
        "Faults: {}\n\nRoutes: {}\n\nSwitches as they begin: {}",
        faults.join(", "),
        routes.join(", "),
        switches.join(", ")
    )
}
