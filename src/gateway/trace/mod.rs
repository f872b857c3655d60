//! What was said about each call that was lately: the browser's messages and the SIP of all its dialogs, sent and come, one
//! after the other, for `ringback trace` and for a collector.
//!
//! The driver shows every input before the switch has it and every output before it goes. Which call a message is of the
//! switch says: by the call that it gives its browser messages, and by [`Output::Owned`](crate::switch::Output::Owned).

mod book;
mod hep;
mod redact;

use std::time::{SystemTime, UNIX_EPOCH};

use book::{Book, Key, LONGEST};
pub(super) use book::{Entry, Message, Told};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use self::hep::Collector;
use crate::config::{self, Config};
use crate::sip::{Flow, Transport};
use crate::switch::{CallId, Input, SocketId, Switch};

/// Messages that came whose call is not known yet: no more than are taken between two rounds of outputs.
const WAITING: usize = 256;
/// The longest name or Call-ID that is looked for.
const LONGEST_KEY: usize = 256;

/// How a `quality` begins: it goes once a second, and would leave no room for the others.
const QUALITY: &str = "{\"type\":\"quality\",";

/// What somebody wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// The calls there are.
    List,
    /// One call's messages from this number on.
    Call(CallId, u64),
}

/// What he is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    List(Vec<Entry>),
    Call(Option<Told>),
}

impl Answer {
    /// As it goes over the control socket.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Answer::List(calls) => json!({ "calls": calls }),
            Answer::Call(None) => json!({ "error": "nothing is kept of such a call; see [trace]" }),
            Answer::Call(Some(told)) => json!(TraceView::from(told)),
        }
    }
}

/// What was said about a call, as it is told to programs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Trace")]
pub(super) struct TraceView<'a> {
    /// The call's id.
    call: String,
    /// Whether the call is over.
    over: bool,
    /// In the order in which they were sent and came.
    messages: Vec<&'a Message>,
    /// Messages in the middle that are not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<u64>,
    /// The number of the first one after those.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out_before: Option<u64>,
}

impl<'a> From<&'a Told> for TraceView<'a> {
    fn from(told: &'a Told) -> TraceView<'a> {
        TraceView {
            call: told.call.to_string(),
            over: told.over,
            messages: told.messages.iter().map(AsRef::as_ref).collect(),
            left_out: told.left_out_before.map(|_| told.left_out),
            left_out_before: told.left_out_before,
        }
    }
}

/// What came, and whose call is not known yet.
#[derive(Debug)]
struct Waiting {
    key: Key,
    message: Message,
    /// The message itself, where its text is still to be made: a stranger's is dropped without that.
    sip: Option<Box<[u8]>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Trace {
    book: Book,
    collector: Option<Collector>,
    /// Came, and of a call that the next outputs tell, or of none.
    waiting: Vec<Waiting>,
    next: u64,
}

impl Trace {
    pub(super) fn new(config: &Config) -> Trace {
        let collector = config.hep.as_ref().and_then(Collector::open);
        Trace { book: Book::new(config.trace), collector, waiting: Vec::new(), next: 0 }
    }

    /// What is kept stays as far as it may.
    pub(super) fn reload(&mut self, trace: config::Trace, hep: Option<&config::Hep>) {
        self.book.set_limits(trace);
        self.collector = hep.and_then(Collector::open);
    }

    pub(super) fn answer(&self, question: Question) -> Answer {
        match question {
            Question::List => Answer::List(self.book.list()),
            Question::Call(call, since) => Answer::Call(self.book.tell(call, since)),
        }
    }

    /// Something comes; the switch does not have it yet.
    pub(super) fn hear(&mut self, switch: &Switch, input: &Input) {
        if !self.is_on() {
            return;
        }
        match input {
            Input::Sip { flow, bytes } => self.hear_sip(*flow, bytes),
            Input::SocketText { socket, text } => self.hear_browser(switch, *socket, text),
            _ => {}
        }
    }

