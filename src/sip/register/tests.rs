#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::sip::{Host, Transport};

const FLOW: &str = "192.0.2.1:5060";

fn flow(remote: &str) -> Flow {
    Flow { transport: Transport::Tcp, local: FLOW.parse().unwrap(), remote: remote.parse().unwrap(), id: 7 }
}

fn config() -> RegisterConfig {
    let contact: NameAddr = "<sip:us@192.0.2.1:5060>".parse().unwrap();
    let registrar = Uri::sip(None, Host::Name("carrier.example".into()), None).unwrap();
    let aor = "<sip:us@carrier.example>".parse().unwrap();
    RegisterConfig { expires: 600, ..RegisterConfig::new(flow("192.0.2.9:5060"), registrar, aor, contact) }
}

/// The machine, its clock, and what it said.
struct Bench {
    machine: Registration,
    start: Instant,
    now: Instant,
    sent: Vec<OutOfDialog>,
    states: Vec<RegisterState>,
}

impl Bench {
    #[allow(clippy::disallowed_methods)] // the origin of virtual time
    fn new(config: RegisterConfig, seed: u8) -> Bench {
        let now = Instant::now();
        let machine = Registration::new(config, [seed; 32]);
        let mut bench = Bench { machine, start: now, now, sent: Vec::new(), states: Vec::new() };
        bench.tell(RegisterEvent::Start);
        bench
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                RegisterOutput::Send(request) => self.sent.push(request),
                RegisterOutput::State(state) => self.states.push(state),
            }
        }
    }

    fn tell(&mut self, event: RegisterEvent) {
        self.machine.handle(self.now, event);
        self.drain();
    }

    fn answer(&mut self, status: u16, headers: &[(&str, &str)]) {
        let mut response = Response { status, reason: String::new(), headers: Headers::new(), body: Vec::new() };
        headers.iter().for_each(|(name, value)| response.headers.push(*name, *value));
        let cseq = self.sent.last().and_then(|sent| sent.cseq).unwrap_or_default();
        self.tell(RegisterEvent::Answer { cseq, result: Ok(response) });
    }

    fn fail(&mut self) {
        self.tell(RegisterEvent::Answer { cseq: 0, result: Err(ClientFailure::Timeout) });
    }

    /// Lets time come to the next thing; gives how long that took in seconds.
    fn wait(&mut self) -> f64 {
        let at = self.machine.poll_timeout().expect("something to wait for");
        let waited = at - self.now;
        self.now = at;
        self.machine.handle_timeout(at);
        self.drain();
        waited.as_secs_f64()
    }

    fn asked(&self) -> u32 {
        let headers = &self.sent.last().unwrap().headers;
        headers.iter().find(|(name, _)| name == "Expires").unwrap().1.parse().unwrap()
    }
}

/// RFC 3261 section 10.2.4: what the 200 grants, and when it is refreshed.
#[test]
fn the_granted_expiry_counts_and_is_refreshed_before_its_end() {
    type Row = (&'static str, &'static [(&'static str, &'static str)], u64);
    let table: &[Row] = &[
        ("the Contact's own", &[("Contact", "<sip:us@192.0.2.1:5060>;expires=120")], 120),
        ("before Expires", &[("Contact", "<sip:us@192.0.2.1:5060>;expires=90"), ("Expires", "300")], 90),
        ("Expires alone", &[("Contact", "<sip:us@192.0.2.1:5060>"), ("Expires", "300")], 300),
        ("ours among several", &[("Contact", "<sip:x@h>;expires=7, <sip:us@192.0.2.1:5060;ob>;expires=240")], 240),
        ("written in another way", &[("Contact", "\"x\" <sip:us@203.0.113.5:1024>;q=1;expires=60")], 60),
        ("not ours, several", &[("Contact", "<sip:x@h>;expires=7, <sip:y@h>;expires=8"), ("Expires", "200")], 200),
        ("nothing said", &[], 600),
        ("nonsense", &[("Contact", "<<<"), ("Expires", "soon")], 600),
        ("far too long", &[("Expires", "4000000000")], 86_400),
    ];
    for (name, headers, seconds) in table {
        for seed in 0..20 {
            let mut bench = Bench::new(config(), seed);
            bench.answer(200, headers);
            let until = bench.start + Duration::from_secs(*seconds);
            assert_eq!(bench.machine.state(), RegisterState::Registered { until }, "{name}");
            let waited = bench.wait() / *seconds as f64;
            assert!((0.5..0.9).contains(&waited), "{name}: {waited}");
            assert_eq!(bench.sent.len(), 2, "{name}");
        }
    }
}

