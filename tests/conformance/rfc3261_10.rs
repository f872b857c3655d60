//! RFC 3261 section 10 (registration), both of its sides, each against the other; and what RFC 7616 and section 22 ask of
//! who answers a challenge.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringback::sip::register::{RegisterConfig, RegisterEvent, RegisterOutput, RegisterState, Registration};
use ringback::sip::registrar::{Algorithm, Registrar, RegistrarConfig, Secret};
use ringback::sip::transaction::ClientFailure;
use ringback::sip::{
    Credentials, Flow, Message, Method, OutOfDialog, RequestId, Transport, UaConfig, UaError, UaEvent, UaOutput,
    UserAgent,
};

use crate::answers::flow;
use crate::bench::{Bench, config, name};

/// A phone and a registrar, and a wire between them that can be cut.
struct Net {
    now: Instant,
    client: UserAgent,
    registration: Registration,
    under_way: Option<RequestId>,
    server: UserAgent,
    registrar: Registrar,
    cut: bool,
    /// First lines, in order.
    wire: Vec<String>,
    states: Vec<RegisterState>,
}

fn phone() -> Flow {
    flow(Transport::Udp)
}

fn exchange() -> Flow {
    Flow { local: phone().remote, remote: phone().local, ..phone() }
}

impl Net {
    fn new(password: &str, min_expires: u32) -> Net {
        let users = BTreeMap::from([("us".to_owned(), Secret::Password("secret".into()))]);
        let registrar = RegistrarConfig { min_expires, max_expires: 1_800, ..RegistrarConfig::new("pbx", users) };
        let client = UserAgent::new(config(), [1; 32]);
        let contact = client.contact_for(phone(), Some("us")).unwrap();
        let aor = name("<sip:us@pbx.example>");
        let credentials = Credentials { username: "us".into(), password: password.into(), realm: Some("pbx".into()) };
        let mut wish = RegisterConfig::new(phone(), name("<sip:pbx.example>").uri, aor, contact);
        wish.expires = 300;
        wish.credentials = Some(credentials);
        Net {
            now: Instant::now(),
            client,
            registration: Registration::new(wish, [2; 32]),
            under_way: None,
            server: UserAgent::new(UaConfig { registrar: true, ..config() }, [3; 32]),
            registrar: Registrar::new(registrar, [4; 32]),
            cut: false,
            wire: Vec::new(),
            states: Vec::new(),
        }
    }

    fn tell(&mut self, event: RegisterEvent) {
        self.registration.handle(self.now, event);
        self.settle();
    }

    /// Until nobody has anything more to say now.
    fn settle(&mut self) {
        loop {
            if let Some(output) = self.registration.poll_output() {
                match output {
                    RegisterOutput::Send(request) => {
                        self.under_way = Some(self.client.request(self.now, request).unwrap());
                    }
                    RegisterOutput::State(state) => self.states.push(state),
                }
            } else if let Some(output) = self.client.poll_output() {
                match output {
                    UaOutput::Transmit { bytes, .. } => self.carry(bytes, true),
                    UaOutput::Event(UaEvent::Answer { request, cseq, result }) => {
                        assert_eq!(Some(request), self.under_way.take());
                        self.registration.handle(self.now, RegisterEvent::Answer { cseq, result });
                    }
                    UaOutput::Event(event) => panic!("{event:?}"),
                }
            } else if let Some(output) = self.server.poll_output() {
                match output {
                    UaOutput::Transmit { bytes, .. } => self.carry(bytes, false),
                    UaOutput::Event(UaEvent::Request { id, request, flow }) => {
                        let response = self.registrar.handle(self.now, &request, flow);
                        self.server.respond(self.now, id, response);
                    }
                    UaOutput::Event(event) => panic!("{event:?}"),
                }
            } else {
                return;
            }
        }
    }

