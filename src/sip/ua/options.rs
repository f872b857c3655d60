//! OPTIONS: [RFC 3261 section 11](https://www.rfc-editor.org/rfc/rfc3261#section-11).

use std::time::Instant;

use super::capabilities;
use super::core::Core;
use crate::sip::Request;
use crate::sip::transaction::ServerId;

/// Answers what we can do.
pub(super) fn answer(core: &mut Core, now: Instant, server: ServerId, request: &Request) {
    let mut response = core.response(request, 200);
    capabilities::declare(&mut response.headers);
    response.headers.push("Accept", "application/sdp");
    core.layer.respond(now, server, response);
}
