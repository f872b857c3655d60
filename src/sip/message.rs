//! Requests and responses as text ([RFC 3261 section 7](https://www.rfc-editor.org/rfc/rfc3261#section-7)).
//!
//! Header text is UTF-8; a peer's Latin-1 bytes are read as the characters of the same number, so nothing is lost that we
//! look at. Limits: 64 KiB a message, 256 header lines, 8 KiB a line.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::headers::{HeaderError, Headers};
use super::uri::{Uri, UriError};

/// The longest message read.
const MAX_MESSAGE: usize = 64 * 1024;
/// Header lines of one message.
const MAX_HEADERS: usize = 256;
/// One header, unfolded.
const MAX_LINE: usize = 8 * 1024;

/// A request's method; names are case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say it all
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Register,
    Info,
    Prack,
    Update,
    Refer,
    Notify,
    Subscribe,
    Message,
    Publish,
    Other(String),
}

impl Method {
    /// As written.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Options => "OPTIONS",
            Method::Register => "REGISTER",
            Method::Info => "INFO",
            Method::Prack => "PRACK",
            Method::Update => "UPDATE",
            Method::Refer => "REFER",
            Method::Notify => "NOTIFY",
            Method::Subscribe => "SUBSCRIBE",
            Method::Message => "MESSAGE",
            Method::Publish => "PUBLISH",
            Method::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Method {
    type Err = ParseErrorKind;

    fn from_str(text: &str) -> Result<Method, ParseErrorKind> {
        if !is_token(text) {
            return Err(ParseErrorKind::StartLine);
        }
        let known = [
            Method::Invite,
            Method::Ack,
            Method::Bye,
            Method::Cancel,
            Method::Options,
            Method::Register,
            Method::Info,
            Method::Prack,
            Method::Update,
            Method::Refer,
            Method::Notify,
            Method::Subscribe,
            Method::Message,
            Method::Publish,
        ];
        Ok(known.into_iter().find(|m| m.as_str() == text).unwrap_or_else(|| Method::Other(text.into())))
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c))
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Nothing but line ends: a keep-alive.
    #[error("empty")]
    Empty,
    /// Over one of the limits.
    #[error("too long")]
    TooLong,
    /// The head has no end, or a line that is no header.
    #[error("malformed head")]
    Head,
    /// Neither a request line nor a status line.
    #[error("malformed start line")]
    StartLine,
    /// The Request-URI is none.
    #[error("malformed Request-URI: {0}")]
    Uri(#[from] UriError),
    /// Not SIP/2.0.
    #[error("unknown SIP version")]
    Version,
    /// A header that every message needs is missing or malformed.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// CSeq names another method than the request line (section 8.1.1.5).
    #[error("CSeq does not fit the method")]
    CSeqMethod,
    /// The body is shorter than Content-Length says (section 18.3).
    #[error("the body is shorter than Content-Length")]
    Truncated,
}

/// A message that cannot be taken, and what could be read of it: enough, mostly, to answer it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind}")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// The request as far as it could be read; `None` for responses and what is no message at all.
    pub request: Option<Box<Request>>,
}

impl ParseError {
    /// The status to refuse it with; `None` where it gets no answer (responses, ACK, unreadable ones).
    pub fn status(&self) -> Option<u16> {
        let request = self.request.as_ref()?;
        if request.method == Method::Ack || request.headers.top_via().is_err() {
            return None;
        }
        match self.kind {
            ParseErrorKind::Version => Some(505),
            ParseErrorKind::TooLong => Some(513),
            _ => Some(400),
        }
    }
}

impl From<ParseErrorKind> for ParseError {
    fn from(kind: ParseErrorKind) -> ParseError {
        ParseError { kind, request: None }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// Its header fields; Content-Length is written anew by [`Request::to_bytes`].
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Its header fields; Content-Length is written anew by [`Response::to_bytes`].
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Message {
    Request(Request),
    Response(Response),
}

impl Message {
    /// Reads one whole message: a datagram, or what the [`super::Framer`] cut. What follows the body that Content-Length
    /// announces is ignored (section 18.3).
    ///
    /// # Errors
    /// [`ParseError`] with as much of a request as could be read.
    pub fn parse(datagram: &[u8]) -> Result<Message, ParseError> {
        if datagram.len() > MAX_MESSAGE {
            return Err(ParseErrorKind::TooLong.into());
        }
        let start = datagram.iter().position(|b| !matches!(b, b'\r' | b'\n')).ok_or(ParseErrorKind::Empty)?;
        let text = datagram.get(start..).unwrap_or_default();
        let (head, body) = split_head(text).ok_or(ParseErrorKind::Head)?;
        let head = decode(head);
        let mut lines = head.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l));
        let first = lines.next().unwrap_or("");
        let (headers, head_error) = read_headers(lines);
        if let Some(rest) = first.strip_prefix("SIP/") {
            if let Some(kind) = head_error {
                return Err(kind.into());
            }
            return parse_response(rest, headers, body).map(Message::Response).map_err(ParseError::from);
        }
        parse_request(first, headers, head_error, body).map(Message::Request)
    }

