//! The transition tables of [RFC 3261 section 17](https://www.rfc-editor.org/rfc/rfc3261#section-17), figures 5 to 8, with
//! the Accepted states of [RFC 6026](https://www.rfc-editor.org/rfc/rfc6026), row by row, in virtual time.

use std::time::{Duration, Instant};

use ringback::sip::transaction::{
    ClientAction, ClientEvent, Context, InviteClient, InviteServer, NonInviteClient, NonInviteServer, ServerAction,
    ServerEvent,
};
use ringback::sip::{Message, Request, Response, Timers};

const UDP: bool = false;
const TCP: bool = true;

fn context(reliable: bool) -> Context {
    Context { timers: Timers::default(), reliable }
}

fn request(method: &str) -> Request {
    let text = format!(
        "{method} sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc\r\nRoute: <sip:192.0.2.9;lr>\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@192.0.2.1>;tag=a\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: c1\r\n\
         CSeq: 7 {method}\r\nContact: <sip:alice@192.0.2.1>\r\nContent-Length: 0\r\n\r\n"
    );
    match Message::parse(text.as_bytes()).unwrap() {
        Message::Request(request) => request,
        Message::Response(_) => panic!("a request"),
    }
}

fn response(method: &str, status: u16) -> Response {
    let mut response = request(method).response(status, "Text");
    if status > 100 {
        response.headers.set("To", "<sip:bob@192.0.2.2>;tag=b");
    }
    response
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a machine wants, in short.
fn client_words(actions: Vec<ClientAction>) -> Vec<String> {
    actions
        .into_iter()
        .map(|action| match action {
            ClientAction::Send(bytes) => {
                let text = String::from_utf8(bytes).unwrap();
                format!("send {}", text.split_whitespace().next().unwrap())
            }
            ClientAction::Deliver(response) => format!("deliver {}", response.status),
            ClientAction::TimedOut => "timed out".to_owned(),
            ClientAction::TransportFailed => "transport failed".to_owned(),
        })
        .collect()
}

fn server_words(actions: Vec<ServerAction>) -> Vec<String> {
    actions
        .into_iter()
        .map(|action| match action {
            ServerAction::Send(bytes) => {
                let text = String::from_utf8(bytes).unwrap();
                format!("send {}", text.split_whitespace().nth(1).unwrap())
            }
            ServerAction::Ack(_) => "ack".to_owned(),
            ServerAction::NoAck => "no ack".to_owned(),
            ServerAction::TransportFailed => "transport failed".to_owned(),
        })
        .collect()
}

/// One input of a row: a response by status, a peer's or user's act by name, or the passing of time.
#[derive(Clone, Copy, Debug)]
enum In {
    Status(u16),
    Retransmission,
    Ack,
    After(u64),
    Fails,
}

/// A machine under test: brought to a state by earlier inputs, then one input is looked at.
trait Machine: Sized {
    fn begin(now: Instant, context: &Context) -> Self;
    fn feed(self, now: Instant, context: &Context, input: In) -> (Self, Vec<String>);
    fn timeout(&self) -> Option<Instant>;
    fn name(&self) -> &'static str;
}

macro_rules! client_machine {
    ($machine:ident, $method:literal, $start:expr, [$($state:ident),*]) => {
        impl Machine for $machine {
            fn begin(now: Instant, context: &Context) -> Self {
                let mut out = Vec::new();
                let machine = $start(now, context, &mut out);
                assert_eq!(client_words(out), [format!("send {}", $method)]);
                machine
            }
            fn feed(self, now: Instant, context: &Context, input: In) -> (Self, Vec<String>) {
                let event = match input {
                    In::Status(status) => ClientEvent::Response(response($method, status)),
                    In::After(_) => ClientEvent::Timeout,
                    In::Fails => ClientEvent::TransportFailure,
                    In::Retransmission | In::Ack => panic!("not for a client"),
                };
                let mut out = Vec::new();
                let machine = self.handle(now, context, event, &mut out);
                (machine, client_words(out))
            }
            fn timeout(&self) -> Option<Instant> {
                self.poll_timeout()
            }
            fn name(&self) -> &'static str {
                match self { $($machine::$state { .. } => stringify!($state),)* }
            }
        }
    };
}

