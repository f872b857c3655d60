//! The ends of a call: a browser's encoder, and what either end plays.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use opus::{Application, Bandwidth, Bitrate, Channels};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::peer::rtp::{Packet, from_ulaw, to_ulaw};
use crate::rows::Row;
use crate::speech::Script;

/// The payload type of packets that hold others.
pub const RED: u8 = 63;

/// Says a script packet by packet.
pub struct Speaker {
    samples: Arc<[i16]>,
    per_ms: usize,
    said: usize,
    ptimes: &'static [usize],
    rng: StdRng,
    opus: Option<Opus>,
    payload_type: u8,
    /// Where each packet holds the one before, too: that one's timestamp and payload.
    repeats: Option<(u32, Vec<u8>)>,
    ssrc: u32,
    sequence: u64,
    timestamp: u32,
    first: bool,
    ready: VecDeque<Said>,
}

/// What was encoded beforehand, by payload type, bandwidth, packet lengths and rounds.
pub type Rehearsed = HashMap<(u8, bool, &'static [usize], usize), VecDeque<Said>>;

/// One packet of speech.
#[derive(Clone)]
pub struct Said {
    pub payload: Vec<u8>,
    pub marker: bool,
    /// Extended: the upper bits count the turns.
    pub sequence: u64,
    pub timestamp: u32,
    /// When its last sample was said, in milliseconds.
    pub end_ms: usize,
}

/// What a browser's encoder knows of the loss that its redundancy shall cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redundancy {
    /// So many percent, from the first packet on.
    Expecting(u8),
    /// What the gateway reports, as Chromium takes it.
    AsReported,
    /// There is none, whatever is lost.
    None,
}

struct Opus {
    encoder: opus::Encoder,
    redundancy: Redundancy,
    /// The share lost by the peer's reports, smoothed.
    loss: Option<f64>,
}

/// Chromium's smoothing of reported loss: so much of the old remains after a second (0.9999 to the power of 1000).
const KEPT_IN_A_SECOND: f64 = 0.904_8;

impl Speaker {
    /// A browser: Opus from 48 kHz with in-band FEC; full band at 32 kbit/s, or `narrow` as our answer asks for it.
    pub fn browser(script: &Script, row: &Row, payload_type: u8, seed: u64) -> Speaker {
        let mut encoder = opus::Encoder::new(48_000, Channels::Mono, Application::Voip).expect("Opus");
        encoder.set_bitrate(Bitrate::Bits(if row.narrow { 24_000 } else { 32_000 })).expect("Opus");
        if row.narrow {
            encoder.set_max_bandwidth(Bandwidth::Narrowband).expect("Opus");
        }
        encoder.set_complexity(9).expect("Opus");
        encoder.set_inband_fec(row.redundancy != Redundancy::None).expect("Opus");
        if let Redundancy::Expecting(percent) = row.redundancy {
            encoder.set_packet_loss_perc(percent.into()).expect("Opus");
        }
        let opus = Some(Opus { encoder, redundancy: row.redundancy, loss: None });
        Speaker { opus, ..Speaker::new(script.full.clone(), 48, payload_type, row.ptimes, seed) }
    }

    /// A phone: PCMU.
    pub fn phone(script: &Script, row: &Row, seed: u64) -> Speaker {
        Speaker::new(script.narrow.clone(), 8, 0, row.ptimes, seed)
    }

