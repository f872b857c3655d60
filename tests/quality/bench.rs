//! One call through a [`Bridge`] in virtual time, with an RTP leg at either end: Opus as from a browser, PCMU as from a
//! phone. Nothing here looks at a clock: the same seed gives the same sound.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringback::codec::Codec;
use ringback::media::{Bridge, Means, Port};
use ringback::sdp::{AcceptedCodec, Hears, LegMedia, LegPlan, MediaPlan, RtpMedia, RtpSlot};
use serde_json::{Value, json};

use crate::ends::{RED, Speaker, TimeLine, Track};
use crate::network::Network;
use crate::peer::rtp::{Packet, from_ulaw, to_ulaw};
use crate::rows::Row;
use crate::speech::Script;
use crate::{Options, recorded};

const OPUS: u8 = 111;
/// Where the browser's and the phone's RTP comes from and goes to; RTCP is one port above.
const BROWSER: &str = "192.0.2.1:5000";
const PHONE: &str = "192.0.2.2:4000";
/// A browser reports once a second.
const REPORTS: Duration = Duration::from_secs(5);

enum Event {
    BrowserSays(Vec<u8>),
    PhoneSays(Vec<u8>),
    BrowserReports,
    /// Reaches the gateway.
    Gateway {
        port: Port,
        source: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Reaches the browser.
    Browser {
        port: Port,
        bytes: Vec<u8>,
    },
}

struct Call {
    base: Instant,
    now: Duration,
    bridge: Bridge,
    events: BTreeMap<(Duration, u64), Event>,
    order: u64,
    browser: Speaker,
    browser_first: u32,
    phone: Speaker,
    faster: f64,
    nack_ms: Option<u64>,
    /// The browser's last packet, where that was lost.
    lost: Option<Vec<u8>>,
    from_browser: Network,
    to_browser: Network,
    from_phone: Network,
    to_phone_line: TimeLine,
    to_browser_line: TimeLine,
    /// What arrived at the phone, at the browser and, for comparison, from the browser at the gateway.
    at_phone: Track,
    at_browser: Track,
    at_gateway: Track,
}

/// Runs a row and writes what was heard; yields one entry of the list for each direction, and one for the best that could
/// be made of what arrived from the browser.
pub fn run(row: &Row, script: &Script, options: &Options) -> Vec<Value> {
    let mut call = Call::new(row, script, options.seed);
    let ms = script.ms() + 500;
    call.run(Duration::from_millis(ms as u64));
    let up = call.at_phone.play(false, call.to_phone_line.zero(), ms);
    let down = call.at_browser.play(true, call.to_browser_line.zero(), ms);
    // As if the receiver had known the whole stream: laid out by the sender's own timestamps.
    let ideal = call.at_gateway.play(true, call.browser_first, ms);
    let ideal: Vec<i16> = ideal.iter().map(|&sample| from_ulaw(to_ulaw(sample))).collect();
    let stats = call.bridge.stats();
    let entry = |direction: &str, sound: &[i16], network: &Network| {
        let mut entry = recorded(direction, row, script, options, sound);
        entry["path_ms"] = row.from_browser.delay_ms.into();
        (entry["packets"], entry["lost"]) = (network.sent.into(), network.lost.into());
        entry
    };
    let line = |mut entry: Value, line: &TimeLine, concealed: u64| {
        entry["concealed_ms"] = concealed.into();
        entry["timestamps_wrong"] = line.wrong.into();
        entry["packets_in_10_s"] = json!(line.in_ten_seconds());
        entry
    };
    let from_phone = if row.is_trunk() { &call.from_phone } else { &call.to_browser };
    let down = line(entry("down", &down, from_phone), &call.to_browser_line, stats.b.concealed_ms);
    if row.is_trunk() {
        return vec![down];
    }
    let up = line(entry("up", &up, &call.from_browser), &call.to_phone_line, stats.a.concealed_ms);
    vec![down, up, entry("ideal", &ideal, &call.from_browser)]
}

impl Call {
    fn new(row: &Row, script: &Script, seed: u64) -> Call {
        let address = |text: &str| text.parse().expect("an address");
        let leg = |slot: u8, remote: &str, payload_type: u8, codec: Codec, ssrc: u32| {
            let send = AcceptedCodec { payload_type, codec };
            let red = Some(RED).filter(|_| row.red && codec == Codec::Opus);
            let media =
                RtpMedia { slot: RtpSlot(slot), opus_fec: true, red, ..RtpMedia::new(address(remote), send, ssrc) };
            Some(LegPlan { media: LegMedia::Rtp(media), hears: Hears::Peer })
        };
        let plan = MediaPlan {
            a: leg(0, BROWSER, OPUS, Codec::Opus, 0x0a0b_0c0d),
            b: leg(1, PHONE, 0, Codec::Pcmu, 0x0a0b_0c0e),
        };
        let base = Instant::now();
        let seeds = |n: u64| seed.wrapping_mul(1_000_003).wrapping_add(n);
        let bridge = Bridge::new(base, plan, &Means::default(), [seed as u8; 32]).expect("a bridge");
        let mut browser = Speaker::browser(script, row, OPUS, seeds(1));
        if row.red {
            browser.repeat();
        }
        let browser_first = browser.timestamp();
        let mut call = Call {
            base,
            now: Duration::ZERO,
            bridge,
            events: BTreeMap::new(),
            order: 0,
            browser,
            phone: Speaker::phone(script, row, seeds(2)),
            browser_first,
            faster: 1.0 + row.drift_ppm / 1e6,
            nack_ms: row.nack_ms,
            lost: None,
            from_browser: Network::new(row.from_browser, seeds(3)),
            to_browser: Network::new(row.to_browser, seeds(4)),
            from_phone: Network::new(row.from_phone, seeds(5)),
            to_phone_line: TimeLine::default(),
            to_browser_line: TimeLine::default(),
            at_phone: Track::default(),
            at_browser: Track::default(),
            at_gateway: Track::default(),
        };
        call.browser_speaks();
        call.phone_speaks();
        call.at(REPORTS, Event::BrowserReports);
        call
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.order += 1;
        self.events.insert((time, self.order), event);
    }

