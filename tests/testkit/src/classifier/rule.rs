//! Rules: their grammar, and nodes pinned into them and taken out again.

use serde_json::{Value, json};

/// Whether a value is a condition: `["and"|"or", condition+]`, `["not", condition]`, or an operation
/// `[operator, path, text]`, whose path is `"name"` or `["fact"|"trusted", field, field|index…]`.
pub(crate) fn is_condition(rule: &Value) -> bool {
    let Some(items) = rule.as_array() else {
        return false;
    };
    match items.first().and_then(Value::as_str) {
        Some("and" | "or") => items.len() > 1 && items[1..].iter().all(is_condition),
        Some("not") => items.len() == 2 && is_condition(&items[1]),
        Some("=" | "~" | ">" | ">=" | "<" | "<=" | "<:") => {
            items.len() == 3 && is_path(&items[1]) && items[2].is_string()
        }
        _ => false,
    }
}

fn is_path(path: &Value) -> bool {
    let Some(parts) = path.as_array() else {
        return path == "name";
    };
    // "The first and second entries in the list must be strings. Subsequent entries can be indices."
    matches!(
        parts.first().and_then(Value::as_str),
        Some("fact" | "trusted")
    ) && parts.get(1).is_some_and(Value::is_string)
        && parts[2..]
            .iter()
            .all(|part| part.is_string() || part.is_i64())
}

fn pinned(node: &str) -> Value {
    json!(["=", "name", node])
}

fn is_or(rule: &Value) -> bool {
    rule.get(0).is_some_and(|operator| operator == "or")
}

/// Whether a node is pinned: a rule that only happens to match it is none of its pins.
pub(crate) fn pins(rule: Option<&Value>, node: &str) -> bool {
    let conditions = rule.filter(|rule| is_or(rule)).and_then(Value::as_array);
    conditions.is_some_and(|conditions| conditions.contains(&pinned(node)))
}

/// Pins nodes into a rule.
pub(crate) fn pin(rule: Option<&Value>, nodes: &[String]) -> Value {
    let mut conditions = match rule {
        Some(rule) if is_or(rule) => rule.as_array().cloned().unwrap_or_default(),
        Some(rule) if !rule.is_null() => vec![json!("or"), rule.clone()],
        _ => vec![json!("or")],
    };
    for node in nodes {
        let pin = pinned(node);
        if !conditions.contains(&pin) {
            conditions.push(pin);
        }
    }
    if conditions.len() == 1 {
        return Value::Null;
    }
    Value::Array(conditions)
}

/// Takes the pins of nodes out of a rule; null where nothing is left. What [`pin`] put an "or" around
/// comes out of it again; what the product leaves there is not documented.
pub(crate) fn unpin(rule: Option<&Value>, nodes: &[String]) -> Value {
    let Some(rule) = rule else {
        return Value::Null;
    };
    if !nodes.iter().any(|node| pins(Some(rule), node)) {
        return rule.clone();
    }
    let mut conditions = rule.as_array().cloned().unwrap_or_default();
    conditions.retain(|condition| !nodes.iter().any(|node| *condition == pinned(node)));
    match conditions.as_slice() {
        [] | [_] => Value::Null,
        [_, alone]
            if alone
                .get(0)
                .is_some_and(|word| word == "and" || word == "not") =>
        {
            alone.clone()
        }
        _ => Value::Array(conditions),
    }
}
