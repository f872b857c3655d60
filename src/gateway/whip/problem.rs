//! Why a request is refused: problem details ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::state::Ended;
use super::{FRAGMENT, SDP};
use crate::signal::ErrorCode;

/// How long a client should leave us alone that was refused for want of room and was not told for how long, in seconds.
const RETRY_AFTER: u32 = 5;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// What is wrong, for a person.
    detail: String,
    /// Of a call that the gateway or its dial plan refused, or that is over.
    ended: Option<Ended>,
}

/// As it is sent. `type` is absent: `about:blank`, so that `title` is the status's own text.
#[derive(Serialize)]
struct Details<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(flatten)]
    ended: Option<&'a Ended>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), ended: None }
    }

    /// The gateway is full, or about to stop.
    pub(super) fn busy(detail: &str) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// No call is known under this address.
    pub(super) fn unknown() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "there is no such call")
    }

    /// The call is over.
    pub(super) fn gone(ended: Ended) -> Problem {
        Problem { status: StatusCode::GONE, detail: ended.text.clone(), ended: Some(ended) }
    }

    /// A call that ended before it was answered with a description.
    pub(super) fn refused(ended: Ended) -> Problem {
        let status = match ended.cause.as_str() {
            // Today's limits leave no room until tomorrow, the others soon.
            "limit-reached" if ended.sip == Some(503) => StatusCode::TOO_MANY_REQUESTS,
            "limit-reached" | "token-used" => StatusCode::FORBIDDEN,
            "not-allowed" | "caller-id-not-allowed" => StatusCode::FORBIDDEN,
            "unknown-number" | "invalid-number" | "number-changed" => StatusCode::NOT_FOUND,
            "no-common-media" => StatusCode::NOT_ACCEPTABLE,
            "too-many-calls" | "no-resources" | "draining" | "shutdown" | "congestion" => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            "gateway-fault" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        };
        Problem { status, detail: ended.text.clone(), ended: Some(ended) }
    }

    /// What the protocol's own error comes to.
    pub(super) fn of(code: ErrorCode, text: String) -> Problem {
        let status = match code {
            ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::Forbidden | ErrorCode::TooOften => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::TooManyCalls => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::BadSdp => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::WrongState => StatusCode::CONFLICT,
            ErrorCode::UnknownCall => StatusCode::GONE,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, text)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let details = Details {
            title: self.status.canonical_reason().unwrap_or("Refused"),
            status: self.status.as_u16(),
            detail: &self.detail,
            ended: self.ended.as_ref(),
        };
        // Texts and numbers under fixed names: serde_json has nothing to refuse.
        let body = serde_json::to_string(&details).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, [(header::CONTENT_TYPE, kind)], body).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let told = self.ended.as_ref().and_then(|ended| ended.retry_after);
                headers.insert(header::RETRY_AFTER, told.unwrap_or(RETRY_AFTER).into());
            }
            // RFC 9110 section 15.5.16: what would have been taken. (The names are registered; axum knows neither.)
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                headers.insert("accept-post", HeaderValue::from_static(SDP));
                headers.insert("accept-patch", HeaderValue::from_static(FRAGMENT));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(cause: &str) -> Ended {
        Ended {
            by: crate::signal::Party::Gateway,
            cause: cause.into(),
            sip: None,
            q850: None,
            retry_after: None,
            text: "Why".into(),
        }
    }

    #[test]
    fn each_refusal_has_its_status() {
        let table = [
            ("not-allowed", 403),
            ("caller-id-not-allowed", 403),
            ("unknown-number", 404),
            ("no-common-media", 406),
            ("too-many-calls", 503),
            ("no-resources", 503),
            ("draining", 503),
            ("trunk-unreachable", 502),
            ("gateway-fault", 500),
            ("limit-reached", 403),
            ("token-used", 403),
        ];
        for (cause, status) in table {
            let response = Problem::refused(ended(cause)).into_response();
            assert_eq!(response.status().as_u16(), status, "{cause}");
            assert_eq!(response.headers().contains_key("retry-after"), status == 503, "{cause}");
        }
        for (told, wanted) in [(None, "5"), (Some(42), "42")] {
            let soon = Ended { sip: Some(503), retry_after: told, ..ended("limit-reached") };
            let response = Problem::refused(soon).into_response();
            let later = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
            assert_eq!((response.status().as_u16(), later), (429, Some(wanted)));
        }
        let response = Problem::of(ErrorCode::Unauthorized, "no".into()).into_response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["www-authenticate"]),
            (401, &HeaderValue::from_static("Bearer"))
        );
    }
}
