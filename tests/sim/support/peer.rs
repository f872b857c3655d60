//! A trunk: a second, true user agent with habits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use ringback::codec::Codec;
use ringback::sdp::{Direction, TrunkLocal, trunk};
use ringback::sip::{Body, Flow, ReferId, SessionId, Timers, Transport, UaConfig, UaEvent, UaOutput, UserAgent};

use super::sdp::{browser_answer, browser_offer};

/// What the trunk does with a call by itself, milliseconds after the INVITE or the answer.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    pub ring_after: Option<u64>,
    /// A 183 with a description.
    pub early_after: Option<u64>,
    pub answer_after: Option<u64>,
    pub refuse_after: Option<(u64, u16)>,
    pub bye_after: Option<u64>,
    /// Refuses re-INVITEs.
    pub refuse_reoffers: Option<u16>,
    /// What becomes of REFERs: refused with 603, or taken and told of, each status after so many milliseconds.
    pub refers: Option<Vec<(u64, u16)>>,
    /// Refuses REFERs with this instead.
    pub refuse_refers: Option<u16>,
}

impl Habits {
    /// Rings after 50 ms, answers after 300.
    pub fn answering() -> Habits {
        Habits { ring_after: Some(50), answer_after: Some(300), ..Habits::default() }
    }

    /// Rings for ever.
    pub fn ringing() -> Habits {
        Habits { ring_after: Some(50), ..Habits::default() }
    }

    /// Refuses after 50 ms.
    pub fn refusing(status: u16) -> Habits {
        Habits { refuse_after: Some((50, status)), ..Habits::default() }
    }
}

/// One session of the trunk.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub offer: Option<Vec<u8>>,
    pub answered: bool,
    /// Failed, Cancelled, Ended: at most one.
    pub ends: Vec<String>,
    /// Of a refusal.
    pub retry_after: Option<u32>,
    pub closed: usize,
    pub infos: Vec<String>,
    pub reoffers: Vec<String>,
    pub provisionals: Vec<u16>,
    /// Refer-To of the REFERs that came.
    pub refers: Vec<String>,
    /// What was said to our own REFER: its answer, then the NOTIFYs.
    pub referred: Vec<u16>,
}

pub struct Peer {
    pub address: SocketAddr,
    /// It is a browser that speaks SIP over the WebSocket of this number.
    pub websocket: Option<u64>,
    pub ua: UserAgent,
    pub habits: Habits,
    pub sessions: BTreeMap<SessionId, Seen>,
    /// Bodies of INVITEs and re-INVITEs as they came.
    pub request_uris: Vec<String>,
    pub froms: Vec<String>,
    version: u64,
}

impl Peer {
    pub fn new(address: SocketAddr, seed: u8) -> Peer {
        let config = UaConfig {
            user_agent: "trunk".into(),
            timers: Timers::default(),
            max_sessions: 1000,
            max_transactions: 10_000,
            registrar: false,
            advertise: Vec::new(),
        };
        Peer {
            address,
            websocket: None,
            ua: UserAgent::new(config, [seed; 32]),
            habits: Habits::default(),
            sessions: BTreeMap::new(),
            request_uris: Vec::new(),
            froms: Vec::new(),
            version: 1,
        }
    }

    pub fn flow(&self, to: SocketAddr) -> Flow {
        let transport = if self.websocket.is_some() { Transport::Ws } else { Transport::Udp };
        Flow { transport, local: self.address, remote: to, id: self.websocket.unwrap_or(0) }
    }

    /// The trunk's own description.
    pub fn local(&self, direction: Direction) -> TrunkLocal {
        TrunkLocal {
            session_id: 77,
            version: self.version,
            codecs: vec![Codec::Pcma, Codec::Pcmu],
            direction,
            ..TrunkLocal::new(SocketAddr::new(self.address.ip(), 40_000), 1)
        }
    }

    pub fn offer(&mut self, direction: Direction) -> Body {
        self.version += 1;
        if self.websocket.is_some() {
            let offer = browser_offer().replace("336 2 IN", &format!("336 {} IN", self.version));
            return sdp(offer.replace("a=sendrecv", &format!("a={direction}")));
        }
        sdp(trunk::offer(&self.local(direction)))
    }

    pub fn answer(&mut self, offer: &[u8]) -> Body {
        if self.websocket.is_some() {
            let text = String::from_utf8_lossy(offer);
            let open = if text.contains("a=sendonly") { "recvonly" } else { "sendrecv" };
            return sdp(browser_answer(&text).replace("a=sendrecv", &format!("a={open}")));
        }
        sdp(trunk::answer(&self.local(Direction::SendRecv), offer).expect("an offer that can be answered").0)
    }

    /// The body of our 200 or 183: an answer to the offer, or an offer.
    pub fn description(&mut self, session: SessionId) -> Body {
        match self.sessions.get(&session).and_then(|seen| seen.offer.clone()) {
            Some(offer) => self.answer(&offer),
            None => self.offer(Direction::SendRecv),
        }
    }

    /// The only session.
    pub fn only(&self) -> SessionId {
        assert_eq!(self.sessions.len(), 1, "{:?}", self.sessions);
        *self.sessions.keys().next().unwrap()
    }