    fn carry(&mut self, bytes: Vec<u8>, to_server: bool) {
        if self.cut {
            return;
        }
        let line = String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned();
        self.wire.push(line);
        match to_server {
            true => self.server.handle_datagram(self.now, exchange(), &bytes),
            false => self.client.handle_datagram(self.now, phone(), &bytes),
        }
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            let next = [self.client.poll_timeout(), self.server.poll_timeout(), self.registration.poll_timeout()];
            let Some(at) = next.into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.registration.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn is_bound(&self) -> bool {
        !self.registrar.bindings("us", self.now).is_empty()
    }
}

#[test]
fn a_phone_is_registered_refreshed_and_taken_back() {
    let mut net = Net::new("secret", 60);
    net.tell(RegisterEvent::Start);
    assert_eq!(
        net.wire,
        [
            "REGISTER sip:pbx.example SIP/2.0",
            "SIP/2.0 401 Unauthorized",
            "REGISTER sip:pbx.example SIP/2.0",
            "SIP/2.0 200 OK"
        ]
    );
    let binding = net.registrar.bindings("us", net.now).remove(0);
    assert_eq!((binding.flow.remote, binding.contact.decoded_user().as_deref()), (phone().local, Some("us")));
    // For an hour it is always there: refreshed before each 300 s are over.
    for _ in 0..360 {
        net.pass(10);
        assert!(net.is_bound() && matches!(net.registration.state(), RegisterState::Registered { .. }));
    }
    let refreshes = net.wire.iter().filter(|line| line.contains("200")).count();
    assert!((12..=26).contains(&refreshes), "{refreshes}");
    net.tell(RegisterEvent::Stop);
    assert!(!net.is_bound() && net.registration.state() == RegisterState::Off);
    net.pass(100);
    assert_eq!((net.client.transaction_count(), net.server.transaction_count()), (0, 0));
}

/// Section 10.3, step 7, and 10.2.8.
#[test]
fn a_registrar_that_wants_longer_gets_longer() {
    let mut net = Net::new("secret", 900);
    net.tell(RegisterEvent::Start);
    let RegisterState::Registered { until } = net.registration.state() else { panic!("{:?}", net.states) };
    assert_eq!(until - net.now, Duration::from_secs(900));
    assert!(net.wire.iter().any(|line| line.contains("423 Interval Too Brief")));
}

/// Section 22.2: who does not know the password stops asking, and the registrar stops listening.
#[test]
fn a_wrong_password_is_no_endless_loop() {
    let mut net = Net::new("wrong", 60);
    net.tell(RegisterEvent::Start);
    assert!(matches!(net.registration.state(), RegisterState::Refused { status: 401, .. }), "{:?}", net.states);
    assert_eq!(net.wire.len(), 4, "once, and once with credentials: {:?}", net.wire);
    net.pass(3_600);
    assert!(net.wire.len() < 60, "{}", net.wire.len());
    assert!(!net.is_bound());
}

#[test]
fn a_cut_wire_is_noticed_and_overcome() {
    let mut net = Net::new("secret", 60);
    net.tell(RegisterEvent::Start);
    net.cut = true;
    net.pass(400);
    assert!(!net.is_bound() && matches!(net.registration.state(), RegisterState::Unreachable { .. }));
    net.cut = false;
    // Told that the network is back, or not.
    net.pass(1_800);
    assert!(net.is_bound());
    net.cut = true;
    net.pass(1_000);
    net.cut = false;
    net.tell(RegisterEvent::NetworkBack);
    net.pass(33);
    assert!(net.is_bound());
}

fn options(credentials: Option<Credentials>) -> OutOfDialog {
    OutOfDialog {
        flow: phone(),
        method: Method::Options,
        request_uri: name("<sip:198.51.100.2>").uri,
        from: name("<sip:us@198.51.100.1>"),
        to: name("<sip:198.51.100.2>"),
        call_id: None,
        cseq: None,
        contact: None,
        headers: vec![("Accept".into(), "application/sdp".into())],
        credentials,
        body: None,
    }
}

fn ours(realm: Option<&str>) -> Option<Credentials> {
    Some(Credentials { username: "us".into(), password: "pw".into(), realm: realm.map(Into::into) })
}

fn answer(bench: &mut Bench) -> Option<(u32, Result<u16, ClientFailure>)> {
    bench.news().into_iter().find_map(|event| match event {
        UaEvent::Answer { cseq, result, .. } => Some((cseq, result.map(|response| response.status))),
        _ => None,
    })
}

/// Section 8.1: a request outside of dialogs, and its end.
#[test]
fn a_request_outside_of_dialogs_has_one_end() {
    for status in [200, 404, 480, 503, 600] {
        let mut bench = Bench::new();
        bench.user(|ua, now| ua.request(now, options(None))).unwrap();
        let sent = bench.last(Method::Options);
        assert!(sent.headers.from().unwrap().tag().is_some() && sent.headers.to().unwrap().tag().is_none());
        assert_eq!((sent.headers.get("CSeq"), sent.headers.get("Max-Forwards")), (Some("1 OPTIONS"), Some("70")));
        bench.reply(Method::Options, 100, &[]);
        assert_eq!(answer(&mut bench), None);
        bench.reply(Method::Options, status, &[]);
        assert_eq!(answer(&mut bench), Some((1, Ok(status))));
        bench.reply(Method::Options, status, &[]);
        assert_eq!(answer(&mut bench), None);
        bench.check_empty();
    }
    let mut bench = Bench::new();
    bench.user(|ua, now| ua.request(now, options(None))).unwrap();
    bench.pass(Duration::from_secs(33));
    assert_eq!(answer(&mut bench), Some((1, Err(ClientFailure::Timeout))));
    bench.user(|ua, now| ua.request(now, options(None))).unwrap();
    bench.user(|ua, now| ua.handle_transport_failure(now, phone()));
    assert_eq!(answer(&mut bench), Some((1, Err(ClientFailure::Transport))));
    bench.check_empty();
}

#[test]
fn a_request_that_cannot_be_is_not_sent() {
    let mut bench = Bench::new();
    for method in
        [Method::Invite, Method::Ack, Method::Bye, Method::Cancel, Method::Refer, Method::Notify, Method::Subscribe]
    {
        let refused = bench.user(|ua, now| ua.request(now, OutOfDialog { method, ..options(None) }));
        assert_eq!(refused, Err(UaError::Method));
    }
    let evil = "a\r\nX: 1".to_owned();
    let mut from = name("<sip:us@h>");
    from.display = Some(evil.clone());
    let wishes = [
        OutOfDialog { call_id: Some(evil.clone()), ..options(None) },
        OutOfDialog { call_id: Some(String::new()), ..options(None) },
        OutOfDialog { cseq: Some(1 << 31), ..options(None) },
        OutOfDialog { headers: vec![("X".into(), evil.clone())], ..options(None) },
        OutOfDialog { headers: vec![("Call-ID".into(), "x".into())], ..options(None) },
        OutOfDialog { from: from.clone(), ..options(None) },
        OutOfDialog { contact: Some(from), ..options(None) },
        OutOfDialog { to: name("<sip:b@h>;tag=1"), ..options(None) },
    ];
    for wish in wishes {
        let refused = bench.user(|ua, now| ua.request(now, wish));
        assert!(matches!(refused, Err(UaError::Header { .. })), "{refused:?}");
    }
    assert!(bench.requests.is_empty());
}

/// Sections 22.2 and 22.3, RFC 7616 section 3.3: what is answered, and how often. For each response the challenges in it,
/// and whether the request is sent again.
#[test]
fn challenges_are_answered_for_our_realm_and_twice_at_most() {
    type Row = (&'static str, Option<&'static str>, &'static [(&'static str, bool)]);
    let table: &[Row] = &[
        ("any realm", None, &[("Digest realm=\"a\", nonce=\"1\"", true)]),
        ("our realm", Some("a"), &[("Digest realm=\"a\", nonce=\"1\"", true)]),
        ("another realm", Some("a"), &[("Digest realm=\"b\", nonce=\"1\"", false)]),
        ("not ours in case", Some("a"), &[("Digest realm=\"A\", nonce=\"1\"", false)]),
        ("refused", None, &[("Digest realm=\"a\", nonce=\"1\"", true), ("Digest realm=\"a\", nonce=\"2\"", false)]),
        (
            "stale",
            None,
            &[("Digest realm=\"a\", nonce=\"1\"", true), ("Digest realm=\"a\", nonce=\"2\", stale=TRUE", true)],
        ),
        (
            "stale for ever",
            None,
            &[
                ("Digest realm=\"a\", nonce=\"1\"", true),
                ("Digest realm=\"a\", nonce=\"2\", stale=true", true),
                ("Digest realm=\"a\", nonce=\"3\", stale=true", false),
            ],
        ),
        ("no digest", None, &[("Basic realm=\"a\"", false)]),
        ("an algorithm of tomorrow", None, &[("Digest realm=\"a\", nonce=\"1\", algorithm=SHA-3", false)]),
    ];
    for (what, realm, steps) in table {
        let mut bench = Bench::new();
        bench.user(|ua, now| ua.request(now, options(ours(*realm)))).unwrap();
        let call_id = bench.last(Method::Options).headers.call_id().unwrap().to_owned();
        for (at, (challenge, again)) in steps.iter().enumerate() {
            let sent = bench.count(Method::Options);
            bench.reply(Method::Options, 401, &[("WWW-Authenticate", challenge)]);
            let news = answer(&mut bench);
            assert_eq!(bench.count(Method::Options) - sent, usize::from(*again), "{what}, {at}");
            assert_eq!(news.is_none(), *again, "{what}, {at}");
            let last = bench.last(Method::Options);
            assert_eq!(last.headers.call_id().unwrap(), call_id);
            assert_eq!(last.headers.cseq().unwrap().number as usize, bench.count(Method::Options));
        }
    }
}

