//! The form of the tables of procedures: a user agent, and what it must say to what, as a script of lines.
//!
//! A line without a mark is a wish of our user; `<` is a message of the peer's; `wait TIME` lets time pass, and `next
//! SOONEST..LATEST` until something comes of it. The lines after it
//! that begin with `>` (what is sent) and `!` (what the user is told) are all that must come of it, in their order. Each
//! names what it must have, word by word; a word that begins with `-` it must not have.
//!
//! - `call [options] [offerless]`, `configure [options]`, `ring STATUS [sdp]`, `accept`, `reoffer`, `answer [STATUS]`,
//!   `hangup`. Options: `reliable=off|supported|required`, `timer=EXPIRES/MIN[/us|/them]`.
//! - `< STATUS [METHOD] [tag=T] [words]`: the peer's response to our last METHOD (INVITE).
//! - `< METHOD [words]`: the peer's request; an INVITE without a dialog begins one. `cseq=`, `rack=` (`ok`: as it should be).
//! - Words: `sdp`, `rseq=`, `se=` (Session-Expires), `min-se=`, `require=`, `supported=`, `unsupported=`, `allow=`,
//!   `contact=`, `route=` (Record-Route), `retry-after=`, `challenge`.
//! - What we send has also `cseq=`, `tag=` (of To), `to=` (the Request-URI) and `hop=` (Route).

use std::time::{Duration, Instant};

use ringback::sip::{
    Body, Credentials, EndedBy, Headers, Invite, Message, Method, Refresher, Reliable, Request, Response, SessionId,
    SessionOptions, SessionTimer, Transport, UaEvent, UaOutput, UserAgent,
};

use crate::answers::{flow, user_agent};

/// One row: what it shows, and the script.
pub type Row = (&'static str, &'static str);

/// Runs every row of a table, and tells of all that do not hold.
pub fn check(table: &[Row]) {
    let wrong: Vec<String> = table.iter().filter_map(|(name, script)| play(name, script).err()).collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

fn play(name: &'static str, script: &str) -> Result<(), String> {
    let mut desk = Desk::new(name);
    let mut lines = script.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        desk.play(line);
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('>') || line.starts_with('!')) {
            expected.push(line);
        }
        desk.expect(line, &expected)?;
    }
    Ok(())
}

const HEADERS: &[(&str, &str)] = &[
    ("rseq", "RSeq"),
    ("rack", "RAck"),
    ("se", "Session-Expires"),
    ("min-se", "Min-SE"),
    ("require", "Require"),
    ("supported", "Supported"),
    ("unsupported", "Unsupported"),
    ("allow", "Allow"),
    ("contact", "Contact"),
    ("route", "Record-Route"),
    ("retry-after", "Retry-After"),
];

struct Desk {
    name: &'static str,
    ua: UserAgent,
    now: Instant,
    session: Option<SessionId>,
    /// What has come out since it was last asked for.
    out: Vec<Vec<String>>,
    requests: Vec<Request>,
    responses: Vec<Response>,
    /// The peer's last INVITE outside of a dialog.
    theirs: Option<Request>,
    /// Our To or From in the dialog, as the peer writes it; his own; and the Call-ID.
    dialog: Option<(String, String, String)>,
    cseq: u32,
}

/// The value of `name=value` among the words.
fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn options(words: &[&str]) -> SessionOptions {
    let reliable = match value(words, "reliable") {
        Some("off") => Reliable::Off,
        Some("required") => Reliable::Required,
        _ => Reliable::Supported,
    };
    let timer = value(words, "timer").map(|text| {
        let mut parts = text.split('/');
        let mut number = || parts.next().unwrap().parse().unwrap();
        let (expires, min_se) = (number(), number());
        let refresher = parts.next().map(|who| if who == "us" { Refresher::Us } else { Refresher::Them });
        SessionTimer { expires, min_se, refresher }
    });
    SessionOptions { reliable, timer, ..SessionOptions::default() }
}

fn duration(text: &str) -> Duration {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number = digits.parse().unwrap();
    match text.trim_start_matches(digits) {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        unit => panic!("no such unit: {unit}"),
    }
}

fn sdp(text: &str) -> Body {
    Body { content_type: "application/sdp".to_owned(), bytes: text.as_bytes().to_vec() }
}

