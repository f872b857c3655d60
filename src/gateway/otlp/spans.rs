//! A call as a trace: what its record says, as spans in OTLP's JSON (opentelemetry-proto, `trace.proto`; ids in hexadecimal,
//! 64-bit numbers as text).
//!
//! The call's id is everywhere the same: the trace's id is it written twice, the root span's is it itself.

use serde_json::{Value, json};

use crate::call::{CallId, Cdr, Direction, LegRecord, Origin, TrunkTried};

/// `SpanKind`.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// `StatusCode` of what has failed.
const ERROR: u8 = 2;
/// Trunks and events of one call that are told: transfers can make ever more of them.
const MOST: usize = 64;

/// The spans of a call, its root first; none of a record without an id.
pub(super) fn of(cdr: &Cdr, numbers: bool) -> Vec<Value> {
    let Ok(CallId(id @ 1..)) = cdr.call.parse() else { return Vec::new() };
    let mut tree = Tree { id, spans: Vec::new() };
    let mut root = tree.span(None, format!("{} call", direction(cdr)), SERVER, cdr.start, cdr.end);
    root.attributes = about(cdr, numbers);
    if failed(cdr) {
        root.error = Some(cdr.cause.clone());
    }
    let root = tree.add(root);
    tree.set_up(root, cdr, numbers);
    if let Some(answer) = cdr.answer {
        let mut talk = tree.span(Some(root), "talk".into(), INTERNAL, answer, cdr.end);
        talk.events = events(cdr, numbers);
        tree.add(talk);
    }
    tree.spans.into_iter().map(Span::into_json).collect()
}

/// The place of a span among all of the call's.
type Place = usize;

/// Spans of one call.
struct Tree {
    id: u64,
    spans: Vec<Span>,
}

struct Span {
    trace: u64,
    id: u64,
    parent: Option<u64>,
    name: String,
    kind: u8,
    from: u64,
    to: u64,
    attributes: Vec<Value>,
    events: Vec<Value>,
    error: Option<String>,
}

impl Tree {
    /// A span from one time to another, Unix milliseconds; it never ends before it begins, whatever the clock did.
    fn span(&self, parent: Option<Place>, name: String, kind: u8, from: u64, to: u64) -> Span {
        // Never 0, which is no id, unless the 2^64 before were used up.
        let id = self.id.wrapping_add(self.spans.len() as u64).max(1);
        let parent = parent.and_then(|place| self.spans.get(place)).map(|span| span.id);
        let (attributes, events) = (Vec::new(), Vec::new());
        Span { trace: self.id, id, parent, name, kind, from, to: to.max(from), attributes, events, error: None }
    }

    fn add(&mut self, span: Span) -> Place {
        self.spans.push(span);
        self.spans.len() - 1
    }

    /// From the beginning to the answer, or to the end without one.
    fn set_up(&mut self, root: Place, cdr: &Cdr, numbers: bool) {
        let until = cdr.answer.unwrap_or(cdr.end);
        let up = self.span(Some(root), "set-up".into(), INTERNAL, cdr.start, until);
        let up = self.add(up);
        // The first of an incoming call is where it came from.
        let tried = || cdr.trunks.iter().skip(usize::from(cdr.direction == Direction::Inbound)).take(MOST);
        let media = cdr.media.as_ref();
        if let Some(begun) = media.and_then(|media| media.a.begun).filter(|begun| *begun <= until) {
            let offer = self.span(Some(up), "offer".into(), INTERNAL, cdr.start, begun);
            self.add(offer);
        }
        if let Some(first) = tried().next().filter(|first| first.at > 0) {
            let mut route = self.span(Some(up), "route".into(), INTERNAL, cdr.start, first.at);
            route.attributes.extend(text("ringback.rule", cdr.rule.as_deref()));
            self.add(route);
        }
        for tried in tried() {
            let attempt = self.attempt(up, tried, until, numbers);
            self.add(attempt);
        }
        if let Some(ringing) = cdr.ringing {
            let ringing = self.span(Some(up), "ringing".into(), INTERNAL, ringing, until);
            self.add(ringing);
        }
        let Some(media) = media else { return };
        for (side, leg) in [("a", &media.a), ("b", &media.b)] {
            self.leg(root, side, leg, cdr.answer);
        }
    }

    /// One trunk that was tried.
    fn attempt(&self, up: Place, tried: &TrunkTried, until: u64, numbers: bool) -> Span {
        let to = tried.ms.map_or(until, |ms| tried.at.saturating_add(ms));
        let mut span = self.span(Some(up), format!("trunk {}", tried.trunk), CLIENT, tried.at, to);
        span.attributes.extend(text("ringback.trunk", Some(&tried.trunk)));
        span.attributes.extend(text("ringback.result", Some(&tried.result)));
        span.attributes.extend(text("ringback.cause", tried.cause.as_deref()));
        if numbers && !tried.redirected.is_empty() {
            span.attributes.extend(text("ringback.redirected", Some(&tried.redirected.join(","))));
        }
        let status = tried.result.parse::<u16>().unwrap_or(0);
        span.error = (status == 408 || (500..600).contains(&status)).then(|| tried.result.clone());
        span
    }

    /// How one side's media came up: what was there before the answer, and after it.
    fn leg(&mut self, root: Place, side: &str, leg: &LegRecord, answer: Option<u64>) {
        let mut at = leg.begun;
        for (name, ms) in [("ICE", leg.ice_ms), ("DTLS", leg.dtls_ms)] {
            if let (Some(from), Some(ms)) = (at, ms) {
                let to = from.saturating_add(ms.into());
                let span = self.span(Some(root), format!("{name} {side}"), INTERNAL, from, to);
                self.add(span);
                at = Some(to);
            }
        }
        if let (Some(answer), Some(ms)) = (answer, leg.first_audio_ms) {
            let to = answer.saturating_add(ms.into());
            let span = self.span(Some(root), format!("first audio {side}"), INTERNAL, answer, to);
            self.add(span);
        }
    }
}