    fn hear_sip(&mut self, flow: Flow, bytes: &[u8]) {
        let Some(dialog) = dialog_of(bytes) else { return };
        let key = Key::Dialog(dialog.to_owned());
        let known = self.book.find(&key);
        // What is of no call costs no more than this look.
        if let Some(call) = known {
            let message = self.sip_message(flow, bytes, false);
            self.write(call, message);
        } else if bytes.starts_with(b"INVITE ") && self.waiting.len() < WAITING {
            let message = self.message(by(flow), String::new(), false, Some(flow));
            let (kept, cut) = cut(bytes);
            self.waiting.push(Waiting { key, message: Message { cut, ..message }, sip: Some(kept.into()) });
        }
    }

    fn hear_browser(&mut self, switch: &Switch, socket: SocketId, text: &str) {
        let Ok(mut value) = serde_json::from_str::<Value>(text) else { return };
        let Some(name) = value["call"].as_str().filter(|name| name.len() <= LONGEST_KEY).map(str::to_owned) else {
            return;
        };
        let begins = value["type"] == "call";
        let key = Key::Name(socket, name);
        let known = self.named(switch, &key).or_else(|| self.book.find(&key).filter(|_| !begins));
        if known.is_none() && !begins {
            return;
        }
        redact::json(&mut value);
        let message = self.browser_message(switch, socket, value.to_string(), false);
        self.note(known, key, message);
    }

    /// A message goes to a browser.
    pub(super) fn tell(&mut self, switch: &Switch, socket: SocketId, text: &str, call: Option<CallId>) {
        if !self.is_on() || text.starts_with(QUALITY) {
            return;
        }
        let Ok(mut value) = serde_json::from_str::<Value>(text) else { return };
        let Some(name) = value["call"].as_str().map(str::to_owned) else { return };
        let key = Key::Name(socket, name);
        let Some(call) = call.or_else(|| self.book.find(&key)) else { return };
        self.belongs(key, call);
        redact::json(&mut value);
        let message = self.browser_message(switch, socket, value.to_string(), true);
        self.write(call, message);
    }

    /// A SIP message goes.
    pub(super) fn send(&mut self, flow: Flow, bytes: &[u8]) {
        if !self.is_on() {
            return;
        }
        let known = dialog_of(bytes).and_then(|dialog| self.book.find(&Key::Dialog(dialog.to_owned())));
        if let Some(call) = known {
            let message = self.sip_message(flow, bytes, true);
            self.write(call, message);
        }
    }

    /// A dialog is of this call.
    pub(super) fn owned(&mut self, call: CallId, dialog: String) {
        if self.is_on() {
            self.belongs(Key::Dialog(dialog), call);
        }
    }

    /// A call is over.
    pub(super) fn over(&mut self, call: &str) {
        if let Ok(call) = call.parse() {
            self.book.over(call);
        }
    }

    /// All outputs are done: what waits still is of a call that has said nothing yet, or of none.
    pub(super) fn settle(&mut self, switch: &Switch) {
        for waiting in std::mem::take(&mut self.waiting) {
            if let Some(call) = self.named(switch, &waiting.key) {
                self.book.learn(waiting.key.clone(), call);
                self.write(call, waiting.into_message());
            }
        }
    }

    fn is_on(&self) -> bool {
        self.book.is_on()
    }

    fn named(&self, switch: &Switch, key: &Key) -> Option<CallId> {
        match key {
            Key::Name(socket, name) => switch.call_named(*socket, name),
            Key::Dialog(_) => None,
        }
    }

    fn note(&mut self, call: Option<CallId>, key: Key, message: Message) {
        match call {
            Some(call) => self.write(call, message),
            None if self.waiting.len() < WAITING => self.waiting.push(Waiting { key, message, sip: None }),
            None => {}
        }
    }

    /// What has this key is of that call, and so is what has waited to hear of it.
    fn belongs(&mut self, key: Key, call: CallId) {
        let mut at = 0;
        while at < self.waiting.len() {
            match self.waiting.get(at) {
                Some(waiting) if waiting.key == key => {
                    let message = self.waiting.remove(at).into_message();
                    self.write(call, message);
                }
                _ => at += 1,
            }
        }
        self.book.learn(key, call);
    }

    fn write(&mut self, call: CallId, message: Message) {
        if let Some(collector) = &mut self.collector {
            collector.send(call, &message);
        }
        self.book.write(call, message);
    }

    fn sip_message(&mut self, flow: Flow, bytes: &[u8], sent: bool) -> Message {
        let (kept, cut) = cut(bytes);
        let message = self.message(by(flow), redact::sip(kept), sent, Some(flow));
        Message { cut: message.cut + cut, ..message }
    }

