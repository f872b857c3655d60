//! One call of WHIP, from its offer to its end: a task that speaks the browser protocol for the client.

use axum::http::StatusCode;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::line::Line;
use super::problem::Problem;
use super::state::{CallState, Course, Ended};
use crate::gateway::ws::{BURST, Budget};
use crate::sdp::{IceCredentials, IceFragment, fragment};
use crate::signal::{ClientMessage, IceServer, ServerMessage};

/// What the call is named on its line; there is one.
const CALL: &str = "whip";
/// PATCHes that may wait for their turn.
pub(super) const WISHES: usize = 8;

/// What the client asks for.
pub(super) struct Dial {
    /// The session's first message.
    pub(super) hello: ClientMessage,
    pub(super) to: String,
    pub(super) from: Option<String>,
    pub(super) offer: String,
}

/// The call is taken up.
pub(super) struct Created {
    pub(super) answer: String,
    pub(super) etag: String,
    pub(super) ice_servers: Vec<IceServer>,
    pub(super) handle: Handle,
}

/// How a call is reached from HTTP.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) wishes: mpsc::Sender<Patch>,
    pub(super) hangup: CancellationToken,
    pub(super) state: watch::Receiver<CallState>,
}

/// A PATCH of the session (RFC 9725 section 4.3).
pub(super) struct Patch {
    pub(super) fragment: IceFragment,
    /// Its length on the wire.
    pub(super) len: usize,
    /// What If-Match asks for.
    pub(super) wanted: IfMatch,
    pub(super) reply: oneshot::Sender<Result<Patched, Problem>>,
}

/// If-Match (RFC 9110 section 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// `*`
    Any,
    /// One of these strong entity-tags, with their quotes.
    Tags(Vec<String>),
}

/// What a PATCH came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Patched {
    /// Candidates, taken.
    Trickled,
    /// The next ICE session: its entity-tag, and our side of it.
    Restarted { etag: String, fragment: String },
}

/// The servers that a session with this `hello` is told of.
///
/// # Errors
/// Why there is no such session.
pub(super) async fn ice_servers(mut line: Line, hello: &ClientMessage) -> Result<Vec<IceServer>, Problem> {
    line.say(hello).await;
    let told = loop {
        match line.hear().await {
            Some(ServerMessage::Welcome { ice_servers, .. }) => break Ok(ice_servers),
            Some(ServerMessage::Error { code, text, .. }) => break Err(Problem::of(code, text)),
            Some(_) => {}
            None => break Err(Problem::busy("the gateway stops")),
        }
    };
    line.close().await;
    told
}

/// Calls, tells how that went, and serves the call to its end. `reply` gets the answer, or why there is none; a client that
/// does not wait for it any more has hung up.
pub(super) async fn run(mut line: Line, dial: Dial, reply: oneshot::Sender<Result<Created, Problem>>) {
    let Dial { hello, to, from, offer } = dial;
    line.say(&hello).await;
    let params = std::collections::BTreeMap::new();
    line.say(&ClientMessage::Call { call: CALL.into(), to, sdp: offer.clone(), from, params }).await;
    let taken = taken_up(&mut line, reply, &offer).await;
    if let Some(mut call) = taken {
        call.serve(&mut line).await;
    }
    line.close().await;
}

/// Waits for the answer; `None`: there is no call, and the client knows.
async fn taken_up(line: &mut Line, reply: oneshot::Sender<Result<Created, Problem>>, offer: &str) -> Option<Call> {
    let mut servers = Vec::new();
    let problem = loop {
        match line.hear().await {
            Some(ServerMessage::Welcome { ice_servers, .. }) => servers = ice_servers,
            Some(ServerMessage::Answer { id, sdp, .. }) => {
                let made = Call::new(id, offer);
                let (call, handle) = match made {
                    Ok(made) => made,
                    Err(problem) => break problem,
                };
                let created = Created { answer: sdp, etag: call.etag.clone(), ice_servers: servers, handle };
                return reply.send(Ok(created)).is_ok().then_some(call);
            }
            Some(ServerMessage::Ended { by, cause, sip, q850, retry_after, text, .. }) => {
                break Problem::refused(Ended { by, cause, sip, q850, retry_after, text });
            }
            Some(ServerMessage::Error { code, text, .. }) => break Problem::of(code, text),
            Some(_) => {}
            None => break Problem::busy("the gateway stops"),
        }
    };
    let _ = reply.send(Err(problem)); // the client may be gone
    None
}

/// A call that was taken up.
struct Call {
    wishes: mpsc::Receiver<Patch>,
    hangup: CancellationToken,
    state: watch::Sender<CallState>,
    offer: String,
    /// The client's side of the present ICE session, and the tag that names that.
    ice: IceCredentials,
    etag: String,
    /// The restart under way.
    restart: Option<(IceCredentials, oneshot::Sender<Result<Patched, Problem>>)>,
    budget: Budget,
    patched: Instant,
}

impl Call {
    fn new(id: String, offer: &str) -> Result<(Call, Handle), Problem> {
        let (wish, wishes) = mpsc::channel(WISHES);
        let (state, watched) = watch::channel(CallState::new(id));
        let hangup = CancellationToken::new();
        let handle = Handle { wishes: wish, hangup: hangup.clone(), state: watched };
        // The switch has read it, and answered.
        let ice = fragment::credentials_of(offer).map_err(|error| unusable(&error.to_string()))?;
        let call = Call {
            wishes,
            hangup,
            state,
            offer: offer.to_owned(),
            ice,
            etag: new_tag()?,
            restart: None,
            budget: BURST,
            patched: Instant::now(),
        };
        Ok((call, handle))
    }

