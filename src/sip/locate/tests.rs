#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::SeedableRng;

use super::*;

const V4: &str = "192.0.2.9:5060";
const V6: &str = "[2001:db8::9]:5060";

fn listeners() -> Vec<Listener> {
    let all = [Transport::Udp, Transport::Tcp, Transport::Tls];
    let both = |transport| [V4, V6].map(|local| Listener { transport, local: local.parse().unwrap() });
    all.into_iter().flat_map(both).collect()
}

fn dns(host: &str, port: Option<u16>, transport: Option<Transport>) -> TrunkDns {
    TrunkDns { host: host.to_owned(), port, transport }
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
    Srv { priority, weight, port, target: target.to_owned() }
}

fn naptr(order: u16, preference: u16, flags: &str, services: &str, replacement: &str) -> Naptr {
    let [flags, services, replacement] = [flags, services, replacement].map(str::to_owned);
    Naptr { order, preference, flags, services, replacement }
}

/// A zone that answers, and what it was asked.
#[derive(Default)]
struct Zone {
    records: Answers,
    asked: Vec<Question>,
}

impl Zone {
    fn naptr(mut self, name: &str, records: Vec<Naptr>) -> Self {
        self.records.insert(Question::Naptr(name.to_owned()), Answer::Naptr(records));
        self
    }

    fn srv(mut self, name: &str, records: Vec<Srv>) -> Self {
        self.records.insert(Question::Srv(name.to_owned()), Answer::Srv(records));
        self
    }

    fn host(mut self, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.records.insert(Question::Addresses(name.to_owned()), Answer::Addresses(addresses));
        self
    }

    fn fails(mut self, question: Question) -> Self {
        self.records.insert(question, Answer::Failed);
        self
    }

    fn locate_with(&mut self, name: &TrunkDns, listeners: &[Listener]) -> Result<Located, ResolveError> {
        let mut answers = Answers::new();
        loop {
            match locate(name, listeners, &answers) {
                Step::Done(result) => return result,
                Step::Ask(questions) => {
                    assert!(!questions.is_empty());
                    for question in questions {
                        assert!(!answers.contains_key(&question), "{question:?} is asked twice");
                        let answer = self.records.get(&question).cloned().unwrap_or(Answer::Nothing);
                        self.asked.push(question.clone());
                        answers.insert(question, answer);
                    }
                }
            }
        }
    }

    /// The targets as `transport address`, in one order drawn.
    fn find(&mut self, name: TrunkDns) -> Result<Vec<String>, ResolveError> {
        let located = self.locate_with(&name, &listeners())?;
        let order = located.order(&mut StdRng::seed_from_u64(1));
        Ok(order.iter().map(|target| format!("{} {}", target.transport, target.remote)).collect())
    }
}

#[test]
fn an_address_needs_no_dns_and_keeps_what_is_written() {
    let table = [
        (dns("192.0.2.1", None, None), "udp 192.0.2.1:5060"),
        (dns("192.0.2.1", Some(5070), None), "udp 192.0.2.1:5070"),
        (dns("192.0.2.1", None, Some(Transport::Tls)), "tls 192.0.2.1:5061"),
        (dns("[2001:db8::1]", None, Some(Transport::Tcp)), "tcp [2001:db8::1]:5060"),
        (dns("2001:db8::1", Some(5080), None), "udp [2001:db8::1]:5080"),
        (dns("::ffff:192.0.2.1", None, None), "udp 192.0.2.1:5060"),
    ];
    for (name, expected) in table {
        let mut zone = Zone::default();
        assert_eq!(zone.find(name.clone()).unwrap(), [expected], "{name:?}");
        assert!(zone.asked.is_empty(), "{name:?}");
    }
}

/// RFC 3263 section 4.2: with a port written it is A and AAAA alone.
#[test]
fn a_written_port_asks_for_addresses_alone() {
    let mut zone = Zone::default().host("sip.example", &["2001:db8::1", "192.0.2.1"]);
    let found = zone.find(dns("SIP.example.", Some(5070), None)).unwrap();
    assert_eq!(found, ["udp [2001:db8::1]:5070", "udp 192.0.2.1:5070"]);
    assert_eq!(zone.asked, [Question::Addresses("sip.example".to_owned())]);
}

/// RFC 3263 section 4.1: with a transport written there is no NAPTR look-up.
#[test]
fn a_written_transport_asks_for_its_srv_record() {
    let mut zone = Zone::default()
        .srv("_sips._tcp.example.com", vec![srv(1, 0, 5071, "a.example.com")])
        .host("a.example.com", &["192.0.2.1"]);
    let name = dns("example.com", None, Some(Transport::Tls));
    assert_eq!(zone.find(name.clone()).unwrap(), ["tls 192.0.2.1:5071"]);
    let asked = [Question::Srv("_sips._tcp.example.com".into()), Question::Addresses("a.example.com".into())];
    assert_eq!(zone.asked, asked);
    // RFC 5922: the certificate must show the name that was asked for, not the server's.
    let located = zone.locate_with(&name, &listeners()).unwrap();
    assert_eq!(located.targets().next().unwrap().server_name.as_deref(), Some("example.com"));
}

