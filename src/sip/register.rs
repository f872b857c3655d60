//! The registering client: [RFC 3261 section 10.2](https://www.rfc-editor.org/rfc/rfc3261#section-10.2), with the pauses
//! of [RFC 5626 section 4.5](https://www.rfc-editor.org/rfc/rfc5626#section-4.5) after failures. Sans-IO.
//!
//! **Drain rule**: after every call that takes `now`, poll [`Registration::poll_output`] until it gives `None`, then ask
//! [`Registration::poll_timeout`] for the time of the next [`Registration::handle_timeout`].

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::headers::decimal;
use super::transaction::ClientFailure;
use super::ua::OutOfDialog;
use super::{Credentials, Flow, Headers, Method, NameAddr, Response, Uri};

/// The longest registration asked for or believed: a day.
const MAX_EXPIRES: u32 = 86_400;
/// The longest Retry-After that is obeyed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// How often in a row a 423 is answered with a longer registration.
const MAX_TOO_BRIEF: u8 = 2;
/// After the loss of a connection the next registration is spread over this time, so that not all clients of a server
/// that restarts come at once.
const SPREAD: Duration = Duration::from_secs(2);

/// What is registered where. `Debug` shows no password.
#[derive(Clone, Debug)]
pub struct RegisterConfig {
    /// The way to the registrar.
    pub flow: Flow,
    /// The Request-URI: the registrar's domain, without a user.
    pub registrar: Uri,
    /// The address of record: From and To.
    pub aor: NameAddr,
    /// Where calls to it shall go.
    pub contact: NameAddr,
    /// Seconds to ask for, 1 to 86,400.
    pub expires: u32,
    /// With what challenges are answered.
    pub credentials: Option<Credentials>,
    /// Further header fields, by the rules of [`super::Invite::headers`].
    pub headers: Vec<(String, String)>,
    /// The pause after the first failure; it doubles with each that follows. RFC 5626: 30 s.
    pub retry_base: Duration,
    /// The longest pause. RFC 5626: 1,800 s.
    pub retry_max: Duration,
}

impl RegisterConfig {
    /// 3,600 s, and the pauses of RFC 5626.
    pub fn new(flow: Flow, registrar: Uri, aor: NameAddr, contact: NameAddr) -> RegisterConfig {
        RegisterConfig {
            flow,
            registrar,
            aor,
            contact,
            expires: 3_600,
            credentials: None,
            headers: Vec::new(),
            retry_base: Duration::from_secs(30),
            retry_max: Duration::from_secs(1_800),
        }
    }
}

/// What happens to a registration.
#[derive(Clone, Debug)]
pub enum RegisterEvent {
    /// Begin.
    Start,
    /// The end of the request last sent: see [`super::UaEvent::Answer`].
    Answer {
        /// The sequence number last used.
        cseq: u32,
        /// The final response, or why there is none.
        result: Result<Response, ClientFailure>,
    },
    /// The connection over which we are registered is gone: the registrar cannot reach us over it.
    FlowLost,
    /// There was no network, or our address has changed: register again now.
    NetworkBack,
    /// From now on over another way (the next of the registrar's servers, another address of ours).
    Moved {
        /// The way.
        flow: Flow,
        /// Our Contact as seen over it.
        contact: NameAddr,
    },
    /// Take the registration back and end.
    Stop,
}

/// How a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterState {
    /// Not wanted.
    Off,
    /// The first request, or the first after a failure, is under way.
    Trying,
    /// Calls come here.
    Registered {
        /// When it ends if it is not refreshed.
        until: Instant,
    },
    /// The registrar refused.
    Refused {
        /// Its status.
        status: u16,
        /// When it is asked again.
        retry_at: Instant,
    },
    /// No answer came, or nothing could be sent.
    Unreachable {
        /// When it is tried again.
        retry_at: Instant,
    },
}

/// What a registration wants done or known.
#[derive(Clone, Debug)]
pub enum RegisterOutput {
    /// Send this with [`super::UserAgent::request`]. If that is refused, tell it as [`ClientFailure::Transport`].
    Send(OutOfDialog),
    /// The state has changed, or a registration was refreshed.
    State(RegisterState),
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    /// A request is under way: one that takes the registration back, or one that makes it.
    Answer {
        taking_back: bool,
    },
    /// A request is to be sent then.
    Send(Instant),
}

