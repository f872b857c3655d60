//! A browser without a window: the protocol over a WebSocket, and a whole media engine (ICE, DTLS, SRTP) of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::format::{Codec, FormatParams};
use str0m::media::{Direction, Frequency, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::PATIENCE;
use super::rtp::{event, from_alaw, from_ulaw, to_ulaw};
use super::sound::{FRAME, Heard, Sound, Voice};

/// What the browser offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codecs {
    /// Opus first, then G.711, as browsers do.
    All,
    /// PCMU alone.
    Pcmu,
    /// Opus alone.
    Opus,
}

/// What is wrong with a browser's transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// UDP is blocked.
    Blocked,
    /// Connectivity checks pass, DTLS does not.
    NoDtls,
    /// Everything but its sound passes.
    NoRtp,
    /// Its description names another certificate than it has.
    WrongFingerprint,
}

impl Fault {
    /// Whether a datagram gets through (RFC 7983 section 7).
    fn lets(self, datagram: &[u8]) -> bool {
        match (self, datagram.first()) {
            (Fault::Blocked, _) | (Fault::NoDtls, Some(20..=63)) => false,
            (Fault::NoRtp, Some(128..=191)) => datagram.get(1).is_some_and(|kind| (192..=223).contains(kind)),
            _ => true,
        }
    }
}

enum Command {
    Fault(Fault),
    Send(Value),
    Call {
        call: String,
        to: String,
        codecs: Codecs,
    },
    Accept {
        call: String,
        sdp: String,
        codecs: Codecs,
    },
    Say(Sound),
    Digit(char),
    /// The page goes away without a word.
    Close,
}

/// What is heard, at 8 and at 16 kHz.
type Ears = (Heard, Heard);

/// A connection, by TLS or not.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A page with one session and at most one call with media.
pub struct Browser {
    pub heard: Heard,
    /// The same at 16 kHz, of Opus alone.
    pub wide: Heard,
    commands: mpsc::Sender<Command>,
    messages: mpsc::Receiver<Value>,
    /// All messages that came, in order.
    pub history: Vec<Value>,
    calls: usize,
    task: JoinHandle<()>,
}

impl Browser {
    /// Opens a session at `http`, such as `127.0.0.1:8080`, with `hello`.
    pub async fn connect(http: SocketAddr, hello: Value) -> Browser {
        let stream = TcpStream::connect(http).await.expect("a connection");
        Browser::over(Box::new(stream), &format!("http://{http}"), hello).await
    }