/// RFC 3263 section 4.1, the example of its section 4.1 and 4.2.
#[test]
fn naptr_leads_to_srv_and_srv_to_addresses() {
    let mut zone = Zone::default()
        .naptr(
            "example.com",
            vec![
                naptr(90, 50, "s", "SIP+D2U", "_sip._udp.example.com."),
                naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com."),
                naptr(90, 40, "S", "sip+d2t", "_sip._tcp.elsewhere.example."),
                naptr(10, 10, "s", "SIP+D2S", "_sip._sctp.example.com."),
                naptr(10, 10, "u", "E2U+sip", "."),
            ],
        )
        .srv(
            "_sips._tcp.example.com",
            vec![srv(0, 1, 5061, "server1.example.com"), srv(1, 2, 5061, "server2.example.com")],
        )
        .srv("_sip._tcp.elsewhere.example", vec![srv(0, 1, 5062, "server2.example.com")])
        .host("server1.example.com", &["192.0.2.1", "192.0.2.2"])
        .host("server2.example.com", &["192.0.2.3"]);
    let found = zone.find(dns("example.com", None, None)).unwrap();
    assert_eq!(found, ["tls 192.0.2.1:5061", "tls 192.0.2.2:5061", "tls 192.0.2.3:5061", "tcp 192.0.2.3:5062"]);
}

#[test]
fn without_naptr_the_srv_records_of_every_transport_are_tried() {
    let mut zone = Zone::default()
        .srv("_sip._tcp.example.com", vec![srv(0, 0, 5062, "a.example.com")])
        .srv("_sips._tcp.example.com", vec![srv(0, 0, 5063, "a.example.com")])
        .host("a.example.com", &["192.0.2.1"]);
    assert_eq!(zone.find(dns("example.com", None, None)).unwrap(), ["tcp 192.0.2.1:5062", "tls 192.0.2.1:5063"]);
}

#[test]
fn without_any_srv_record_it_is_the_name_itself_over_udp() {
    let mut zone = Zone::default().host("example.com", &["192.0.2.1"]);
    assert_eq!(zone.find(dns("example.com", None, None)).unwrap(), ["udp 192.0.2.1:5060"]);
    assert_eq!(zone.find(dns("example.com", None, Some(Transport::Tls))).unwrap(), ["tls 192.0.2.1:5061"]);
    let mut told = Zone::default()
        .naptr("example.com", vec![naptr(1, 1, "s", "SIP+D2T", "_sip._tcp.example.com")])
        .host("example.com", &["192.0.2.1"]);
    assert_eq!(told.find(dns("example.com", None, None)).unwrap(), ["tcp 192.0.2.1:5060"]);
}

/// RFC 2782: a target of "." says that the service is decidedly not available.
#[test]
fn a_service_that_says_it_is_not_there_is_believed() {
    let mut zone = Zone::default()
        .srv("_sip._udp.example.com", vec![srv(0, 0, 0, ".")])
        .srv("_sip._tcp.example.com", vec![srv(0, 0, 5060, "a.example.com")])
        .host("example.com", &["192.0.2.9"])
        .host("a.example.com", &["192.0.2.1"]);
    assert_eq!(zone.find(dns("example.com", None, None)).unwrap(), ["tcp 192.0.2.1:5060"]);
    let alone = zone.find(dns("example.com", None, Some(Transport::Udp)));
    assert_eq!(alone, Err(ResolveError::NotFound));
}

#[test]
fn only_what_a_listener_speaks_is_a_target() {
    let udp4 = [Listener { transport: Transport::Udp, local: V4.parse().unwrap() }];
    let mut zone = Zone::default()
        .naptr("example.com", vec![naptr(1, 1, "s", "SIPS+D2T", "_sips._tcp.example.com")])
        .srv("_sips._tcp.example.com", vec![srv(0, 0, 5061, "six.example.com")])
        .srv("_sip._udp.example.com", vec![srv(0, 0, 5060, "six.example.com"), srv(1, 0, 5060, "both.example.com")])
        .host("six.example.com", &["2001:db8::1"])
        .host("both.example.com", &["2001:db8::2", "192.0.2.2"]);
    let found = zone.locate_with(&dns("example.com", None, None), &udp4).unwrap();
    let expected = Target {
        transport: Transport::Udp,
        remote: "192.0.2.2:5060".parse().unwrap(),
        local: V4.parse().unwrap(),
        server_name: None,
    };
    assert_eq!(found.targets().collect::<Vec<_>>(), [&expected]);
    let six = zone.locate_with(&dns("six.example.com", Some(5060), None), &udp4);
    assert_eq!(six, Err(ResolveError::NoListener));
    let literal = zone.locate_with(&dns("2001:db8::1", None, None), &udp4);
    assert_eq!(literal, Err(ResolveError::NoListener));
}

