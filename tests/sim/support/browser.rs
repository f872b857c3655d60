//! A fake browser's page: what it was told, and what it says by habit.

use ringback::signal::{Party, ServerMessage};
use serde_json::json;

use super::sdp::browser_offer;

/// What one socket has heard.
#[derive(Debug, Default)]
pub struct Page {
    pub heard: Vec<ServerMessage>,
    pub closed: Option<u16>,
    /// Answers an incoming call after so many milliseconds.
    pub accept_after: Option<u64>,
    /// Refuses an incoming call after so many milliseconds.
    pub reject_after: Option<(u64, u16)>,
    /// Hangs up so long after `answered`.
    pub hangup_after: Option<u64>,
}

/// `call` as a frame.
pub fn call(name: &str, to: &str) -> String {
    json!({"type": "call", "call": name, "to": to, "sdp": browser_offer()}).to_string()
}

impl Page {
    /// The kinds of messages heard about a call, in order.
    pub fn story(&self, name: &str) -> Vec<String> {
        let of_call = self.heard.iter().filter(|message| message.call() == Some(name));
        of_call.map(kind).collect()
    }

    /// How many `error` messages came.
    pub fn errors(&self) -> usize {
        self.heard.iter().filter(|message| matches!(message, ServerMessage::Error { .. })).count()
    }

    /// The end of a call: who, the cause, the status.
    pub fn ended(&self, name: &str) -> Option<(Party, String, Option<u16>)> {
        let mut ends = self.heard.iter().filter_map(|message| match message {
            ServerMessage::Ended { call, by, cause, sip, .. } if call == name => Some((*by, cause.clone(), *sip)),
            _ => None,
        });
        ends.next_back()
    }

    /// After how many seconds another try is worth it, as the end of a call says.
    pub fn retry_after(&self, name: &str) -> Option<u32> {
        self.heard.iter().find_map(|message| match message {
            ServerMessage::Ended { call, retry_after, .. } if call == name => *retry_after,
            _ => None,
        })
    }

    /// The name of the last incoming call.
    pub fn incoming(&self) -> Option<String> {
        self.heard.iter().rev().find_map(|message| match message {
            ServerMessage::Incoming { call, .. } => Some(call.clone()),
            _ => None,
        })
    }
}

/// The `type` of a message.
pub fn kind(message: &ServerMessage) -> String {
    let value: serde_json::Value = serde_json::from_str(&message.to_json()).unwrap();
    value["type"].as_str().unwrap().to_owned()
}

/// What [`Page::ended`] gives.
pub fn ended(by: Party, cause: &str, sip: Option<u16>) -> Option<(Party, String, Option<u16>)> {
    Some((by, cause.to_owned(), sip))
}