    /// Takes what the user agent gives: packets to send and habits to follow.
    pub fn drain(&mut self, now: Instant) -> (Packets, Vec<(u64, Habit)>) {
        let (mut packets, mut habits) = (Vec::new(), Vec::new());
        while let Some(output) = self.ua.poll_output() {
            match output {
                UaOutput::Transmit { flow, bytes } => packets.push((flow, bytes)),
                UaOutput::Event(event) => self.event(now, event, &mut habits),
            }
        }
        (packets, habits)
    }

    fn event(&mut self, now: Instant, event: UaEvent, habits: &mut Vec<(u64, Habit)>) {
        match event {
            UaEvent::Incoming { session, request, .. } => {
                self.request_uris.push(request.uri.to_string());
                self.froms.push(request.headers.get("From").unwrap_or_default().to_owned());
                let offer = (!request.body.is_empty()).then(|| request.body.clone());
                self.sessions.insert(session, Seen { offer, ..Seen::default() });
                let plan = &self.habits;
                habits.extend(plan.ring_after.map(|ms| (ms, Habit::Ring(session))));
                habits.extend(plan.early_after.map(|ms| (ms, Habit::Early(session))));
                habits.extend(plan.answer_after.map(|ms| (ms, Habit::Answer(session))));
                habits.extend(plan.refuse_after.map(|(ms, status)| (ms, Habit::Refuse(session, status))));
            }
            UaEvent::Provisional { session, status, .. } => self.seen(session).provisionals.push(status),
            UaEvent::Answered { session, .. } => {
                self.seen(session).answered = true;
                habits.extend(self.habits.bye_after.map(|ms| (ms, Habit::Bye(session))));
            }
            UaEvent::Acked { session, .. } => {
                self.seen(session).answered = true;
                habits.extend(self.habits.bye_after.map(|ms| (ms, Habit::Bye(session))));
            }
            UaEvent::Failed { session, status, headers, .. } => {
                let seen = self.seen(session);
                seen.ends.push(format!("failed {status}"));
                seen.retry_after = headers.get("Retry-After").and_then(|seconds| seconds.parse().ok());
            }
            UaEvent::Cancelled { session, .. } => self.seen(session).ends.push("cancelled".into()),
            UaEvent::Ended { session, by, .. } => self.seen(session).ends.push(format!("ended {by:?}")),
            UaEvent::Closed { session } => self.seen(session).closed += 1,
            UaEvent::Info { session, body } => {
                let text = body.map(|body| String::from_utf8_lossy(&body.bytes).into_owned()).unwrap_or_default();
                self.seen(session).infos.push(text);
            }
            UaEvent::Reoffered { session, body } => {
                let answer = body.as_ref().map(|body| self.answer(&body.bytes));
                let answer = answer.unwrap_or_else(|| self.offer(Direction::SendRecv));
                let text = body.map(|body| String::from_utf8_lossy(&body.bytes).into_owned()).unwrap_or_default();
                self.seen(session).reoffers.push(text);
                let reply = self.habits.refuse_reoffers.map_or(Ok(answer), Err);
                let _ = self.ua.answer_reoffer(now, session, reply);
            }
            UaEvent::Referred { session, refer, to, .. } => {
                let replaces = to.replaces.map(|replaces| format!("?{replaces}")).unwrap_or_default();
                self.seen(session).refers.push(format!("{}{replaces}", to.uri));
                let told = self.habits.refers.clone();
                let refused = self.habits.refuse_refers.unwrap_or(603);
                let _ = self.ua.answer_refer(now, session, refer, told.as_ref().map(|_| ()).ok_or(refused));
                habits.extend(told.into_iter().flatten().map(|(ms, status)| (ms, Habit::Tell(session, refer, status))));
            }
            UaEvent::ReferAnswered { session, result } => self.seen(session).referred.push(result.err().unwrap_or(202)),
            UaEvent::ReferProgress { session, status, .. } => self.seen(session).referred.push(status),
            _ => {}
        }
    }

    fn seen(&mut self, session: SessionId) -> &mut Seen {
        self.sessions.entry(session).or_default()
    }

    /// Does one thing of habit; the call may be gone meanwhile.
    pub fn act(&mut self, now: Instant, habit: Habit) {
        match habit {
            Habit::Ring(session) => drop(self.ua.ring(now, session, 180, None)),
            Habit::Early(session) => {
                let body = self.description(session);
                drop(self.ua.ring(now, session, 183, Some(body)));
            }
            Habit::Answer(session) => {
                let body = self.description(session);
                drop(self.ua.accept(now, session, body));
            }
            Habit::Refuse(session, status) => drop(self.ua.reject(now, session, status, "", &[])),
            Habit::Bye(session) => self.ua.hangup(now, session, None),
            Habit::Tell(session, refer, status) => {
                drop(self.ua.notify_refer(now, session, refer, status, status >= 200));
            }
        }
    }
}

/// Messages to send.
pub type Packets = Vec<(Flow, Vec<u8>)>;

/// Something a trunk does later.
#[derive(Clone, Copy, Debug)]
pub enum Habit {
    Ring(SessionId),
    Early(SessionId),
    Answer(SessionId),
    Refuse(SessionId, u16),
    Bye(SessionId),
    Tell(SessionId, ReferId, u16),
}

/// A description as a body.
pub fn sdp(text: String) -> Body {
    Body { content_type: "application/sdp".into(), bytes: text.into_bytes() }
}