impl Span {
    fn into_json(self) -> Value {
        let Span { trace, id, parent, name, kind, from, to, attributes, events, error } = self;
        let mut span = json!({
            "traceId": format!("{trace:016x}{trace:016x}"), "spanId": format!("{id:016x}"), "name": name, "kind": kind,
            "startTimeUnixNano": nanos(from), "endTimeUnixNano": nanos(to),
            "attributes": attributes, "events": events,
        });
        if let Some(parent) = parent {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        if let Some(message) = error {
            span["status"] = json!({ "code": ERROR, "message": message });
        }
        span
    }
}

/// What can be said of a call as a whole. What a page has said of it (`params`) is not for others.
fn about(cdr: &Cdr, numbers: bool) -> Vec<Value> {
    let last = cdr.trunks.last().map(|tried| tried.trunk.as_str());
    let mut all = vec![
        text("ringback.call", Some(&cdr.call)),
        text("ringback.direction", Some(direction(cdr))),
        text("ringback.cause", Some(&cdr.cause)),
        text("ringback.ended_by", Some(cdr.by.as_str())),
        text("ringback.rule", cdr.rule.as_deref()),
        text("ringback.trunk", last),
        text("ringback.codec.a", cdr.codecs.a.as_deref()),
        text("ringback.codec.b", cdr.codecs.b.as_deref()),
        text("ringback.party.a", cdr.parties.a.map(|kind| kind.as_str())),
        text("ringback.party.b", cdr.parties.b.map(|kind| kind.as_str())),
        whole("ringback.sip_status", cdr.sip.map(u64::from)),
        whole("ringback.q850", Some(cdr.q850.into())),
    ];
    if let Some(media) = &cdr.media {
        for (side, leg) in [("a", &media.a), ("b", &media.b)] {
            all.extend(heard(side, leg));
        }
    }
    if numbers {
        all.extend([
            text("enduser.id", Some(&cdr.user).filter(|user| !user.is_empty()).map(String::as_str)),
            text("ringback.dialled", Some(&cdr.dialled)),
            text("ringback.number", cdr.number.as_deref()),
            text("ringback.sent", cdr.sent.as_deref()),
            text("ringback.from", cdr.from.as_deref()),
            text("ringback.reason", Some(&cdr.text)),
        ]);
    }
    all.into_iter().flatten().collect()
}

/// How one side sounded.
fn heard(side: &str, leg: &LegRecord) -> [Option<Value>; 8] {
    let key = |name: &str| format!("ringback.{side}.{name}");
    [
        whole(&key("packets_in"), Some(leg.packets_in)),
        whole(&key("lost"), Some(leg.lost)),
        whole(&key("jitter_ms"), Some(leg.jitter_ms.into())),
        whole(&key("concealed_ms"), Some(leg.concealed_ms)),
        whole(&key("buffer_ms"), leg.sound.buffer_ms.map(u64::from)),
        whole(&key("delay_ms"), leg.sound.delay_ms.map(u64::from)),
        real(&key("mos_sent"), leg.sound.mos_sent.map(|score| score.mean)),
        real(&key("mos_heard"), leg.sound.mos_heard.map(|score| score.mean)),
    ]
}

/// What happened while they talked.
fn events(cdr: &Cdr, numbers: bool) -> Vec<Value> {
    let event = |at: u64, name: &str, attributes: Vec<Option<Value>>| {
        let attributes: Vec<Value> = attributes.into_iter().flatten().collect();
        json!({ "timeUnixNano": nanos(at), "name": name, "attributes": attributes })
    };
    let silent = cdr.no_audio.iter().map(|it| {
        let said = [("from", &it.from), ("leg", &it.leg), ("cause", &it.cause)];
        let mut said: Vec<_> = said.map(|(name, word)| text(&format!("ringback.{name}"), Some(word))).into();
        said.push(whole("ringback.ms", it.ms));
        event(it.at, "no audio", said)
    });
    let moved = cdr.transfers.iter().take(MOST).map(|it| {
        let to = text("ringback.to", Some(&it.to)).filter(|_| numbers);
        let said = [("by", &it.by), ("how", &it.how), ("result", &it.result)];
        let said = said.map(|(name, word)| text(&format!("ringback.{name}"), Some(word)));
        event(it.at, "transfer", said.into_iter().chain([to]).collect())
    });
    silent.chain(moved).collect()
}

/// Whether it is an operator's business: a fault of ours, of a trunk or of the network; not somebody who is busy.
fn failed(cdr: &Cdr) -> bool {
    cdr.by == Origin::Network || cdr.sip.is_some_and(|status| (500..600).contains(&status))
}

fn direction(cdr: &Cdr) -> &'static str {
    match cdr.direction {
        Direction::Outbound => "outbound",
        Direction::Inbound => "inbound",
    }
}

fn nanos(ms: u64) -> String {
    (u128::from(ms) * 1_000_000).min(u128::from(u64::MAX)).to_string()
}

pub(super) fn text(key: &str, value: Option<&str>) -> Option<Value> {
    Some(json!({ "key": key, "value": { "stringValue": value? } }))
}

fn whole(key: &str, value: Option<u64>) -> Option<Value> {
    Some(json!({ "key": key, "value": { "intValue": value?.min(i64::MAX as u64).to_string() } }))
}

fn real(key: &str, value: Option<f32>) -> Option<Value> {
    // What is no number has no place in JSON.
    Some(json!({ "key": key, "value": { "doubleValue": value.filter(|value| value.is_finite())? } }))
}
