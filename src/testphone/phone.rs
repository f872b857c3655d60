//! The test phone without sockets and clocks: datagrams and times in, datagrams out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::call::{Call, SDP, Stage};
use super::canary::Canary;
use super::line::Line;
use super::numbers::{self, Opening, Prompt, Script, Step};
use super::{info, melody};
use crate::sdp::{OwnDescription, RtpMedia};
use crate::sip::{
    Body, Flow, Host, Invite, NameAddr, Params, Request, SessionId, SessionOptions, Timers, Transport, UaConfig,
    UaEvent, UaOutput, Uri, UserAgent,
};

/// Calls at a time.
const MAX_CALLS: usize = 64;
/// From the end of a call to 606 to the call back.
const CALL_BACK_AFTER: Duration = Duration::from_secs(1);
/// How long a call back rings.
const RING_FOR: Duration = Duration::from_secs(60);
/// No call is longer: one that was forgotten must not hold its place for ever.
const LONGEST_CALL: Duration = Duration::from_secs(2 * 3600);
/// Who calls back.
const CALL_BACK_NUMBER: &str = "606";
const CALL_BACK_NAME: &str = "Ringback test phone";

/// One call, from its ports to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// The phone's two addresses, and what it is for.
#[derive(Debug, Clone)]
pub struct PhoneConfig {
    /// Our own SIP address.
    pub sip: SocketAddr,
    /// The gateway's: no other sends us SIP, and call backs go there.
    pub gateway: SocketAddr,
    /// Every call is one end of this measurement, whatever number is called; `None`: the numbers are as they are.
    pub canary: Option<Canary>,
}