    fn new(samples: Arc<[i16]>, per_ms: usize, payload_type: u8, ptimes: &'static [usize], seed: u64) -> Speaker {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5bea_4e12);
        Speaker {
            samples,
            per_ms,
            said: 0,
            ptimes,
            opus: None,
            payload_type,
            repeats: None,
            ssrc: rng.random(),
            sequence: rng.random::<u16>().into(),
            // Anywhere, and the upper half at that: a large first timestamp has upset receivers before.
            timestamp: rng.random::<u32>() | 1 << 31,
            rng,
            first: true,
            ready: VecDeque::new(),
        }
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The timestamp of the next packet.
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// Encodes all that can be encoded beforehand, so that a real call costs no time for it. Speakers of one seed who say
    /// the same in the same way (`known`, by what makes the difference) share the work.
    pub fn rehearse(&mut self, row: &Row, known: &mut Rehearsed) {
        if row.redundancy == Redundancy::AsReported {
            return;
        }
        let key = (self.payload_type, row.narrow, row.ptimes, row.rounds);
        let ready = known.entry(key).or_insert_with(|| std::iter::from_fn(|| self.encode()).collect());
        self.ready.clone_from(ready);
        // All is said.
        self.said = self.samples.len();
    }

    /// The next packet; `None` when all is said.
    pub fn packet(&mut self) -> Option<Said> {
        self.ready.pop_front().or_else(|| self.encode())
    }

    fn encode(&mut self) -> Option<Said> {
        let ms = self.ptimes[self.rng.random_range(0..self.ptimes.len())];
        let samples = self.samples.get(self.said..self.said + ms * self.per_ms)?;
        let payload = match &mut self.opus {
            Some(opus) => opus.encoder.encode_vec(samples, 1_200).expect("Opus"),
            None => samples.iter().map(|&sample| to_ulaw(sample)).collect(),
        };
        let length = samples.len();
        self.said += length;
        let said = Said {
            payload,
            marker: std::mem::take(&mut self.first),
            sequence: self.sequence,
            timestamp: self.timestamp,
            end_ms: self.said / self.per_ms,
        };
        self.sequence += 1;
        self.timestamp = self.timestamp.wrapping_add(length as u32);
        Some(said)
    }

    /// From now on each packet holds the one before, too, as Chromium's do that was asked for it.
    pub fn repeat(&mut self) {
        self.repeats = Some((0, Vec::new()));
    }

    /// The payload type and payload of a packet as it is sent (RFC 2198 section 3).
    pub fn sent(&mut self, said: &Said) -> (u8, Vec<u8>) {
        let Some((timestamp, before)) = self.repeats.replace((said.timestamp, said.payload.clone())) else {
            self.repeats = None;
            return (self.payload_type, said.payload.clone());
        };
        let offset = said.timestamp.wrapping_sub(timestamp);
        let mut bytes = Vec::new();
        if !before.is_empty() && before.len() < 1 << 10 && offset < 1 << 14 {
            bytes.extend(
                (1 << 31 | u32::from(self.payload_type) << 24 | offset << 10 | before.len() as u32).to_be_bytes(),
            );
            bytes.push(self.payload_type);
            bytes.extend(before);
        } else {
            bytes.push(self.payload_type);
        }
        bytes.extend(&said.payload);
        (RED, bytes)
    }

    /// A packet as RTP.
    pub fn rtp(&mut self, said: &Said) -> Vec<u8> {
        let (payload_type, payload) = self.sent(said);
        let Said { marker, sequence, timestamp, .. } = said;
        let (sequence, payload, ssrc) = (*sequence as u16, &payload[..], self.ssrc);
        Packet { payload_type, marker: *marker, sequence, timestamp: *timestamp, ssrc, payload }.to_bytes()
    }

    /// Takes the loss that the peer reports, about a second after the report before.
    pub fn reported(&mut self, share: f64) {
        let Some(opus) = self.opus.as_mut().filter(|opus| opus.redundancy == Redundancy::AsReported) else { return };
        let loss = opus.loss.map_or(share, |before| KEPT_IN_A_SECOND * before + (1.0 - KEPT_IN_A_SECOND) * share);
        opus.loss = Some(loss);
        opus.encoder.set_packet_loss_perc((loss.min(0.2) * 100.0).round() as i32).expect("Opus");
    }
}

/// The beat of an end whose clock runs `faster` than ours, and how well a real call kept to it.
pub struct Paced {
    begin: Instant,
    faster: f64,
    pub late_ms: Vec<f64>,
}

impl Paced {
    pub fn new(begin: Instant, faster: f64) -> Paced {
        Paced { begin, faster, late_ms: Vec::new() }
    }

    /// A packet goes out when the last sample in it was said.
    pub fn due(&self, said: &Said) -> Instant {
        self.begin + Duration::from_secs_f64(said.end_ms as f64 / 1_000.0 / self.faster)
    }