    /// Opens a session over a connection to the gateway of this origin.
    pub async fn over(stream: Box<dyn Stream>, origin: &str, hello: Value) -> Browser {
        let url = format!("{}/phone", origin.replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("a WebSocket address");
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", "ringback.v1".parse().expect("a header"));
        headers.insert("Origin", origin.parse().expect("a header"));
        let connecting = timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await;
        let (socket, _) = connecting.expect("a WebSocket in time").expect("a WebSocket");
        let (heard, wide) = (Heard::default(), Heard::wide());
        // A test may listen to a call for long before it reads what was told meanwhile, once a second.
        let ((commands, inbox), (out, messages)) = (mpsc::channel(64), mpsc::channel(4_096));
        let page = Page { socket, out, heard: (heard.clone(), wide.clone()), media: None, fault: None };
        let task = tokio::spawn(page.run(inbox));
        let mut browser = Browser { heard, wide, commands, messages, history: Vec::new(), calls: 0, task };
        let mut first = hello;
        first["type"] = "hello".into();
        browser.send(first).await;
        browser.expect("welcome").await;
        browser
    }

    /// A session without a token, named by itself.
    pub async fn open(http: SocketAddr, user: &str) -> Browser {
        Browser::connect(http, json!({ "user": user })).await
    }

    async fn command(&self, command: Command) {
        self.commands.send(command).await.expect("a page that is still open");
    }

    /// Has this fault from now on; before a call.
    pub async fn fails(&self, fault: Fault) {
        self.command(Command::Fault(fault)).await;
    }

    /// Sends a message as it is.
    pub async fn send(&self, message: Value) {
        self.command(Command::Send(message)).await;
    }

    /// Dials, and returns the call's id.
    pub async fn call(&mut self, to: &str, codecs: Codecs) -> String {
        self.calls += 1;
        let call = format!("call-{}", self.calls);
        self.command(Command::Call { call: call.clone(), to: to.into(), codecs }).await;
        call
    }

    /// Takes the call of an `incoming` message.
    pub async fn accept(&self, incoming: &Value) {
        self.accept_by(incoming, Codecs::All).await;
    }

    /// The same with these codecs; of several the engine answers G.711 first.
    pub async fn accept_by(&self, incoming: &Value, codecs: Codecs) {
        let text = |name: &str| incoming[name].as_str().expect("a text").to_owned();
        self.command(Command::Accept { call: text("call"), sdp: text("sdp"), codecs }).await;
    }

    pub async fn say(&self, sound: Sound) {
        self.command(Command::Say(sound)).await;
    }

    /// Presses keys as a page does with `RTCDTMFSender`: telephone-events in the stream.
    pub async fn press(&self, digits: &str) {
        for digit in digits.chars() {
            self.command(Command::Digit(digit)).await;
        }
    }

    /// Presses keys by the protocol.
    pub async fn digits(&self, call: &str, digits: &str) {
        self.send(json!({ "type": "digits", "call": call, "digits": digits })).await;
    }

    pub async fn hangup(&self, call: &str) {
        self.send(json!({ "type": "hangup", "call": call })).await;
    }

    /// The next message of this type. Others may come before it, but no end and no error that was not asked for.
    #[track_caller]
    pub fn expect(&mut self, kind: &str) -> impl Future<Output = Value> {
        let place = std::panic::Location::caller();
        async move {
            loop {
                let message = timeout(PATIENCE, self.messages.recv()).await;
                let Ok(Some(message)) = message else {
                    panic!("{place}: no `{kind}`; before: {:?}", self.kinds());
                };
                self.history.push(message.clone());
                if message["type"] == kind {
                    return message;
                }
                let ends = message["type"] == "ended" || message["type"] == "error";
                assert!(!ends, "{place}: `{kind}` expected; {message}; before: {:?}", self.kinds());
            }
        }
    }

    /// The types of all messages that came.
    pub fn kinds(&self) -> Vec<String> {
        self.history.iter().map(|message| message["type"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The next `ended`, which must say who ended the call, and why in words.
    #[track_caller]
    pub fn ended(&mut self, by: &str) -> impl Future<Output = Value> {
        let place = std::panic::Location::caller();
        let by = by.to_owned();
        let message = self.expect("ended");
        async move {
            let message = message.await;
            assert!(message["by"] == by.as_str(), "{place}: ended by {by} expected; {message}");
            assert!(message["text"].as_str().is_some_and(|text| !text.is_empty()), "{place}: no words in {message}");
            message
        }
    }

    /// The page goes away: no hang-up, no closing handshake.
    pub async fn close(self) {
        // A page that the gateway has closed is gone already.
        let _ = self.commands.send(Command::Close).await;
        self.task.await.expect("a page that ends well");
    }
}

struct Page {
    socket: WebSocketStream<Box<dyn Stream>>,
    out: mpsc::Sender<Value>,
    heard: Ears,
    media: Option<Media>,
    fault: Option<Fault>,
}

/// What woke the page.
enum Wake {
    Command(Option<Command>),
    Frame(Option<Message>),
    Datagram(Vec<u8>, SocketAddr),
    Tick,
    Timeout,
}

impl Page {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut tick = interval(Duration::from_millis(20));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            let wake = tokio::select! {
                command = inbox.recv() => Wake::Command(command),
                frame = self.socket.next() => Wake::Frame(frame.and_then(Result::ok)),
                wake = Media::wake(&mut self.media) => wake,
                _ = tick.tick() => Wake::Tick,
            };
            match wake {
                // In good order: nobody is to wait for this page.
                Wake::Command(None | Some(Command::Close)) => {
                    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                    let _ = self.socket.close(Some(frame)).await; // the gateway may be gone
                    return;
                }
                Wake::Command(Some(command)) => self.command(command).await,
                Wake::Frame(Some(Message::Text(text))) => self.message(text.as_str()).await,
                Wake::Frame(Some(Message::Close(_)) | None) => return,
                Wake::Frame(Some(_)) => {}
                Wake::Datagram(bytes, source) => self.with_media(|media| media.receive(&bytes, source)).await,
                Wake::Tick => self.with_media(Media::tick).await,
                Wake::Timeout => self.with_media(Media::timeout).await,
            }
        }
    }

    async fn send(&mut self, message: Value) {
        // A session that is being closed says so by its end.
        let _ = self.socket.send(Message::text(message.to_string())).await;
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Fault(fault) => self.fault = Some(fault),
            Command::Send(message) => self.send(message).await,
            Command::Call { call, to, codecs } => {
                let (mut media, mut sdp) = Media::offer(codecs, self.heard.clone()).await;
                media.fault = self.fault;
                if self.fault == Some(Fault::WrongFingerprint) {
                    sdp = another_fingerprint(&sdp);
                }
                self.media = Some(media);
                self.send(json!({ "type": "call", "call": call, "to": to, "sdp": sdp })).await;
            }
            Command::Accept { call, sdp, codecs } => {
                let (media, sdp) = Media::answer(&sdp, codecs, self.heard.clone()).await;
                self.media = Some(media);
                self.send(json!({ "type": "accept", "call": call, "sdp": sdp })).await;
                self.with_media(Media::timeout).await;
            }
            Command::Say(sound) => self.with_media(|media| media.sound = sound).await,
            Command::Digit(digit) => self.with_media(|media| media.digits.push(digit)).await,
            Command::Close => {}
        }
    }

    async fn message(&mut self, text: &str) {
        let message: Value = serde_json::from_str(text).expect("JSON from the gateway");
        if message["type"] == "answer" {
            let sdp = message["sdp"].as_str().unwrap_or_default().to_owned();
            self.with_media(|media| media.answered(&sdp)).await;
        }
        if message["type"] == "ended" {
            self.media = None;
        }
        // A test that ended reads no more.
        let _ = self.out.send(message).await;
    }

    /// One mutation, then all that follows from it.
    async fn with_media(&mut self, change: impl FnOnce(&mut Media)) {
        if let Some(media) = &mut self.media {
            change(media);
            media.drain().await;
        }
    }
}

/// A codec by its payload type, as the answer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Format {
    name: String,
    clock: u32,
}