    /// As sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Message::Request(request) => request.to_bytes(),
            Message::Response(response) => response.to_bytes(),
        }
    }

    /// Its header fields.
    pub fn headers(&self) -> &Headers {
        match self {
            Message::Request(request) => &request.headers,
            Message::Response(response) => &response.headers,
        }
    }
}

/// Head and body at the first empty line; bare line feeds are taken too.
fn split_head(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    for line in text.split_inclusive(|b| *b == b'\n') {
        if matches!(line, b"\r\n" | b"\n") {
            return Some((text.get(..at)?, text.get(at + line.len()..)?));
        }
        at += line.len();
    }
    None
}

/// UTF-8, or else each byte a character.
fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    }
}

/// Header lines, continuation lines unfolded (section 7.3.1). What is wrong is told beside what could be read.
fn read_headers<'a>(lines: impl Iterator<Item = &'a str>) -> (Headers, Option<ParseErrorKind>) {
    let mut unfolded: Vec<String> = Vec::new();
    let mut error = None;
    for line in lines.filter(|l| !l.is_empty()) {
        let folded = line.starts_with([' ', '\t']);
        let full = unfolded.len() >= MAX_HEADERS;
        let room = MAX_LINE.saturating_sub(unfolded.last().map_or(0, String::len));
        match unfolded.last_mut() {
            Some(last) if folded && line.len() < room => {
                last.push(' ');
                last.push_str(line.trim());
            }
            None if folded => error = error.or(Some(ParseErrorKind::Head)),
            _ if folded || full || line.len() > MAX_LINE => error = error.or(Some(ParseErrorKind::TooLong)),
            _ => unfolded.push(line.to_owned()),
        }
    }
    let mut headers = Headers::new();
    for line in unfolded {
        match line.split_once(':') {
            Some((name, value)) if is_token(name.trim_end()) && !value.contains('\r') => {
                // The grammar allows NUL as a quoted pair (section 25.1); nobody needs it, and it gets no further.
                let mut value = value.trim().to_owned();
                if value.contains('\0') {
                    value = value.replace("\\\0", "\u{fffd}");
                    if value.contains('\0') {
                        error.get_or_insert(ParseErrorKind::Head);
                    }
                }
                headers.push(name.trim_end(), value);
            }
            _ => {
                error.get_or_insert(ParseErrorKind::Head);
            }
        }
    }
    (headers, error)
}

fn parse_response(after_sip: &str, headers: Headers, body: &[u8]) -> Result<Response, ParseErrorKind> {
    let mut parts = after_sip.splitn(3, ' ');
    if parts.next() != Some("2.0") {
        return Err(ParseErrorKind::Version);
    }
    let code = parts.next().unwrap_or("");
    let status = super::headers::decimal(code).filter(|_| code.len() == 3).and_then(|n| u16::try_from(n).ok());
    let status = status.filter(|s| (100..700).contains(s)).ok_or(ParseErrorKind::StartLine)?;
    check_common(&headers)?;
    let body = cut_body(&headers, body)?;
    Ok(Response { status, reason: parts.next().unwrap_or("").into(), headers, body })
}

fn parse_request(
    line: &str,
    headers: Headers,
    head_error: Option<ParseErrorKind>,
    body: &[u8],
) -> Result<Request, ParseError> {
    // Exactly one space on each side of the URI (section 7.1).
    let (method, rest) = line.split_once(' ').ok_or(ParseErrorKind::StartLine)?;
    let method: Method = method.parse()?;
    let (uri, version) = rest.rsplit_once(' ').unwrap_or((rest, ""));
    let parsed: Result<Uri, UriError> = uri.parse();
    let placeholder = || Uri::sip(None, super::uri::Host::Name("invalid".into()), None);
    let readable = parsed.clone().or_else(|_| placeholder()).map_err(ParseErrorKind::from)?;
    let mut request = Request { method, uri: readable, headers, body: Vec::new() };
    let version_error = match version.strip_prefix("SIP/") {
        Some("2.0") => None,
        Some(v) if !v.is_empty() && v.chars().all(|c| c.is_ascii_digit() || c == '.') => Some(ParseErrorKind::Version),
        _ => Some(ParseErrorKind::StartLine),
    };
    let checked = match (version_error, parsed, head_error) {
        (Some(kind), _, _) => Err(kind),
        (None, Err(error), _) => Err(error.into()),
        (None, Ok(_), Some(kind)) => Err(kind),
        (None, Ok(_), None) => check_request(&request).and_then(|()| cut_body(&request.headers, body)),
    };
    match checked {
        Ok(body) => {
            request.body = body;
            Ok(request)
        }
        Err(kind) => Err(ParseError { kind, request: Some(Box::new(request)) }),
    }
}

