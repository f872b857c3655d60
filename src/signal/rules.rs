//! The rules for values in a browser's messages that their types do not say.

use super::message::ClientMessage;
use super::values;

/// The longest session token, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;
/// The longest session description, in bytes.
pub const MAX_SDP: usize = 32 * 1024;
/// The longest ICE candidate line, in bytes.
pub const MAX_CANDIDATE: usize = 1024;
/// The longest media id, in bytes.
pub const MAX_MID: usize = 64;
/// The shortest and the longest digit, in milliseconds.
pub const DIGIT_MS: std::ops::RangeInclusive<u16> = 40..=1000;
/// The SIP statuses with which a browser may reject a call: busy, declined, unavailable.
pub const REJECT_CODES: [u16; 3] = [486, 603, 480];
/// The scores that a call may be given.
pub const SCORES: std::ops::RangeInclusive<u8> = 1..=5;

const CALL: &str = "call: 1 to 64 of A-Z a-z 0-9 _ -";
const TO: &str = "to: 1 to 128 characters, none of them a control character";
const FROM: &str = "from: 1 to 64 of A-Z a-z 0-9 . _ + : @ * # ~ -";
const TOKEN: &str = "token: at most 8192 bytes";

/// The first rule for values that the message breaks, in words.
pub(super) fn broken_rule(message: &ClientMessage) -> Option<&'static str> {
    if message.call().is_some_and(|call| !values::valid_call_id(call)) {
        return Some(CALL);
    }
    match message {
        ClientMessage::Hello { token, user, resume } => {
            hello_rule(token.as_deref(), user.as_deref(), resume.as_deref())
        }
        ClientMessage::Renew { token } if token.len() > MAX_TOKEN => Some(TOKEN),
        ClientMessage::Call { to, sdp, from, params, .. } => {
            number_rule(to, from.as_deref()).or_else(|| params_rule(params)).or_else(|| sdp_rule(sdp))
        }
        ClientMessage::Check { to, from, .. } => number_rule(to, from.as_deref()),
        ClientMessage::Accept { sdp, .. } | ClientMessage::Probe { sdp, .. } | ClientMessage::Restart { sdp, .. } => {
            sdp_rule(sdp)
        }
        ClientMessage::Feedback { id, score, issue } => feedback_rule(id, *score, issue.as_deref()),
        ClientMessage::Reject { code: Some(code), .. } if !REJECT_CODES.contains(code) => Some("code: 486, 603 or 480"),
        ClientMessage::Candidate { candidate, mid, .. } => candidate_rule(candidate, mid.as_deref()),
        ClientMessage::Digits { digits, .. } if !values::valid_digits(digits) => Some("digits: 1 to 64 of 0-9 * # A-D"),
        ClientMessage::Digits { ms: Some(ms), .. } if !DIGIT_MS.contains(ms) => Some("ms: 40 to 1000"),
        ClientMessage::Transfer { to, with, .. } => transfer_rule(to.as_deref(), with.as_deref()),
        _ => None,
    }
}

fn number_rule(to: &str, from: Option<&str>) -> Option<&'static str> {
    if !values::valid_destination(to) {
        Some(TO)
    } else if from.is_some_and(|from| !values::valid_user(from)) {
        Some(FROM)
    } else {
        None
    }
}

fn params_rule(params: &std::collections::BTreeMap<String, String>) -> Option<&'static str> {
    if params.len() > values::MAX_PARAMS {
        Some("params: at most 8")
    } else if params.keys().any(|name| !values::valid_param_name(name)) {
        Some("params: a name is 1 to 32 of a-z 0-9 -")
    } else if params.values().any(|value| !values::valid_param_value(value)) {
        Some("params: a value has at most 256 characters, none of them a control character")
    } else {
        None
    }
}

fn feedback_rule(id: &str, score: u8, issue: Option<&str>) -> Option<&'static str> {
    if !values::valid_call_id(id) {
        Some("id: 1 to 64 of A-Z a-z 0-9 _ -")
    } else if !SCORES.contains(&score) {
        Some("score: 1 to 5")
    } else if issue.is_some_and(|issue| !values::valid_param_name(issue)) {
        Some("issue: 1 to 32 of a-z 0-9 -")
    } else {
        None
    }
}

fn transfer_rule(to: Option<&str>, with: Option<&str>) -> Option<&'static str> {
    match (to, with) {
        (Some(to), None) if !values::valid_destination(to) => Some(TO),
        (None, Some(with)) if !values::valid_call_id(with) => Some("with: 1 to 64 of A-Z a-z 0-9 _ -"),
        (Some(_), None) | (None, Some(_)) => None,
        (Some(_), Some(_)) | (None, None) => Some("exactly one of to and with"),
    }
}

fn hello_rule(token: Option<&str>, user: Option<&str>, resume: Option<&str>) -> Option<&'static str> {
    if token.is_some_and(|token| token.len() > MAX_TOKEN) {
        Some(TOKEN)
    } else if user.is_some_and(|user| !values::valid_user(user)) {
        Some("user: 1 to 64 of A-Z a-z 0-9 . _ + : @ * # ~ -")
    } else if resume.is_some_and(|secret| !values::valid_call_id(secret)) {
        Some("resume: 1 to 64 of A-Z a-z 0-9 _ -")
    } else {
        None
    }
}

fn sdp_rule(sdp: &str) -> Option<&'static str> {
    (sdp.is_empty() || sdp.len() > MAX_SDP).then_some("sdp: 1 to 32768 bytes")
}

fn candidate_rule(candidate: &str, mid: Option<&str>) -> Option<&'static str> {
    let plain = |text: &str| !text.chars().any(char::is_control);
    if candidate.len() > MAX_CANDIDATE || !plain(candidate) {
        Some("candidate: at most 1024 bytes, no control character")
    } else if mid.is_some_and(|mid| mid.len() > MAX_MID || !plain(mid)) {
        Some("mid: at most 64 bytes, no control character")
    } else {
        None
    }
}
