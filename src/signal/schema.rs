//! The JSON Schema of the protocol, generated from the types; `docs/browser-protocol.schema.json` is its copy.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::message::{ClientMessage, ServerMessage};

/// The schema: `#/$defs/ClientMessage` is what a browser may send, `#/$defs/ServerMessage` what the gateway sends.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    generator.subschema_for::<ClientMessage>();
    generator.subschema_for::<ServerMessage>();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ringback browser protocol v1",
        "description": "JSON objects, one per text frame of a WebSocket with the subprotocol ringback.v1.",
        "anyOf": [{ "$ref": "#/$defs/ClientMessage" }, { "$ref": "#/$defs/ServerMessage" }],
        "$defs": generator.take_definitions(true),
    })
}

/// The schema as it stands in its file.
pub fn json_schema() -> String {
    // The alternate form of a `Value` is its indented text.
    format!("{:#}\n", schema())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/browser-protocol.schema.json");

    #[test]
    fn the_committed_schema_is_current() {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(FILE, json_schema()).unwrap();
        }
        let committed = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            serde_json::from_str::<Value>(&committed).ok() == Some(schema()),
            "docs/browser-protocol.schema.json is not current; write it anew: UPDATE=1 cargo test --lib signal::schema"
        );
    }

    /// The schema and the parser agree on every frame here; so a client may check itself by the schema.
    #[test]
    fn the_schema_says_what_the_parser_says() {
        let mut schema = schema();
        schema.as_object_mut().unwrap().remove("anyOf");
        schema["$ref"] = json!("#/$defs/ClientMessage");
        let validator = jsonschema::validator_for(&schema).unwrap();
        let long = "x".repeat(40_000);
        let frames = [
            r#"{"type":"hello"}"#.to_owned(),
            r#"{"type":"hello","token":null,"user":"mia@office.example"}"#.to_owned(),
            r#"{"type":"hello","user":""}"#.to_owned(),
            r#"{"type":"hello","user":"a b"}"#.to_owned(),
            r#"{"type":"hello","age":3}"#.to_owned(),
            r#"{"type":"hello","user":"mia","resume":"0a-_Z"}"#.to_owned(),
            r#"{"type":"hello","user":"mia","resume":"a b"}"#.to_owned(),
            r#"{"type":"renew","token":"a.b.c"}"#.to_owned(),
            r#"{"type":"renew"}"#.to_owned(),
            r#"{"type":"bye"}"#.to_owned(),
            r#"{"type":"bye","x":1}"#.to_owned(),
            r#"{"type":"bye","within_ms":6000}"#.to_owned(),
            r#"{"type":"bye","within_ms":-1}"#.to_owned(),
            r#"{"type":"check","to":"(415) 555-2671","from":"anonymous","n":3}"#.to_owned(),
            r#"{"type":"check","to":"1\r"}"#.to_owned(),
            r#"{"type":"probe","call":"p","sdp":"v=0"}"#.to_owned(),
            r#"{"type":"restart","call":"c1","sdp":""}"#.to_owned(),
            r#"{"type":"restart","call":"c1","sdp":"v=0"}"#.to_owned(),
            r#"{"type":"feedback","id":"00c5","score":1}"#.to_owned(),
            r#"{"type":"feedback","id":"00c5","score":0}"#.to_owned(),
            r#"{"type":"feedback","id":"00c5","score":6}"#.to_owned(),
            r#"{"type":"feedback","id":"00c5","score":5,"issue":"one-way"}"#.to_owned(),
            r#"{"type":"feedback","id":"00c5","score":5,"issue":"One way"}"#.to_owned(),
            r#"{"type":"call","call":"c1","to":"1","sdp":"v=0","params":{"crm-id":"é 7"}}"#.to_owned(),
            r#"{"type":"call","call":"c1","to":"1","sdp":"v=0","params":{"CRM":"7"}}"#.to_owned(),
            r#"{"type":"call","call":"c1","to":"1","sdp":"v=0","params":{"crm":7}}"#.to_owned(),
            r#"{"type":"call","call":"c1","to":"1","sdp":"v=0","params":{"crm":"\n"}}"#.to_owned(),
            format!(r#"{{"type":"call","call":"c1","to":"1","sdp":"v=0","params":{{"a":"{}"}}}}"#, "é".repeat(256)),
            format!(r#"{{"type":"call","call":"c1","to":"1","sdp":"v=0","params":{{"a":"{}"}}}}"#, "é".repeat(257)),
            r#"{"type":"call","call":"c1","to":"1","sdp":"v=0","params":{"a":"","b":"","c":"","d":"","e":"","f":"","g":"","h":"","i":""}}"#
                .to_owned(),
            r#"{"type":"call","call":"c1","to":"(415) 555-2671","sdp":"v=0\r\n"}"#.to_owned(),
            r#"{"type":"call","call":"c1","to":"hotline","sdp":"v=0","from":"+442079460101"}"#.to_owned(),
            r#"{"type":"call","call":"c1","to":"","sdp":"v=0"}"#.to_owned(),
            r#"{"type":"call","call":"c1","to":"1\r\nx","sdp":"v=0"}"#.to_owned(),
            r#"{"type":"call","call":"c1","to":"1\u0085","sdp":"v=0"}"#.to_owned(),
            r#"{"type":"call","call":"c1","to":"1\u2028","sdp":"v=0"}"#.to_owned(),
            r#"{"type":"call","call":"c 1","to":"1","sdp":"v=0"}"#.to_owned(),
            r#"{"type":"call","call":"c1","to":"1"}"#.to_owned(),
            format!(r#"{{"type":"call","call":"c1","to":"1","sdp":"{long}"}}"#),
            format!(r#"{{"type":"call","call":"c1","to":"{}","sdp":"v=0"}}"#, "é".repeat(128)),
            format!(r#"{{"type":"call","call":"c1","to":"{}","sdp":"v=0"}}"#, "é".repeat(129)),
            format!(r#"{{"type":"hangup","call":"{}"}}"#, "x".repeat(64)),
            format!(r#"{{"type":"hangup","call":"{}"}}"#, "x".repeat(65)),
            r#"{"type":"accept","call":"c1","sdp":"v=0"}"#.to_owned(),
            r#"{"type":"accept","call":"c1","sdp":""}"#.to_owned(),
            r#"{"type":"reject","call":"c1"}"#.to_owned(),
            r#"{"type":"reject","call":"c1","code":null}"#.to_owned(),
            r#"{"type":"reject","call":"c1","code":486}"#.to_owned(),
            r#"{"type":"reject","call":"c1","code":404}"#.to_owned(),
            r#"{"type":"candidate","call":"c1","candidate":"","mid":"0"}"#.to_owned(),
            r#"{"type":"candidate","call":"c1","candidate":"a\nb"}"#.to_owned(),
            r#"{"type":"digits","call":"c1","digits":"12*#AD","ms":40}"#.to_owned(),
            r#"{"type":"digits","call":"c1","digits":"12","ms":39}"#.to_owned(),
            r#"{"type":"digits","call":"c1","digits":"12","ms":2001}"#.to_owned(),
            r#"{"type":"digits","call":"c1","digits":"1w"}"#.to_owned(),
            r#"{"type":"digits","call":"c1","digits":""}"#.to_owned(),
            r#"{"type":"hold","call":"c1","on":true}"#.to_owned(),
            r#"{"type":"hold","call":"c1","on":1}"#.to_owned(),
            r#"{"type":"hangup","call":"c1","x":1}"#.to_owned(),
            r#"{"type":"ping"}"#.to_owned(),
            r#"{"type":"ping","n":9007199254740991}"#.to_owned(),
            r#"{"type":"ping","n":-1}"#.to_owned(),
            r#"{"type":"ping","n":1.5}"#.to_owned(),
            r#"{"type":"transfer","call":"c1"}"#.to_owned(),
            r#"{"type":"transfer","call":"c1","to":"603"}"#.to_owned(),
            r#"{"type":"transfer","call":"c1","to":"603","with":null}"#.to_owned(),
            r#"{"type":"transfer","call":"c1","to":null,"with":null}"#.to_owned(),
            r#"{"type":"transfer","call":"c1","with":"c2"}"#.to_owned(),
            r#"{"type":"transfer","call":"c1","to":"603","with":"c2"}"#.to_owned(),
            r#"{"type":"transfer","call":"c1","to":"6\r\n3"}"#.to_owned(),
            r#"{"type":"transfer","call":"c1","with":"c 2"}"#.to_owned(),
            r#"{"type":"park","call":"c1"}"#.to_owned(),
            r#"{"call":"c1"}"#.to_owned(),
            "[]".to_owned(),
        ];
        for frame in frames {
            let value: Value = serde_json::from_str(&frame).expect(&frame);
            let by_parser = ClientMessage::parse(&frame);
            assert_eq!(validator.is_valid(&value), by_parser.is_ok(), "{frame}: {by_parser:?}");
        }
    }
}