/// What every message needs (section 8.1.1), readable and once.
fn check_common(headers: &Headers) -> Result<(), HeaderError> {
    headers.top_via()?;
    if headers.vias()?.iter().any(|via| via.version != "2.0") {
        return Err(HeaderError::Malformed("Via"));
    }
    headers.from()?;
    headers.to()?;
    headers.call_id()?;
    headers.cseq()?;
    headers.content_length()?;
    Ok(())
}

fn check_request(request: &Request) -> Result<(), ParseErrorKind> {
    let headers = &request.headers;
    // Section 19.1.1: a Request-URI has no header fields, and none may be taken from it.
    if request.uri.is_sip() && request.uri.headers.is_some() {
        return Err(UriError::Headers.into());
    }
    check_common(headers)?;
    headers.max_forwards()?;
    headers.expires()?;
    headers.routes()?;
    headers.record_routes()?;
    if headers.get("Contact").is_some_and(|c| c.trim() != "*") {
        headers.contacts()?;
    }
    if headers.cseq()?.method != request.method {
        return Err(ParseErrorKind::CSeqMethod);
    }
    Ok(())
}

fn cut_body(headers: &Headers, body: &[u8]) -> Result<Vec<u8>, ParseErrorKind> {
    let len = headers.content_length()?.unwrap_or(body.len());
    body.get(..len).map(<[u8]>::to_vec).ok_or(ParseErrorKind::Truncated)
}

fn write(start: fmt::Arguments<'_>, headers: &Headers, body: &[u8]) -> Vec<u8> {
    use fmt::Write;
    let mut text = String::with_capacity(1024);
    let _ = write!(text, "{start}\r\n"); // writing to a String does not fail
    for (name, value) in headers.iter().filter(|(n, _)| !is_content_length(n)) {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn is_content_length(name: &str) -> bool {
    name.eq_ignore_ascii_case("Content-Length") || name.eq_ignore_ascii_case("l")
}

impl Request {
    /// A request without header fields.
    pub fn new(method: Method, uri: Uri) -> Request {
        Request { method, uri, headers: Headers::new(), body: Vec::new() }
    }

    /// As sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        write(format_args!("{} {} SIP/2.0", self.method, self.uri), &self.headers, &self.body)
    }

    /// The Max-Forwards of a call that goes on from this INVITE: one less than it came with, so that a loop through us ends
    /// ([RFC 7332](https://www.rfc-editor.org/rfc/rfc7332)); 70 were meant where none is written. The user agent has refused
    /// one that came with 0.
    pub fn forwards_left(&self) -> u8 {
        self.headers.max_forwards().ok().flatten().unwrap_or(70).saturating_sub(1)
    }

    /// A response to it with what it must copy (section 8.2.6): Via, From, To, Call-ID, CSeq, the Timestamp of a 100, and
    /// for 1xx and 2xx of what makes a dialog, Record-Route (section 12.1.1).
    pub fn response(&self, status: u16, reason: &str) -> Response {
        let mut headers = Headers::new();
        let with_routes =
            (101..300).contains(&status) && matches!(self.method, Method::Invite | Method::Subscribe | Method::Refer);
        let mut names = vec!["Via", "From", "To", "Call-ID", "CSeq"];
        if status == 100 {
            names.push("Timestamp");
        }
        if with_routes {
            names.push("Record-Route");
        }
        for name in names {
            for value in self.headers.get_all(name) {
                headers.push(name, value);
            }
        }
        Response { status, reason: reason.into(), headers, body: Vec::new() }
    }
}

impl Response {
    /// As sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        write(format_args!("SIP/2.0 {} {}", self.status, self.reason), &self.headers, &self.body)
    }
}

