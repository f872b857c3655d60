#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::sip::{Credentials, Method, digest};

/// A registrar, its clock, and phones.
struct Bench {
    registrar: Registrar,
    now: Instant,
    cseq: u32,
}

fn config() -> RegistrarConfig {
    let password = |text: &str| Secret::Password(text.into());
    let users = [("alice", password("secret")), ("bob", password("hidden"))];
    RegistrarConfig::new("pbx.example", users.map(|(name, secret)| (name.to_owned(), secret)).into())
}

fn flow(remote: &str) -> Flow {
    Flow { transport: Transport::Udp, local: "192.0.2.1:5060".parse().unwrap(), remote: remote.parse().unwrap(), id: 0 }
}

const HOME: &str = "198.51.100.5:5062";

impl Bench {
    #[allow(clippy::disallowed_methods)] // the origin of virtual time
    fn new(config: RegistrarConfig) -> Bench {
        Bench { registrar: Registrar::new(config, [3; 32]), now: Instant::now(), cseq: 0 }
    }

    fn request(&mut self, method: Method, user: &str, headers: &[(&str, &str)]) -> Request {
        self.cseq += 1;
        let mut request = Request::new(method, "sip:pbx.example".parse().unwrap());
        request.headers.push("Via", format!("SIP/2.0/UDP 198.51.100.5;branch=z9hG4bK{}", self.cseq));
        request.headers.push("From", format!("<sip:{user}@pbx.example>;tag=f"));
        request.headers.push("To", format!("<sip:{user}@pbx.example>"));
        let named = |name: &str| headers.iter().any(|(it, _)| *it == name);
        if !named("Call-ID") {
            request.headers.push("Call-ID", "one");
        }
        if !named("CSeq") {
            request.headers.push("CSeq", format!("{} {}", self.cseq, request.method));
        }
        headers.iter().for_each(|(name, value)| request.headers.push(*name, *value));
        request
    }

    /// Asks, is challenged, and asks again with credentials.
    fn register(&mut self, user: &str, password: &str, headers: &[(&str, &str)]) -> Response {
        self.register_from(HOME, user, password, headers)
    }

    fn register_from(&mut self, source: &str, user: &str, password: &str, headers: &[(&str, &str)]) -> Response {
        let request = self.request(Method::Register, user, headers);
        let response = self.registrar.handle(self.now, &request, flow(source));
        if response.status != 401 {
            return response;
        }
        let again = with_credentials(request, &response, user, password);
        self.registrar.handle(self.now, &again, flow(source))
    }

    fn statuses(&mut self, password: &str, times: usize) -> Vec<u16> {
        (0..times).map(|_| self.register_from("203.0.113.9:5060", "alice", password, &[]).status).collect()
    }

