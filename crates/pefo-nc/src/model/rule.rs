//! Rules: which nodes a group matches.
//!
//! The grammar is the API's: `["and"|"or", condition+]`, `["not", condition]`, and a comparison
//! `[operator, path, value]` whose path is `"name"` or `["fact"|"trusted", key, key-or-index…]`. A
//! condition with an operator this crate does not know is kept whole. What was parsed prints back
//! equal; integer path components stay integers.

use std::fmt;

use serde_json::{Number, Value};

/// A condition over a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// All of them.
    And(Vec<Rule>),
    /// Any of them.
    Or(Vec<Rule>),
    /// Not this one.
    Not(Box<Rule>),
    /// One fact, trusted fact or the name against a value.
    Comparison(Comparison),
    /// An operator of a newer product, with all it stands with.
    Unknown(Vec<Value>),
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// How they are compared.
    pub operator: Operator,
    /// What is looked at.
    pub path: RulePath,
    /// What it is compared with; a string in every release so far.
    pub value: Value,
}

/// The comparisons the API documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `~`, a regular expression.
    Matches,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `<:`, membership in a structured fact (later releases).
    Within,
}

/// What a comparison looks at.
#[derive(Debug, Clone, PartialEq)]
pub enum RulePath {
    /// The node's name.
    Name,
    /// A fact, and the way into it.
    Fact(Vec<PathPart>),
    /// A trusted fact, and the way into it.
    Trusted(Vec<PathPart>),
}

/// One step into a structured fact.
#[derive(Debug, Clone, PartialEq)]
pub enum PathPart {
    /// A key of a map.
    Key(String),
    /// An index of an array.
    Index(Number),
}

/// Why a value is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleProblem {
    /// A condition must be an array that starts with an operator.
    #[error("condition {0} is not an array that starts with an operator")]
    NotACondition(String),
    /// The operator stands with too few or too many conditions.
    #[error("operator {operator:?} stands with {count} operands")]
    Operands {
        /// The operator.
        operator: String,
        /// How many operands it has.
        count: usize,
    },
    /// A path is not `"name"` and not `["fact"|"trusted", part, …]`.
    #[error(
        "path {0} is neither \"name\" nor a fact or trusted fact with string and integer parts"
    )]
    Path(String),
}

impl Operator {
    /// The operator as it stands in a rule.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Matches => "~",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Within => "<:",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "=" => Self::Equal,
            "~" => Self::Matches,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            "<:" => Self::Within,
            _ => return None,
        })
    }
}

impl Rule {
    /// Reads a rule from its JSON form.
    ///
    /// # Errors
    /// [`RuleProblem`], naming the first condition that is malformed.
    pub fn from_value(value: &Value) -> Result<Self, RuleProblem> {
        let not_a_condition = || RuleProblem::NotACondition(excerpt(value));
        let items = value.as_array().ok_or_else(not_a_condition)?;
        let (operator, operands) = match items.split_first() {
            Some((Value::String(operator), operands)) => (operator.as_str(), operands),
            _ => return Err(not_a_condition()),
        };
        let wrong_count = || RuleProblem::Operands {
            operator: operator.to_owned(),
            count: operands.len(),
        };
        match operator {
            "and" | "or" => {
                if operands.is_empty() {
                    return Err(wrong_count());
                }
                let conditions = operands
                    .iter()
                    .map(Self::from_value)
                    .collect::<Result<_, _>>()?;
                Ok(if operator == "and" {
                    Self::And(conditions)
                } else {
                    Self::Or(conditions)
                })
            }
            "not" => match operands {
                [condition] => Ok(Self::Not(Box::new(Self::from_value(condition)?))),
                _ => Err(wrong_count()),
            },
            other => match (Operator::parse(other), operands) {
                (Some(operator), [path, value]) => {
                    let path = RulePath::from_value(path)?;
                    Ok(Self::Comparison(Comparison {
                        operator,
                        path,
                        value: value.clone(),
                    }))
                }
                (Some(_), _) => Err(wrong_count()),
                (None, _) => Ok(Self::Unknown(items.clone())),
            },
        }
    }

    /// The rule in its JSON form.
    pub fn to_value(&self) -> Value {
        let list = |operator: &str, conditions: &[Self]| {
            let head = std::iter::once(Value::from(operator));
            Value::Array(head.chain(conditions.iter().map(Self::to_value)).collect())
        };
        match self {
            Self::And(conditions) => list("and", conditions),
            Self::Or(conditions) => list("or", conditions),
            Self::Not(condition) => list("not", std::slice::from_ref(condition)),
            Self::Comparison(Comparison {
                operator,
                path,
                value,
            }) => Value::Array(vec![
                operator.as_str().into(),
                path.to_value(),
                value.clone(),
            ]),
            Self::Unknown(items) => Value::Array(items.clone()),
        }
    }