/// The reason phrase that RFC 3261 section 21 and its successors give a status.
#[allow(clippy::match_overlapping_arm)] // a class's word stands for all that have none of their own
pub fn default_reason(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => match status / 100 {
            1 => "Progress",
            2 => "OK",
            3 => "Redirection",
            4 => "Client Error",
            5 => "Server Error",
            _ => "Global Failure",
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const INVITE: &str = "INVITE sip:bob@biloxi.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds\r\n\
        Max-Forwards: 70\r\n\
        To: Bob <sip:bob@biloxi.com>\r\n\
        From: Alice\r\n  <sip:alice@atlanta.com>;tag=1928301774\r\n\
        Call-ID: a84b4c76e66710@pc33.atlanta.com\r\n\
        CSeq: 314159 INVITE\r\n\
        l: 4\r\n\r\nbodyrest";

    fn with(from: &str, to: &str) -> Result<Message, ParseError> {
        let text = INVITE.replacen(from, to, 1);
        assert_ne!(text, INVITE, "{from}");
        Message::parse(text.as_bytes())
    }

    #[test]
    fn a_request_is_read_and_written() {
        let Message::Request(request) = Message::parse(INVITE.as_bytes()).unwrap() else { panic!() };
        assert_eq!(request.body, b"body");
        assert_eq!(request.headers.from().unwrap().display.as_deref(), Some("Alice"));
        assert_eq!(Message::parse(&request.to_bytes()).unwrap().to_bytes(), request.to_bytes());
        assert_eq!(request.forwards_left(), 69);
        let response = request.response(180, "Ringing");
        let Message::Response(read) = Message::parse(&response.to_bytes()).unwrap() else { panic!() };
        assert_eq!((read.status, read.reason.as_str()), (180, "Ringing"));
        assert_eq!(read.headers.call_id().unwrap(), "a84b4c76e66710@pc33.atlanta.com");
    }

    #[test]
    fn what_cannot_be_taken_is_refused_with_its_status() {
        let table = [
            ("SIP/2.0\r\n", "SIP/7.0\r\n", Some(505)),
            ("SIP/2.0\r\n", "SIP/2.0 \r\n", Some(400)),
            ("INVITE sip", "INVITE  sip", Some(400)),
            ("sip:bob@biloxi.com SIP", "<sip:bob@biloxi.com> SIP", Some(400)),
            ("sip:bob@biloxi.com SIP", "sip:bob@biloxi.com; lr SIP", Some(400)),
            ("314159 INVITE", "314159 OPTIONS", Some(400)),
            ("Max-Forwards: 70", "Max-Forwards: 300", Some(400)),
            ("Call-ID", "X-Call-ID", Some(400)),
            ("CSeq: 3", "To: x\r\nCSeq: 3", Some(400)),
            ("l: 4", "l: 40", Some(400)),
            ("l: 4", "l: 4\r\nContent-Length: 5", Some(400)),
            ("Max-Forwards: 70", "no header", Some(400)),
            ("Via: ", "X: ", None),
            // The first Via tells where to answer, whatever the second is.
            ("Max-Forwards", "Via: nonsense\r\nMax-Forwards", Some(400)),
            ("Via: SIP/2.0", "Via: SIP/3.0", Some(400)),
            ("Via: SIP/2.0", "Via: ,SIP/2.0", None),
            ("sip:bob@biloxi.com SIP", "sip:bob@biloxi.com?Route=x SIP", Some(400)),
            ("Max-Forwards", "X: a\0b\r\nMax-Forwards", Some(400)),
        ];
        for (from, to, status) in table {
            let error = with(from, to).unwrap_err();
            assert_eq!(error.status(), status, "{to}: {error}");
        }
        let ack = INVITE.replace("INVITE", "ACK").replace("l: 4", "l: 40");
        assert_eq!(Message::parse(ack.as_bytes()).unwrap_err().status(), None);
    }

    #[test]
    fn latin_1_and_unknown_methods_are_read() {
        let mut bytes = INVITE.replace("INVITE", "FOO!x").into_bytes();
        let at = bytes.windows(3).position(|w| w == b"Bob").unwrap();
        bytes[at + 1] = 0xf6;
        let Message::Request(request) = Message::parse(&bytes).unwrap() else { panic!() };
        assert_eq!(request.method, Method::Other("FOO!x".into()));
        assert_eq!(request.headers.to().unwrap().display.as_deref(), Some("Böb"));
    }

    #[test]
    fn a_quoted_nul_gets_no_further() {
        let Message::Request(request) = with("To: Bob", "To: \"B\\\0b\"").unwrap() else { panic!() };
        assert_eq!(request.headers.to().unwrap().display.as_deref(), Some("B\u{fffd}b"));
    }

    #[test]
    fn keep_alives_and_noise_are_no_messages() {
        for bytes in [b"\r\n\r\n".as_slice(), b"", b"\0\0\0\0", b"GET / HTTP/1.1\r\n", b"SIP/2.0 9999999999 x\r\n\r\n"]
        {
            assert_eq!(Message::parse(bytes).unwrap_err().status(), None);
        }
    }
}
