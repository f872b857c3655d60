//! The checks that every request of a peer passes: [RFC 3261 section 8.2](https://www.rfc-editor.org/rfc/rfc3261#section-8.2).

use std::time::Instant;

use super::capabilities::{self, METHODS};
use super::core::Core;
use crate::sip::transaction::ServerId;
use crate::sip::{Method, Request, Scheme};

/// Seconds after which a caller may try again while we drain or are full.
const RETRY_AFTER: &str = "30";

/// True if the request may be processed; otherwise it has been refused.
pub(super) fn pass(core: &mut Core, now: Instant, server: ServerId, request: &Request) -> bool {
    let registers = core.config.registrar && request.method == Method::Register;
    if !METHODS.contains(&request.method) && !registers {
        // Section 8.2.1; 21.5.2: 501 is for a method that nobody here knows.
        let status = if matches!(request.method, Method::Other(_)) { 501 } else { 405 };
        let mut response = core.response(request, status);
        capabilities::declare(&mut response.headers);
        core.layer.respond(now, server, response);
        return false;
    }
    if request.method == Method::Cancel {
        return true;
    }
    if matches!(request.uri.scheme, Scheme::Other(_)) {
        core.refuse(now, server, request, 416);
        return false;
    }
    let unsupported = capabilities::unsupported(request);
    if !unsupported.is_empty() {
        let mut response = core.response(request, 420);
        response.headers.push("Unsupported", unsupported.join(", "));
        core.layer.respond(now, server, response);
        return false;
    }
    // RFC 3891 section 3.
    if request.method != Method::Invite && request.headers.get("Replaces").is_some() {
        core.refuse(now, server, request, 400);
        return false;
    }
    let encoding = request.headers.get("Content-Encoding").is_some_and(|it| !it.eq_ignore_ascii_case("identity"));
    if encoding && !request.body.is_empty() {
        let mut response = core.response(request, 415);
        response.headers.push("Accept-Encoding", "identity");
        core.layer.respond(now, server, response);
        return false;
    }
    true
}

/// True if a call may go on from here: a gateway is a hop like a proxy (RFC 7332). Otherwise 483 has been sent.
pub(super) fn has_hops_left(core: &mut Core, now: Instant, server: ServerId, request: &Request) -> bool {
    let status = match request.headers.max_forwards() {
        Ok(Some(0)) => 483,
        Ok(_) => return true,
        Err(_) => 400,
    };
    core.refuse(now, server, request, status);
    false
}

/// Refuses with 503 and Retry-After.
pub(super) fn unavailable(core: &mut Core, now: Instant, server: ServerId, request: &Request) {
    let mut response = core.response(request, 503);
    response.headers.push("Retry-After", RETRY_AFTER);
    core.layer.respond(now, server, response);
}
