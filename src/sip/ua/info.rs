//! INFO: [RFC 6086](https://www.rfc-editor.org/rfc/rfc6086), in the plain form that carries digits.

use std::time::Instant;

use super::core::{Core, Purpose, body_of, in_dialog, put_body};
use super::established::Established;
use super::session::Common;
use super::types::{Body, UaError, UaEvent};
use crate::sip::transaction::ServerId;
use crate::sip::{Method, Request};

/// How many INFO requests of one session may be under way.
const MAX_INFOS: usize = 32;

/// Answers 200 and tells.
pub(super) fn receive(common: &Common, core: &mut Core, now: Instant, server: ServerId, request: &Request) {
    core.refuse(now, server, request, 200);
    core.event(UaEvent::Info { session: common.id, body: body_of(&request.headers, &request.body) });
}

impl Established {
    /// Sends an INFO.
    pub(super) fn info(&mut self, common: &Common, core: &mut Core, now: Instant, body: Body) -> Result<(), UaError> {
        if self.infos >= MAX_INFOS {
            return Err(UaError::Full);
        }
        let mut request = self.dialog.request(Method::Info);
        core.sign(&mut request.headers, "User-Agent");
        put_body(&mut request, Some(body));
        let flow = common.next_flow(&self.dialog);
        core.send(now, in_dialog(Purpose::Info, Some(common.id), flow, request, common.credentials.clone()));
        self.infos += 1;
        Ok(())
    }
}