/// The same description with another certificate's digest.
fn another_fingerprint(sdp: &str) -> String {
    let line = |line: &str| match line.split_once("a=fingerprint:sha-256 ") {
        Some((_, digest)) => format!("a=fingerprint:sha-256 {}", digest.chars().rev().collect::<String>()),
        None => line.to_owned(),
    };
    sdp.lines().map(line).collect::<Vec<_>>().join("\r\n") + "\r\n"
}

struct Media {
    fault: Option<Fault>,
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    pending: Option<SdpPendingOffer>,
    next: Instant,
    connected: bool,
    mid: Option<Mid>,
    formats: HashMap<u8, Format>,
    /// The payload type of what we say, and of digits.
    speech: u8,
    events: Option<u8>,
    encoder: opus::Encoder,
    decoder: opus::Decoder,
    wide: opus::Decoder,
    voice: Voice,
    sound: Sound,
    digits: Vec<char>,
    event: Option<(Vec<[u8; 4]>, u32)>,
    pause: u8,
    sequence: u64,
    timestamp: u32,
    heard: Ears,
}

/// Payload types as Chromium has them.
const EVENTS_48000: u8 = 110;
const EVENTS_8000: u8 = 126;

impl Media {
    async fn new(codecs: Codecs, heard: Ears) -> Media {
        let mut config = Rtc::builder().set_rtp_mode(true).clear_codecs().enable_pcmu(codecs != Codecs::Opus, false);
        let formats = config.codec_config();
        let event = |rate: u32| Frequency::new(rate).expect("a clock rate");
        if codecs != Codecs::Pcmu {
            formats.add_config(EVENTS_48000.into(), None, Codec::Tele, event(48_000), None, FormatParams::default());
            config = config.enable_opus(true, false).enable_pcma(codecs == Codecs::All, false);
        }
        let formats = config.codec_config();
        formats.add_config(EVENTS_8000.into(), None, Codec::Tele, event(8000), None, FormatParams::default());
        let now = Instant::now();
        let mut rtc = config.build(now);
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free UDP port");
        let local = socket.local_addr().expect("an address");
        rtc.add_local_candidate(Candidate::host(local, "udp").expect("a host candidate"));
        Media {
            fault: None,
            rtc,
            socket,
            local,
            pending: None,
            next: now,
            connected: false,
            mid: None,
            formats: HashMap::new(),
            speech: 0,
            events: None,
            encoder: opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip).expect("Opus"),
            decoder: opus::Decoder::new(8000, opus::Channels::Mono).expect("Opus"),
            wide: opus::Decoder::new(16_000, opus::Channels::Mono).expect("Opus"),
            voice: Voice::default(),
            sound: Sound::Silence,
            digits: Vec::new(),
            event: None,
            pause: 0,
            // About to wrap, as in any call that starts at a random place.
            sequence: 65_400,
            timestamp: 4_294_800_000,
            heard,
        }
    }

    async fn offer(codecs: Codecs, heard: Ears) -> (Media, String) {
        let mut media = Media::new(codecs, heard).await;
        let mut change = media.rtc.sdp_api();
        media.mid = Some(change.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None));
        let (offer, pending) = change.apply().expect("an offer");
        media.pending = Some(pending);
        (media, offer.to_sdp_string())
    }

    fn answered(&mut self, sdp: &str) {
        let Some(pending) = self.pending.take() else { return };
        let answer = SdpAnswer::from_sdp_string(sdp).unwrap_or_else(|error| panic!("the answer: {error}\n{sdp}"));
        let accepted = self.rtc.sdp_api().accept_answer(pending, answer);
        accepted.unwrap_or_else(|error| panic!("the answer: {error}\n{sdp}"));
        self.agreed(sdp);
    }

    async fn answer(sdp: &str, codecs: Codecs, heard: Ears) -> (Media, String) {
        let mut media = Media::new(codecs, heard).await;
        let offer = SdpOffer::from_sdp_string(sdp).unwrap_or_else(|error| panic!("the offer: {error}\n{sdp}"));
        let answer =
            media.rtc.sdp_api().accept_offer(offer).unwrap_or_else(|error| panic!("the offer: {error}\n{sdp}"));
        let answer = answer.to_sdp_string();
        media.agreed(&answer);
        (media, answer)
    }

    /// Takes payload types and the media id from the answer, whoever wrote it.
    fn agreed(&mut self, sdp: &str) {
        let audio = sdp.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("an audio m-line");
        let types: Vec<u8> = audio.split_whitespace().skip(2).filter_map(|word| word.parse().ok()).collect();
        let mapped = sdp.lines().filter_map(|line| {
            let (number, format) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
            let (name, rest) = format.split_once('/')?;
            let clock = rest.split('/').next()?.parse().ok()?;
            Some((number.parse().ok()?, Format { name: name.to_ascii_lowercase(), clock }))
        });
        let known =
            [(0, "pcmu"), (8, "pcma")].map(|(number, name)| (number, Format { name: name.into(), clock: 8000 }));
        self.formats = known.into_iter().chain(mapped).filter(|(number, _)| types.contains(number)).collect();
        let is_event = |number: &&u8| self.formats.get(number).is_some_and(|format| format.name == "telephone-event");
        self.events = types.iter().find(is_event).copied();
        self.speech = *types.iter().find(|number| !is_event(number)).expect("a codec");
        if self.mid.is_none() {
            let mid = sdp.lines().find_map(|line| line.strip_prefix("a=mid:")).expect("a media id");
            self.mid = Some(mid.trim().into());
        }
    }

    async fn wake(media: &mut Option<Media>) -> Wake {
        let Some(media) = media else { return std::future::pending().await };
        let mut buffer = [0; 2048];
        tokio::select! {
            received = media.socket.recv_from(&mut buffer) => match received {
                Ok((length, source)) => Wake::Datagram(buffer[..length].to_vec(), source),
                // A port unreachable of an earlier packet: nothing came.
                Err(_) => Wake::Timeout,
            },
            () = sleep_until(media.next.into()) => Wake::Timeout,
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.rtc.handle_input(input).unwrap_or_else(|error| panic!("the browser's media engine: {error}"));
    }

    fn receive(&mut self, bytes: &[u8], source: SocketAddr) {
        let receive = Receive::new(Protocol::Udp, source, self.local, bytes).expect("a datagram of WebRTC");
        self.input(Input::Receive(Instant::now(), receive));
    }

    fn timeout(&mut self) {
        self.input(Input::Timeout(Instant::now()));
    }

    async fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap_or_else(|error| panic!("the browser's media engine: {error}")) {
                Output::Timeout(at) => return self.next = at,
                Output::Transmit(send) if self.fault.is_some_and(|fault| !fault.lets(&send.contents)) => {}
                Output::Transmit(send) => {
                    let _ = self.socket.send_to(&send.contents, send.destination).await;
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::RtpPacket(packet)) => self.hear(&packet),
                Output::Event(_) => {}
            }
        }
    }

    fn hear(&mut self, packet: &RtpPacket) {
        let number = *packet.header.payload_type;
        let format = self.formats.get(&number).unwrap_or_else(|| panic!("payload type {number} was not agreed"));
        let (ssrc, timestamp) = (*packet.header.ssrc, packet.header.timestamp);
        let decode = match format.name.as_str() {
            "pcmu" => from_ulaw,
            "pcma" => from_alaw,
            "telephone-event" => return self.heard.0.add(|r| r.event(timestamp, &packet.payload)),
            _ => {
                // 120 ms at most.
                let mut pcm = [0; 960];
                let length = self.decoder.decode(&packet.payload, &mut pcm, false).expect("Opus that can be decoded");
                self.heard.0.add(|r| r.put(ssrc, timestamp, 48_000, &pcm[..length]));
                let mut pcm = [0; 1920];
                let length = self.wide.decode(&packet.payload, &mut pcm, false).expect("Opus that can be decoded");
                return self.heard.1.add(|r| r.put(ssrc, timestamp, 48_000, &pcm[..length]));
            }
        };
        let pcm: Vec<i16> = packet.payload.iter().map(|&code| decode(code)).collect();
        self.heard.0.add(|r| r.put(ssrc, timestamp, 8000, &pcm));
    }

    /// 20 ms of speech, or the next packet of a digit.
    fn tick(&mut self) {
        let (Some(mid), true) = (self.mid, self.connected) else { return };
        let clock = self.formats.get(&self.speech).map_or(8000, |format| format.clock);
        if let (Some(events), None, 0, false) = (self.events, &self.event, self.pause, self.digits.is_empty()) {
            let clock = self.formats.get(&events).map_or(8000, |format| format.clock);
            let mut packets = event(self.digits.remove(0), 100, clock);
            packets.reverse();
            self.event = Some((packets, self.timestamp));
        }
        let (mut number, mut timestamp, mut payload) = (self.speech, self.timestamp, self.speak());
        if let Some((packets, start)) = &mut self.event
            && let Some(next) = packets.pop()
        {
            (number, timestamp, payload) = (self.events.unwrap_or_default(), *start, next.to_vec());
            if packets.is_empty() {
                (self.event, self.pause) = (None, 3);
            }
        } else {
            self.pause = self.pause.saturating_sub(1);
        }
        self.sequence += 1;
        self.timestamp = self.timestamp.wrapping_add(clock / 50);
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_tx_by_mid(mid, None).expect("a stream to send");
        stream.write_rtp(RtpWrite::new(number.into(), self.sequence.into(), timestamp, Instant::now(), &payload[..]));
        self.timeout();
    }

    fn speak(&mut self) -> Vec<u8> {
        if self.formats.get(&self.speech).is_some_and(|format| format.name == "opus") {
            let pcm = self.voice.frame::<960>(self.sound);
            return self.encoder.encode_vec(&pcm, 400).expect("Opus");
        }
        self.voice.frame::<FRAME>(self.sound).iter().map(|&sample| to_ulaw(sample)).collect()
    }
}