/// RFC 3261 section 10.2.4: the same Call-ID, and a sequence number that rises by what was used.
#[test]
fn all_requests_of_a_registration_are_of_one_series() {
    let mut bench = Bench::new(config(), 1);
    // Challenged inside: the number last used is 2.
    let ok = Response { status: 200, reason: String::new(), headers: Headers::new(), body: Vec::new() };
    bench.tell(RegisterEvent::Answer { cseq: 2, result: Ok(ok) });
    bench.wait();
    bench.fail();
    bench.wait();
    let numbers: Vec<_> = bench.sent.iter().map(|sent| sent.cseq.unwrap()).collect();
    assert_eq!(numbers, [1, 3, 4]);
    let first = &bench.sent[0];
    assert!(bench.sent.iter().all(|sent| sent.call_id == first.call_id && sent.from == first.from));
    assert!(first.from.tag().is_some() && first.to.tag().is_none());
    assert_eq!((first.method.as_str(), first.request_uri.to_string()), ("REGISTER", "sip:carrier.example".to_owned()));
    assert_eq!(first.contact.as_ref().unwrap().to_string(), "<sip:us@192.0.2.1:5060>;expires=600");
}

/// RFC 3261 section 10.2.8: 423 and Min-Expires, without end only for who lets it.
#[test]
fn too_brief_is_asked_longer_at_once_but_not_for_ever() {
    let mut bench = Bench::new(config(), 1);
    bench.answer(423, &[("Min-Expires", "1800")]);
    assert_eq!((bench.sent.len(), bench.asked()), (2, 1800));
    bench.answer(423, &[("Min-Expires", "3600")]);
    assert_eq!(bench.asked(), 3600);
    bench.answer(423, &[("Min-Expires", "7200")]);
    assert!(matches!(bench.machine.state(), RegisterState::Refused { status: 423, .. }));
    assert_eq!(bench.sent.len(), 3);
    for nonsense in ["", "0", "600", "100", "x", "99999999999"] {
        let mut bench = Bench::new(config(), 1);
        bench.answer(423, &[("Min-Expires", nonsense)]);
        assert!(matches!(bench.machine.state(), RegisterState::Refused { status: 423, .. }), "{nonsense:?}");
        assert_eq!(bench.sent.len(), 1, "{nonsense:?}");
    }
    // What the registrar wanted is remembered.
    let mut bench = Bench::new(config(), 1);
    bench.answer(423, &[("Min-Expires", "1800")]);
    bench.answer(200, &[]);
    bench.wait();
    assert_eq!(bench.asked(), 1800);
}

/// RFC 5626 section 4.5: 50 to 100 % of 30 s, doubled with each failure, up to 1,800 s.
#[test]
fn failures_are_followed_by_growing_pauses_with_jitter() {
    let mut seen = Vec::new();
    for seed in 0..20 {
        let mut bench = Bench::new(config(), seed);
        for failure in 0..10 {
            if failure % 2 == 0 {
                bench.fail();
                assert!(matches!(bench.machine.state(), RegisterState::Unreachable { .. }));
            } else {
                bench.answer(403, &[]);
                assert!(matches!(bench.machine.state(), RegisterState::Refused { status: 403, .. }));
            }
            let whole = (30.0 * f64::from(1 << failure)).min(1_800.0);
            let waited = bench.wait();
            assert!((whole / 2.0..=whole).contains(&waited), "{failure}: {waited}");
            seen.push((waited / whole * 1e6) as u64);
        }
        // A success starts it over.
        bench.answer(200, &[]);
        bench.wait();
        bench.fail();
        assert!(bench.wait() <= 30.0);
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 190, "no two clients wait alike");
}

/// RFC 3261 section 20.33, and the endless 401: each try is bounded inside, and the tries by the pauses.
#[test]
fn refusals_wait_as_they_are_told() {
    let table: &[(u16, &str, f64, f64)] = &[
        (503, "120", 120.0, 120.0),
        (500, "90 (in a meeting);duration=60", 90.0, 90.0),
        (503, "1", 15.0, 30.0),
        (503, "never", 15.0, 30.0),
        (503, "999999999", 3_600.0, 3_600.0),
        (401, "", 15.0, 30.0),
        (407, "", 15.0, 30.0),
        (302, "", 15.0, 30.0),
        (600, "", 15.0, 30.0),
    ];
    for (status, retry_after, least, most) in table {
        let mut bench = Bench::new(config(), 3);
        bench.answer(*status, &[("Retry-After", retry_after)]);
        assert!(matches!(bench.machine.state(), RegisterState::Refused { status: it, .. } if it == *status));
        let waited = bench.wait();
        assert!((*least..=*most).contains(&waited), "{status} {retry_after}: {waited}");
    }
    let mut hour = Bench::new(config(), 3);
    let mut tries = 0;
    while hour.now - hour.start < Duration::from_secs(3_600) {
        hour.answer(401, &[]);
        hour.wait();
        tries += 1;
    }
    assert!(tries < 12, "{tries} in an hour");
}

