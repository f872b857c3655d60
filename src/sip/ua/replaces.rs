//! Replaces: [RFC 3891](https://www.rfc-editor.org/rfc/rfc3891). What an INVITE names, and which of our sessions that is.

use std::fmt;
use std::str::FromStr;

use super::UserAgent;
use super::session::State;
use super::types::SessionId;
use crate::sip::{HeaderError, Method, Params, Request};

/// The dialog that an INVITE shall take the place of, named as its receiver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// Its Call-ID.
    pub call_id: String,
    /// The tag of the INVITE's receiver.
    pub to_tag: String,
    /// The tag of the receiver's peer in that dialog.
    pub from_tag: String,
    /// Only an early dialog may be replaced.
    pub early_only: bool,
}

impl FromStr for Replaces {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Replaces, HeaderError> {
        let bad = || HeaderError::Malformed("Replaces");
        let (call_id, params) = text.trim().split_once(';').ok_or_else(bad)?;
        let call_id = call_id.trim();
        if call_id.is_empty() || call_id.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',') {
            return Err(bad());
        }
        let params = Params::parse(params).map_err(|_| bad())?;
        let tag = |name: &str| {
            let mut found = params.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
            match (found.next(), found.next()) {
                (Some((_, Some(tag))), None) if is_tag(tag) => Ok(tag.to_owned()),
                _ => Err(bad()),
            }
        };
        Ok(Replaces {
            call_id: call_id.to_owned(),
            to_tag: tag("to-tag")?,
            from_tag: tag("from-tag")?,
            early_only: params.get("early-only").is_some(),
        })
    }
}

fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c))
}

impl fmt::Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};to-tag={};from-tag={}", self.call_id, self.to_tag, self.from_tag)?;
        if self.early_only { f.write_str(";early-only") } else { Ok(()) }
    }
}

impl Replaces {
    /// True if it is read again as it is meant, whatever the user put into it.
    pub(super) fn is_sound(&self) -> bool {
        self.to_string().parse().as_ref() == Ok(self)
    }

    /// What a request names: section 3 refuses with 400 several of them, one beside Join, and one outside of an INVITE.
    pub(super) fn of(request: &Request) -> Result<Option<Replaces>, u16> {
        let mut all = request.headers.get_all("Replaces");
        let Some(value) = all.next() else { return Ok(None) };
        if all.next().is_some() || request.headers.get("Join").is_some() || request.method != Method::Invite {
            return Err(400);
        }
        value.parse().map(Some).map_err(|_| 400)
    }

    fn names(&self, call_id: &str, local_tag: &str, remote_tag: &str) -> bool {
        // A tag of 0 stands for none, which only peers of RFC 2543 have.
        let same_peer = self.from_tag == remote_tag || self.from_tag == "0" && remote_tag.is_empty();
        self.call_id == call_id && self.to_tag == local_tag && same_peer
    }
}

impl UserAgent {
    /// The session that a new INVITE is to replace, or the status that the table of section 3 refuses it with.
    pub(super) fn replaced_by(&self, request: &Request) -> Result<Option<SessionId>, u16> {
        match Replaces::of(request)? {
            Some(replaces) => self.named(&replaces).map(Some),
            None => Ok(None),
        }
    }

    /// The session of ours that `replaces` names, if it may be replaced: the one that a REFER means which names it.
    pub fn replaceable(&self, replaces: &Replaces) -> Option<SessionId> {
        self.named(replaces).ok()
    }

    fn named(&self, replaces: &Replaces) -> Result<SessionId, u16> {
        let found = self.by_dialog.get(&(replaces.call_id.clone(), replaces.to_tag.clone()));
        let session = found
            .and_then(|id| self.sessions.get(id))
            .filter(|session| session.has_peer(&replaces.from_tag) || replaces.from_tag == "0" && session.has_peer(""));
        let Some(session) = session else {
            let ended = self.core.ended.iter().any(|(call_id, local, remote)| replaces.names(call_id, local, remote));
            return Err(if ended { 603 } else { 481 });
        };
        match &session.state {
            State::Inviting(state) if state.ending.is_some() => Err(603),
            State::Inviting(_) => Ok(session.common.id),
            // An early dialog that we did not initiate.
            State::Ringing(_) => Err(481),
            State::Established(state) if state.hangup.is_some() => Err(603),
            State::Established(_) if replaces.early_only => Err(486),
            State::Established(_) => Ok(session.common.id),
            State::Releasing(_) | State::Closed => Err(603),
        }
    }
}