macro_rules! server_machine {
    ($machine:ident, $method:literal, [$($state:ident),*]) => {
        impl Machine for $machine {
            fn begin(_: Instant, _: &Context) -> Self {
                $machine::start()
            }
            fn feed(self, now: Instant, context: &Context, input: In) -> (Self, Vec<String>) {
                let event = match input {
                    In::Status(status) => ServerEvent::Respond(response($method, status)),
                    In::Retransmission => ServerEvent::Retransmission,
                    In::Ack => ServerEvent::Ack(request("ACK")),
                    In::After(_) => ServerEvent::Timeout,
                    In::Fails => ServerEvent::TransportFailure,
                };
                let mut out = Vec::new();
                let machine = self.handle(now, context, event, &mut out);
                (machine, server_words(out))
            }
            fn timeout(&self) -> Option<Instant> {
                self.poll_timeout()
            }
            fn name(&self) -> &'static str {
                match self { $($machine::$state { .. } => stringify!($state),)* }
            }
        }
    };
}

client_machine!(
    InviteClient,
    "INVITE",
    |now, context, out: &mut _| InviteClient::start(now, context, request("INVITE"), out),
    [Calling, Proceeding, Accepted, Completed, Terminated]
);
client_machine!(
    NonInviteClient,
    "OPTIONS",
    |now, context, out: &mut _| NonInviteClient::start(now, context, &request("OPTIONS"), out),
    [Trying, Proceeding, Completed, Terminated]
);
server_machine!(InviteServer, "INVITE", [Proceeding, Accepted, Completed, Confirmed, Terminated]);
server_machine!(NonInviteServer, "OPTIONS", [Trying, Proceeding, Completed, Terminated]);

/// A row: transport, what happened before, the input, the state after it, what is done, and ms until the next timer.
type Row = (bool, &'static [In], In, &'static str, &'static [&'static str], Option<u64>);

fn check<M: Machine>(rows: &[Row]) {
    for (index, (reliable, before, input, state, done, next)) in rows.iter().enumerate() {
        let context = context(*reliable);
        let mut now = Instant::now();
        let mut machine = M::begin(now, &context);
        let advance = |now: Instant, input: In| match input {
            In::After(millis) => now + ms(millis),
            _ => now,
        };
        for &earlier in *before {
            now = advance(now, earlier);
            machine = machine.feed(now, &context, earlier).0;
        }
        now = advance(now, *input);
        let (machine, words) = machine.feed(now, &context, *input);
        assert_eq!(machine.name(), *state, "row {index}: state after {before:?} {input:?}");
        assert_eq!(words, *done, "row {index}: actions of {before:?} {input:?}");
        let left = machine.timeout().map(|at| u64::try_from((at - now).as_millis()).unwrap());
        assert_eq!(left, *next, "row {index}: timer after {before:?} {input:?}");
    }
}

use In::{Ack, After, Fails, Retransmission, Status};

#[test]
fn invite_client_figure_5_with_accepted() {
    check::<InviteClient>(&[
        // Calling: timer A doubles, B ends it.
        (UDP, &[], After(499), "Calling", &[], Some(1)),
        (UDP, &[], After(500), "Calling", &["send INVITE"], Some(1000)),
        (UDP, &[After(500)], After(1000), "Calling", &["send INVITE"], Some(2000)),
        (
            UDP,
            &[After(500), After(1000), After(2000), After(4000)],
            After(8000),
            "Calling",
            &["send INVITE"],
            Some(16000),
        ),
        (UDP, &[], After(32000), "Terminated", &["timed out"], None),
        (TCP, &[], After(31999), "Calling", &[], Some(1)),
        (TCP, &[], After(32000), "Terminated", &["timed out"], None),
        (UDP, &[], Fails, "Terminated", &["transport failed"], None),
        (UDP, &[], Status(100), "Proceeding", &["deliver 100"], None),
        (UDP, &[], Status(180), "Proceeding", &["deliver 180"], None),
        (UDP, &[], Status(200), "Accepted", &["deliver 200"], Some(32000)),
        (UDP, &[], Status(486), "Completed", &["send ACK", "deliver 486"], Some(32000)),
        (TCP, &[], Status(486), "Terminated", &["send ACK", "deliver 486"], None),
        // Proceeding: no retransmission any more, no timeout.
        (UDP, &[Status(100)], After(100_000), "Proceeding", &[], None),
        (UDP, &[Status(100)], Status(183), "Proceeding", &["deliver 183"], None),
        (UDP, &[Status(180)], Status(299), "Accepted", &["deliver 299"], Some(32000)),
        (UDP, &[Status(180)], Status(300), "Completed", &["send ACK", "deliver 300"], Some(32000)),
        (UDP, &[Status(180)], Status(699), "Completed", &["send ACK", "deliver 699"], Some(32000)),
        (TCP, &[Status(180)], Status(603), "Terminated", &["send ACK", "deliver 603"], None),
        (TCP, &[Status(180)], Fails, "Terminated", &["transport failed"], None),
        // Completed: the ACK is repeated, nothing is delivered, D ends it.
        (UDP, &[Status(486)], Status(486), "Completed", &["send ACK"], Some(32000)),
        (UDP, &[Status(486)], Status(180), "Completed", &[], Some(32000)),
        (UDP, &[Status(486)], Status(200), "Completed", &[], Some(32000)),
        (UDP, &[Status(486)], After(32000), "Terminated", &[], None),
        (UDP, &[Status(486)], Fails, "Terminated", &[], None),
        // Accepted (RFC 6026): every 2xx is delivered, all else is absorbed, M ends it.
        (UDP, &[Status(200)], Status(200), "Accepted", &["deliver 200"], Some(32000)),
        (UDP, &[Status(200)], Status(180), "Accepted", &[], Some(32000)),
        (UDP, &[Status(200)], Status(486), "Accepted", &[], Some(32000)),
        (UDP, &[Status(200)], After(31999), "Accepted", &[], Some(1)),
        (UDP, &[Status(200)], After(32000), "Terminated", &[], None),
        (TCP, &[Status(200)], After(32000), "Terminated", &[], None),
        (UDP, &[Status(200)], Fails, "Accepted", &[], Some(32000)),
        (UDP, &[Status(200), After(32000)], Status(200), "Terminated", &[], None),
    ]);
}

