//! The media of a phone: an RTP endpoint whose signalling somebody else does (SIPp), at the port named in its SDP.

use std::net::SocketAddr;
use std::time::Duration;

use ringback::codec::opus::OpusSettings;
use ringback::codec::{Codec, Decoder, Encoder, Rate};
use ringback::rtp::srtp::{Profile, SrtpContext};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::rtp::{Packet, event, from_alaw, from_ulaw, to_ulaw};
use super::sound::{FRAME, Heard, Sound, Voice};

/// The payload type of Opus.
pub const OPUS: u8 = 96;
/// telephone-event's payload type in the scenarios of `tests/sipp`.
const EVENTS: u8 = 101;

/// What is wrong with a phone's sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A firewall lets nothing out.
    Blocked,
    /// It sends a payload type that nobody agreed to.
    WrongType,
    /// It comes from a machine that nobody named.
    Elsewhere,
}

enum Command {
    Fault(Fault),
    Say(Sound),
    Digit(char),
    Key(char),
    Lose(u32),
    Speak(Codec),
    Secure(Box<Keys>),
    Stop,
}

/// The contexts of a phone whose media is encrypted.
pub struct Keys {
    sending: SrtpContext,
    receiving: SrtpContext,
}

impl Keys {
    /// Keys, each with its salt: the phone's own and the gateway's.
    pub fn new(profile: Profile, own: &[u8], gateway: &[u8]) -> Keys {
        let context = |key: &[u8]| {
            let (key, salt) = key.split_at(profile.key_len());
            SrtpContext::new(profile, key, salt).expect("a key of the profile's length")
        };
        Keys { sending: context(own), receiving: context(gateway) }
    }
}

/// A phone's RTP side: PCMU at 20 ms, sent to where its first packet came from.
pub struct Phone {
    pub address: SocketAddr,
    pub heard: Heard,
    /// The same at 16 kHz, of wideband codecs alone.
    pub wide: Heard,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

impl Phone {
    /// Binds an even port of `ip`.
    pub async fn start(ip: &str) -> Phone {
        let socket = loop {
            let socket = UdpSocket::bind((ip, 0)).await.expect("a free UDP port");
            if socket.local_addr().expect("an address").port() % 2 == 0 {
                break socket;
            }
        };
        let address = socket.local_addr().expect("an address");
        let (heard, wide, (commands, inbox)) = (Heard::default(), Heard::wide(), mpsc::channel(64));
        let task = tokio::spawn(run(socket, inbox, heard.clone(), wide.clone()));
        Phone { address, heard, wide, commands, task }
    }

    pub async fn say(&self, sound: Sound) {
        self.commands.send(Command::Say(sound)).await.expect("a running phone");
    }

    /// Has this fault from now on.
    pub async fn fails(&self, fault: Fault) {
        self.commands.send(Command::Fault(fault)).await.expect("a running phone");
    }

    /// Speaks SRTP from now on, and hears nothing else.
    pub async fn secure(&self, keys: Keys) {
        self.commands.send(Command::Secure(Box::new(keys))).await.expect("a running phone");
    }

    /// Presses these keys, one after another, as telephone-events (RFC 4733).
    pub async fn press(&self, digits: &str) {
        for digit in digits.chars() {
            self.commands.send(Command::Digit(digit)).await.expect("a running phone");
        }
    }

    /// Presses these keys, one after another, as tones in the sound: 80 ms each, and a pause of 80 ms.
    pub async fn key(&self, keys: &str) {
        for key in keys.chars() {
            self.commands.send(Command::Key(key)).await.expect("a running phone");
        }
    }

    /// Speaks and hears this wideband codec from now on: G.722 under its own number, Opus under [`OPUS`].
    pub async fn speak(&self, codec: Codec) {
        self.commands.send(Command::Speak(codec)).await.expect("a running phone");
    }