    /// It went out now, and was due at `at`.
    pub fn sent(&mut self, at: Instant) {
        self.late_ms.push(at.elapsed().as_secs_f64() * 1_000.0);
    }
}

/// The packets of one stream as they arrived, to be played by timestamp.
#[derive(Default)]
pub struct Track {
    packets: Vec<Arrived>,
    /// For reports: packets expected and got at the last one.
    reported: (u64, u64),
}

struct Arrived {
    sequence: i64,
    timestamp: i64,
    payload: Vec<u8>,
}

/// `value` in the extended count nearest to `near`.
fn extended(near: i64, value: i64, bits: u32) -> i64 {
    let turn = 1_i64 << bits;
    let ahead = (value - near).rem_euclid(turn);
    near + if ahead > turn / 2 { ahead - turn } else { ahead }
}

impl Track {
    pub fn add(&mut self, packet: &Packet<'_>) {
        let (sequence, timestamp) = match self.packets.last() {
            Some(last) => (
                extended(last.sequence, i64::from(packet.sequence), 16),
                extended(last.timestamp, i64::from(packet.timestamp), 32),
            ),
            None => (1 << 32 | i64::from(packet.sequence), 1 << 40 | i64::from(packet.timestamp)),
        };
        self.packets.push(Arrived { sequence, timestamp, payload: packet.payload.to_vec() });
    }

    fn highest(&self) -> Option<i64> {
        self.packets.iter().map(|packet| packet.sequence).max()
    }

    /// What a phone plays that looks at no timestamp: G.711 packet after packet as numbered, `hold_ms` after one came to an
    /// empty queue, by the times at which they went out on `line`.
    pub fn queued(&mut self, line: &TimeLine, hold_ms: f64, ms: usize) -> Vec<i16> {
        self.packets.sort_by_key(|packet| packet.sequence);
        let (times, mut sound, mut played) = (line.times(), vec![0; ms * 8], 0.0);
        for packet in &self.packets {
            let Some(came) = times.get(&(packet.timestamp as u32)) else { continue };
            // It is empty.
            if *came - 20.0 > played {
                played = came - 20.0 + hold_ms;
            }
            put(&mut sound, (played * 8.0) as i64, packet.payload.iter().map(|&code| from_ulaw(code)));
            played += packet.payload.len() as f64 / 8.0;
        }
        sound
    }

    /// The share lost since the last report, and the highest sequence number; `None` when nothing came yet.
    pub fn report(&mut self) -> Option<(f64, u32)> {
        let first = self.packets.first()?.sequence;
        let highest = self.highest()?;
        let (expected, got) = ((highest - first + 1) as u64, self.packets.len() as u64);
        let (expected_before, got_before) = std::mem::replace(&mut self.reported, (expected, got));
        let (expected, got) = (expected - expected_before, got - got_before);
        let lost = expected.saturating_sub(got) as f64 / expected.max(1) as f64;
        Some((lost, highest as u32))
    }

    /// What is played: each packet at the place of its timestamp, `start` being where the first sample of the recording
    /// stands, in units of the stream's clock. G.711 has silence where nothing came; Opus is decoded as a browser does at
    /// its best, with the redundancy of the next packet and concealment.
    pub fn play(&mut self, opus: bool, start: u32, ms: usize) -> Vec<i16> {
        self.packets.sort_by_key(|packet| packet.sequence);
        self.packets.dedup_by_key(|packet| packet.sequence);
        let Some(first) = self.packets.first() else { return vec![0; ms * 8] };
        let start = extended(first.timestamp, i64::from(start), 32);
        let mut sound = vec![0; ms * 8];
        if opus {
            play_opus(&self.packets, start, &mut sound);
        } else {
            for packet in &self.packets {
                put(&mut sound, packet.timestamp - start, packet.payload.iter().map(|&code| from_ulaw(code)));
            }
        }
        sound
    }
}

fn put(sound: &mut [i16], at: i64, samples: impl Iterator<Item = i16>) {
    for (place, sample) in (at..).zip(samples) {
        if let Some(to) = usize::try_from(place).ok().and_then(|place| sound.get_mut(place)) {
            *to = sample;
        }
    }
}

fn play_opus(packets: &[Arrived], start: i64, sound: &mut [i16]) {
    let mut decoder = opus::Decoder::new(8_000, Channels::Mono).expect("Opus");
    let mut pcm = [0; 960];
    let mut next = packets.first().map_or(0, |packet| packet.timestamp);
    for packet in packets {
        // The packet before is in this one's redundancy; what is missing before that is concealed, as long as it is short.
        let missing = ((packet.timestamp - next) / 6).clamp(0, 8_000);
        let length = decoder.get_nb_samples(&packet.payload).unwrap_or(160) as i64;
        let mut left = missing;
        while left > 0 {
            let whole = left > length;
            let step = if whole { 160.min(left - length) } else { left };
            let out = &mut pcm[..step as usize];
            let redundancy = if whole { &[][..] } else { &packet.payload[..] };
            if decoder.decode(redundancy, out, !whole).is_err() {
                out.fill(0);
            }
            put(sound, (packet.timestamp - start) / 6 - left, out.iter().copied());
            left -= step;
        }
        let length = decoder.decode(&packet.payload, &mut pcm, false).expect("Opus that can be decoded");
        put(sound, (packet.timestamp - start) / 6, pcm[..length].iter().copied());
        next = packet.timestamp + length as i64 * 6;
    }
}

/// What our sender must keep to whatever arrives: 20 ms after 20 ms, each stamped with its own time.
#[derive(Default)]
pub struct TimeLine {
    first: Option<u32>,
    last: Option<(u16, u32)>,
    /// When each packet went out, and what its timestamp says, both in milliseconds from the first.
    sent: Vec<(f64, f64)>,
    clock: u32,
    /// Packets whose timestamp did not go with their number.
    pub wrong: usize,
}

impl TimeLine {
    pub fn sent(&mut self, ms: f64, packet: &Packet<'_>, clock: u32) {
        // A stream may find its beat in its first second.
        if let Some((sequence, timestamp)) = self.last.filter(|_| self.sent.len() > 50) {
            let frames = u32::from(packet.sequence.wrapping_sub(sequence));
            let exact = packet.timestamp.wrapping_sub(timestamp) == frames.wrapping_mul(clock / 50);
            self.wrong += usize::from(!exact);
        }
        self.last = Some((packet.sequence, packet.timestamp));
        self.clock = clock;
        let first = *self.first.get_or_insert(packet.timestamp);
        let stamp = f64::from(packet.timestamp.wrapping_sub(first)) * 1_000.0 / f64::from(clock);
        self.sent.push((ms, stamp));
    }

