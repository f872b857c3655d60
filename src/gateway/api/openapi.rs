//! The description of `/v1` in [OpenAPI 3.1](https://spec.openapis.org/oas/v3.1.0), made from the types that the requests
//! are read into and the answers are made of. `docs/openapi.json` is its copy.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::problem::Problem;
use super::routes::Calls;
use crate::gateway::events::Told;
use crate::gateway::lately::{Ends, QualityHistory};
use crate::gateway::trace::TraceView;
use crate::switch::{CallView, Cdr, Digits, Hold, LimitsStatus, Originate, Status, Transfer};

/// The document, indented.
pub fn document() -> String {
    // The alternate form of a `Value` is its indented text.
    format!("{:#}\n", openapi())
}

/// The document.
pub fn openapi() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut schemas = settings.into_generator();
    let paths = paths(&mut schemas);
    let event = reference::<Told>(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ringback call control",
            "version": "1",
            "summary": "Calls made, seen and changed from outside, and what happens to them.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "webhooks": { "event": { "post": {
            "summary": "What a [[webhook]] is sent: one event",
            "description": "Signed by `Ringback-Signature: t=SECONDS,v1=HEX`, the HMAC-SHA256 of `SECONDS.BODY` with the \
                            hook's secret. Any 2xx \
                            takes it; 400, 410, 413 and 422 refuse it for good; everything else is tried again.",
            "security": [],
            "parameters": [
                header("Ringback-Signature", "`t=SECONDS,v1=HEX`"),
                header("Ringback-Event", "The event's name"),
                header("Ringback-Delivery", "The event's id: the same at every try"),
            ],
            "requestBody": { "required": true, "content": { "application/json": { "schema": event } } },
            "responses": { "204": { "description": "It is taken" } },
        } } },
        "components": {
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of [[api.token]]: all may read; to make and change calls it needs the scope `control`, to see what was said `trace`",
            } },
            "schemas": schemas.take_definitions(true),
        },
    })
}

fn paths(schemas: &mut SchemaGenerator) -> Value {
    let calls = reference::<Calls>(schemas);
    let call = reference::<CallView>(schemas);
    let (status, limits) = (reference::<Status>(schemas), reference::<LimitsStatus>(schemas));
    let (originate, digits) = (reference::<Originate>(schemas), reference::<Digits>(schemas));
    let (hold, transfer) = (reference::<Hold>(schemas), reference::<Transfer>(schemas));
    let (trace, quality) = (reference::<TraceView>(schemas), reference::<QualityHistory>(schemas));
    let (record, ended) = (reference::<Cdr>(schemas), reference::<Ends>(schemas));
    let problem = reference::<Problem>(schemas);
    let mut operation = |id: &str, summary: &str, body: Option<&Value>, good: Value, bad: &[u16]| {
        let mut responses = good;
        for status in [401, 503].iter().chain(bad) {
            responses[status.to_string()] = json!({
                "description": meaning(*status),
                "content": { "application/problem+json": { "schema": problem } },
            });
        }
        let mut operation = json!({ "operationId": id, "summary": summary, "responses": responses });
        if let Some(body) = body {
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": body } } });
        }
        operation
    };
    let begun = "It is begun; events tell what becomes of it";
    let mut made = json_of("201", "The user's devices ring", &call);
    made["201"]["headers"] = json!({ "Location": { "description": "The call", "schema": { "type": "string" } } });
    let mut none = json!({ "204": { "description": "It is ended" } });
    none["204"]["description"] = json!("It is ended, or about to be");
    let mut paths = remembered(&mut operation, [&trace, &quality, &record, &ended]);
    let others = json!({
        "/v1/calls": {
            "get": operation("listCalls", "Every call that stands", None, json_of("200", "The oldest first", &calls), &[]),
            "post": operation(
                "originate",
                "Have a user call a number: his own browsers and phones ring, and whoever answers there is connected with it",
                Some(&originate), made, &[400, 403, 413, 422]),
        },
        "/v1/calls/{call}": {
            "parameters": [call_parameter()],
            "get": operation("inspectCall", "One call", None, json_of("200", "As it stands", &call), &[404]),
            "delete": operation("hangUp", "End a call, whatever its state", None, none, &[403, 404, 409]),
        },
        "/v1/calls/{call}/digits": {
            "parameters": [call_parameter()],
            "post": operation("playDigits", "Play digits in an answered call", Some(&digits),
                json_of("202", begun, &call), &[400, 403, 404, 409, 413]),
        },
        "/v1/calls/{call}/hold": {
            "parameters": [call_parameter()],
            "post": operation("hold", "Put a party of an answered call on hold, or take it back", Some(&hold),
                json_of("202", begun, &call), &[400, 403, 404, 409, 413]),
        },
        "/v1/calls/{call}/transfer": {
            "parameters": [call_parameter()],
            "post": operation("transfer", "Connect a party of an answered call with somebody else", Some(&transfer),
                json_of("202", begun, &call), &[400, 403, 404, 409, 413, 422]),
        },
        "/v1/status": {
            "get": operation("status", "How everything stands: calls, sound, trunks, registrations", None,
                json_of("200", "Now", &status), &[]),
        },
        "/v1/limits": {
            "get": operation("limits",
                "The limits against fraud and how much of each is used: of the gateway, classes and trunks, and of the users and \
                 tokens that use most of theirs",
                None, json_of("200", "Now", &limits), &[]),
        },
        "/v1/events": {
            "get": events(&mut operation),
        },
        "/v1/openapi.json": {
            "get": {
                "operationId": "openapi",
                "summary": "This document",
                "security": [],
                "responses": { "200": { "description": "OpenAPI 3.1", "content": { "application/json": {} } } },
            },
        },
    });
    if let (Some(paths), Value::Object(others)) = (paths.as_object_mut(), others) {
        paths.extend(others);
    }
    paths
}