    /// From now on its network loses so many packets in a hundred, both ways, at random.
    pub async fn lose(&self, percent: u32) {
        self.commands.send(Command::Lose(percent)).await.expect("a running phone");
    }

    pub async fn stop(self) {
        self.commands.send(Command::Stop).await.expect("a running phone");
        self.task.await.expect("a phone that ends well");
    }
}

/// The sending side: 20 ms after 20 ms, audio or the packets of a digit, a pause of 60 ms between two digits.
struct Sender {
    voice: Voice,
    sound: Sound,
    /// Where it is not mu-law that it speaks.
    encoder: Option<Encoder>,
    sequence: u16,
    timestamp: u32,
    digits: Vec<char>,
    /// What is left of the digit being sent, and the timestamp of its start.
    event: Option<(Vec<[u8; 4]>, u32)>,
    pause: u8,
    /// Keys to be pressed as tones, and the frames that are left of one and its pause.
    keys: Vec<char>,
    key_frames: u8,
    fault: Option<Fault>,
}

/// Which packets a network swallows: the same ones in every run.
struct Network {
    percent: u32,
    state: u32,
}

impl Network {
    fn swallows(&mut self) -> bool {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.state >> 16) % 100 < self.percent
    }
}

/// Frames of a key pressed as a tone, and of the pause after it.
const KEY_FRAMES: u8 = 4;

impl Sender {
    fn sound_of_frame(&mut self) -> Sound {
        if self.key_frames == 0 && !self.keys.is_empty() {
            self.key_frames = 2 * KEY_FRAMES;
        }
        if self.key_frames == 0 {
            return self.sound;
        }
        self.key_frames -= 1;
        match self.key_frames {
            0 => {
                self.keys.remove(0);
                Sound::Silence
            }
            left if left >= KEY_FRAMES => Sound::Key(self.keys[0]),
            _ => Sound::Silence,
        }
    }

    fn packet(&mut self) -> Vec<u8> {
        if self.event.is_none() && self.pause == 0 && !self.digits.is_empty() {
            let mut packets = event(self.digits.remove(0), 100, 8000);
            packets.reverse();
            self.event = Some((packets, self.timestamp));
        }
        self.sequence = self.sequence.wrapping_add(1);
        let sound = self.sound_of_frame();
        let (payload_type, clock, audio) = match &mut self.encoder {
            None => (0, 8000, self.voice.frame::<FRAME>(sound).iter().map(|&sample| to_ulaw(sample)).collect()),
            Some(encoder) => {
                let mut audio = vec![0; 400];
                let length = encoder.encode(&self.voice.frame::<{ 2 * FRAME }>(sound), &mut audio).expect("a frame");
                audio.truncate(length);
                let codec = encoder.codec();
                (codec.static_payload_type().unwrap_or(OPUS), codec.clock_rate(), audio)
            }
        };
        let mut packet = Packet {
            payload_type: if self.fault == Some(Fault::WrongType) { 97 } else { payload_type },
            marker: false,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: 0x5155,
            payload: &audio,
        };
        let next = self
            .event
            .as_mut()
            .and_then(|(packets, start)| packets.pop().map(|next| (next, *start, packets.is_empty())));
        let bytes = match &next {
            Some((payload, start, last)) => {
                (packet.payload_type, packet.timestamp, packet.payload) = (EVENTS, *start, payload);
                if *last {
                    (self.event, self.pause) = (None, 3);
                }
                packet.to_bytes()
            }
            None => {
                self.pause = self.pause.saturating_sub(1);
                packet.to_bytes()
            }
        };
        self.timestamp = self.timestamp.wrapping_add(clock / 50);
        bytes
    }
}