    fn contacts(&self, user: &str) -> Vec<String> {
        self.registrar.bindings(user, self.now).iter().map(|binding| binding.contact.to_string()).collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

fn with_credentials(mut request: Request, challenge: &Response, user: &str, password: &str) -> Request {
    let (name, answer) = match challenge.status {
        407 => ("Proxy-Authenticate", "Proxy-Authorization"),
        _ => ("WWW-Authenticate", "Authorization"),
    };
    let who = Credentials { username: user.into(), password: password.into(), realm: None };
    let challenge = challenge.headers.challenges(name).remove(0);
    let uri = request.uri.to_string();
    request.headers.push(answer, digest::answer(&challenge, &who, &request.method, &uri, b"", "c", 1).unwrap());
    request
}

const HERE: (&str, &str) = ("Contact", "<sip:alice@198.51.100.5:5062>");

#[test]
fn a_phone_registers_and_is_called_over_its_flow() {
    let mut bench = Bench::new(config());
    let ok = bench.register("alice", "secret", &[HERE, ("Expires", "120")]);
    assert_eq!((ok.status, ok.headers.get("Contact")), (200, Some("<sip:alice@198.51.100.5:5062>;expires=120")));
    let binding = bench.registrar.bindings("alice", bench.now).remove(0);
    assert_eq!((binding.flow, binding.contact.to_string().as_str()), (flow(HOME), "sip:alice@198.51.100.5:5062"));
    assert!(bench.registrar.knows("198.51.100.5".parse().unwrap(), bench.now));
    assert!(!bench.registrar.knows("198.51.100.6".parse().unwrap(), bench.now));
    // A question without Contact tells what there is.
    bench.pass(20);
    let ok = bench.register("alice", "secret", &[]);
    assert_eq!(ok.headers.get("Contact"), Some("<sip:alice@198.51.100.5:5062>;expires=100"));
    bench.pass(100);
    assert!(bench.contacts("alice").is_empty());
    assert!(!bench.registrar.knows("198.51.100.5".parse().unwrap(), bench.now));
    assert_eq!(bench.register("alice", "secret", &[]).headers.get("Contact"), None);
    assert!(bench.registrar.known.is_empty());
}

/// RFC 3261 section 10.3, step by step: what one REGISTER with these header fields gets.
#[test]
fn a_register_gets_what_section_10_3_says() {
    type Row = (&'static str, &'static [(&'static str, &'static str)], u16, &'static [&'static str]);
    let table: &[Row] = &[
        ("default expiry", &[HERE], 200, &["<sip:alice@198.51.100.5:5062>;expires=3600"]),
        ("cut to the most", &[HERE, ("Expires", "99999")], 200, &["<sip:alice@198.51.100.5:5062>;expires=3600"]),
        (
            "own before Expires",
            &[("Contact", "<sip:a@h>;expires=90"), ("Expires", "300")],
            200,
            &["<sip:a@h>;expires=90"],
        ),
        ("malformed is default", &[("Contact", "<sip:a@h>;expires=x")], 200, &["<sip:a@h>;expires=3600"]),
        ("too brief", &[HERE, ("Expires", "59")], 423, &[]),
        ("one too brief of two", &[("Contact", "<sip:a@h>, <sip:b@h>;expires=1")], 423, &[]),
        ("zero removes nothing", &[HERE, ("Expires", "0")], 200, &[]),
        ("star", &[("Contact", "*"), ("Expires", "0")], 200, &[]),
        ("star without expiry", &[("Contact", "*")], 400, &[]),
        ("star that lasts", &[("Contact", "*"), ("Expires", "10")], 400, &[]),
        ("star and another", &[("Contact", "*"), HERE, ("Expires", "0")], 400, &[]),
        (
            "q",
            &[("Contact", "<sip:a@h>;q=0.5, <sip:b@h>;q=1.0")],
            200,
            &["<sip:b@h>;expires=3600", "<sip:a@h>;expires=3600;q=0.500"],
        ),
        ("q beyond", &[("Contact", "<sip:a@h>;q=1.5")], 400, &[]),
        ("no SIP", &[("Contact", "<mailto:a@h>")], 400, &[]),
        ("Path", &[HERE, ("Path", "<sip:p.example;lr>")], 420, &[]),
        ("another's name", &[HERE, ("To", "<sip:bob@pbx.example>")], 403, &[]),
    ];
    for (name, headers, status, contacts) in table {
        let mut bench = Bench::new(config());
        let mut request = bench.request(Method::Register, "alice", &[]);
        headers.iter().for_each(|(name, _)| request.headers.remove(name));
        headers.iter().for_each(|(name, value)| request.headers.push(*name, *value));
        let challenge = bench.registrar.handle(bench.now, &request, flow(HOME));
        let request = with_credentials(request, &challenge, "alice", "secret");
        let response = bench.registrar.handle(bench.now, &request, flow(HOME));
        assert_eq!(response.status, *status, "{name}");
        let all: Vec<_> = response.headers.get_all("Contact").collect();
        assert_eq!(all, *contacts, "{name}");
        match status {
            423 => assert_eq!(response.headers.get("Min-Expires"), Some("60")),
            420 => assert_eq!(response.headers.get("Unsupported"), Some("path")),
            _ => {}
        }
    }
}

/// RFC 3261 section 10.3, step 7.
#[test]
fn within_a_call_id_numbers_must_rise_and_a_refusal_changes_nothing() {
    let mut bench = Bench::new(config());
    let at = |cseq: &'static str, call_id: &'static str| [HERE, ("CSeq", cseq), ("Call-ID", call_id)];
    assert_eq!(bench.register("alice", "secret", &at("7 REGISTER", "x")).status, 200);
    assert_eq!(bench.register("alice", "secret", &at("7 REGISTER", "x")).status, 500);
    assert_eq!(bench.register("alice", "secret", &at("6 REGISTER", "x")).status, 500);
    let star = [("Contact", "*"), ("Expires", "0"), ("CSeq", "6 REGISTER"), ("Call-ID", "x")];
    assert_eq!(bench.register("alice", "secret", &star).status, 500);
    let two = [("Contact", "<sip:new@h>, <sip:alice@198.51.100.5:5062>"), ("CSeq", "7 REGISTER"), ("Call-ID", "x")];
    assert_eq!(bench.register("alice", "secret", &two).status, 500);
    assert_eq!(bench.contacts("alice"), ["sip:alice@198.51.100.5:5062"]);
    assert_eq!(bench.register("alice", "secret", &at("8 REGISTER", "x")).status, 200);
    assert_eq!(bench.register("alice", "secret", &at("1 REGISTER", "rebooted")).status, 200);
    let star = [("Contact", "*"), ("Expires", "0"), ("CSeq", "1 REGISTER"), ("Call-ID", "other")];
    assert_eq!(bench.register("alice", "secret", &star).status, 200);
    assert!(bench.contacts("alice").is_empty());
}

#[test]
fn a_user_has_so_many_bindings_and_the_oldest_gives_way() {
    let mut bench = Bench::new(RegistrarConfig { max_bindings: 2, ..config() });
    for contact in ["<sip:a@h1>", "<sip:a@h2>", "<sip:a@h1>", "<sip:a@h3>"] {
        bench.pass(1);
        assert_eq!(bench.register("alice", "secret", &[("Contact", contact)]).status, 200);
    }
    assert_eq!(bench.contacts("alice"), ["sip:a@h3", "sip:a@h1"]);
    assert_eq!(bench.register("bob", "hidden", &[("Contact", "<sip:a@h1>")]).status, 200);
    let many = (0..20).map(|n| format!("<sip:a@n{n}>")).collect::<Vec<_>>().join(", ");
    assert_eq!(bench.register("alice", "secret", &[("Contact", &many)]).status, 400);
    // RFC 5626: the same phone under another address replaces itself.
    let phone = |host: &str| format!("<sip:a@{host}>;+sip.instance=\"<urn:uuid:1>\";reg-id=1");
    for host in ["i1", "i2", "i3"] {
        bench.pass(1);
        assert_eq!(bench.register("alice", "secret", &[("Contact", &phone(host))]).status, 200);
    }
    assert_eq!(bench.contacts("alice"), ["sip:a@i3", "sip:a@h3"]);
}

/// RFC 7616 section 5: who is a user cannot be learned from what is answered.
#[test]
fn strangers_learn_nothing() {
    let mut bench = Bench::new(config());
    let mut seen = Vec::new();
    for user in ["alice", "nobody"] {
        let request = bench.request(Method::Register, user, &[HERE]);
        let first = bench.registrar.handle(bench.now, &request, flow(HOME));
        let request = with_credentials(request, &first, user, "guess");
        let second = bench.registrar.handle(bench.now, &request, flow(HOME));
        let shape = |response: &Response| {
            let names: Vec<_> = response.headers.iter().map(|(name, _)| name.to_owned()).collect();
            let stale = response.headers.challenges("WWW-Authenticate").iter().any(|it| it.stale);
            (response.status, response.reason.clone(), names, stale)
        };
        seen.push((shape(&first), shape(&second)));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!((seen[0].1.0, seen[0].1.3), (401, false));
    assert_eq!(bench.registrar.counters(bench.now).failed, 2);
}

#[test]
fn guessing_is_slowed_by_user_and_by_source_and_counted() {
    let mut bench = Bench::new(config());
    assert_eq!(bench.register("alice", "secret", &[HERE]).status, 200);
    // By user: five are free, the sixth closes the door, to the right password too.
    assert_eq!(bench.statuses("guess", 6), [401; 6]);
    assert_eq!(bench.statuses("secret", 2), [503; 2]);
    let refused = bench.register_from("203.0.113.77:1", "alice", "secret", &[]);
    assert_eq!((refused.status, refused.headers.get("Retry-After")), (503, Some("10")));
    let counters = bench.registrar.counters(bench.now);
    assert_eq!((counters.throttled, counters.failed), (1, 6));
    // Her own phone goes on as ever.
    assert_eq!(bench.register("alice", "secret", &[HERE]).status, 200);
    bench.pass(3_600);
    // By source: whatever the names are.
    for n in 0..21 {
        let user = format!("user{n}");
        assert_eq!(bench.register_from("203.0.113.9:5060", &user, "guess", &[]).status, 401, "{n}");
    }
    let refused = bench.register_from("203.0.113.9:9", "bob", "hidden", &[]);
    assert_eq!((refused.status, refused.headers.get("Retry-After")), (503, Some("10")));
    assert_eq!(bench.register_from("203.0.113.10:9", "bob", "hidden", &[]).status, 200);
    bench.pass(10);
    assert_eq!(bench.register_from("203.0.113.9:9", "bob", "hidden", &[]).status, 200);
    assert!(bench.registrar.counters(bench.now).slowed > 0);
    // IPv6 by network.
    assert_eq!(source_of(flow("[2001:db8::1]:1")), source_of(flow("[2001:db8::ffff:1:2:3]:2")));
    assert_eq!(source_of(flow("[::ffff:192.0.2.1]:1")), source_of(flow("192.0.2.1:2")));
}

/// A proxy on this machine ends the browsers' TLS: all come from its address, and a guesser must not slow the others.
#[test]
fn a_guesser_behind_the_proxy_of_all_browsers_slows_the_user_alone_whom_he_guesses() {
    let mut bench = Bench::new(config());
    let by = |port: u16| Flow { transport: Transport::Ws, ..flow(&format!("127.0.0.1:{port}")) };
    let mut register = |port, user: &str, password: &str| {
        let request = bench.request(Method::Register, user, &[HERE]);
        let response = bench.registrar.handle(bench.now, &request, by(port));
        match response.status {
            401 => {
                let again = with_credentials(request, &response, user, password);
                bench.registrar.handle(bench.now, &again, by(port)).status
            }
            status => status,
        }
    };
    assert_eq!(register(1, "alice", "secret"), 200);
    let guesses: Vec<u16> = (0..40).map(|_| register(2, "alice", "guess")).collect();
    assert_eq!(guesses.iter().position(|status| *status == 503), Some(6), "{guesses:?}");
    assert_eq!(register(3, "bob", "hidden"), 200, "nobody else is slowed");
    assert_eq!(register(4, "alice", "secret"), 503);
    assert_eq!(register(1, "alice", "secret"), 200, "nor is her own browser");
}

/// Who shares the address of a registered phone (a NAT) is slowed all the same; the phone itself is not.
#[test]
fn guessing_from_behind_the_phones_own_nat_is_slowed() {
    let mut bench = Bench::new(config());
    assert_eq!(bench.register("alice", "secret", &[HERE]).status, 200);
    let near = "198.51.100.5:40000";
    let guesses: Vec<u16> = (0..30).map(|_| bench.register_from(near, "alice", "guess", &[]).status).collect();
    assert_eq!(guesses.iter().position(|status| *status == 503), Some(21), "{guesses:?}");
    assert_eq!(bench.register_from(near, "alice", "secret", &[]).status, 503);
    assert_eq!(bench.register("alice", "secret", &[HERE]).status, 200);
}

#[test]
fn a_call_from_a_phone_is_authenticated_as_by_a_proxy() {
    let mut bench = Bench::new(config());
    let request = bench.request(Method::Invite, "alice", &[]);
    let response = bench.registrar.authenticate(bench.now, &request, flow(HOME)).unwrap_err();
    assert_eq!(response.status, 407);
    let wrong = with_credentials(request.clone(), &response, "alice", "guess");
    assert_eq!(bench.registrar.authenticate(bench.now, &wrong, flow(HOME)).unwrap_err().status, 407);
    let right = with_credentials(request, &response, "alice", "secret");
    assert_eq!(bench.registrar.authenticate(bench.now, &right, flow(HOME)).unwrap(), "alice");
    // Once.
    let replayed = bench.registrar.authenticate(bench.now, &right, flow(HOME)).unwrap_err();
    assert!(replayed.headers.challenges("Proxy-Authenticate").iter().all(|it| it.stale));
}

#[test]
fn what_a_secret_does_not_have_is_not_asked_for() {
    let md5 = Algorithm::Md5.ha1("carol", "pbx.example", "pw");
    let mut users = config().users;
    users.insert("carol".into(), Secret::Ha1 { md5: Some(md5.clone()), sha256: None });
    let config = RegistrarConfig::new("pbx.example", users);
    assert!(!format!("{config:?}").contains("secret") && !format!("{config:?}").contains(&md5));
    let mut bench = Bench::new(config);
    let request = bench.request(Method::Register, "alice", &[]);
    let response = bench.registrar.handle(bench.now, &request, flow(HOME));
    let challenges = response.headers.challenges("WWW-Authenticate");
    assert_eq!(challenges.iter().map(|it| it.algorithm.as_deref().unwrap()).collect::<Vec<_>>(), ["MD5"]);
    assert_eq!(bench.register("carol", "pw", &[HERE]).status, 200);
    assert_eq!(bench.register("alice", "secret", &[HERE]).status, 200);
    assert_eq!(bench.register("carol", "guess", &[HERE]).status, 401);
}

#[test]
fn a_closed_connection_leaves_the_address_or_nothing() {
    let table = [
        (Transport::Tcp, "<sip:a@198.51.100.5:5070>", Some("198.51.100.5:5070")),
        (Transport::Tcp, "<sip:a@df7jal23ls0d.invalid>", None),
        (Transport::Tls, "<sips:a@198.51.100.5>", None),
        (Transport::Wss, "<sip:a@df7jal23ls0d.invalid;transport=ws>", None),
    ];
    for (transport, contact, left) in table {
        let mut bench = Bench::new(config());
        let flow = Flow { transport, id: 9, ..flow("198.51.100.5:49152") };
        let request = bench.request(Method::Register, "alice", &[("Contact", contact)]);
        let response = bench.registrar.handle(bench.now, &request, flow);
        let request = with_credentials(request, &response, "alice", "secret");
        assert_eq!(bench.registrar.handle(bench.now, &request, flow).status, 200);
        bench.registrar.connection_closed(Flow { id: 0, ..flow });
        bench.registrar.connection_closed(Flow { id: 8, ..flow });
        assert_eq!(bench.registrar.bindings("alice", bench.now)[0].flow, flow);
        bench.registrar.connection_closed(flow);
        let bindings = bench.registrar.bindings("alice", bench.now);
        let expected: Vec<Flow> =
            left.iter().map(|remote| Flow { id: 0, remote: remote.parse().unwrap(), ..flow }).collect();
        assert_eq!(bindings.iter().map(|it| it.flow).collect::<Vec<_>>(), expected, "{transport} {contact}");
    }
}