    /// Until the call is over.
    async fn serve(&mut self, line: &mut Line) {
        let mut hung_up = false;
        while self.state.borrow().state != Course::Ended {
            tokio::select! {
                message = line.hear() => match message {
                    Some(message) => self.told(message),
                    None => self.state.send_modify(|state| state.end(Ended::by_shutdown())),
                },
                Some(patch) = self.wishes.recv(), if self.restart.is_none() => {
                    if let Some(message) = self.patch(patch) {
                        line.say(&message).await;
                    }
                }
                () = self.hangup.cancelled(), if !hung_up => {
                    hung_up = true;
                    line.say(&ClientMessage::Hangup { call: CALL.into() }).await;
                }
            }
        }
        let ended = self.state.borrow().ended.clone().unwrap_or_else(Ended::by_shutdown);
        let waiting = self.restart.take().map(|(_, reply)| reply);
        self.wishes.close();
        while let Some(patch) = self.wishes.recv().await {
            let _ = patch.reply.send(Err(Problem::gone(ended.clone()))); // who asked may be gone
        }
        if let Some(reply) = waiting {
            let _ = reply.send(Err(Problem::gone(ended)));
        }
    }

    /// The gateway says something about the call.
    fn told(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Answer { sdp, .. } => {
                if let Some((ice, reply)) = self.restart.take() {
                    let result = new_tag().map(|etag| {
                        self.ice = ice;
                        self.etag = etag.clone();
                        Patched::Restarted { etag, fragment: fragment::fragment_of(&sdp) }
                    });
                    let _ = reply.send(result); // who asked may be gone
                }
            }
            ServerMessage::Error { code, text, .. } => {
                if let Some((_, reply)) = self.restart.take() {
                    let _ = reply.send(Err(Problem::of(code, text)));
                }
            }
            message => {
                self.state.send_if_modified(|state| state.take(&message));
            }
        }
    }

    /// Takes a PATCH; what is to be said to the gateway for it.
    fn patch(&mut self, patch: Patch) -> Option<ClientMessage> {
        let elapsed = self.patched.elapsed();
        self.patched = Instant::now();
        let Patch { fragment, len, wanted, reply } = patch;
        let result = if !self.budget.take(len, elapsed) {
            Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many PATCHes"))
        } else {
            self.judge(&fragment, &wanted)
        };
        match result {
            Ok(Some(ice)) => {
                let sdp = fragment::restarted(&self.offer, &ice);
                self.restart = Some((ice, reply));
                Some(ClientMessage::Restart { call: CALL.into(), sdp })
            }
            // The gateway is ICE-lite: it learns where the client is from its checks, and needs no candidates.
            Ok(None) => {
                let _ = reply.send(Ok(Patched::Trickled)); // who asked may be gone
                None
            }
            Err(problem) => {
                let _ = reply.send(Err(problem));
                None
            }
        }
    }

    /// Whether a PATCH may be: `None` for candidates, the new credentials for a restart.
    fn judge(&self, fragment: &IceFragment, wanted: &IfMatch) -> Result<Option<IceCredentials>, Problem> {
        if let IfMatch::Tags(tags) = wanted
            && !tags.contains(&self.etag)
        {
            return Err(Problem::new(StatusCode::PRECONDITION_FAILED, "this is another ICE session by now"));
        }
        let Some(ice) = fragment.ice.as_ref().filter(|ice| **ice != self.ice) else { return Ok(None) };
        if *wanted != IfMatch::Any {
            // Candidates of an ICE session that is none of ours, or a restart that does not say so.
            return Err(unusable("other ICE credentials: a restart says If-Match: * (RFC 9725 section 4.3.3)"));
        }
        if ice.ufrag == self.ice.ufrag || ice.pwd == self.ice.pwd {
            return Err(unusable("a restart changes both ice-ufrag and ice-pwd (RFC 8445 section 9)"));
        }
        Ok(Some(ice.clone()))
    }
}

fn unusable(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// A strong entity-tag that no other ICE session has.
fn new_tag() -> Result<String, Problem> {
    super::random_hex::<8>().map(|hex| format!("\"{hex}\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// RFC 9725 section 4.3: what If-Match and the credentials come to.
    #[test]
    fn a_patch_is_a_trickle_or_a_restart_or_refused() {
        let (old, new) = (IceCredentials::new("4ZcD", "p".repeat(22)), IceCredentials::new("ysXw", "q".repeat(22)));
        let offer = format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", old.ufrag, old.pwd);
        let (call, _handle) = Call::new("1".into(), &offer).unwrap();
        let present = IfMatch::Tags(vec!["\"other\"".into(), call.etag.clone()]);
        let past = IfMatch::Tags(vec!["\"other\"".into()]);
        let judge = |ice: Option<&IceCredentials>, wanted: &IfMatch| {
            let fragment = IceFragment { ice: ice.cloned(), candidates: 1 };
            call.judge(&fragment, wanted).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(judge(Some(&old), &present), Ok(None));
        assert_eq!(judge(None, &present), Ok(None));
        assert_eq!(judge(Some(&old), &IfMatch::Any), Ok(None), "nothing new: no restart");
        assert_eq!(judge(Some(&new), &IfMatch::Any), Ok(Some(new.clone())));
        assert_eq!(judge(Some(&old), &past), Err(412));
        assert_eq!(judge(Some(&new), &past), Err(412));
        assert_eq!(judge(Some(&new), &present), Err(422));
        assert_eq!(judge(Some(&IceCredentials::new("ysXw", &old.pwd)), &IfMatch::Any), Err(422));
    }
}
