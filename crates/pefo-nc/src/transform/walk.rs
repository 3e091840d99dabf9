//! The walk over a group's JSON: what is rewritten, what is reported, what is merged.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::host;
use super::place::{is_automatic, pointer};
use super::{CertnameMap, Mention, Residual, Rewrite, TransformOptions};
use crate::model::{Group, GroupId};

pub(crate) struct Walk<'a> {
    map: &'a CertnameMap,
    options: &'a TransformOptions,
    group: GroupId,
    group_name: String,
    /// The group as it was.
    text: String,
    path: Vec<String>,
    pub(crate) rewrites: Vec<Rewrite>,
    pub(crate) residuals: Vec<Residual>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(map: &'a CertnameMap, options: &'a TransformOptions) -> Self {
        Self {
            map,
            options,
            group: GroupId::ROOT,
            group_name: String::new(),
            text: String::new(),
            path: Vec::new(),
            rewrites: Vec::new(),
            residuals: Vec::new(),
        }
    }

    /// The group, rewritten.
    pub(crate) fn group(&mut self, group: &Group) -> Group {
        self.group = group.id();
        group.name().clone_into(&mut self.group_name);
        if !host::may_mention(group.to_json(), self.map) {
            return group.clone();
        }
        group.to_json().clone_into(&mut self.text);
        let first_rewrite = self.rewrites.len();
        let mut object = group.contents().into_object();
        for (key, value) in &mut object {
            self.path = vec![key.clone()];
            match key.as_str() {
                "id" | "parent" | "deleted" | "last_edited" | "serial_number" => {}
                "rule" => self.rule(value),
                "classes" | "config_data" => self.classes(value),
                _ => self.value(value, false),
            }
        }
        if self.rewrites.len() == first_rewrite {
            return group.clone();
        }
        // A string stays a string and no key is touched: the group stays valid.
        group.with_values(&object)
    }

    fn before(&self) -> Value {
        // It was parsed before.
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    fn below<R>(&mut self, part: impl Into<String>, act: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(part.into());
        let result = act(self);
        self.path.pop();
        result
    }

    fn classes(&mut self, value: &mut Value) {
        let Value::Object(classes) = value else {
            return;
        };
        for (class, parameters) in classes {
            self.key(class);
            let Value::Object(parameters) = parameters else {
                continue;
            };
            self.below(class.clone(), |walk| {
                for (parameter, value) in parameters {
                    walk.key(parameter);
                    let listed = is_automatic(class, parameter);
                    walk.below(parameter.clone(), |walk| walk.value(value, listed));
                }
            });
        }
    }

    /// A value and everything below it; `listed` says that it is a place to rewrite.
    fn value(&mut self, value: &mut Value, listed: bool) {
        let listed = listed
            || self
                .options
                .paths
                .iter()
                .any(|path| path.covers(&self.path));
        match value {
            Value::String(text) => self.text(text, listed),
            Value::Array(items) => {
                let first_rewrite = self.rewrites.len();
                for (at, item) in items.iter_mut().enumerate() {
                    self.below(at.to_string(), |walk| walk.value(item, listed));
                }
                self.merge(items, first_rewrite);
            }
            Value::Object(object) => self.object(object, listed),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn object(&mut self, object: &mut Map<String, Value>, listed: bool) {
        for (key, value) in object {
            self.key(key);
            self.below(key.clone(), |walk| walk.value(value, listed));
        }
    }

    fn text(&mut self, text: &mut String, listed: bool) {
        match listed.then(|| host::rewrite(text, self.map)).flatten() {
            Some(to) => self.rewritten(text, to),
            None => {
                if let Some((host, how)) = host::mention(text, self.map) {
                    self.residual(text, host.clone(), how);
                }
            }
        }
    }

    fn rewritten(&mut self, text: &mut String, to: String) {
        if *text == to {
            return;
        }
        let from = std::mem::replace(text, to.clone());
        let (group, group_name, path) = (self.group, self.group_name.clone(), pointer(&self.path));
        self.rewrites.push(Rewrite {
            group,
            group_name,
            path,
            from,
            to,
            merged: false,
        });
    }

    fn key(&mut self, key: &str) {
        if let Some((host, _)) = host::mention(key, self.map) {
            let host = host.clone();
            self.below(key, |walk| walk.residual(key, host, Mention::ObjectKey));
        }
    }

    fn residual(&mut self, value: &str, host: pefo_core::Certname, mention: Mention) {
        let value = crate::model::shorten(value, 200);
        let (group, group_name, path) = (self.group, self.group_name.clone(), pointer(&self.path));
        self.residuals.push(Residual {
            group,
            group_name,
            path,
            value,
            host,
            mention,
        });
    }

    fn rule(&mut self, rule: &mut Value) {
        let Value::Array(items) = rule else { return };
        let operator = items
            .first()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        match operator.as_str() {
            "and" | "or" | "not" => {
                let first_rewrite = self.rewrites.len();
                for (at, condition) in items.iter_mut().enumerate().skip(1) {
                    self.below(at.to_string(), |walk| walk.rule(condition));
                }
                self.merge(items, first_rewrite);
            }
            "=" if items.get(1).is_some_and(is_certname_path) => {
                if let Some(Value::String(pin)) = items.get_mut(2) {
                    self.below("2", |walk| walk.pin(pin));
                }
            }
            "~" => {
                if let Some(Value::String(regex)) = items.get(2)
                    && let Some(host) = host::mention_in_regex(regex, self.map)
                {
                    let host = host.clone();
                    self.below("2", |walk| walk.residual(regex, host, Mention::Regex));
                }
                if let Some(path) = items.get_mut(1) {
                    self.below("1", |walk| walk.value(path, false));
                }
            }
            _ => {
                for (at, operand) in items.iter_mut().enumerate().skip(1) {
                    self.below(at.to_string(), |walk| walk.value(operand, false));
                }
            }
        }
    }

    /// A pin holds a certname and nothing else.
    fn pin(&mut self, pin: &mut String) {
        match self.map.host(pin) {
            Some(to) => self.rewritten(pin, to.to_string()),
            None => self.text(pin, false),
        }
    }

    /// Keeps one of those that were different and were made equal; equal ones that came so stay.
    fn merge(&mut self, items: &mut Vec<Value>, first_rewrite: usize) {
        if self.rewrites.len() == first_rewrite {
            return;
        }
        let mut places: HashMap<String, Vec<usize>> = HashMap::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            places.entry(item.to_string()).or_default().push(at);
        }
        if places.len() == items.len() {
            return;
        }
        // As they were, which is asked for here alone: parsed anew rather than copied at every level.
        let before = self.before();
        let Some(before) = before
            .pointer(&pointer(&self.path))
            .and_then(Value::as_array)
        else {
            return;
        };
        let mut dropped = Vec::new();
        for alike in places.into_values().filter(|alike| alike.len() > 1) {
            let mut kept: Vec<usize> = Vec::with_capacity(alike.len());
            for at in alike {
                if kept.iter().any(|twin| before[*twin] != before[at]) {
                    dropped.push(at);
                } else {
                    kept.push(at);
                }
            }
        }
        dropped.sort_unstable();
        if dropped.is_empty() {
            return;
        }
        let prefixes: Vec<String> = dropped
            .iter()
            .map(|at| format!("{}/{at}", pointer(&self.path)))
            .collect();
        for rewrite in &mut self.rewrites[first_rewrite..] {
            let below = |prefix: &String| {
                rewrite
                    .path
                    .strip_prefix(prefix.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            rewrite.merged |= prefixes.iter().any(below);
        }
        let mut at = 0;
        items.retain(|_| {
            at += 1;
            dropped.binary_search(&(at - 1)).is_err()
        });
    }
}

fn is_certname_path(path: &Value) -> bool {
    match path {
        Value::String(name) => name == "name",
        Value::Array(parts) => {
            matches!(parts.as_slice(), [Value::String(base), Value::String(key)] if base == "trusted" && key == "certname")
        }
        _ => false,
    }
}
