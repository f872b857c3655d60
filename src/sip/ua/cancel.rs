//! CANCEL: [RFC 3261 section 9](https://www.rfc-editor.org/rfc/rfc3261#section-9).

use std::time::Instant;

use super::core::{Core, Purpose, in_dialog};
use super::invite::Inviting;
use super::session::Common;
use crate::sip::transaction::ClientId;
use crate::sip::{Method, Request};

/// Sends the CANCEL of an INVITE that has had a provisional response. From here the final response has 64*T1.
pub(super) fn send(state: &mut Inviting, common: &Common, core: &mut Core, now: Instant) {
    let Some(ending) = state.ending.as_mut() else { return };
    ending.give_up = Some(now + core.config.timers.give_up());
    let reason = ending.reason.clone();
    take_back(common, core, now, state.transaction, reason);
}

/// Sends the CANCEL of an INVITE or re-INVITE that has had a provisional response.
pub(super) fn take_back(common: &Common, core: &mut Core, now: Instant, transaction: ClientId, reason: Option<String>) {
    let Some(invite) = core.pending.get(&transaction) else { return };
    let mut cancel = of_invite(&invite.request);
    if let Some(reason) = reason {
        cancel.headers.push("Reason", reason);
    }
    let (flow, branch) = (invite.flow, invite.branch.clone());
    let mut pending = in_dialog(Purpose::Cancel, Some(common.id), flow, cancel, None);
    pending.branch = branch;
    core.start(now, pending);
}

/// Section 9.1: everything as in the INVITE, its top Via alone.
fn of_invite(invite: &Request) -> Request {
    let mut cancel = Request::new(Method::Cancel, invite.uri.clone());
    if let Ok(via) = invite.headers.top_via() {
        cancel.headers.push("Via", via.to_string());
    }
    for name in ["Route", "Max-Forwards", "From", "To", "Call-ID"] {
        for value in invite.headers.get_all(name) {
            cancel.headers.push(name, value);
        }
    }
    if let Ok(cseq) = invite.headers.cseq() {
        cancel.headers.push("CSeq", format!("{} CANCEL", cseq.number));
    }
    cancel
}