/// Puts into a message of the peer's what its line says.
fn furnish(headers: &mut Headers, words: &[&str]) -> Vec<u8> {
    for (word, header) in HEADERS {
        if *word == "contact" || *word == "rack" {
            continue;
        }
        if let Some(text) = value(words, word) {
            headers.push(*header, text.replace('+', " "));
        }
    }
    if words.contains(&"challenge") {
        headers.push("WWW-Authenticate", "Digest realm=\"carrier\", nonce=\"n\", qop=\"auth\"");
    }
    if words.contains(&"sdp") {
        headers.push("Content-Type", "application/sdp");
        return b"theirs".to_vec();
    }
    Vec::new()
}

impl Desk {
    fn new(name: &'static str) -> Desk {
        Desk {
            name,
            ua: user_agent(),
            now: Instant::now(),
            session: None,
            out: Vec::new(),
            requests: Vec::new(),
            responses: Vec::new(),
            theirs: None,
            dialog: None,
            cseq: 100,
        }
    }

    fn play(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words[0], words.get(1)) {
            ("<", Some(what)) if what.starts_with(|c: char| c.is_ascii_digit()) => self.their_response(&words[1..]),
            ("<", Some(_)) => self.their_request(&words[1..]),
            ("wait", Some(time)) => self.wait(duration(time)),
            ("next", Some(range)) => self.next(range),
            ("call", _) => self.call(&words),
            _ => self.wish(&words),
        }
        self.drain();
    }

    fn call(&mut self, words: &[&str]) {
        let credentials = Credentials { username: "us".into(), password: "x".into(), realm: None };
        let invite = Invite {
            flow: flow(Transport::Udp),
            request_uri: "sip:them@198.51.100.2".parse().unwrap(),
            from: "<sip:us@198.51.100.1>".parse().unwrap(),
            to: "<sip:them@198.51.100.2>".parse().unwrap(),
            contact_user: Some("us".to_owned()),
            headers: Vec::new(),
            body: (!words.contains(&"offerless")).then(|| sdp("offer")),
            credentials: Some(credentials),
            options: options(words),
        };
        self.session = Some(self.ua.invite(self.now, invite).unwrap());
    }

    fn wish(&mut self, words: &[&str]) {
        let (ua, now) = (&mut self.ua, self.now);
        let session = self.session.expect("a session");
        let status = || words.get(1).map(|word| word.parse::<u16>().unwrap());
        let described = words.contains(&"sdp").then(|| sdp("early"));
        let result = match words[0] {
            "configure" => ua.configure(now, session, options(words)),
            "ring" => ua.ring(now, session, status().unwrap(), described),
            "accept" => ua.accept(now, session, sdp("final")),
            "reoffer" => ua.reoffer(now, session, sdp("reoffer")),
            "answer" => ua.answer_reoffer(now, session, status().map_or_else(|| Ok(sdp("answer")), Err)),
            "hangup" => {
                ua.hangup(now, session, None);
                Ok(())
            }
            other => panic!("{}: no such wish: {other}", self.name),
        };
        if let Err(error) = result {
            self.out.push(vec!["!".into(), "error".into(), format!("{error:?}")]);
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.ua.poll_timeout().filter(|at| *at <= end) {
            self.pass(at);
        }
        self.now = end;
    }

    fn pass(&mut self, at: Instant) {
        self.now = self.now.max(at);
        self.ua.handle_timeout(self.now);
        self.drain();
    }

    /// Lets time pass until something comes of it, no sooner and no later than is said.
    fn next(&mut self, range: &str) {
        let (soonest, latest) = range.split_once("..").unwrap();
        let begin = self.now;
        while self.out.is_empty()
            && let Some(at) = self.ua.poll_timeout()
        {
            self.pass(at);
        }
        let took = self.now - begin;
        assert!(duration(soonest) <= took && took <= duration(latest), "{}: {range}: {took:?}", self.name);
    }

    fn their_response(&mut self, words: &[&str]) {
        let status: u16 = words[0].parse().unwrap();
        let method: Method = words
            .get(1)
            .filter(|word| word.chars().all(|c| c.is_ascii_uppercase()))
            .map_or(Method::Invite, |word| word.parse().unwrap());
        let request = self.requests.iter().rfind(|request| request.method == method).expect("our request").clone();
        let mut response = request.response(status, "Text");
        let tag = value(words, "tag").unwrap_or("b");
        let to = response.headers.to().unwrap();
        if status > 100 && to.tag().is_none() {
            response.headers.set("To", to.with_tag(tag).to_string());
        }
        response.headers.push("Contact", value(words, "contact").unwrap_or("<sip:them@198.51.100.2:5060>"));
        response.body = furnish(&mut response.headers, words);
        if method == Method::Invite && status > 100 {
            let headers = &response.headers;
            let header = |name: &str| headers.get(name).unwrap().to_owned();
            self.dialog = Some((header("From"), header("To"), header("Call-ID")));
        }
        self.receive(&Message::Response(response));
    }

    fn their_request(&mut self, words: &[&str]) {
        let method: Method = words[0].parse().unwrap();
        self.cseq += 1;
        let number: u32 = value(words, "cseq").map_or(self.cseq, |text| text.parse().unwrap());
        let mut request = match (&method, &self.theirs) {
            (Method::Cancel, Some(invite)) => Request { method: Method::Cancel, ..invite.clone() },
            _ => Request::new(method.clone(), "sip:us@198.51.100.1".parse().unwrap()),
        };
        if method == Method::Cancel {
            let number = request.headers.cseq().unwrap().number;
            request.headers.set("CSeq", format!("{number} CANCEL"));
            request.headers.remove("Content-Type");
            request.body.clear();
            return self.receive(&Message::Request(request));
        }
        let outside = ("<sip:us@198.51.100.1>".into(), "<sip:them@198.51.100.2>;tag=b".into(), "theirs".into());
        let begins = self.dialog.is_none();
        let (ours, theirs, call_id) = self.dialog.clone().unwrap_or(outside);
        let (number, branch) = match method {
            Method::Ack => self.acknowledged(),
            _ => (number, format!("{number}{method}")),
        };
        let headers = &mut request.headers;
        headers.push("Via", format!("SIP/2.0/UDP 198.51.100.2:5060;branch=z9hG4bK{branch}"));
        headers.push("Max-Forwards", "70");
        headers.push("From", theirs);
        headers.push("To", ours);
        headers.push("Call-ID", call_id);
        headers.push("CSeq", format!("{number} {method}"));
        if let Some(rack) = value(words, "rack") {
            let rack = if rack == "ok" { self.expected_rack() } else { rack.replace('/', " ") };
            headers.push("RAck", rack);
        }
        headers.push("Contact", value(words, "contact").unwrap_or("<sip:them@198.51.100.2:5060>"));
        request.body = furnish(headers, words);
        if method == Method::Invite && begins {
            self.theirs = Some(request.clone());
        }
        self.receive(&Message::Request(request));
    }

    /// The number of the peer's last INVITE that we have answered, and the branch of its ACK: that of the INVITE itself
    /// for a refusal.
    fn acknowledged(&self) -> (u32, String) {
        let of_invite = |response: &&Response| response.headers.cseq().unwrap().method == Method::Invite;
        let last = self.responses.iter().rfind(of_invite).expect("an answer to an INVITE");
        let number = last.headers.cseq().unwrap().number;
        (number, if last.status < 300 { format!("{number}ACK") } else { format!("{number}INVITE") })
    }

    fn expected_rack(&self) -> String {
        let last = self.responses.iter().rfind(|response| response.headers.get("RSeq").is_some()).expect("an RSeq");
        format!("{} {}", last.headers.get("RSeq").unwrap(), last.headers.get("CSeq").unwrap())
    }

    fn receive(&mut self, message: &Message) {
        self.ua.handle_datagram(self.now, flow(Transport::Udp), &message.to_bytes());
    }

    fn drain(&mut self) {
        while let Some(output) = self.ua.poll_output() {
            match output {
                UaOutput::Transmit { bytes, .. } => self.sent(&bytes),
                UaOutput::Event(event) => self.told(event),
            }
        }
    }

    fn sent(&mut self, bytes: &[u8]) {
        let mut words = vec![">".to_owned()];
        let message = Message::parse(bytes).unwrap();
        let cseq = message.headers().cseq().unwrap();
        match &message {
            Message::Request(request) => {
                words.push(request.method.to_string());
                words.push(format!("to={}", request.uri));
                words.extend(request.headers.routes().unwrap().iter().map(|route| format!("hop={}", route.uri)));
            }
            Message::Response(response) => words.extend([response.status.to_string(), cseq.method.to_string()]),
        }
        words.push(format!("cseq={}", cseq.number));
        words.extend(message.headers().to().unwrap().tag().map(|tag| format!("tag={tag}")));
        for (word, header) in HEADERS {
            for text in message.headers().get_all(header).flat_map(|text| text.split(',')) {
                words.push(format!("{word}={}", text.trim().replace(' ', "/")));
                words.push((*word).to_owned());
            }
        }
        for name in ["Authorization", "Proxy-Authorization"] {
            words.extend(message.headers().get(name).map(|_| "credentials".to_owned()));
        }
        let body = match &message {
            Message::Request(request) => &request.body,
            Message::Response(response) => &response.body,
        };
        if !body.is_empty() {
            words.push("sdp".to_owned());
            words.push(format!("sdp={}", String::from_utf8_lossy(body)));
        }
        self.out.push(words);
        match message {
            Message::Request(request) => self.requests.push(request),
            Message::Response(response) => {
                let begins = response.status > 100 && cseq.method == Method::Invite && self.dialog.is_none();
                if begins && response.headers.to().unwrap().tag().is_some() {
                    let header = |name: &str| response.headers.get(name).unwrap().to_owned();
                    self.dialog = Some((header("To"), header("From"), header("Call-ID")));
                }
                self.responses.push(response);
            }
        }
    }

    fn told(&mut self, event: UaEvent) {
        let mut body = None;
        let mut words = vec!["!".to_owned()];
        let mut say = |text: &str| words.extend(text.split(' ').map(str::to_owned));
        match event {
            UaEvent::Incoming { session, .. } => {
                self.session = Some(session);
                say("incoming");
            }
            UaEvent::Trying { .. } => say("trying"),
            UaEvent::Provisional { status, body: it, reliable, .. } => {
                body = it;
                say(&format!("provisional {status}"));
                say(if reliable { "reliable" } else { "unreliable" });
            }
            UaEvent::Answered { body: it, .. } => {
                body = it;
                say("answered");
            }
            UaEvent::Failed { status, .. } => say(&format!("failed {status}")),
            UaEvent::Acked { body: it, .. } => {
                body = it;
                say("acked");
            }
            UaEvent::Cancelled { .. } => say("cancelled"),
            UaEvent::Pracked { body: it, .. } => {
                body = it;
                say("pracked");
            }
            UaEvent::Reoffered { body: it, .. } => {
                body = it;
                say("reoffered");
            }
            UaEvent::ReofferAnswered { result: Ok(it), .. } => {
                body = it;
                say("reoffer-answered");
            }
            UaEvent::ReofferAnswered { result: Err(status), .. } => say(&format!("reoffer-answered {status}")),
            UaEvent::Refreshed { body: it, .. } => {
                body = it;
                say("refreshed");
            }
            UaEvent::Ended { by, .. } => say(match by {
                EndedBy::SessionTimer => "ended session-timer",
                EndedBy::Remote => "ended remote",
                EndedBy::Timeout => "ended timeout",
                EndedBy::NoAck => "ended no-ack",
                EndedBy::Transport => "ended transport",
            }),
            UaEvent::Closed { .. } => say("closed"),
            other => say(&format!("{other:?}")),
        }
        if body.is_some() {
            words.push("sdp".to_owned());
        }
        self.out.push(words);
    }

    /// What is sent and what is told are each in order; which comes first of the two says nothing.
    fn expect(&mut self, line: &str, expected: &[&str]) -> Result<(), String> {
        let out = std::mem::take(&mut self.out);
        let shown: Vec<String> = out.iter().map(|words| words.join(" ")).collect();
        let wrong =
            |what: String| format!("{}\n  after: {line}\n  came:\n    {}\n  {what}", self.name, shown.join("\n    "));
        for mark in [">", "!"] {
            let came: Vec<_> = out.iter().filter(|words| words[0] == mark).collect();
            let wanted: Vec<_> = expected.iter().filter(|line| line.starts_with(mark)).collect();
            if came.len() != wanted.len() {
                return Err(wrong(format!("expected: {wanted:?}")));
            }
            for (words, wanted) in came.iter().zip(wanted) {
                let has = |wish: &str| words.iter().any(|word| word == wish);
                let fails = |wish: &&str| wish.strip_prefix('-').map_or(!has(wish), has);
                if let Some(wish) = wanted.split_whitespace().find(fails) {
                    return Err(wrong(format!("expected: {wanted}\n  not so: {wish}")));
                }
            }
        }
        Ok(())
    }
}