#[test]
fn what_fails_is_told_from_what_is_not_there() {
    let name = || dns("example.com", None, None);
    assert_eq!(Zone::default().find(name()), Err(ResolveError::NotFound));
    let down = Zone::default().fails(Question::Addresses("example.com".to_owned())).find(name());
    assert_eq!(down, Err(ResolveError::Unanswered));
    // A resolver that knows only addresses is of use all the same.
    let mut old = Zone::default()
        .fails(Question::Naptr("example.com".to_owned()))
        .fails(Question::Srv("_sip._udp.example.com".to_owned()))
        .host("example.com", &["192.0.2.1"]);
    assert_eq!(old.find(name()).unwrap(), ["udp 192.0.2.1:5060"]);
    // One of two servers cannot be looked up: the other is there.
    let mut half = Zone::default()
        .srv("_sip._udp.example.com", vec![srv(0, 0, 5060, "a.example.com"), srv(1, 0, 5060, "b.example.com")])
        .fails(Question::Addresses("a.example.com".to_owned()))
        .host("b.example.com", &["192.0.2.2"]);
    assert_eq!(half.find(name()).unwrap(), ["udp 192.0.2.2:5060"]);
}

/// A zone of someone who means harm costs no more than the limits.
#[test]
fn answers_are_cut_at_their_limits() {
    let many: Vec<Srv> = (0..1000).map(|n| srv(0, 1, 5060, &format!("h{n}.example.com"))).collect();
    let mut zone = Zone::default().srv("_sip._udp.example.com", many);
    for n in 0..1000 {
        let addresses: Vec<String> = (0..100).map(|m| format!("10.{}.{}.{m}", n / 256, n % 256)).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        zone = zone.host(&format!("h{n}.example.com"), &addresses);
    }
    let found = zone.find(dns("example.com", None, Some(Transport::Udp))).unwrap();
    assert_eq!(found.len(), MAX_RECORDS * MAX_ADDRESSES);
    assert_eq!(zone.asked.len(), 1 + MAX_RECORDS);
}

fn server(n: u8, weight: u16) -> Server {
    let target = Target {
        transport: Transport::Udp,
        remote: SocketAddr::from(([192, 0, 2, n], 5060)),
        local: V4.parse().unwrap(),
        server_name: None,
    };
    Server { weight, targets: vec![target] }
}

/// RFC 2782: the chance of being first is the weight's share.
#[test]
fn weights_share_the_calls() {
    let mut rng = StdRng::seed_from_u64(7);
    let located = Located { groups: vec![vec![server(1, 60), server(2, 20), server(3, 20), server(4, 0)]] };
    let mut first: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let draws = 20_000;
    for _ in 0..draws {
        *first.entry(located.order(&mut rng)[0].remote).or_default() += 1;
    }
    // 0..=100 are 101 draws: the one of 0 is the weightless server's, "a very small chance".
    for (n, share) in [(1u8, 60.0), (2, 20.0), (3, 20.0), (4, 1.0)] {
        let got = first[&SocketAddr::from(([192, 0, 2, n], 5060))] as f64 / draws as f64 * 101.0;
        assert!((got - share).abs() < 1.5, "server {n}: {got} of {share}");
    }
}

#[test]
fn servers_without_weights_come_in_the_order_of_the_answer() {
    let located = Located { groups: vec![vec![server(1, 0), server(2, 0)]] };
    for seed in 0..20 {
        let order = located.order(&mut StdRng::seed_from_u64(seed));
        assert_eq!(order, [server(1, 0).targets[0].clone(), server(2, 0).targets[0].clone()]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever the records are: each target once, and never one of a later priority before one of an earlier.
    #[test]
    fn an_order_has_each_target_once_and_priorities_in_order(
        records in proptest::collection::vec((0u16..4, 0u16..=u16::MAX, 1u8..=255), 1..40),
        seed in any::<u64>(),
    ) {
        let mut by_priority: BTreeMap<u16, Vec<Server>> = BTreeMap::new();
        let mut best: BTreeMap<SocketAddr, u16> = BTreeMap::new();
        for (priority, weight, n) in records {
            let server = server(n, weight);
            let lowest = best.entry(server.targets[0].remote).or_insert(priority);
            *lowest = priority.min(*lowest);
            by_priority.entry(priority).or_default().push(server);
        }
        let located = Located { groups: by_priority.into_values().collect() };
        let order = located.order(&mut StdRng::seed_from_u64(seed));
        let priorities: Vec<u16> = order.iter().map(|target| best[&target.remote]).collect();
        prop_assert!(priorities.is_sorted(), "{priorities:?}");
        prop_assert_eq!(order.len(), best.len());
    }
}
