//! What this user agent does, in the words of Allow and Supported: nothing is claimed that does not work.

use crate::sip::{Headers, Method, Request};

/// The methods that are processed.
pub(super) const METHODS: &[Method] = &[
    Method::Invite,
    Method::Ack,
    Method::Cancel,
    Method::Bye,
    Method::Options,
    Method::Info,
    Method::Update,
    Method::Refer,
    Method::Notify,
];

/// The option tags of the extensions that are understood.
pub(super) const EXTENSIONS: &[&str] = &["replaces", "norefersub", "nosub"];

/// Writes Allow and, where there is anything to say, Supported.
pub(super) fn declare(headers: &mut Headers) {
    let methods: Vec<String> = METHODS.iter().map(Method::to_string).collect();
    headers.push("Allow", methods.join(", "));
    if !EXTENSIONS.is_empty() {
        headers.push("Supported", EXTENSIONS.join(", "));
    }
}

/// The option tags that a request requires and that are not understood (section 8.2.2.3).
pub(super) fn unsupported(request: &Request) -> Vec<String> {
    let known = |tag: &String| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(tag));
    request.headers.tokens("Require").into_iter().filter(|tag| !known(tag)).collect()
}

/// True if a request requires this extension.
pub(super) fn requires(request: &Request, tag: &str) -> bool {
    request.headers.tokens("Require").iter().any(|it| it.eq_ignore_ascii_case(tag))
}
