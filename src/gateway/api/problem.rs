//! What is wrong with a request: problem details ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::switch::{Denial, Why};

/// A problem: the body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Problem {
    /// The HTTP status.
    status: u16,
    /// What is wrong, for a program: `bad-request`, `unauthorized`, `forbidden`, `not-found`, `method-not-allowed`,
    /// `unknown-call`, `wrong-state`, `call-refused` or `busy`.
    code: &'static str,
    /// What is wrong, for a person.
    title: String,
    /// Where a call was refused: the cause's word, as in the call's record.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// The SIP status that stands for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    sip: Option<u16>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: impl Into<String>) -> Problem {
        Problem { status: status.as_u16(), code, title: title.into(), cause: None, sip: None }
    }

    pub(super) fn bad_request(title: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", title)
    }

    pub(super) fn unauthorized() -> Problem {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "say Authorization: Bearer with a token of [[api.token]], or on this machine with a key of `ringback dashboard`",
        )
    }

    pub(super) fn forbidden(title: &str) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", title)
    }

    pub(super) fn not_found() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here; see /v1/openapi.json")
    }

    pub(super) fn no_such_method() -> Problem {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "not by this method; see /v1/openapi.json")
    }

    pub(super) fn unknown_call() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "unknown-call", "there is no such call, or no longer")
    }

    pub(super) fn busy() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "the gateway ends, or has too much to do")
    }

    pub(super) fn too_large() -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "bad-request", "the body is too long")
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Problem {
        let Denial { why, text, cause, sip } = denial;
        let (status, code) = match (why, sip) {
            (Why::BadRequest, _) => (StatusCode::BAD_REQUEST, "bad-request"),
            (Why::UnknownCall, _) => (StatusCode::NOT_FOUND, "unknown-call"),
            (Why::WrongState, _) => (StatusCode::CONFLICT, "wrong-state"),
            (Why::CallRefused, Some(403)) => (StatusCode::FORBIDDEN, "call-refused"),
            (Why::CallRefused, Some(500..600)) => (StatusCode::SERVICE_UNAVAILABLE, "call-refused"),
            (Why::CallRefused, _) => (StatusCode::UNPROCESSABLE_ENTITY, "call-refused"),
        };
        Problem { cause, sip, ..Problem::new(status, code, text) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let kind = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
        let mut response = (status, kind, body).into_response();
        let more = match status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "5")),
            _ => None,
        };
        if let Some((name, value)) = more {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