    /// The fewest and the most packets in any ten seconds.
    pub fn in_ten_seconds(&self) -> (usize, usize) {
        let last = self.sent.last().map_or(0.0, |(ms, _)| *ms);
        let from = self.sent.iter().take_while(|(ms, _)| ms + 10_000.0 <= last);
        let counts =
            from.enumerate().map(|(n, (ms, _))| self.sent[n..].partition_point(|(later, _)| *later < ms + 10_000.0));
        counts.fold((usize::MAX, 0), |(least, most), count| (least.min(count), most.max(count)))
    }

    /// When a timestamp of zero (the first packet's) would have gone out, had all packets been as prompt as the promptest
    /// tenth of them.
    fn origin(&self) -> f64 {
        let mut origins: Vec<f64> = self.sent.iter().skip(50).map(|(ms, stamp)| ms - stamp).collect();
        origins.sort_by(f64::total_cmp);
        origins.get(origins.len() / 10).copied().unwrap_or(0.0)
    }

    /// The timestamp that stands for time zero: a packet of 20 ms goes out when its last sample is there.
    pub fn zero(&self) -> u32 {
        self.zero_by(self.origin())
    }

    /// The same by what went out in the half second before `ms` alone: where timestamps leave the time.
    pub fn zero_before(&self, ms: f64) -> u32 {
        let just_now = self.sent.iter().filter(|(sent, _)| (ms - 500.0..ms).contains(sent));
        let mut origins: Vec<f64> = just_now.map(|(sent, stamp)| sent - stamp).collect();
        origins.sort_by(f64::total_cmp);
        self.zero_by(origins.get(origins.len() / 10).copied().unwrap_or_else(|| self.origin()))
    }

    /// When the packet of each timestamp went out, in milliseconds.
    fn times(&self) -> HashMap<u32, f64> {
        let (first, unit) = (self.first.unwrap_or(0), f64::from(self.clock) / 1_000.0);
        let timestamp = |stamp: f64| first.wrapping_add((stamp * unit).round() as u32);
        self.sent.iter().map(|(ms, stamp)| (timestamp(*stamp), *ms)).collect()
    }

    fn zero_by(&self, origin: f64) -> u32 {
        let units = ((origin - 20.0) * f64::from(self.clock) / 1_000.0).round() as i64;
        self.first.unwrap_or(0).wrapping_sub(units as u32)
    }

    /// The milliseconds that packets went out later than their timestamps say.
    pub fn late_ms(&self) -> Vec<f64> {
        let origin = self.origin();
        self.sent.iter().skip(50).map(|(ms, stamp)| ms - stamp - origin).collect()
    }
}