    /// A packet goes out when the last sample in it was said.
    fn browser_speaks(&mut self) {
        if let Some(said) = self.browser.packet() {
            let at = Duration::from_secs_f64(said.end_ms as f64 / 1_000.0 / self.faster);
            let bytes = self.browser.rtp(&said);
            self.at(at, Event::BrowserSays(bytes));
        }
    }

    fn phone_speaks(&mut self) {
        if let Some(said) = self.phone.packet() {
            // A little later than the browser: the two have no common beat.
            let at = Duration::from_secs_f64((said.end_ms as f64 + 7.3) / 1_000.0 / self.faster);
            let bytes = self.phone.rtp(&said);
            self.at(at, Event::PhoneSays(bytes));
        }
    }

    fn run(&mut self, until: Duration) {
        while let Some((&(due, order), _)) = self.events.first_key_value()
            && due < until
        {
            let timeout = self.bridge.poll_timeout().map(|at| at.saturating_duration_since(self.base));
            if let Some(timeout) = timeout.filter(|timeout| *timeout <= due) {
                self.now = self.now.max(timeout);
                self.bridge.handle_timeout(self.base + self.now);
            } else if let Some(event) = self.events.remove(&(due, order)) {
                self.now = due;
                self.handle(event);
            }
            self.drain();
        }
    }

    fn handle(&mut self, event: Event) {
        let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        match event {
            Event::BrowserSays(bytes) => {
                self.browser_speaks();
                let arrives = self.from_browser.carry(self.now);
                if let Some((lost, ms)) = self.lost.take().zip(self.nack_ms) {
                    self.at(self.now + Duration::from_millis(10 + ms), from_browser(lost));
                }
                self.lost = arrives.is_empty().then(|| bytes.clone());
                for at in arrives {
                    self.at(at, from_browser(bytes.clone()));
                }
            }
            Event::PhoneSays(bytes) => {
                self.phone_speaks();
                for at in self.from_phone.carry(self.now) {
                    let port = Port::Rtp(RtpSlot(1));
                    self.at(at, Event::Gateway { port, source: address(PHONE), bytes: bytes.clone() });
                }
            }
            Event::BrowserReports => self.report(),
            Event::Gateway { port, source, mut bytes } => {
                if port == Port::Rtp(RtpSlot(0)) {
                    add_all(&mut self.at_gateway, &Packet::parse(&bytes).expect("RTP"));
                }
                self.bridge.handle_datagram(self.base + self.now, port, source, &mut bytes);
            }
            Event::Browser { port: Port::Rtcp(_), bytes } => {
                if let Some(share) = reported_loss(&bytes, self.browser.ssrc()) {
                    self.browser.reported(share);
                }
            }
            Event::Browser { bytes, .. } => self.at_browser.add(&Packet::parse(&bytes).expect("RTP")),
        }
    }

