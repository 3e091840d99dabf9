//! What the classifier knows: groups, classes, environments, faults to come and requests gone by.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::catalogue::Catalogue;
use super::family::{self, Family};
use super::{Behaviour, Injection, Options, Request, Token, object, root_group};

pub(crate) const ROOT: &str = "00000000-0000-4000-8000-000000000000";

pub(crate) type Object = Map<String, Value>;

/// 2026-01-01T00:00:00Z.
const FIRST_SECOND: i64 = 1_767_225_600;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) allowed: Vec<String>,
    pub(crate) tokens: Vec<(String, Token)>,
    pub(crate) behaviour: Behaviour,
    pub(crate) injections: Vec<Injection>,
    pub(crate) log: Vec<Request>,
    pub(crate) installed: usize,
    pub(crate) catalogue: Catalogue,
    pub(crate) last_update: Option<String>,
    /// The groups that are seen, together with all below them; `None` is everything.
    pub(crate) visible: Option<BTreeSet<String>>,
    groups: Vec<Object>,
    seconds: i64,
    reads: usize,
    made: u32,
}

impl State {
    pub(crate) fn new(options: Options) -> Self {
        let groups = if options.groups.is_empty() {
            vec![root_group()]
        } else {
            options.groups
        };
        let mut state = Self {
            allowed: options.allowed,
            tokens: options.tokens,
            behaviour: options.behaviour,
            injections: Vec::new(),
            log: Vec::new(),
            installed: 0,
            catalogue: Catalogue::default(),
            last_update: None,
            visible: None,
            groups: Vec::new(),
            seconds: 0,
            reads: 0,
            made: 0,
        };
        state.catalogue.deploy_for(&groups);
        if !options.never_updated {
            state.read_classes();
        }
        state.groups = groups.into_iter().filter_map(object).collect();
        for group in &mut state.groups {
            group.shift_remove("deleted");
        }
        state
    }

    /// The time, which is the double's own: it goes on by a second whenever it is asked for, so that
    /// nothing happens at the same time and every run has the same times.
    fn now(&mut self) -> String {
        self.seconds += 1;
        OffsetDateTime::from_unix_timestamp(FIRST_SECOND + self.seconds)
            .expect("a time of this century")
            .format(format_description!(
                "[year]-[month]-[day]T[hour]:[minute]:[second].000Z"
            ))
            .expect("a time as text")
    }

    pub(crate) fn read_classes(&mut self) {
        self.catalogue.read();
        self.last_update = Some(self.now());
    }

    /// Reads one environment's classes; `false` where the master does not have it.
    pub(crate) fn read_classes_of(&mut self, environment: &str) -> bool {
        let there = self.catalogue.read_one(environment);
        if there {
            self.last_update = Some(self.now());
        }
        there
    }

    pub(crate) fn groups(&self) -> &[Object] {
        &self.groups
    }

    pub(crate) fn family(&self) -> Family<'_> {
        Family::of(&self.groups)
    }

    pub(crate) fn position(&self, id: &str) -> Option<usize> {
        self.groups.iter().position(|group| family::id(group) == id)
    }

    pub(crate) fn group(&self, id: &str) -> Option<&Object> {
        self.position(id).map(|at| &self.groups[at])
    }

    /// Installs other groups instead of all there were.
    pub(crate) fn replace(&mut self, groups: Vec<Object>) {
        let old = std::mem::take(&mut self.groups);
        let known = Family::of(&old);
        for mut group in groups {
            let before = known.get(family::id(&group)).and_then(serial);
            let before = before.max(serial(&group));
            self.touch(&mut group, before);
            self.groups.push(group);
        }
    }

    /// Puts one group in, over the one with its id where there is one.
    pub(crate) fn put(&mut self, mut group: Object) {
        match self.position(family::id(&group)) {
            Some(at) => {
                let before = serial(&self.groups[at]);
                self.touch(&mut group, before);
                self.groups[at] = group;
            }
            None => {
                self.touch(&mut group, None);
                self.groups.push(group);
            }
        }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        self.groups.remove(at);
    }

    /// What the classifier itself writes into a group that is changed, whatever the client sent.
    fn touch(&mut self, group: &mut Object, serial_before: Option<u64>) {
        group.shift_remove("deleted");
        if self.behaviour.serial_bump {
            let serial = serial_before.map_or(1, |serial| serial + 1);
            group.insert("serial_number".to_owned(), json!(serial));
            group.insert("last_edited".to_owned(), json!(self.now()));
        }
    }

    /// Somebody changes a group at the console.
    pub(crate) fn meddle(&mut self) {
        let note = format!("edited at the console, {}", self.now());
        if let Some(mut group) = self.groups.last().cloned() {
            group.insert("description".to_owned(), json!(note));
            self.put(group);
        }
    }

    /// A new id.
    pub(crate) fn new_id(&mut self) -> String {
        self.made += 1;
        format!("d0b1e000-0000-4000-9000-{:012x}", self.made)
    }

    /// The groups as they are shown: what means nothing left out, missing classes marked.
    pub(crate) fn shown(&self) -> Vec<Value> {
        self.groups
            .iter()
            .map(|group| Value::Object(self.show(group)))
            .collect()
    }

    /// The groups as the next `GET` shows them.
    pub(crate) fn read(&mut self, inherited: bool) -> Vec<Value> {
        let family = self.family();
        let mut groups: Vec<Value> = self
            .groups
            .iter()
            .filter(|group| self.sees(&family, group))
            .map(|group| match inherited {
                true => self.show(&family.with_inherited(group)),
                false => self.show(group),
            })
            .map(Value::Object)
            .collect();
        self.reads += 1;
        if self.behaviour.reordered {
            let half = (self.reads * 7) % groups.len().max(1);
            groups.rotate_left(half);
            groups.reverse();
        }
        groups
    }

    /// Whether who asks may view a group: it, or an ancestor of it, was made visible.
    pub(crate) fn sees(&self, family: &Family<'_>, group: &Object) -> bool {
        self.visible.as_ref().is_none_or(|visible| {
            let line = family
                .get(family::id(group))
                .map(|group| family.line(group));
            line.into_iter()
                .flatten()
                .any(|group| visible.contains(family::id(group)))
        })
    }

    pub(crate) fn show(&self, group: &Object) -> Object {
        let mut shown = group.clone();
        let nothing = |value: &Value| value.is_null() || value == "";
        for key in ["rule", "description"] {
            if shown.get(key).is_some_and(nothing) {
                shown.shift_remove(key);
            }
        }
        if !self.behaviour.config_data {
            shown.shift_remove("config_data");
        }
        let deleted = self.catalogue.deleted(group);
        if !deleted.is_empty() {
            shown.insert("deleted".to_owned(), Value::Object(deleted));
        }
        shown
    }
}

fn serial(group: &Object) -> Option<u64> {
    group.get("serial_number").and_then(Value::as_u64)
}
