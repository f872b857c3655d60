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
    Method::Prack,
];

/// Reliable provisional responses (RFC 3262).
pub(super) const RELIABLE: &str = "100rel";
/// The session timer (RFC 4028).
pub(super) const TIMER: &str = "timer";

/// The option tags of the extensions that are understood.
pub(super) const EXTENSIONS: &[&str] = &[RELIABLE, TIMER, "replaces", "norefersub", "nosub"];

/// Writes Allow and Supported: all that there is.
pub(super) fn declare(headers: &mut Headers) {
    declare_in_session(headers, true, true);
}

/// Writes Allow and, where there is anything to say, Supported: `100rel` and `timer` only where this session has them.
pub(super) fn declare_in_session(headers: &mut Headers, reliable: bool, timer: bool) {
    let methods: Vec<String> = METHODS.iter().map(Method::to_string).collect();
    headers.push("Allow", methods.join(", "));
    let wanted = |tag: &&&str| match **tag {
        RELIABLE => reliable,
        TIMER => timer,
        _ => true,
    };
    let tags: Vec<&str> = EXTENSIONS.iter().filter(wanted).copied().collect();
    if !tags.is_empty() {
        headers.push("Supported", tags.join(", "));
    }
}

/// True if the message says by Supported or Require that its sender takes part in this extension.
pub(super) fn takes_part(headers: &Headers, tag: &str) -> bool {
    says(headers, "Supported", tag) || says(headers, "Require", tag)
}

/// True if this header field lists this option tag.
pub(super) fn says(headers: &Headers, name: &str, tag: &str) -> bool {
    headers.tokens(name).iter().any(|word| word.eq_ignore_ascii_case(tag))
}

/// The option tags that a request requires and that are not understood (section 8.2.2.3).
pub(super) fn unsupported(request: &Request) -> Vec<String> {
    let known = |tag: &String| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(tag));
    request.headers.tokens("Require").into_iter().filter(|tag| !known(tag)).collect()
}

/// True if a request requires this extension.
pub(super) fn requires(request: &Request, tag: &str) -> bool {
    says(&request.headers, "Require", tag)
}

/// Leaves out of a request what a 420 calls unsupported (section 8.1.3.5). False: there is nothing that can be left out.
///
/// `100rel` and `timer` only: a request that requires anything else means something else without it.
pub(super) fn retreat(request: &mut Headers, refusal: &Headers) -> bool {
    let mut changed = false;
    for tag in [RELIABLE, TIMER] {
        if says(refusal, "Unsupported", tag) && takes_part(request, tag) {
            drop_tag(request, "Require", tag);
            drop_tag(request, "Supported", tag);
            if tag == TIMER {
                request.remove("Session-Expires");
                request.remove("Min-SE");
            }
            changed = true;
        }
    }
    changed
}

fn drop_tag(headers: &mut Headers, name: &str, tag: &str) {
    let rest: Vec<String> = headers.tokens(name).into_iter().filter(|word| !word.eq_ignore_ascii_case(tag)).collect();
    headers.remove(name);
    if !rest.is_empty() {
        headers.push(name, rest.join(", "));
    }
}
