//! Which transaction a message belongs to: [RFC 3261 section 17.1.3](https://www.rfc-editor.org/rfc/rfc3261#section-17.1.3)
//! for responses and [17.2.3](https://www.rfc-editor.org/rfc/rfc3261#section-17.2.3) for requests.

use crate::sip::{CSeq, HeaderError, Method, NameAddr, Request, Response, Via};

/// The beginning of every branch made after RFC 3261.
pub const MAGIC_COOKIE: &str = "z9hG4bK";

/// What a response must repeat: our branch, and the method.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientKey {
    branch: String,
    method: String,
}

impl ClientKey {
    pub(super) fn new(branch: &str, method: &Method) -> Self {
        ClientKey { branch: branch.to_owned(), method: method.to_string() }
    }

    /// `None` for a response that answers nothing of ours: no branch, or more than our own Via on it (section 8.1.3.3).
    pub(super) fn of_response(response: &Response) -> Option<Self> {
        let vias = response.headers.vias().ok()?;
        let [via] = vias.as_slice() else { return None };
        let method = response.headers.cseq().ok()?.method.to_string();
        Some(ClientKey { branch: via.branch()?.to_owned(), method })
    }
}

/// What the retransmissions, the ACK and the CANCEL of a request have in common with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ServerKey {
    /// The branch is unique by RFC 3261's promise.
    Branch { branch: String, sent_by: String, method: String },
    /// The sender knows only RFC 2543, or left the branch out: the request's own identity stands for it.
    Identity { via: String, call_id: String, from_tag: String, cseq: u32, method: String },
}

impl ServerKey {
    /// The key of a request as it came, before anything was added to its Via. An ACK has its INVITE's key.
    pub(super) fn of(request: &Request, head: &Head) -> Self {
        let method = match &request.method {
            Method::Ack => Method::Invite.to_string(),
            method => method.to_string(),
        };
        Self::with_method(method, head)
    }

    /// The key of the INVITE that a CANCEL wants to stop (section 9.2).
    pub(super) fn of_cancelled(head: &Head) -> Self {
        Self::with_method(Method::Invite.to_string(), head)
    }

    fn with_method(method: String, head: &Head) -> Self {
        match head.via.branch().and_then(|branch| Some((branch, branch.strip_prefix(MAGIC_COOKIE)?))) {
            Some((branch, rest)) if !rest.is_empty() => ServerKey::Branch {
                branch: branch.to_owned(),
                sent_by: format!("{}:{}", head.via.host, head.via.port.unwrap_or_default()),
                method,
            },
            _ => ServerKey::Identity {
                via: head.sent_via.clone(),
                call_id: head.call_id.clone(),
                from_tag: head.from.tag().unwrap_or_default().to_owned(),
                cseq: head.cseq.number,
                method,
            },
        }
    }
}

/// What identifies a request that reached us twice over different ways
/// ([RFC 3261 section 8.2.2.2](https://www.rfc-editor.org/rfc/rfc3261#section-8.2.2.2)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MergeKey {
    call_id: String,
    from_tag: String,
    cseq: u32,
    method: String,
}

impl MergeKey {
    /// `None` for requests inside a dialog and for ACK and CANCEL, to which the rule does not apply.
    pub(super) fn of(request: &Request, head: &Head) -> Option<Self> {
        if head.to.tag().is_some() || matches!(request.method, Method::Ack | Method::Cancel) {
            return None;
        }
        Some(MergeKey {
            call_id: head.call_id.clone(),
            from_tag: head.from.tag()?.to_owned(),
            cseq: head.cseq.number,
            method: request.method.to_string(),
        })
    }
}

/// The six header fields that every request must carry (section 8.1.1), read once.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) via: Via,
    /// The top Via as the sender wrote it.
    pub(super) sent_via: String,
    pub(super) from: NameAddr,
    pub(super) to: NameAddr,
    pub(super) call_id: String,
    pub(super) cseq: CSeq,
}

impl Head {
    pub(super) fn read(request: &Request) -> Result<Self, HeaderError> {
        let via = request.headers.top_via()?;
        let sent_via = via.to_string();
        Ok(Head {
            via,
            sent_via,
            from: request.headers.from()?,
            to: request.headers.to()?,
            call_id: request.headers.call_id()?.to_owned(),
            cseq: request.headers.cseq()?,
        })
    }
}
