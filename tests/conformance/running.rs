//! Each message against the running program, over UDP and over TCP in every cut: the answer of its table comes and no
//! other, an OPTIONS behind it is answered, and after all of them the gateway makes calls as before.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use ringback::sip::{Frame, Framer, Message, Via};
use tempfile::TempDir;

use crate::data;
use crate::support::{Gateway, PATIENCE, call_is_refused, refuse_datagram};
use crate::table::{Answer, Case, Stream};

/// Whose addresses: each test's gateways have their own, and so have the peers of the one over UDP.
#[derive(Clone, Copy)]
enum Of {
    Udp,
    Whole,
    Bytes,
    Two,
    Peers,
}

/// An address of this machine that no other test and no other run of these has.
fn address(of: Of, number: usize) -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    IpAddr::from([127, 128 + 25 * of as u8 + high % 25, low, u8::try_from(1 + number).unwrap()])
}

/// A gateway whose trunk is this machine, and the trunk's phone.
struct Stage {
    gateway: Gateway,
    sip: SocketAddr,
    phone: UdpSocket,
    _dir: TempDir,
}

impl Stage {
    fn new(of: Of, round: usize) -> Stage {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
        let sip = SocketAddr::new(address(of, round), 5060);
        let phone = UdpSocket::bind((address(of, round), 0)).unwrap();
        phone.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = format!(
            "[sip]\nudp = [\"{sip}\"]\ntcp = [\"{sip}\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"23300-23399\"\n[auth]\nopen = true\n[trunk.testphone]\naddress = \"{}\"\noptions = 0\n\
             sources = [\"127.0.0.0/8\"]\n",
            phone.local_addr().unwrap()
        );
        let file = dir.path().join("ringback.toml");
        fs::write(&file, config).unwrap();
        Stage { gateway: Gateway::configured(&file), sip, phone, _dir: dir }
    }

    /// After everything it was sent, the gateway makes a call and stops well.
    fn still_makes_calls(mut self) {
        let phone = self.phone;
        let phone = std::thread::spawn(move || refuse_datagram(&phone));
        call_is_refused(&self.gateway);
        assert!(phone.join().unwrap().starts_with("INVITE"));
        self.gateway.terminate();
        assert!(self.gateway.wait().success());
    }

    fn connect(&self) -> Line {
        let stream = TcpStream::connect(self.sip).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Line { stream, framer: Framer::new(64 * 1024), is_closed: false }
    }
}

/// The question behind each message, which must be answered by 200.
const QUESTION: &str = "are-you-well";

fn options(sip: SocketAddr, via: &str) -> Vec<u8> {
    format!(
        "OPTIONS sip:{sip} SIP/2.0\r\nVia: SIP/2.0/{via};branch=z9hG4bK{QUESTION};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:test@example.com>;tag=1\r\nTo: <sip:{sip}>\r\nCall-ID: {QUESTION}-{}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n",
        via.replace(' ', "-")
    )
    .into_bytes()
}

/// What came back: the statuses of answers to the message, and whether the question was answered.
#[derive(Debug, Default)]
struct Heard {
    statuses: Vec<u16>,
    well: bool,
    last: Option<Vec<u8>>,
}

impl Heard {
    fn take(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if text.contains(QUESTION) {
            assert!(text.starts_with("SIP/2.0 200 "), "{text}");
            self.well = true;
        // A final answer to INVITE goes on coming until its ACK.
        } else if self.last.as_deref() != Some(bytes) {
            let status = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok());
            self.statuses.push(status.unwrap_or_else(|| panic!("no answer: {text}")));
            self.last = Some(bytes.to_vec());
        }
    }

    /// All has come that is to come.
    fn is_complete(&self, case: &Case) -> bool {
        let wanted = match case.answer {
            Answer::Silence => 0,
            Answer::Status(_) => 1,
            Answer::Call => 2,
        };
        self.well && self.statuses.len() >= wanted
    }

    fn check(&self, case: &Case) {
        let well = match (case.answer, self.statuses.as_slice()) {
            (Answer::Silence, []) => true,
            (Answer::Status(wanted), [status]) => *status == wanted,
            // Its user, whom nobody knows, has refused it.
            (Answer::Call, [100, status]) => (400..500).contains(status),
            // The second message of the stream is a call, whose answers are not this table's.
            (Answer::Status(wanted), [status, ..]) => case.stream == Stream::Two && *status == wanted,
            _ => false,
        };
        println!("{} ({}): {:?}", case.file, case.section, self.statuses);
        assert!(well, "{} ({}): {}: {self:?}", case.file, case.section, case.reason);
    }
}

/// Reads until all has come.
fn listen(case: &Case, mut read: impl FnMut(&mut Heard)) -> Heard {
    let (mut heard, begin) = (Heard::default(), Instant::now());
    while !heard.is_complete(case) {
        assert!(begin.elapsed() < PATIENCE, "{} ({}): {}: {heard:?}", case.file, case.section, case.reason);
        read(&mut heard);
    }
    heard
}

/// The first Via, of bad requests too.
fn top_via(bytes: &[u8]) -> Option<Via> {
    match Message::parse(bytes) {
        Ok(message) => message.headers().top_via().ok(),
        Err(error) => error.request.and_then(|request| request.headers.top_via().ok()),
    }
}