/// One address of record at one registrar.
#[derive(Debug)]
pub struct Registration {
    config: RegisterConfig,
    rng: StdRng,
    call_id: String,
    from: NameAddr,
    cseq: u32,
    /// Seconds to ask for: what the configuration says, or what a 423 made of it.
    expires: u32,
    state: RegisterState,
    next: Next,
    /// When the registrar forgets us.
    bound_until: Option<Instant>,
    failures: u32,
    too_brief: u8,
    stopping: bool,
    /// The REGISTER that is under way has another Contact than we have by now.
    moved: bool,
    out: VecDeque<RegisterOutput>,
}

impl Registration {
    /// A registration that waits for [`RegisterEvent::Start`]. Its Call-ID and tag come from `seed`, used once.
    pub fn new(config: RegisterConfig, seed: [u8; 32]) -> Registration {
        let mut rng = StdRng::from_seed(seed);
        let call_id = format!("{:032x}", rng.random::<u128>());
        let from = config.aor.clone().with_tag(&format!("{:016x}", rng.random::<u64>()));
        Registration {
            expires: config.expires.clamp(1, MAX_EXPIRES),
            config,
            rng,
            call_id,
            from,
            cseq: 0,
            state: RegisterState::Off,
            next: Next::Nothing,
            bound_until: None,
            failures: 0,
            too_brief: 0,
            stopping: false,
            moved: false,
            out: VecDeque::new(),
        }
    }

    /// How it stands.
    pub fn state(&self) -> RegisterState {
        self.state
    }

    /// The next thing to do or know, in order.
    pub fn poll_output(&mut self) -> Option<RegisterOutput> {
        self.out.pop_front()
    }