    fn browser_message(&mut self, switch: &Switch, socket: SocketId, text: String, sent: bool) -> Message {
        let message = self.message("browser", text, sent, None);
        Message { remote: switch.peer_of(socket), ..message }
    }

    fn message(&mut self, by: &'static str, text: String, sent: bool, flow: Option<Flow>) -> Message {
        self.next += 1;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        let (local, remote) = (flow.map(|flow| flow.local), flow.map(|flow| flow.remote));
        let mut message = Message { n: self.next, at, sent, by, local, remote, text, cut: 0 };
        message.shorten();
        message
    }
}

impl Waiting {
    /// It is of a call: as it may be kept.
    fn into_message(self) -> Message {
        let Waiting { mut message, sip, .. } = self;
        if let Some(bytes) = sip {
            let cut = message.cut;
            message.text = redact::sip(&bytes);
            message.shorten();
            message.cut += cut;
        }
        message
    }
}

/// What of a message is kept, and how many bytes are not. Secrets are found line by line, so that they are also in what is left.
fn cut(bytes: &[u8]) -> (&[u8], usize) {
    let kept = bytes.get(..LONGEST).unwrap_or(bytes);
    (kept, bytes.len() - kept.len())
}

fn by(flow: Flow) -> &'static str {
    match flow.transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Ws => "ws",
        Transport::Wss => "wss",
    }
}

/// The Call-ID of a message that nobody has read yet (RFC 3261 section 20.8; `i` is its short form).
fn dialog_of(bytes: &[u8]) -> Option<&str> {
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return None;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i") {
            let value = std::str::from_utf8(value.get(1..)?).ok()?.trim();
            return Some(value).filter(|value| !value.is_empty() && value.len() <= LONGEST_KEY);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::{Grade, ServerMessage};

    #[test]
    fn a_quality_is_told_by_its_beginning() {
        let quality = ServerMessage::Quality {
            call: "c".into(),
            grade: Grade::Excellent,
            delay_ms: None,
            down: None,
            up: None,
            trunk_down: None,
            trunk_up: None,
        };
        assert!(quality.to_json().starts_with(QUALITY), "{}", quality.to_json());
    }

    /// What a stranger sends is copied as far as it would be kept, and looked through only if it becomes a call.
    #[test]
    fn what_waits_is_cut_and_loses_its_secrets_when_it_is_taken() {
        let head = "INVITE sip:a SIP/2.0\r\nCall-ID: a\r\nAuthorization: Digest response=\"s3cret\"\r\n\r\n";
        let long = format!("{head}a=ice-pwd:{}", "s3cret".repeat(LONGEST));
        let (kept, lost) = cut(long.as_bytes());
        assert_eq!((kept.len(), kept.len() + lost), (LONGEST, long.len()));
        let message =
            Message { n: 1, at: 1, sent: false, by: "udp", local: None, remote: None, text: String::new(), cut: lost };
        let waiting = Waiting { key: Key::Dialog("a".into()), message, sip: Some(kept.into()) };
        let taken = waiting.into_message();
        assert_eq!((taken.text.len(), taken.cut), (LONGEST, lost));
        assert!(!taken.text.contains("s3cret") && taken.text.starts_with("INVITE"), "{}", &taken.text[..200]);
    }

    #[test]
    fn a_dialog_is_found_in_a_message_that_nobody_has_read() {
        for (message, dialog) in [
            (&b"INVITE sip:a SIP/2.0\r\nVia: x:y\r\nCall-ID: a@b\r\n\r\n"[..], Some("a@b")),
            (b"SIP/2.0 200 OK\ni:  a \n\n", Some("a")),
            (b"SIP/2.0 200 OK\r\nCALL-ID  :a\r\n", Some("a")),
            (b"SIP/2.0 200 OK\r\n\r\nCall-ID: in the body\r\n", None),
            (b"SIP/2.0 200 OK\r\nCall-ID:\r\n\r\n", None),
            (b"SIP/2.0 200 OK\r\nCall-ID: \xff\r\n\r\n", None),
            (b"\r\n\r\n", None),
            (b"", None),
        ] {
            assert_eq!(dialog_of(message), dialog);
        }
    }
}