/// A challenge from elsewhere than where the request went is nobody's who may have our digest; and inside a call whose
/// peer gives another address, only the realm of the configuration has it.
#[test]
fn a_challenge_is_answered_for_our_peers_own_address() {
    let challenge = ("WWW-Authenticate", "Digest realm=\"a\", nonce=\"1\"");
    let stranger = Flow { remote: "203.0.113.66:5060".parse().unwrap(), ..phone() };
    let mut bench = Bench::new();
    bench.user(|ua, now| ua.request(now, options(ours(None)))).unwrap();
    let mut response = crate::bench::reply(&bench.last(Method::Options), 401);
    response.headers.push(challenge.0, challenge.1);
    bench.user(|ua, now| ua.handle_datagram(now, stranger, &Message::Response(response).to_bytes()));
    assert_eq!((answer(&mut bench), bench.count(Method::Options)), (Some((1, Ok(401))), 1));
    // A call whose peer's Contact is somewhere else.
    for (realm, again) in [(None, false), (Some("a"), true), (Some("b"), false)] {
        let mut bench = Bench::new();
        let id = bench.established_with(ours(realm));
        let mut update = bench.inside(Method::Update);
        update.headers.set("Contact", "<sip:b@203.0.113.66:5060>");
        assert_eq!(bench.ask(&update).unwrap().status, 200);
        bench.user(|ua, now| ua.hangup(now, id, None));
        let (over, bye) = bench.requests.last().unwrap().clone();
        assert_eq!((over.remote, bye.method.clone()), (stranger.remote, Method::Bye));
        let mut response = crate::bench::reply(&bye, 401);
        response.headers.push(challenge.0, challenge.1);
        bench.user(|ua, now| ua.handle_datagram(now, stranger, &response.to_bytes()));
        assert_eq!(bench.count(Method::Bye), 1 + usize::from(again), "{realm:?}");
    }
}