    /// When [`Registration::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.next {
            Next::Send(at) => Some(at),
            Next::Nothing | Next::Answer { .. } => None,
        }
    }

    /// What is registered.
    pub fn contact(&self) -> &NameAddr {
        &self.config.contact
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.next, Next::Send(at) if at <= now) {
            self.send();
        }
    }

    /// One step.
    pub fn handle(&mut self, now: Instant, event: RegisterEvent) {
        match event {
            RegisterEvent::Start => {
                self.stopping = false;
                if self.next == Next::Nothing {
                    self.send();
                }
            }
            RegisterEvent::Answer { cseq, result } => {
                if let Next::Answer { taking_back } = self.next {
                    self.cseq = self.cseq.max(cseq);
                    self.next = Next::Nothing;
                    self.answered(now, taking_back, result);
                    if std::mem::take(&mut self.moved) {
                        self.again_now();
                    }
                }
            }
            RegisterEvent::FlowLost => {
                self.config.flow.id = 0;
                if matches!((self.state, self.next), (RegisterState::Registered { .. }, Next::Send(_))) {
                    self.next = Next::Send(now + self.random(SPREAD));
                }
            }
            RegisterEvent::NetworkBack => self.again_now(),
            RegisterEvent::Moved { flow, contact } => {
                self.config.flow = flow;
                self.config.contact = contact;
                self.moved = matches!(self.next, Next::Answer { .. });
                self.again_now();
            }
            RegisterEvent::Stop => self.stop(now),
        }
    }

    /// What is planned for later happens now.
    fn again_now(&mut self) {
        if let Next::Send(_) = self.next {
            self.failures = 0;
            self.send();
        }
    }

    fn stop(&mut self, now: Instant) {
        self.stopping = true;
        match self.next {
            Next::Answer { .. } => {}
            Next::Send(_) if self.is_bound(now) => self.send(),
            Next::Nothing | Next::Send(_) => self.off(),
        }
    }

    fn is_bound(&self, now: Instant) -> bool {
        self.bound_until.is_some_and(|until| until > now)
    }

    fn off(&mut self) {
        self.next = Next::Nothing;
        self.bound_until = None;
        self.set_state(RegisterState::Off);
    }

    fn set_state(&mut self, state: RegisterState) {
        if self.state != state {
            self.state = state;
            self.out.push_back(RegisterOutput::State(state));
        }
    }

    fn send(&mut self) {
        let expires = if self.stopping { 0 } else { self.expires };
        self.cseq = self.cseq.saturating_add(1);
        self.next = Next::Answer { taking_back: self.stopping };
        let mut contact = self.config.contact.clone();
        contact.params.set("expires", Some(&expires.to_string()));
        let mut headers = self.config.headers.clone();
        headers.push(("Expires".to_owned(), expires.to_string()));
        if !matches!(self.state, RegisterState::Registered { .. }) {
            self.set_state(RegisterState::Trying);
        }
        self.out.push_back(RegisterOutput::Send(OutOfDialog {
            flow: self.config.flow,
            method: Method::Register,
            request_uri: self.config.registrar.clone(),
            from: self.from.clone(),
            to: self.config.aor.clone(),
            call_id: Some(self.call_id.clone()),
            cseq: Some(self.cseq),
            contact: Some(contact),
            headers,
            credentials: self.config.credentials.clone(),
            body: None,
        }));
    }

    fn answered(&mut self, now: Instant, taking_back: bool, result: Result<Response, ClientFailure>) {
        let registered = matches!(&result, Ok(response) if (200..300).contains(&response.status));
        match (self.stopping, taking_back) {
            // Whatever the answer to the taking back is.
            (true, true) => return self.off(),
            // A registration that Stop overtook.
            (true, false) if registered || self.is_bound(now) => return self.send(),
            (true, false) => return self.off(),
            // Start overtook the taking back.
            (false, true) => return self.send(),
            (false, false) => {}
        }
        match result {
            Ok(response) if (200..300).contains(&response.status) => self.accepted(now, &response),
            Ok(response) if response.status == 423 && self.too_brief < MAX_TOO_BRIEF => self.lengthen(now, &response),
            Ok(response) => {
                let retry_at = now + self.pause(response.headers.retry_after());
                self.next = Next::Send(retry_at);
                self.set_state(RegisterState::Refused { status: response.status, retry_at });
            }
            Err(_) => {
                let retry_at = now + self.pause(None);
                self.next = Next::Send(retry_at);
                self.set_state(RegisterState::Unreachable { retry_at });
            }
        }
    }

    /// 200: we are registered for as long as it says (section 10.2.4), and refresh in good time.
    fn accepted(&mut self, now: Instant, response: &Response) {
        let granted = granted(&response.headers, &self.config.contact.uri).unwrap_or(self.expires).min(MAX_EXPIRES);
        if granted == 0 {
            let retry_at = now + self.pause(None);
            self.next = Next::Send(retry_at);
            return self.set_state(RegisterState::Refused { status: response.status, retry_at });
        }
        (self.failures, self.too_brief) = (0, 0);
        let length = Duration::from_secs(u64::from(granted));
        let until = now + length;
        self.bound_until = Some(until);
        self.next = Next::Send(now + length.mul_f64(self.rng.random_range(0.5..0.9)));
        self.state = RegisterState::Registered { until };
        self.out.push_back(RegisterOutput::State(self.state));
    }

    /// 423: what the registrar wants at least (section 10.2.8), at once.
    fn lengthen(&mut self, now: Instant, response: &Response) {
        let least = response.headers.get("Min-Expires").and_then(|text| decimal(text.trim()));
        match least.filter(|least| (self.expires + 1..=MAX_EXPIRES).contains(least)) {
            Some(least) => {
                self.too_brief += 1;
                self.expires = least;
                self.send();
            }
            None => {
                let retry_at = now + self.pause(None);
                self.next = Next::Send(retry_at);
                self.set_state(RegisterState::Refused { status: response.status, retry_at });
            }
        }
    }

    /// RFC 5626 section 4.5: between half and all of a time that doubles with each failure; never less than the peer's
    /// Retry-After.
    fn pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let factor = 1u32 << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        self.too_brief = 0;
        let whole = self.config.retry_base.saturating_mul(factor).min(self.config.retry_max);
        let half = whole / 2;
        let own = half + self.random(whole - half);
        own.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
    }

    fn random(&mut self, end: Duration) -> Duration {
        end.mul_f64(self.rng.random_range(0.0..1.0))
    }
}

/// The seconds that a 200 grants our Contact: its own parameter, else Expires. A registrar that writes our Contact in
/// another way (behind its own address, say) means the only one; others in the list are other phones'.
fn granted(headers: &Headers, ours: &Uri) -> Option<u32> {
    let contacts = headers.contacts().unwrap_or_default();
    let seconds = |contact: &NameAddr| contact.params.value("expires").and_then(decimal);
    let found = contacts.iter().find(|contact| same_binding(&contact.uri, ours));
    let own = found.or(if let [only] = contacts.as_slice() { Some(only) } else { None });
    own.and_then(seconds).or_else(|| headers.expires().ok().flatten())
}

/// True for Contacts of one binding: user, host and port (RFC 3261 section 19.1.4 without the parameters, which
/// registrars add to).
pub(super) fn same_binding(a: &Uri, b: &Uri) -> bool {
    let host = |uri: &Uri| uri.host.to_string().to_ascii_lowercase();
    a.scheme == b.scheme && a.decoded_user() == b.decoded_user() && host(a) == host(b) && a.port == b.port
}