/// The cases, apart where two have the same branch: to one gateway they are one transaction (RFC 3261 section 17.2.3).
fn rounds() -> Vec<Vec<(Case, Vec<u8>)>> {
    let mut rounds: Vec<(BTreeSet<String>, Vec<_>)> = Vec::new();
    for (case, bytes) in data::cases() {
        let branch = top_via(&bytes).and_then(|via| via.branch().map(str::to_owned)).unwrap_or(case.file.to_owned());
        match rounds.iter_mut().find(|(branches, _)| !branches.contains(&branch)) {
            Some((branches, cases)) => {
                branches.insert(branch);
                cases.push((case, bytes));
            }
            None => rounds.push((BTreeSet::from([branch]), vec![(case, bytes)])),
        }
    }
    rounds.into_iter().map(|(_, cases)| cases).collect()
}

#[test]
fn over_udp() {
    for (round, cases) in rounds().into_iter().enumerate() {
        let stage = Stage::new(Of::Udp, round);
        for (n, (case, bytes)) in cases.iter().enumerate() {
            over_udp_from(address(Of::Peers, n), &stage, case, bytes);
        }
        stage.still_makes_calls();
    }
}

/// From the port to which the answers go: that of the first Via (RFC 3261 section 18.2.2).
fn over_udp_from(ip: IpAddr, stage: &Stage, case: &Case, bytes: &[u8]) {
    let port = top_via(bytes).and_then(|via| via.port).unwrap_or(5060);
    let socket = UdpSocket::bind((ip, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket.send_to(bytes, stage.sip).unwrap();
    socket.send_to(&options(stage.sip, &format!("UDP {ip}:{port}")), stage.sip).unwrap();
    let mut buffer = vec![0; 65_535];
    let heard = listen(case, |heard| {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            assert_eq!(from, stage.sip);
            heard.take(&buffer[..len]);
        }
    });
    heard.check(case);
}

/// One connection to the gateway.
struct Line {
    stream: TcpStream,
    framer: Framer,
    is_closed: bool,
}

impl Line {
    /// Reads for a moment.
    fn read(&mut self, heard: &mut Heard) {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.is_closed = true,
            Ok(len) => self.framer.push(&buffer[..len]).unwrap(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.is_closed = true, // closed before it had read everything
        }
        while let Some(frame) = self.framer.next() {
            let Frame::Message(bytes) = frame else { panic!("a keep-alive") };
            heard.take(&bytes);
        }
    }
}

/// How a message and the question behind it are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// One piece each.
    Whole,
    /// Every byte by itself.
    Bytes,
    /// Both in one segment.
    Two,
}

fn write(stream: &mut TcpStream, cut: Cut, message: &[u8], question: &[u8]) -> std::io::Result<()> {
    match cut {
        Cut::Whole => stream.write_all(message).and_then(|()| stream.write_all(question)),
        Cut::Bytes => [message, question].concat().chunks(1).try_for_each(|byte| stream.write_all(byte)),
        Cut::Two => stream.write_all(&[message, question].concat()),
    }
}

fn over_tcp(stage: &Stage, cut: Cut, case: &Case, bytes: &[u8]) {
    let mut line = stage.connect();
    let question = options(stage.sip, &format!("TCP {}", line.stream.local_addr().unwrap()));
    match case.stream {
        Stream::Whole | Stream::Two => {
            write(&mut line.stream, cut, bytes, &question).unwrap();
            listen(case, |heard| line.read(heard)).check(case);
            assert!(!line.is_closed);
        }
        // A message has been read, or none yet; where the next begins cannot be told: the question takes another way.
        Stream::HeadOnly | Stream::Waits => {
            write(&mut line.stream, cut, bytes, &[]).unwrap();
            let case = if case.stream == Stream::Waits { &Case { answer: Answer::Silence, ..*case } } else { case };
            let mut other = stage.connect();
            other
                .stream
                .write_all(&options(stage.sip, &format!("TCP {}", other.stream.local_addr().unwrap())))
                .unwrap();
            let heard = listen(case, |heard| {
                line.read(heard);
                other.read(heard);
            });
            heard.check(case);
            assert!(!line.is_closed && !other.is_closed);
        }
        // The connection ends, without a word, and only this one.
        Stream::Broken(_) => {
            let _ = write(&mut line.stream, cut, bytes, &question); // it may be closed half-way
            let (mut heard, begin) = (Heard::default(), Instant::now());
            while !line.is_closed {
                assert!(begin.elapsed() < PATIENCE, "{} does not end the connection", case.file);
                line.read(&mut heard);
            }
            assert!(heard.statuses.is_empty() && !heard.well, "{}: {heard:?}", case.file);
            let mut other = stage.connect();
            other
                .stream
                .write_all(&options(stage.sip, &format!("TCP {}", other.stream.local_addr().unwrap())))
                .unwrap();
            listen(&Case { answer: Answer::Silence, ..*case }, |heard| other.read(heard));
        }
    }
}

fn all_over_tcp(of: Of, cut: Cut) {
    for (round, cases) in rounds().into_iter().enumerate() {
        let stage = Stage::new(of, round);
        // The one that is no message at all belongs to datagrams.
        for (case, bytes) in cases.iter().filter(|(case, _)| case.section != "-") {
            over_tcp(&stage, cut, case, bytes);
        }
        stage.still_makes_calls();
    }
}

#[test]
fn over_tcp_in_one_piece() {
    all_over_tcp(Of::Whole, Cut::Whole);
}

#[test]
fn over_tcp_byte_by_byte() {
    all_over_tcp(Of::Bytes, Cut::Bytes);
}

#[test]
fn over_tcp_two_in_a_segment() {
    all_over_tcp(Of::Two, Cut::Two);
}