/// Section 8.2.1: who is no registrar says so.
#[test]
fn a_register_is_for_who_wants_it() {
    let mut bench = Bench::new();
    let request = bench.outside(Method::Register);
    assert_eq!(bench.ask(&request).unwrap().status, 405);
    let mut bench = Bench::with(UaConfig { registrar: true, ..config() });
    let request = bench.outside(Method::Register);
    assert_eq!(bench.ask(&request), None);
    let Some(UaEvent::Request { id, request, .. }) = bench.news().pop() else { panic!("a REGISTER") };
    bench.user(|ua, now| ua.respond(now, id, request.response(200, "OK")));
    let response = bench.responses.last().unwrap();
    assert!(response.headers.to().unwrap().tag().is_some());
    assert_eq!(response.headers.get("Server"), Some("Ringback"));
    // Inside a dialog it has no meaning; Require is understood or refused.
    let mut request = bench.outside(Method::Register);
    request.headers.push("Require", "outbound, path");
    let refused = bench.ask(&request).unwrap();
    assert_eq!((refused.status, refused.headers.get("Unsupported")), (420, Some("outbound, path")));
    bench.established();
    let request = bench.inside(Method::Register);
    assert_eq!(bench.ask(&request).unwrap().status, 405);
    assert!(bench.news().is_empty());
}

/// RFC 7616 section 3.9.1 and RFC 8760 section 2.3, from the challenge to the 200: both hashes, by a client that knows
/// one or the other.
#[test]
fn either_hash_lets_a_phone_in() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let ha1 = Some(algorithm.ha1("us", "pbx", "secret"));
        let secret = match algorithm {
            Algorithm::Md5 => Secret::Ha1 { md5: ha1, sha256: None },
            Algorithm::Sha256 => Secret::Ha1 { md5: None, sha256: ha1 },
        };
        let mut net = Net::new("secret", 60);
        net.registrar =
            Registrar::new(RegistrarConfig::new("pbx", BTreeMap::from([("us".to_owned(), secret)])), [4; 32]);
        net.tell(RegisterEvent::Start);
        assert!(net.is_bound(), "{algorithm:?} {:?}", net.wire);
        assert_eq!(net.registrar.counters(net.now).challenged, 1);
    }
}