/// What the phone wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a SIP message.
    Sip {
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// Bind a pair of ports for RTP and RTCP, then [`Phone::opened`].
    Open {
        /// Whose.
        call: CallId,
    },
    /// Send from a call's RTP port.
    Rtp {
        /// Whose.
        call: CallId,
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// Send from a call's RTCP port.
    Rtcp {
        /// Whose.
        call: CallId,
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// Close a call's pair of ports.
    Close {
        /// Whose.
        call: CallId,
    },
}

/// The test phone. **Drain rule**: after every call that takes `now`, poll [`Phone::poll_output`] until it gives `None`,
/// then ask [`Phone::poll_timeout`].
#[derive(Debug)]
pub struct Phone {
    config: PhoneConfig,
    ua: UserAgent,
    rng: StdRng,
    calls: BTreeMap<CallId, Call>,
    by_session: BTreeMap<SessionId, CallId>,
    /// Whom to call back, and when; in the order of time.
    call_backs: VecDeque<(Instant, String)>,
    out: VecDeque<Output>,
    next_call: u64,
    closing: bool,
}

impl Phone {
    /// A phone without calls. Tags and stream numbers come from `seed`.
    pub fn new(config: PhoneConfig, seed: [u8; 32]) -> Self {
        // Composed now and not within the first 20 ms of a call.
        melody::melody();
        let mut rng = StdRng::from_seed(seed);
        let mut ua_seed = [0; 32];
        rng.fill_bytes(&mut ua_seed);
        let ua = UaConfig {
            user_agent: "Ringback-testphone".to_owned(),
            timers: Timers::default(),
            max_sessions: MAX_CALLS,
            max_transactions: 16 * MAX_CALLS,
            registrar: false,
            advertise: Vec::new(),
        };
        Phone {
            config,
            ua: UserAgent::new(ua, ua_seed),
            rng,
            calls: BTreeMap::new(),
            by_session: BTreeMap::new(),
            call_backs: VecDeque::new(),
            out: VecDeque::new(),
            next_call: 0,
            closing: false,
        }
    }

    /// Takes a SIP datagram. What comes from elsewhere than the gateway meets silence.
    pub fn handle_sip(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if from == self.config.gateway {
            self.ua.handle_datagram(now, self.flow(), bytes);
            self.run(now);
        }
    }

    /// A SIP datagram could not be sent.
    pub fn handle_sip_failure(&mut self, now: Instant) {
        self.ua.handle_transport_failure(now, self.flow());
        self.run(now);
    }

    /// Takes a datagram from a call's RTP port.
    pub fn handle_rtp(&mut self, now: Instant, call: CallId, from: SocketAddr, bytes: &[u8]) {
        if let Some(Call { line: Some(line), script, .. }) = self.calls.get_mut(&call) {
            line.handle_rtp(now, from, bytes, script.as_mut());
        }
    }

    /// Takes a datagram from a call's RTCP port.
    pub fn handle_rtcp(&mut self, now: Instant, call: CallId, bytes: &[u8]) {
        if let Some(Call { line: Some(line), .. }) = self.calls.get_mut(&call) {
            line.handle_rtcp(now, bytes);
        }
    }

    /// The ports that [`Output::Open`] asked for: the address of RTP, or `None` if there are none to be had.
    pub fn opened(&mut self, now: Instant, id: CallId, rtp: Option<SocketAddr>) {
        match (self.calls.get_mut(&id), rtp) {
            (Some(call), Some(rtp)) if call.stage != Stage::Over => {
                call.local = Some(rtp);
                self.begin(now, id, rtp);
            }
            (_, Some(_)) => self.out.push_back(Output::Close { call: id }),
            (Some(call), None) => match call.session {
                Some(session) => self.refuse(now, session, 503),
                None => self.forget(id),
            },
            (None, None) => {}
        }
        self.run(now);
    }

    /// Runs what is due: packets, timers, call backs.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.ua.handle_timeout(now);
        let ids: Vec<CallId> = self.calls.keys().copied().collect();
        for id in ids {
            self.play(now, id);
        }
        while self.call_backs.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, user)) = self.call_backs.pop_front() {
                self.open(now, Box::new(Prompt::default()), None, Stage::Calling { user }, None);
            }
        }
        self.run(now);
    }

    /// When [`Phone::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let live = self.calls.values().filter(|call| call.stage != Stage::Over);
        let calls = live.flat_map(|call| [Some(call.ends_at), call.line.as_ref().map(Line::poll_timeout)]).flatten();
        let call_back = self.call_backs.front().map(|(at, _)| *at);
        calls.chain(call_back).chain(self.ua.poll_timeout()).min()
    }

    /// What is to be done, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Ends every call, makes no call back and takes no new call.
    pub fn close(&mut self, now: Instant) {
        self.closing = true;
        self.call_backs.clear();
        self.ua.drain(true);
        let ids: Vec<CallId> = self.calls.keys().copied().collect();
        for id in ids {
            self.hang_up(now, id);
        }
        self.run(now);
    }

    /// Whether nothing of any call is left.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.call_backs.is_empty()
    }

    fn flow(&self) -> Flow {
        Flow { transport: Transport::Udp, local: self.config.sip, remote: self.config.gateway, id: 0 }
    }

    /// Handles what the user agent gives until it is dry.
    fn run(&mut self, now: Instant) {
        while let Some(output) = self.ua.poll_output() {
            match output {
                UaOutput::Transmit { flow, bytes } => self.out.push_back(Output::Sip { to: flow.remote, bytes }),
                UaOutput::Event(event) => self.event(now, event),
            }
        }
    }

    fn event(&mut self, now: Instant, event: UaEvent) {
        match event {
            UaEvent::Incoming { session, request, .. } => self.incoming(now, session, &request),
            UaEvent::Answered { session, body, .. } => self.answered(now, session, body),
            UaEvent::Acked { session, body } => self.acked(now, session, body),
            UaEvent::Reoffered { session, body } => self.reoffered(now, session, body),
            UaEvent::Info { session, body: Some(body) } => {
                if let Some(call) = self.call_of(session) {
                    info::digits(&body).into_iter().for_each(|digit| call.script.digit(digit));
                }
            }
            UaEvent::Ended { session, .. } | UaEvent::Cancelled { session, .. } | UaEvent::Failed { session, .. } => {
                self.end_media(now, session);
            }
            // This phone goes nowhere else.
            UaEvent::Referred { session, refer, .. } => {
                let _ = self.ua.answer_refer(now, session, refer, Err(603));
            }
            UaEvent::Closed { session } => self.closed(now, session),
            _ => {}
        }
    }

    fn call_of(&mut self, session: SessionId) -> Option<&mut Call> {
        self.calls.get_mut(self.by_session.get(&session)?)
    }

    fn incoming(&mut self, now: Instant, session: SessionId, request: &Request) {
        let number = request.uri.decoded_user().unwrap_or_default();
        let script = self.config.canary.as_ref().map(Canary::script).or_else(|| numbers::script(&number));
        let Some(script) = script else { return self.refuse(now, session, 404) };
        let caller = request.headers.from().ok().and_then(|from| from.uri.decoded_user());
        match script.opening() {
            Opening::Refuse(status) => self.refuse(now, session, status),
            Opening::Ring => {
                let id = self.insert(now, script, Some(session), Stage::Ringing, caller);
                if self.ua.ring(now, session, 180, None).is_err() {
                    self.hang_up(now, id);
                }
            }
            Opening::Early | Opening::Answer if !request.body.is_empty() && !is_sdp(request) => {
                self.refuse(now, session, 415);
            }
            Opening::Early | Opening::Answer => {
                let offer = (!request.body.is_empty()).then(|| request.body.clone());
                self.open(now, script, Some(session), Stage::Opening { offer }, caller);
            }
        }
    }

    fn refuse(&mut self, now: Instant, session: SessionId, status: u16) {
        if let Err(error) = self.ua.reject(now, session, status, "", &[]) {
            tracing::debug!(%error, status, "the test phone could not refuse");
            self.ua.hangup(now, session, None);
        }
    }

    fn insert(
        &mut self,
        now: Instant,
        script: Box<dyn Script>,
        session: Option<SessionId>,
        stage: Stage,
        caller: Option<String>,
    ) -> CallId {
        self.next_call += 1;
        let id = CallId(self.next_call);
        let ends_at = now + if session.is_some() { LONGEST_CALL } else { RING_FOR };
        let call = Call {
            script,
            session,
            stage,
            caller,
            answered: false,
            ends_at,
            local: None,
            line: None,
            ssrc: self.rng.next_u32(),
            own: OwnDescription::new(self.rng.next_u64()),
        };
        self.by_session.extend(session.map(|session| (session, id)));
        self.calls.insert(id, call);
        id
    }

    /// A call that needs ports.
    fn open(
        &mut self,
        now: Instant,
        script: Box<dyn Script>,
        session: Option<SessionId>,
        stage: Stage,
        caller: Option<String>,
    ) {
        let call = self.insert(now, script, session, stage, caller);
        self.out.push_back(Output::Open { call });
    }

    /// The ports are there: answer, or call.
    fn begin(&mut self, now: Instant, id: CallId, rtp: SocketAddr) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match (std::mem::replace(&mut call.stage, Stage::Offered), call.session) {
            (Stage::Opening { offer }, Some(session)) => self.answer(now, id, session, rtp, offer),
            (Stage::Calling { user }, _) => self.call_back(now, id, rtp, &user),
            (stage, _) => call.stage = stage,
        }
    }

    fn answer(&mut self, now: Instant, id: CallId, session: SessionId, rtp: SocketAddr, offer: Option<Vec<u8>>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(offer) = offer else {
            // The INVITE had no offer: ours goes into the 200, and the answer comes in the ACK.
            let body = call.offer(rtp);
            call.answered = true;
            return self.or_hang_up(now, id, |ua| ua.accept(now, session, body));
        };
        match call.answer(rtp, &offer) {
            Ok((body, media)) => {
                let early = call.script.opening() == Opening::Early;
                call.answered = !early;
                self.start_media(now, id, media);
                if early {
                    self.or_hang_up(now, id, |ua| ua.ring(now, session, 183, Some(body)));
                } else {
                    self.or_hang_up(now, id, |ua| ua.accept(now, session, body));
                }
            }
            Err(error) => self.refuse(now, session, error.status()),
        }
    }

    fn or_hang_up(
        &mut self,
        now: Instant,
        id: CallId,
        ask: impl FnOnce(&mut UserAgent) -> Result<(), crate::sip::UaError>,
    ) {
        if let Err(error) = ask(&mut self.ua) {
            tracing::debug!(%error, "the test phone ends a call");
            self.hang_up(now, id);
        }
    }

    fn call_back(&mut self, now: Instant, id: CallId, rtp: SocketAddr, user: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let offer = call.offer(rtp);
        match invite(&self.config, user, offer).and_then(|invite| self.ua.invite(now, invite).ok()) {
            Some(session) => {
                call.session = Some(session);
                self.by_session.insert(session, id);
            }
            None => self.hang_up(now, id),
        }
    }

    /// Our call back was answered.
    fn answered(&mut self, now: Instant, session: SessionId, body: Option<Body>) {
        let Some(call) = self.call_of(session) else { return };
        call.answered = true;
        call.ends_at = now + LONGEST_CALL;
        self.take_answer(now, session, body);
    }

    /// Media starts at our 200; only when that held our offer does the ACK tell something.
    fn acked(&mut self, now: Instant, session: SessionId, body: Option<Body>) {
        if self.call_of(session).is_some_and(|call| call.stage == Stage::Offered) {
            self.take_answer(now, session, body);
        }
    }

    fn take_answer(&mut self, now: Instant, session: SessionId, body: Option<Body>) {
        let Some(&id) = self.by_session.get(&session) else { return };
        let Some(call) = self.calls.get(&id) else { return };
        let answer = call.local.zip(body).map(|(rtp, body)| call.read_answer(rtp, &body.bytes));
        match answer {
            Some(Ok(media)) => self.start_media(now, id, media),
            _ => self.hang_up(now, id),
        }
    }

    fn reoffered(&mut self, now: Instant, session: SessionId, body: Option<Body>) {
        let Some(&id) = self.by_session.get(&session) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(rtp) = call.local else { return };
        let reply = match body {
            Some(offer) => match call.answer(rtp, &offer.bytes) {
                Ok((body, media)) => {
                    self.start_media(now, id, media);
                    Ok(body)
                }
                Err(error) => Err(error.status()),
            },
            None => {
                call.stage = Stage::Offered;
                Ok(call.offer(rtp))
            }
        };
        if let Err(error) = self.ua.answer_reoffer(now, session, reply) {
            tracing::debug!(%error, "the peer took its offer back");
        }
    }

    fn start_media(&mut self, now: Instant, id: CallId, mut media: RtpMedia) {
        if let Some(canary) = &self.config.canary {
            let places = [&mut media.remote_rtp, &mut media.remote_rtcp];
            places.into_iter().flatten().for_each(|place| place.set_ip(canary.media));
        }
        let (sequence, timestamp) = (self.rng.next_u32() as u16, self.rng.next_u32());
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.stage = Stage::Talking;
        match &mut call.line {
            Some(line) => line.renegotiate(media),
            line => *line = Some(Line::new(now, media, sequence, timestamp)),
        }
    }

    /// One call's share of [`Phone::handle_timeout`].
    fn play(&mut self, now: Instant, id: CallId) {
        while let Some(Call { line: Some(line), script, .. }) = self.calls.get_mut(&id) {
            let report = line.report(now);
            self.out.extend(report.map(|(to, bytes)| Output::Rtcp { call: id, to, bytes }));
            let Some((packet, wanted)) = line.step(now, script.as_mut()) else { break };
            self.out.extend(packet.map(|(to, bytes)| Output::Rtp { call: id, to, bytes }));
            match wanted {
                Some(Step::Answer) => self.answer_early(now, id),
                Some(Step::HangUp) => self.hang_up(now, id),
                None => {}
            }
        }
        if self.calls.get(&id).is_some_and(|call| call.stage != Stage::Over && call.ends_at <= now) {
            self.hang_up(now, id);
        }
    }

    /// Answers a call that rang with media: with the same description.
    fn answer_early(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| !call.answered) else { return };
        let Some(session) = call.session else { return };
        call.answered = true;
        let body = call.said();
        self.or_hang_up(now, id, |ua| ua.accept(now, session, body));
    }

    fn hang_up(&mut self, now: Instant, id: CallId) {
        match self.calls.get(&id).map(|call| call.session) {
            Some(Some(session)) => {
                self.end_media(now, session);
                self.ua.hangup(now, session, None);
            }
            Some(None) => self.forget(id),
            None => {}
        }
    }

    /// Drops a call back whose INVITE never left.
    fn forget(&mut self, id: CallId) {
        if self.calls.remove(&id).is_some_and(|call| call.local.is_some()) {
            self.out.push_back(Output::Close { call: id });
        }
    }

    /// Media ends with a BYE of its own and the ports go; the dialog may still have something to say.
    fn end_media(&mut self, now: Instant, session: SessionId) {
        let Some(&id) = self.by_session.get(&session) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.stage = Stage::Over;
        let goodbye = call.line.take().and_then(|mut line| line.goodbye(now));
        self.out.extend(goodbye.map(|(to, bytes)| Output::Rtcp { call: id, to, bytes }));
        if call.local.take().is_some() {
            self.out.push_back(Output::Close { call: id });
        }
    }

    fn closed(&mut self, now: Instant, session: SessionId) {
        self.end_media(now, session);
        let Some(call) = self.by_session.remove(&session).and_then(|id| self.calls.remove(&id)) else { return };
        if let Some(user) = call.caller
            && call.answered
            && call.script.calls_back()
            && !self.closing
            && self.call_backs.len() < MAX_CALLS
        {
            self.call_backs.push_back((now + CALL_BACK_AFTER, user));
        }
    }
}

/// Whether the body is a session description (RFC 3261 section 20.15: the type without its parameters, in any case).
fn is_sdp(request: &Request) -> bool {
    let kind = request.headers.content_type().and_then(|text| text.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(SDP)
}

/// The INVITE of a call back; `None` where `user` cannot be called.
fn invite(config: &PhoneConfig, user: &str, offer: Body) -> Option<Invite> {
    let at =
        |user: &str, address: SocketAddr| Uri::sip(Some(user), Host::from(address.ip()), Some(address.port())).ok();
    let name =
        |display: Option<&str>, uri| NameAddr { display: display.map(str::to_owned), uri, params: Params::new() };
    let request_uri = at(user, config.gateway)?;
    Some(Invite {
        flow: Flow { transport: Transport::Udp, local: config.sip, remote: config.gateway, id: 0 },
        from: name(Some(CALL_BACK_NAME), at(CALL_BACK_NUMBER, config.sip)?),
        to: name(None, request_uri.clone()),
        request_uri,
        contact_user: Some(CALL_BACK_NUMBER.to_owned()),
        headers: Vec::new(),
        body: Some(offer),
        credentials: None,
        options: SessionOptions::default(),
    })
}