    /// The certname this condition pins, where it is a pin: `["=", "name", H]` or
    /// `["=", ["trusted", "certname"], H]`.
    pub fn pinned(&self) -> Option<&str> {
        match self {
            Self::Comparison(Comparison {
                operator: Operator::Equal,
                path,
                value: Value::String(host),
            }) if path.is_certname() => Some(host),
            _ => None,
        }
    }
}

impl RulePath {
    fn from_value(value: &Value) -> Result<Self, RuleProblem> {
        let problem = || RuleProblem::Path(excerpt(value));
        match value {
            Value::String(name) if name == "name" => Ok(Self::Name),
            Value::Array(items) => {
                let (base, parts) = items.split_first().ok_or_else(problem)?;
                if parts.is_empty() {
                    return Err(problem());
                }
                let parts = parts
                    .iter()
                    .map(|part| PathPart::from_value(part).ok_or_else(problem))
                    .collect::<Result<_, _>>()?;
                match base.as_str() {
                    Some("fact") => Ok(Self::Fact(parts)),
                    Some("trusted") => Ok(Self::Trusted(parts)),
                    _ => Err(problem()),
                }
            }
            _ => Err(problem()),
        }
    }

    fn to_value(&self) -> Value {
        let list = |base: &str, parts: &[PathPart]| {
            let head = std::iter::once(Value::from(base));
            Value::Array(head.chain(parts.iter().map(PathPart::to_value)).collect())
        };
        match self {
            Self::Name => "name".into(),
            Self::Fact(parts) => list("fact", parts),
            Self::Trusted(parts) => list("trusted", parts),
        }
    }

    /// Whether this looks at the node's certname: `"name"` or `["trusted", "certname"]`.
    pub fn is_certname(&self) -> bool {
        match self {
            Self::Name => true,
            Self::Trusted(parts) => {
                matches!(parts.as_slice(), [PathPart::Key(key)] if key == "certname")
            }
            Self::Fact(_) => false,
        }
    }
}

impl PathPart {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(key) => Some(Self::Key(key.clone())),
            Value::Number(index)
                if index
                    .as_str()
                    .bytes()
                    .all(|b| b == b'-' || b.is_ascii_digit()) =>
            {
                Some(Self::Index(index.clone()))
            }
            _ => None,
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Key(key) => key.as_str().into(),
            Self::Index(index) => Value::Number(index.clone()),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_value())
    }
}

/// The first 80 characters of a value's JSON, for messages.
pub(crate) fn excerpt(value: &Value) -> String {
    shorten(&value.to_string(), 80)
}

/// At most `limit` characters of `text`, with an ellipsis where it was longer.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn integer_path_components_and_unknown_operators_survive() {
        for rule in [
            json!(["=", ["fact", "partitions", 0, "mount"], "/"]),
            json!(["and", ["<:", ["fact", "disks"], "sda"], ["=~=", {"future": [1, null]}, 12345678901234567890123u128.to_string()]]),
            json!(["not", ["or", ["=", "name", "a.lab"]]]),
            json!(["=", "name", "bare.lab"]),
        ] {
            assert_eq!(Rule::from_value(&rule).unwrap().to_value(), rule);
        }
    }

    #[test]
    fn malformed_rules_are_named() {
        for (rule, problem) in [
            (json!(["and"]), "operator \"and\" stands with 0 operands"),
            (
                json!(["not", ["=", "name", "a"], ["=", "name", "b"]]),
                "operator \"not\" stands with 2 operands",
            ),
            (
                json!(["=", "name"]),
                "operator \"=\" stands with 1 operands",
            ),
            (
                json!("name"),
                "condition \"name\" is not an array that starts with an operator",
            ),
            (
                json!([]),
                "condition [] is not an array that starts with an operator",
            ),
            (
                json!(["=", ["fact", "a", null], "x"]),
                "path [\"fact\",\"a\",null] is neither \"name\" nor a fact or trusted fact with string and integer parts",
            ),
        ] {
            assert_eq!(Rule::from_value(&rule).unwrap_err().to_string(), problem);
        }
        assert!(Rule::from_value(&json!(["=", ["fact", "a", 1.5], "x"])).is_err());
        assert!(Rule::from_value(&json!(["=", ["facts", "a"], "x"])).is_err());
    }

    proptest! {
        #[test]
        fn a_rule_prints_back_equal(rule in testing::rule()) {
            let parsed = Rule::from_value(&rule).unwrap();
            prop_assert_eq!(&parsed.to_value(), &rule);
            prop_assert_eq!(parsed.to_string(), rule.to_string());
        }
    }
}