#[test]
fn a_200_that_does_not_register_is_no_registration() {
    let mut bench = Bench::new(config(), 1);
    bench.answer(200, &[("Contact", "<sip:us@192.0.2.1:5060>;expires=0")]);
    assert!(matches!(bench.machine.state(), RegisterState::Refused { status: 200, .. }));
}

#[test]
fn after_a_lost_network_it_registers_again() {
    // The connection is gone: again within two seconds, over a new one.
    let mut bench = Bench::new(config(), 1);
    bench.answer(200, &[]);
    bench.tell(RegisterEvent::FlowLost);
    assert!(bench.wait() <= 2.0);
    assert_eq!(bench.sent.last().unwrap().flow.id, 0);
    // The network is back: at once, and the pauses start over.
    let mut bench = Bench::new(config(), 1);
    for _ in 0..8 {
        bench.fail();
        bench.wait();
    }
    bench.fail();
    let sent = bench.sent.len();
    bench.tell(RegisterEvent::NetworkBack);
    assert_eq!(bench.sent.len(), sent + 1);
    bench.fail();
    assert!(bench.wait() <= 30.0);
    // Nothing is sent twice.
    let sent = bench.sent.len();
    bench.tell(RegisterEvent::NetworkBack);
    bench.tell(RegisterEvent::FlowLost);
    bench.tell(RegisterEvent::Start);
    assert_eq!(bench.sent.len(), sent);
    // Another way: at once too.
    bench.fail();
    let moved = flow("192.0.2.10:5060");
    bench.tell(RegisterEvent::Moved { flow: moved, contact: "<sip:us@192.0.2.3>".parse().unwrap() });
    let last = bench.sent.last().unwrap();
    assert_eq!((last.flow, last.contact.as_ref().unwrap().uri.to_string()), (moved, "sip:us@192.0.2.3".to_owned()));
    // While one is under way: after its answer, which is for the old one.
    let sent = bench.sent.len();
    bench.tell(RegisterEvent::Moved { flow: moved, contact: "<sip:us@192.0.2.4>".parse().unwrap() });
    assert_eq!(bench.sent.len(), sent);
    bench.answer(200, &[]);
    assert_eq!(bench.sent.len(), sent + 1);
    assert_eq!(bench.sent.last().unwrap().contact.as_ref().unwrap().uri.to_string(), "sip:us@192.0.2.4");
    bench.answer(200, &[]);
    assert_eq!(bench.sent.len(), sent + 1);
}

#[test]
fn stop_takes_back_what_there_is_to_take_back() {
    // Registered.
    let mut bench = Bench::new(config(), 1);
    bench.answer(200, &[]);
    bench.tell(RegisterEvent::Stop);
    assert_eq!((bench.sent.len(), bench.asked()), (2, 0));
    assert_eq!(bench.sent[1].contact.as_ref().unwrap().params.value("expires"), Some("0"));
    bench.answer(200, &[]);
    assert_eq!((bench.machine.state(), bench.machine.poll_timeout()), (RegisterState::Off, None));
    // On the way to it.
    let mut bench = Bench::new(config(), 1);
    bench.tell(RegisterEvent::Stop);
    assert_eq!(bench.sent.len(), 1);
    bench.answer(200, &[]);
    assert_eq!((bench.sent.len(), bench.asked()), (2, 0));
    bench.fail();
    assert_eq!(bench.machine.state(), RegisterState::Off);
    // Refused or out of reach: there is nothing.
    let mut bench = Bench::new(config(), 1);
    bench.fail();
    bench.tell(RegisterEvent::Stop);
    assert_eq!((bench.sent.len(), bench.machine.state()), (1, RegisterState::Off));
    // Refused while it stops.
    let mut bench = Bench::new(config(), 1);
    bench.tell(RegisterEvent::Stop);
    bench.answer(403, &[]);
    assert_eq!((bench.sent.len(), bench.machine.state()), (1, RegisterState::Off));
    // And it can begin again.
    bench.tell(RegisterEvent::Start);
    bench.answer(200, &[]);
    assert!(matches!(bench.machine.state(), RegisterState::Registered { .. }));
    // Refresh under way while it stops: taken back, once.
    bench.wait();
    bench.tell(RegisterEvent::Stop);
    bench.answer(200, &[]);
    assert_eq!(bench.asked(), 0);
    bench.answer(200, &[]);
    assert_eq!(bench.machine.state(), RegisterState::Off);
}

#[test]
fn states_are_told_once_each_and_refreshes_every_time() {
    let mut bench = Bench::new(config(), 1);
    bench.answer(200, &[]);
    bench.wait();
    bench.answer(200, &[]);
    let words: Vec<_> = bench.states.iter().map(|state| format!("{state:?}")).collect();
    let kinds: Vec<_> = words.iter().map(|word| word.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(kinds, ["Trying", "Registered", "Registered"]);
}
