//! 2xx responses to INVITE, of which there may be several:
//! [RFC 3261 section 13.2.2.4](https://www.rfc-editor.org/rfc/rfc3261#section-13.2.2.4).
//!
//! This outlives the session: for as long as the INVITE's transaction is in Accepted (timer M), repeated 2xx get their
//! ACK again, and a further fork that answers is acknowledged and ended.

use std::time::Instant;

use super::core::{Core, Purpose, in_dialog, next_flow};
use crate::sip::transaction::ClientId;
use crate::sip::{Dialog, Flow, Method, Response};

/// How many answering forks of one INVITE are handled.
const MAX_ANSWERS: usize = 16;

/// Sends the ACK of a 2xx again if it was acknowledged before. False: this 2xx is new.
pub(super) fn repeat(core: &mut Core, id: ClientId, response: &Response) -> bool {
    let tag = response.headers.to().ok().and_then(|to| to.tag().map(str::to_owned)).unwrap_or_default();
    let Some(pending) = core.pending.get(&id) else { return false };
    let Some(ack) = pending.acks.iter().find(|ack| ack.to_tag == tag) else { return false };
    core.layer.send(ack.flow, ack.bytes.clone());
    true
}

/// Sends the ACK of a 2xx to the INVITE `id` in its dialog, with the INVITE's credentials (section 22.1).
pub(super) fn acknowledge(core: &mut Core, flow: Flow, id: ClientId, dialog: &Dialog) {
    let Some(pending) = core.pending.get(&id) else { return };
    let Ok(cseq) = pending.request.headers.cseq() else { return };
    let mut ack = dialog.ack(cseq.number);
    for name in ["Authorization", "Proxy-Authorization"] {
        for value in pending.request.headers.get_all(name) {
            ack.headers.push(name, value);
        }
    }
    let sent = core.send_ack(dialog.remote_tag(), flow, ack);
    if let Some(pending) = core.pending.get_mut(&id) {
        pending.acks.push(sent);
    }
}

/// A 2xx that no session takes: acknowledged, and ended if it made a dialog of its own.
pub(super) fn refuse(core: &mut Core, now: Instant, id: ClientId, response: &Response) {
    let Some(pending) = core.pending.get(&id) else { return };
    if pending.acks.len() >= MAX_ANSWERS {
        return;
    }
    let flow = pending.flow;
    let to = |dialog: &Dialog| next_flow(flow, dialog.next_hop());
    if let Some(dialog) = pending.dialog.clone() {
        // The 2xx to a re-INVITE whose session is ending: its BYE is under way.
        return acknowledge(core, to(&dialog), id, &dialog);
    }
    let Ok(mut dialog) = Dialog::of_caller(&pending.request, response) else { return };
    let credentials = pending.credentials.clone();
    acknowledge(core, to(&dialog), id, &dialog);
    let bye = dialog.request(Method::Bye);
    core.send(now, in_dialog(Purpose::Bye, None, to(&dialog), bye, credentials));
}
