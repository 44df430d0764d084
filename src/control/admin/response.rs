//! The responses of the admin API.

use crate::front::Response;
use serde::Serialize;
use serde_json::{Value, json};

/// JSON, the format of everything under `/api`.
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

impl Response {
    /// Text for display.
    pub(super) fn text(status: u16, body: impl Into<String>) -> Self {
        Response::of(status, TEXT, body.into())
    }

    /// A value as indented JSON.
    pub(super) fn json(status: u16, value: &impl Serialize) -> Self {
        Response::written(status, serde_json::to_string_pretty(value))
    }

    /// A long list as JSON, without spaces.
    pub(super) fn compact(value: &impl Serialize) -> Self {
        Response::written(200, serde_json::to_string(value))
    }

    fn written(status: u16, json: serde_json::Result<String>) -> Self {
        match json {
            Ok(body) => Response::of(status, JSON, body + "\n"),
            Err(error) => {
                Response::of(500, TEXT, format!("The response cannot be written as JSON: {error}.\n"))
            }
        }
    }

    /// A body of another kind.
    pub(super) fn of(status: u16, kind: &'static str, body: String) -> Self {
        Response { status, kind, body, fields: Vec::new() }
    }

    /// A rejection with a sentence: JSON under `/api`, text elsewhere.
    pub(super) fn rejection(path: &str, status: u16, sentence: impl AsRef<str>) -> Self {
        Response::faults(path, status, sentence, Vec::new())
    }

    /// The same, with a list of faults.
    pub(super) fn faults(path: &str, status: u16, sentence: impl AsRef<str>, faults: Vec<Value>) -> Self {
        let sentence = sentence.as_ref();
        if !is_api(path) {
            return Response::text(status, format!("{sentence}\n"));
        }
        match faults.is_empty() {
            true => Response::json(status, &json!({ "error": sentence })),
            false => Response::json(status, &json!({ "error": sentence, "faults": faults })),
        }
    }

    /// With one more header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}