    /// A receiver report of the browser's about our stream (RFC 3550 section 6.4.2).
    fn report(&mut self) {
        self.at(self.now + REPORTS, Event::BrowserReports);
        let Some((lost, highest)) = self.at_browser.report() else { return };
        let mut bytes = vec![0x81, 201, 0, 7];
        bytes.extend(self.browser.ssrc().to_be_bytes());
        bytes.extend(0x0a0b_0c0d_u32.to_be_bytes());
        bytes.extend([(lost * 256.0).min(255.0) as u8, 0, 0, 0]);
        bytes.extend(highest.to_be_bytes());
        bytes.extend([0; 12]);
        let source = SocketAddr::new(BROWSER.parse::<SocketAddr>().expect("an address").ip(), 5_001);
        self.at(self.now, Event::Gateway { port: Port::Rtcp(RtpSlot(0)), source, bytes });
    }

    fn drain(&mut self) {
        let mut buf = [0; 1_500];
        while let Some(transmit) = self.bridge.poll_transmit(&mut buf) {
            let bytes = buf[..transmit.len].to_vec();
            let ms = self.now.as_secs_f64() * 1_000.0;
            match transmit.port {
                Port::Rtp(RtpSlot(1)) => {
                    let packet = Packet::parse(&bytes).expect("RTP");
                    self.to_phone_line.sent(ms, &packet, 8_000);
                    self.at_phone.add(&packet);
                }
                Port::Rtp(_) => {
                    let packet = Packet::parse(&bytes).expect("RTP");
                    self.to_browser_line.sent(ms, &packet, 48_000);
                    for at in self.to_browser.carry(self.now) {
                        self.at(at, Event::Browser { port: transmit.port, bytes: bytes.clone() });
                    }
                }
                Port::Rtcp(RtpSlot(0)) => {
                    for at in self.to_browser.carry(self.now) {
                        self.at(at, Event::Browser { port: transmit.port, bytes: bytes.clone() });
                    }
                }
                _ => {}
            }
        }
        while self.bridge.poll_report().is_some() {}
    }
}

/// Adds a packet to what arrived, and the one before that it holds.
fn add_all(track: &mut Track, packet: &Packet<'_>) {
    if packet.payload_type != RED {
        return track.add(packet);
    }
    let payload_type = OPUS;
    let (before, own) = match packet.payload {
        [a, b, c, d, _, rest @ ..] if a & 0x80 != 0 => {
            let head = u32::from_be_bytes([*a, *b, *c, *d]);
            let (before, own) = rest.split_at((head & 0x3ff) as usize);
            (Some((head >> 10 & 0x3fff, before)), own)
        }
        payload => (None, &payload[1..]),
    };
    if let Some((offset, payload)) = before {
        let (sequence, timestamp) = (packet.sequence.wrapping_sub(1), packet.timestamp.wrapping_sub(offset));
        track.add(&Packet { payload_type, sequence, timestamp, payload, ..*packet });
    }
    track.add(&Packet { payload_type, payload: own, ..*packet });
}

fn from_browser(bytes: Vec<u8>) -> Event {
    let source = BROWSER.parse().expect("an address");
    Event::Gateway { port: Port::Rtp(RtpSlot(0)), source, bytes }
}

/// The share lost of the stream `ssrc` by the first report about it in a compound packet.
fn reported_loss(mut bytes: &[u8], ssrc: u32) -> Option<f64> {
    while let Some(head) = bytes.first_chunk::<4>() {
        let len = 4 * (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1);
        let blocks = match head[1] {
            200 => bytes.get(28..len)?,
            201 => bytes.get(8..len)?,
            _ => &[],
        };
        let about = |block: &&[u8]| block[..4] == ssrc.to_be_bytes();
        if let Some(block) = blocks.chunks_exact(24).take(usize::from(head[0] & 31)).find(about) {
            return Some(f64::from(block[4]) / 256.0);
        }
        bytes = bytes.get(len..)?;
    }
    None
}