async fn run(socket: UdpSocket, mut inbox: mpsc::Receiver<Command>, heard: Heard, wide: Heard) {
    let mut tick = interval(Duration::from_millis(20));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    // A large first timestamp and a sequence number about to wrap, as real phones have them.
    let mut sender = Sender {
        voice: Voice::default(),
        sound: Sound::Silence,
        encoder: None,
        sequence: 65_500,
        timestamp: 4_294_900_000,
        digits: Vec::new(),
        event: None,
        pause: 0,
        keys: Vec::new(),
        key_frames: 0,
        fault: None,
    };
    let mut network = Network { percent: 0, state: 7 };
    // Another machine of the phone's, which its description does not name.
    let elsewhere = UdpSocket::bind("127.0.0.9:0").await.expect("a free UDP port");
    let (mut peer, mut buffer, mut keys) = (None, [0; 2048], None);
    let mut decoder: Option<Decoder> = None;
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Fault(fault)) => sender.fault = Some(fault),
                Some(Command::Say(sound)) => sender.sound = sound,
                Some(Command::Digit(digit)) => sender.digits.push(digit),
                Some(Command::Key(key)) => sender.keys.push(key),
                Some(Command::Speak(codec)) => {
                    let encoder = Encoder::new(codec, Rate::Wide, OpusSettings::of(Rate::Wide)).expect("an encoder");
                    sender.encoder = Some(encoder);
                    decoder = Some(Decoder::new(codec, Rate::Wide).expect("a decoder"));
                }
                Some(Command::Lose(percent)) => network.percent = percent,
                Some(Command::Secure(new)) => keys = Some(new),
                Some(Command::Stop) | None => return,
            },
            _ = tick.tick() => if let Some(peer) = peer {
                let packet = protected(sender.packet(), keys.as_deref_mut());
                // Nobody listens any more: that is for the signalling to say.
                let _ = match sender.fault {
                    _ if network.swallows() => Ok(0),
                    Some(Fault::Blocked) => Ok(0),
                    Some(Fault::Elsewhere) => elsewhere.send_to(&packet, peer).await,
                    _ => socket.send_to(&packet, peer).await,
                };
            },
            received = socket.recv_from(&mut buffer) => if let Ok((length, source)) = received {
                peer = Some(source);
                let length = match keys.as_deref_mut() {
                    Some(keys) => keys.receiving.unprotect_rtp(&mut buffer[..length]).ok(),
                    None => Some(length),
                };
                if let Some(length) = length.filter(|_| !network.swallows()) {
                    hear(&buffer[..length], &heard);
                    hear_wide(&buffer[..length], decoder.as_mut(), &wide);
                }
            },
        }
    }
}

fn protected(mut packet: Vec<u8>, keys: Option<&mut Keys>) -> Vec<u8> {
    if let Some(keys) = keys {
        let plain = packet.len();
        packet.resize(plain + 16, 0);
        let length = keys.sending.protect_rtp(&mut packet, plain).expect("room for the tag");
        packet.truncate(length);
    }
    packet
}

fn hear(bytes: &[u8], heard: &Heard) {
    let Some(packet) = Packet::parse(bytes) else { return };
    let decode = match packet.payload_type {
        0 => from_ulaw,
        8 => from_alaw,
        EVENTS => return heard.add(|r| r.event(packet.timestamp, packet.payload)),
        _ => return,
    };
    let pcm: Vec<i16> = packet.payload.iter().map(|&code| decode(code)).collect();
    heard.add(|r| r.put(packet.ssrc, packet.timestamp, 8000, &pcm));
}

fn hear_wide(bytes: &[u8], decoder: Option<&mut Decoder>, heard: &Heard) {
    let (Some(packet), Some(decoder)) = (Packet::parse(bytes), decoder) else { return };
    let codec = decoder.codec();
    if packet.payload_type != codec.static_payload_type().unwrap_or(OPUS) {
        return;
    }
    // 120 ms at most.
    let mut pcm = [0; 1920];
    let length = decoder.decode(packet.payload, &mut pcm).expect("a payload of this codec");
    heard.add(|r| r.put(packet.ssrc, packet.timestamp, codec.clock_rate(), &pcm[..length]));
}
