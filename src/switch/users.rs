//! Who is here at present: the sessions and phones of each user, for the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::{CallView, Now, Switch};

/// A user who is signed in, or has a phone registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UserView {
    /// The user's name.
    pub user: String,
    /// Calls that are the user's, or ring there.
    pub calls: usize,
    /// Browsers' sessions, and calls by WHIP.
    pub sessions: Vec<SessionView>,
    /// Registered SIP phones, and browsers that speak SIP.
    pub phones: Vec<PhoneView>,
}

/// A session of a browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SessionView {
    /// By which door it came.
    pub door: Door,
    /// Its address, or that of the proxy before us.
    pub peer: SocketAddr,
    /// `false` while it has lost its WebSocket and may come back.
    pub connected: bool,
    /// Calls of this session.
    pub calls: usize,
    /// When its token runs out, Unix seconds; absent where sessions have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// By which door somebody comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// `/phone`: the browser protocol.
    Browser,
    /// `/whip`: one call by HTTP.
    Whip,
    /// `/sip`: SIP over a WebSocket.
    SipWebsocket,
    /// The SIP listeners.
    Sip,
}

/// A registered phone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PhoneView {
    /// By which door it is reached.
    pub door: Door,
    /// Its address, or that of the NAT or proxy before it.
    pub address: SocketAddr,
    /// `udp`, `tcp`, `tls`, `ws`, `wss`.
    pub transport: &'static str,
    /// The Contact that it has given.
    pub contact: String,
    /// Seconds until its registration ends, unless it is refreshed.
    pub ends_in_seconds: u64,
    /// Whether it has registered by a token instead of a password.
    pub by_token: bool,
}

impl Switch {
    /// Who is here at present, by name.
    pub fn users(&self, now: Now) -> Vec<UserView> {
        let mut users: BTreeMap<&str, UserView> = BTreeMap::new();
        for (name, session) in self.sessions.views() {
            user(&mut users, name).sessions.push(session);
        }
        for (name, binding) in self.phones.all(now.instant) {
            let flow = binding.flow;
            let door = if flow.transport.is_websocket() { Door::SipWebsocket } else { Door::Sip };
            user(&mut users, name).phones.push(PhoneView {
                door,
                address: flow.remote,
                transport: flow.transport.uri_name(),
                contact: binding.contact.to_string(),
                ends_in_seconds: binding.until.saturating_duration_since(now.instant).as_secs(),
                by_token: binding.is_by_token(),
            });
        }
        for view in self.calls.values().filter_map(crate::call::Call::view) {
            for name in parties(&view) {
                if let Some(user) = users.get_mut(name) {
                    user.calls += 1;
                }
            }
        }
        users.into_values().collect()
    }
}

fn user<'a, 'b>(users: &'b mut BTreeMap<&'a str, UserView>, name: &'a str) -> &'b mut UserView {
    users.entry(name).or_insert_with(|| UserView {
        user: name.to_owned(),
        calls: 0,
        sessions: Vec::new(),
        phones: Vec::new(),
    })
}

/// The users who have a part in a call, each once.
fn parties(call: &CallView) -> BTreeSet<&str> {
    let legs = [&call.a, &call.b].into_iter().flatten().filter_map(|leg| leg.user.as_deref());
    call.user.split(',').chain(legs).filter(|user| !user.is_empty()).collect()
}
