//! Dialogs that outlive us: what it takes to end one, told while it stands, and the BYE of another life.

use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::core::{Core, Purpose, in_dialog, is_clean, next_flow_anew};
use super::out_of_dialog::RequestId;
use super::session::{Session, State};
use super::types::{SessionId, UaError};
use crate::sip::{Credentials, Dialog, Flow, Method, NameAddr, Request, Transport, Uri};

/// By how much the number of the BYE is above that of the last request that was told of: requests in between are not
/// told, and a jump is in order (RFC 3261 section 12.2.2).
const JUMP: u32 = 10_000;

/// All of a BYE but its branch: enough to end a dialog without the user agent that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftDialog {
    /// The Call-ID.
    pub call_id: String,
    /// Our own address with our tag: From.
    pub local: String,
    /// The peer's with his tag: To.
    pub remote: String,
    /// The peer's Contact: the Request-URI.
    pub target: String,
    /// The route set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// The number of our last request, or of an earlier one.
    pub cseq: u32,
    /// `udp`, `tcp`, `tls`.
    pub transport: String,
    /// Our address.
    pub from: SocketAddr,
    /// The next hop's.
    pub to: SocketAddr,
}

/// A dialog that stands now or is otherwise than before, or `None`: that of this session is over.
pub type DialogNote = (SessionId, Option<Box<LeftDialog>>);

/// What tells one note from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    confirmed: bool,
    remote_tag: String,
    target: Uri,
    flow: Flow,
}

/// The note that is due after a step of a session.
pub(super) fn note(session: &mut Session) -> Option<DialogNote> {
    let id = session.common.id;
    // Nobody but the browser can open another WebSocket: after our end there is no way to it.
    let reachable = !session.common.flow.transport.is_websocket();
    let Some((confirmed, dialog)) = standing(&session.state).filter(|_| reachable) else {
        return session.told.take().map(|_| (id, None));
    };
    let flow = session.common.next_flow(dialog);
    let same = |told: &Told| {
        told.confirmed == confirmed
            && told.remote_tag == dialog.remote_tag()
            && told.target == *dialog.remote_target()
            && told.flow == flow
    };
    if session.told.as_ref().is_some_and(same) {
        return None;
    }
    let told =
        Told { confirmed, remote_tag: dialog.remote_tag().to_owned(), target: dialog.remote_target().clone(), flow };
    let left = LeftDialog::of(dialog, flow);
    session.told = Some(told);
    Some((id, Some(Box::new(left))))
}

/// The dialog that a BYE of ours could end, and whether it is confirmed. A callee cannot end an early one by BYE (RFC 3261
/// section 15); of a caller's several early ones the last counts.
fn standing(state: &State) -> Option<(bool, &Dialog)> {
    match state {
        State::Inviting(state) => state.early.last().map(|early| (false, &early.dialog)),
        State::Established(state) => Some((true, &state.dialog)),
        State::Releasing(state) => Some((true, &state.dialog)),
        State::Ringing(_) | State::Closed => None,
    }
}

impl LeftDialog {
    fn of(dialog: &Dialog, flow: Flow) -> LeftDialog {
        // The connection ends with us: what comes after it takes a new one.
        let flow = if flow.transport.is_reliable() { next_flow_anew(flow, dialog.next_hop()) } else { flow };
        LeftDialog {
            call_id: dialog.call_id().to_owned(),
            local: dialog.local().to_string(),
            remote: dialog.remote().to_string(),
            target: dialog.remote_target().to_string(),
            routes: dialog.route_set().iter().map(ToString::to_string).collect(),
            cseq: dialog.local_cseq(),
            transport: flow.transport.uri_name().to_owned(),
            from: flow.local,
            to: flow.remote,
        }
    }

    /// The way to the next hop.
    pub fn flow(&self) -> Option<Flow> {
        let known = [Transport::Udp, Transport::Tcp, Transport::Tls];
        let transport = known.into_iter().find(|transport| transport.uri_name() == self.transport)?;
        Some(Flow { transport, local: self.from, remote: self.to, id: 0 })
    }

    /// The BYE, but for Via.
    fn bye(&self, reason: &str) -> Option<Request> {
        let lines = [&self.call_id, &self.local, &self.remote, &self.target];
        if !lines.into_iter().chain(&self.routes).all(|text| is_clean(text)) {
            return None;
        }
        let (local, remote): (NameAddr, NameAddr) = (self.local.parse().ok()?, self.remote.parse().ok()?);
        let mut request = Request::new(Method::Bye, self.target.parse().ok()?);
        let headers = &mut request.headers;
        for route in &self.routes {
            headers.push("Route", route.parse::<NameAddr>().ok()?.to_string());
        }
        headers.push("Max-Forwards", "70");
        headers.push("From", local.to_string());
        headers.push("To", remote.to_string());
        headers.push("Call-ID", self.call_id.clone());
        headers.push("CSeq", format!("{} BYE", self.cseq.saturating_add(JUMP).min((1 << 31) - 2)));
        headers.push("Reason", reason);
        Some(request)
    }
}

/// Ends a dialog of another life.
pub(super) fn end(
    core: &mut Core,
    now: Instant,
    id: RequestId,
    left: &LeftDialog,
    reason: &str,
    credentials: Option<Credentials>,
) -> Result<(), UaError> {
    let bad = || UaError::Header { name: "Call-ID".to_owned() };
    let flow = left.flow().ok_or_else(bad)?;
    let mut request = left.bye(reason).ok_or_else(bad)?;
    core.sign(&mut request.headers, "User-Agent");
    core.send(now, in_dialog(Purpose::Outside(id), None, flow, request, credentials));
    Ok(())
}
