//! One request, as the resources read it.

use axum::extract::Query;
use axum::http::Uri;
use serde_json::Value;

use crate::classifier::Request;
use crate::classifier::fault::Fault;
use crate::classifier::refusal::{self, Refusal};
use crate::classifier::schema;

pub(super) struct Call<'a> {
    pub(super) body: &'a [u8],
    pub(super) fault: Option<Fault>,
    request: &'a Request,
    parameters: Vec<(String, String)>,
}

/// Path and query, as errors name the request.
pub(super) fn uri(request: &Request) -> String {
    let path = &request.path;
    match &request.query {
        Some(query) => format!("/classifier-api{path}?{query}"),
        None => format!("/classifier-api{path}"),
    }
}

/// The decoded value of a parameter of the query.
pub(super) fn parameter(request: &Request, name: &str) -> Option<String> {
    let parameters = parameters(request).into_iter();
    parameters
        .rev()
        .find_map(|(known, value)| (known == name).then_some(value))
}

fn parameters(request: &Request) -> Vec<(String, String)> {
    // One that cannot be decoded is as good as none.
    let uri = uri(request).parse::<Uri>().unwrap_or_default();
    Query::try_from_uri(&uri)
        .map(|Query(parameters)| parameters)
        .unwrap_or_default()
}

impl<'a> Call<'a> {
    pub(super) fn new(request: &'a Request, body: &'a [u8], fault: Option<Fault>) -> Self {
        Self {
            body,
            fault,
            request,
            parameters: parameters(request),
        }
    }

    pub(super) fn uri(&self) -> String {
        uri(self.request)
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().rfind(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A parameter that must be a natural number where it is given.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let Some(value) = self.parameter(name) else {
            return Ok(None);
        };
        let number = value
            .parse()
            .map_err(|_| refusal::malformed_number(name, value))?;
        Ok(Some(number))
    }

    /// A parameter that is true unless it is absent, `0` or `false`, as the documentation has it.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.parameter(name)
            .is_some_and(|value| value != "0" && value != "false")
    }

    pub(super) fn json(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(self.body)
            .map_err(|error| refusal::malformed_request(self.body, &error.to_string()))
    }

    /// An id out of the path.
    pub(super) fn id(&self, id: &str) -> Result<(), Refusal> {
        if schema::is_uuid(id) {
            return Ok(());
        }
        Err(refusal::malformed_uuid(id))
    }
}
