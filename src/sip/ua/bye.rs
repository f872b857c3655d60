//! BYE: [RFC 3261 section 15](https://www.rfc-editor.org/rfc/rfc3261#section-15).

use std::time::Instant;

use super::core::{Core, Purpose, in_dialog, is_clean};
use super::session::{Common, State};
use crate::sip::transaction::{ClientId, ServerId};
use crate::sip::{Dialog, Method, Request};

/// Our BYE waits for its answer. Whatever that is, the dialog is over.
#[derive(Debug)]
pub(super) struct Releasing {
    pub(super) dialog: Dialog,
    bye: ClientId,
}

/// Sends BYE.
pub(super) fn release(
    common: &Common,
    core: &mut Core,
    now: Instant,
    mut dialog: Dialog,
    reason: Option<&str>,
) -> State {
    core.remember(&dialog);
    let mut request = dialog.request(Method::Bye);
    core.sign(&mut request.headers, "User-Agent");
    if let Some(reason) = reason.filter(|reason| is_clean(reason)) {
        request.headers.push("Reason", reason);
    }
    let flow = common.next_flow(&dialog);
    let bye = core.send(now, in_dialog(Purpose::Bye, Some(common.id), flow, request, common.credentials.clone()));
    State::Releasing(Releasing { dialog, bye })
}

impl Releasing {
    pub(super) fn response(self, id: ClientId, status: u16) -> State {
        if id == self.bye && status >= 200 { State::Closed } else { State::Releasing(self) }
    }

    pub(super) fn failed(self, id: ClientId) -> State {
        if id == self.bye { State::Closed } else { State::Releasing(self) }
    }

    pub(super) fn retry(&mut self, id: ClientId) -> Option<u32> {
        (id == self.bye).then(|| self.dialog.next_cseq())
    }

    pub(super) fn retried(&mut self, old: ClientId, new: ClientId) {
        if self.bye == old {
            self.bye = new;
        }
    }

    /// A BYE that crossed ours gets its 200, and ends our waiting; for anything else the dialog is over.
    pub(super) fn request(self, core: &mut Core, now: Instant, server: ServerId, request: Request) -> State {
        if request.method == Method::Bye {
            core.refuse(now, server, &request, 200);
            return State::Closed;
        }
        core.refuse(now, server, &request, 481);
        State::Releasing(self)
    }
}