/// What is told of calls that stand or were lately.
fn remembered(
    operation: &mut impl FnMut(&str, &str, Option<&Value>, Value, &[u16]) -> Value,
    [trace, quality, record, ended]: [&Value; 4],
) -> Value {
    json!({
        "/v1/calls/{call}/trace": {
            "parameters": [call_parameter()],
            "get": since(operation("traceCall",
                "What was said about a call, browser's messages and SIP; the token needs the scope `trace`", None,
                json_of("200", "Of a call that is remembered", trace), &[400, 403, 404])),
        },
        "/v1/calls/{call}/quality": {
            "parameters": [call_parameter()],
            "get": operation("callQuality", "How a call has sounded, from its beginning on, in 120 samples at most", None,
                json_of("200", "Of a call that is remembered", quality), &[404]),
        },
        "/v1/calls/{call}/record": {
            "parameters": [call_parameter()],
            "get": operation("callRecord", "The record of a call that is over, while it is remembered", None,
                json_of("200", "As places of [cdr] have it", record), &[404]),
        },
        "/v1/ended": {
            "get": operation("endedCalls", "What has ended lately, and why calls have ended in the last hour", None,
                json_of("200", "Now", ended), &[]),
        },
    })
}

/// One response that is JSON.
fn json_of(status: &str, description: &str, schema: &Value) -> Value {
    json!({ status: { "description": description, "content": { "application/json": { "schema": schema } } } })
}

fn events(operation: &mut impl FnMut(&str, &str, Option<&Value>, Value, &[u16]) -> Value) -> Value {
    let stream = json!({ "200": {
        "description": "Server-sent events: `event` is the name, `data` one line of JSON, `id` for Last-Event-ID. An event \
                        `gap` says that more was missed than is remembered",
        "content": { "text/event-stream": { "schema": { "type": "string" } } },
    } });
    let mut found = operation("events", "Events as they happen", None, stream, &[400]);
    found["parameters"] = json!([
        { "name": "events", "in": "query", "schema": { "type": "string" },
          "description": "Names, or beginnings followed by `*`, comma-separated; all unless told" },
        { "name": "call", "in": "query", "schema": { "type": "string" }, "description": "Those of one call" },
        { "name": "Last-Event-ID", "in": "header", "schema": { "type": "string" },
          "description": "What has happened since is sent first, as far as it is remembered" },
    ]);
    found
}

fn reference<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

/// With the parameter of that name.
fn since(mut operation: Value) -> Value {
    operation["parameters"] = json!([{
        "name": "since", "in": "query", "schema": { "type": "integer", "minimum": 0 },
        "description": "Messages from this number on",
    }]);
    operation
}

fn call_parameter() -> Value {
    json!({
        "name": "call", "in": "path", "required": true,
        "description": "The call's id", "schema": { "type": "string", "pattern": "^[0-9a-f]{16}$" },
    })
}

fn header(name: &str, description: &str) -> Value {
    json!({ "name": name, "in": "header", "required": true, "description": description, "schema": { "type": "string" } })
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request is none, or a value is against its rule",
        401 => "No token, or none that is known",
        403 => "The token lacks the scope for it, or the dial plan does not allow the call",
        404 => "There is no such call, or no longer",
        409 => "The call is in no state for it",
        413 => "The body is too long",
        422 => "The call is refused: `cause` and `sip` say why",
        _ => "The gateway takes no call now, ends, or has too much to do",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::collections::BTreeSet;

    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");

    #[test]
    fn the_committed_document_is_current() {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(FILE, document()).unwrap();
        }
        let committed = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            serde_json::from_str::<Value>(&committed).ok() == Some(openapi()),
            "docs/openapi.json is not current; write it anew: UPDATE=1 cargo test --lib openapi"
        );
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(to)) = fields.get("$ref") {
                    found.insert(to.clone());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let document = openapi();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for reference in &found {
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
        }
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
                assert!(operation["responses"].as_object().is_some_and(|some| !some.is_empty()), "{method} {path}");
                assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
            }
        }
    }

    /// Each schema is one of JSON Schema 2020-12, as OpenAPI 3.1 has it.
    #[test]
    fn the_schemas_are_schemas() {
        let document = openapi();
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            let whole = json!({
                "$ref": format!("#/components/schemas/{name}"),
                "components": document["components"].clone(),
            });
            jsonschema::validator_for(&whole).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let originate =
            json!({ "$ref": "#/components/schemas/Originate", "components": document["components"].clone() });
        let validator = jsonschema::validator_for(&originate).unwrap();
        assert!(validator.is_valid(&json!({ "user": "alice", "to": "600" })));
        assert!(
            !validator.is_valid(&json!({ "user": "alice" }))
                && !validator.is_valid(&json!({ "user": "a b", "to": "6" }))
        );
    }
}