#[test]
fn non_invite_client_figure_6() {
    check::<NonInviteClient>(&[
        // Trying: timer E doubles up to T2, F ends it.
        (UDP, &[], After(500), "Trying", &["send OPTIONS"], Some(1000)),
        (UDP, &[After(500)], After(1000), "Trying", &["send OPTIONS"], Some(2000)),
        (UDP, &[After(500), After(1000)], After(2000), "Trying", &["send OPTIONS"], Some(4000)),
        (UDP, &[After(500), After(1000), After(2000)], After(4000), "Trying", &["send OPTIONS"], Some(4000)),
        (UDP, &[], After(32000), "Terminated", &["timed out"], None),
        (TCP, &[], After(500), "Trying", &[], Some(31500)),
        (TCP, &[], After(32000), "Terminated", &["timed out"], None),
        (UDP, &[], Fails, "Terminated", &["transport failed"], None),
        (UDP, &[], Status(100), "Proceeding", &["deliver 100"], Some(4000)),
        (UDP, &[], Status(200), "Completed", &["deliver 200"], Some(5000)),
        (UDP, &[], Status(404), "Completed", &["deliver 404"], Some(5000)),
        (TCP, &[], Status(200), "Terminated", &["deliver 200"], None),
        // Proceeding: E goes on at T2, F still counts from the beginning.
        (UDP, &[Status(100)], After(4000), "Proceeding", &["send OPTIONS"], Some(4000)),
        (UDP, &[Status(100)], Status(180), "Proceeding", &["deliver 180"], Some(4000)),
        (UDP, &[After(20000), Status(100)], After(12000), "Terminated", &["timed out"], None),
        (TCP, &[Status(100)], After(31999), "Proceeding", &[], Some(1)),
        (UDP, &[Status(100)], Status(603), "Completed", &["deliver 603"], Some(5000)),
        (TCP, &[Status(100)], Status(200), "Terminated", &["deliver 200"], None),
        (UDP, &[Status(100)], Fails, "Terminated", &["transport failed"], None),
        // Completed: repetitions are absorbed, K ends it.
        (UDP, &[Status(200)], Status(200), "Completed", &[], Some(5000)),
        (UDP, &[Status(200)], Fails, "Completed", &[], Some(5000)),
        (UDP, &[Status(200)], After(4999), "Completed", &[], Some(1)),
        (UDP, &[Status(200)], After(5000), "Terminated", &[], None),
    ]);
}

