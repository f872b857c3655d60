//! What a peer says inside a call: REFER, NOTIFY, INVITE with Replaces, REGISTER with credentials; any header fields and
//! bodies in any order.
#![no_main]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use ringback::sip::registrar::{Registrar, RegistrarConfig, Secret};
use ringback::sip::{
    Flow, Invite, Message, Method, NameAddr, Request, SessionOptions, Timers, Transport, UaConfig, UaEvent, UaOutput,
    UserAgent,
};

const METHODS: [Method; 8] = [
    Method::Refer,
    Method::Notify,
    Method::Invite,
    Method::Register,
    Method::Update,
    Method::Prack,
    Method::Info,
    Method::Bye,
];
const NAMES: [&str; 12] = [
    "Refer-To",
    "Referred-By",
    "Replaces",
    "Event",
    "Subscription-State",
    "Content-Type",
    "Contact",
    "Require",
    "Authorization",
    "Expires",
    "Session-Expires",
    "RAck",
];

/// A request: its method, whether it is inside the call, its fields, its body.
type Said = (u8, bool, Vec<(u8, String)>, Vec<u8>);

fn flow() -> Flow {
    let address = |last| SocketAddr::from(([192, 0, 2, last], 5060));
    Flow { transport: Transport::Udp, local: address(1), remote: address(2), id: 0 }
}

fn request(said: &Said, cseq: usize, call: &Request) -> Request {
    let (method, inside, fields, body) = said;
    let method = METHODS[usize::from(*method) % METHODS.len()].clone();
    let mut request = Request::new(method.clone(), call.uri.clone());
    let headers = &mut request.headers;
    headers.push("Via", format!("SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK{cseq}"));
    headers.push("CSeq", format!("{cseq} {method}"));
    let get = |name: &str| call.headers.get(name).unwrap_or_default().to_owned();
    if *inside {
        headers.push("From", format!("{};tag=b", get("To")));
        headers.push("To", get("From"));
        headers.push("Call-ID", get("Call-ID"));
    } else {
        headers.push("From", "<sip:b@h>;tag=x");
        headers.push("To", "<sip:us@h>");
        headers.push("Call-ID", format!("c{cseq}"));
    }
    for (which, value) in fields {
        headers.push(NAMES[usize::from(*which) % NAMES.len()], value.clone());
    }
    request.body = body.clone();
    request
}

fuzz_target!(|said: Vec<Said>| {
    let config = UaConfig {
        user_agent: String::new(),
        timers: Timers::default(),
        max_sessions: 4,
        max_transactions: 16,
        registrar: true,
        advertise: Vec::new(),
    };
    let mut ua = UserAgent::new(config, [1; 32]);
    let users = BTreeMap::from([("us".to_owned(), Secret::Password("pw".into()))]);
    let mut registrar = Registrar::new(RegistrarConfig::new("h", users), [2; 32]);
    let mut now = Instant::now();
    let us: NameAddr = "<sip:us@h>".parse().expect("an address");
    let invite = Invite {
        flow: flow(),
        request_uri: us.uri.clone(),
        from: us.clone(),
        to: us,
        contact_user: None,
        headers: Vec::new(),
        body: None,
        credentials: None,
        options: SessionOptions::default(),
    };
    ua.invite(now, invite).expect("a call");
    let Some(UaOutput::Transmit { bytes, .. }) = ua.poll_output() else { return };
    let Ok(Message::Request(call)) = Message::parse(&bytes) else { return };
    let mut ok = call.response(200, "OK");
    let to = ok.headers.to().expect("To").with_tag("b");
    ok.headers.set("To", to.to_string());
    ok.headers.push("Contact", "<sip:b@192.0.2.2>");
    ua.handle_datagram(now, flow(), &ok.to_bytes());
    for (at, said) in said.iter().enumerate() {
        ua.handle_datagram(now, flow(), &request(said, at + 1, &call).to_bytes());
        while let Some(output) = ua.poll_output() {
            match output {
                UaOutput::Event(UaEvent::Request { id, request, flow }) => {
                    let response = registrar.handle(now, &request, flow);
                    ua.respond(now, id, response);
                }
                UaOutput::Event(UaEvent::Referred { session, refer, .. }) => {
                    let _ = ua.answer_refer(now, session, refer, Ok(()));
                    let _ = ua.notify_refer(now, session, refer, 200, true);
                }
                UaOutput::Event(_) => {}
                UaOutput::Transmit { bytes, .. } => assert!(Message::parse(&bytes).is_ok()),
            }
        }
        now += Duration::from_secs(7);
        ua.handle_timeout(now);
    }
});
