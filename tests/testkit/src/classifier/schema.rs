//! What the classifier takes for a group, and what it makes of one that a client sends.

use serde_json::{Value, json};

use super::state::Object;
use super::{Behaviour, rule};

/// The keys that are documented, the server's own included.
const KEYS: [&str; 13] = [
    "name",
    "id",
    "environment",
    "environment_trumps",
    "parent",
    "rule",
    "description",
    "variables",
    "classes",
    "config_data",
    "deleted",
    "last_edited",
    "serial_number",
];

/// A key, the name of its type, whether it must be there, and whether a value is of the type.
type Typed = (&'static str, &'static str, bool, fn(&Value) -> bool);

/// What is wrong with the shape of a group. One that is imported gets no default values.
pub(crate) fn check(group: &Value, behaviour: &Behaviour, imported: bool) -> Result<(), String> {
    let object = group.as_object().ok_or("(not (map? group))")?;
    for key in ["name", "environment"] {
        let text = object.get(key).and_then(Value::as_str);
        if text.is_none_or(str::is_empty) {
            return Err(format!("{{{key} (not (non-empty-string))}}"));
        }
    }
    for key in ["id", "parent"] {
        if !object.get(key).and_then(Value::as_str).is_some_and(is_uuid) {
            return Err(format!("{{{key} (not (uuid))}}"));
        }
    }
    let complete = imported && behaviour.complete_imports;
    let typed: [Typed; 6] = [
        ("classes", "map? of maps", true, is_map_of_maps),
        ("variables", "map?", complete, Value::is_object),
        (
            "environment_trumps",
            "boolean?",
            complete,
            Value::is_boolean,
        ),
        ("config_data", "map? of maps", false, is_map_of_maps),
        ("description", "string?", false, |text| {
            text.is_string() || text.is_null()
        }),
        ("rule", "condition?", false, |rule| {
            rule.is_null() || rule::is_condition(rule)
        }),
    ];
    for (key, kind, required, right) in typed {
        match object.get(key) {
            None if required => return Err(format!("{{{key} missing-required-key}}")),
            Some(value) if !right(value) => return Err(format!("{{{key} (not ({kind}))}}")),
            _ => {}
        }
    }
    if !behaviour.config_data && object.contains_key("config_data") {
        return Err("{config_data disallowed-key}".to_owned());
    }
    let unknown = object.keys().find(|key| !KEYS.contains(&key.as_str()));
    match unknown {
        Some(key) if !behaviour.unknown_keys => Err(format!("{{{key} disallowed-key}}")),
        _ => Ok(()),
    }
}

fn is_map_of_maps(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|map| map.values().all(Value::is_object))
}

/// Whether a text is a UUID as the documentation's expression has it: lower case.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

/// Gives a group that is created or overwritten its documented defaults, and takes out configuration
/// data that names a class and nothing of it: "no configuration data is stored".
pub(crate) fn with_defaults(group: &mut Value) {
    let Some(object) = group.as_object_mut() else {
        return;
    };
    object
        .entry("environment")
        .or_insert_with(|| json!("production"));
    object
        .entry("environment_trumps")
        .or_insert_with(|| json!(false));
    object.entry("variables").or_insert_with(|| json!({}));
    if let Some(Value::Object(data)) = object.get_mut("config_data") {
        data.retain(|_, set| set.as_object().is_none_or(|set| !set.is_empty()));
    }
}

/// Whether two groups say the same: what the server writes itself does not count, and absent is the
/// same as the default and as empty.
pub(crate) fn says_the_same(one: &Object, other: &Object) -> bool {
    plain(one) == plain(other)
}

fn plain(group: &Object) -> Object {
    let mut plain = group.clone();
    let servers_own = ["serial_number", "last_edited", "deleted"];
    plain.retain(|key, value| {
        let empty = match key.as_str() {
            "environment_trumps" => value == false,
            "rule" | "description" => value.is_null() || value == "",
            "variables" | "config_data" => value.as_object().is_some_and(Object::is_empty),
            _ => false,
        };
        !empty && !servers_own.contains(&key.as_str())
    });
    plain
}

/// Changes `group` by a delta: classes, configuration data and variables are merged, and what is null
/// then is removed; the rest is replaced.
pub(crate) fn merge(group: &mut Object, delta: &Object, deep: bool) {
    for (key, value) in delta {
        // Down to the values of parameters and variables, or into them.
        let depth = match key.as_str() {
            "classes" | "config_data" => 2,
            "variables" => 1,
            _ => 0,
        };
        let depth = if deep && depth > 0 { usize::MAX } else { depth };
        set(group, key, value, depth);
    }
}

fn set(into: &mut Object, key: &str, value: &Value, depth: usize) {
    match (into.get_mut(key), value) {
        (_, Value::Null) => drop(into.shift_remove(key)),
        (Some(Value::Object(old)), Value::Object(new)) if depth > 0 => {
            for (key, value) in new {
                set(old, key, value, depth - 1);
            }
        }
        (_, Value::Object(new)) if depth > 0 => {
            let mut fresh = Object::new();
            for (key, value) in new {
                set(&mut fresh, key, value, depth - 1);
            }
            into.insert(key.to_owned(), Value::Object(fresh));
        }
        _ => drop(into.insert(key.to_owned(), value.clone())),
    }
}