#[test]
fn invite_server_figure_7_with_accepted() {
    check::<InviteServer>(&[
        // Proceeding: the last provisional answers the retransmission.
        (UDP, &[], Retransmission, "Proceeding", &[], None),
        (UDP, &[], Status(100), "Proceeding", &["send 100"], None),
        (UDP, &[Status(100), Status(180)], Retransmission, "Proceeding", &["send 180"], None),
        (UDP, &[Status(100)], Ack, "Proceeding", &[], None),
        (UDP, &[Status(100)], After(100_000), "Proceeding", &[], None),
        (UDP, &[Status(180)], Fails, "Proceeding", &["transport failed"], None),
        (UDP, &[Status(100)], Status(200), "Accepted", &["send 200"], Some(32000)),
        (TCP, &[Status(100)], Status(200), "Accepted", &["send 200"], Some(32000)),
        (UDP, &[Status(100)], Status(486), "Completed", &["send 486"], Some(500)),
        (TCP, &[Status(100)], Status(486), "Completed", &["send 486"], Some(32000)),
        // Completed: G doubles up to T2 (UDP only), H ends it, the ACK confirms it.
        (UDP, &[Status(486)], After(500), "Completed", &["send 486"], Some(1000)),
        (UDP, &[Status(486), After(500)], After(1000), "Completed", &["send 486"], Some(2000)),
        (
            UDP,
            &[Status(486), After(500), After(1000), After(2000)],
            After(4000),
            "Completed",
            &["send 486"],
            Some(4000),
        ),
        (UDP, &[Status(486)], Retransmission, "Completed", &["send 486"], Some(500)),
        (UDP, &[Status(486)], Status(200), "Completed", &[], Some(500)),
        (UDP, &[Status(486)], After(32000), "Terminated", &["no ack"], None),
        (TCP, &[Status(486)], After(32000), "Terminated", &["no ack"], None),
        (UDP, &[Status(486)], Fails, "Completed", &["transport failed"], Some(500)),
        (UDP, &[Status(486)], Ack, "Confirmed", &[], Some(5000)),
        (TCP, &[Status(486)], Ack, "Terminated", &[], None),
        // Confirmed: all is absorbed, I ends it.
        (UDP, &[Status(486), Ack], Ack, "Confirmed", &[], Some(5000)),
        (UDP, &[Status(486), Ack], Retransmission, "Confirmed", &[], Some(5000)),
        (UDP, &[Status(486), Ack], Status(486), "Confirmed", &[], Some(5000)),
        (UDP, &[Status(486), Ack], After(5000), "Terminated", &[], None),
        // Accepted (RFC 6026): INVITEs are absorbed, the user repeats the 2xx, ACKs pass up, L ends it.
        (UDP, &[Status(200)], Retransmission, "Accepted", &[], Some(32000)),
        (UDP, &[Status(200)], Status(200), "Accepted", &["send 200"], Some(32000)),
        (UDP, &[Status(200)], Status(486), "Accepted", &[], Some(32000)),
        (UDP, &[Status(200)], Ack, "Accepted", &["ack"], Some(32000)),
        (UDP, &[Status(200)], Fails, "Accepted", &["transport failed"], Some(32000)),
        (UDP, &[Status(200)], After(32000), "Terminated", &[], None),
        (UDP, &[Status(200), After(32000)], Retransmission, "Terminated", &[], None),
    ]);
}

#[test]
fn non_invite_server_figure_8() {
    check::<NonInviteServer>(&[
        (UDP, &[], Retransmission, "Trying", &[], None),
        (UDP, &[], After(100_000), "Trying", &[], None),
        (UDP, &[], Fails, "Trying", &[], None),
        (UDP, &[], Status(100), "Proceeding", &["send 100"], None),
        (UDP, &[], Status(200), "Completed", &["send 200"], Some(32000)),
        (TCP, &[], Status(200), "Terminated", &["send 200"], None),
        (UDP, &[Status(100)], Retransmission, "Proceeding", &["send 100"], None),
        (UDP, &[Status(100)], Status(183), "Proceeding", &["send 183"], None),
        (UDP, &[Status(100)], Fails, "Proceeding", &["transport failed"], None),
        (UDP, &[Status(100)], Status(404), "Completed", &["send 404"], Some(32000)),
        (TCP, &[Status(100)], Status(404), "Terminated", &["send 404"], None),
        (UDP, &[Status(200)], Retransmission, "Completed", &["send 200"], Some(32000)),
        (UDP, &[Status(200)], Status(500), "Completed", &[], Some(32000)),
        (UDP, &[Status(200)], Fails, "Completed", &["transport failed"], Some(32000)),
        (UDP, &[Status(200)], After(32000), "Terminated", &[], None),
    ]);
}
