//! What an end has heard, looked at when all is over: when the marks came, and how regular the packets.

use std::time::{Duration, Instant};

use opus::{Channels, Decoder};

use crate::rtp::from_ulaw;
use crate::sound::{FRAME, MARK, RATE, mark};

/// A mark is looked for so long after it was said.
pub const LONGEST: Duration = Duration::from_millis(600);
/// As much of a mark must be in what was heard (the correlation with it).
const LIKENESS: f32 = 0.55;

/// One packet that came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// Its number.
    pub sequence: u16,
    /// The time of its first sample, by the stream's clock.
    pub timestamp: u32,
    /// Where its payload ends among the bytes of all.
    pub end: usize,
}

/// The packets that came to one end within a window.
#[derive(Debug, Default)]
pub struct Heard {
    /// The packets, as they came.
    pub arrivals: Vec<Arrival>,
    /// Their payloads, one after the other.
    pub bytes: Vec<u8>,
    /// When the end said its own marks: the moment at which the first sample of each left the mouth.
    pub marks_said: Vec<Instant>,
    /// By how much its own packets went out later than they were due, in milliseconds.
    pub late_ms: Vec<f64>,
    /// Whether the payloads are Opus; otherwise they are PCMU.
    pub opus: bool,
    /// When the end said the first packet of its clip.
    pub clip_said: Option<Instant>,
    /// What came over its whole life, within the window or not.
    pub life: Life,
}

/// The packets that came to an end since it is there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Packets that came.
    pub came: u64,
    /// The first number and the highest, counted on beyond 65,535.
    range: Option<(i64, i64)>,
}

impl Life {
    /// Notes a packet.
    pub fn add(&mut self, sequence: u16) {
        self.came += 1;
        let (first, highest) = self.range.unwrap_or((sequence.into(), sequence.into()));
        let ahead = i64::from(sequence.wrapping_sub(highest as u16).cast_signed());
        self.range = Some((first, highest.max(highest + ahead)));
    }

    /// Packets that did not come although a later one did.
    pub fn lost(&self) -> u64 {
        self.range.map_or(0, |(first, highest)| (highest - first + 1).unsigned_abs().saturating_sub(self.came))
    }
}

impl Heard {
    /// Notes a packet.
    pub fn add(&mut self, at: Instant, (sequence, timestamp): (u16, u32), payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.arrivals.push(Arrival { at, sequence, timestamp, end: self.bytes.len() });
    }

    /// Packets that came, and those that did not although a later one did.
    pub fn packets(&self) -> (u64, u64) {
        let (Some(first), Some(last)) = (self.arrivals.first(), self.arrivals.last()) else { return (0, 0) };
        let mut numbers = vec![0_i64];
        let mut before = first.sequence;
        for arrival in self.arrivals.iter().skip(1) {
            let ahead = i64::from(arrival.sequence.wrapping_sub(before).cast_signed());
            numbers.push(numbers.last().copied().unwrap_or(0) + ahead);
            before = arrival.sequence;
        }
        let highest = numbers.iter().copied().max().unwrap_or(0);
        let lowest = numbers.iter().copied().min().unwrap_or(0);
        numbers.sort_unstable();
        numbers.dedup();
        debug_assert!(last.end == self.bytes.len());
        let came = numbers.len() as u64;
        (came, (highest - lowest + 1).unsigned_abs().saturating_sub(came))
    }

    /// By how much the time from packet to packet differs from 20 ms, in milliseconds; packets after a gap have no part.
    pub fn jitter_ms(&self) -> Vec<f64> {
        let pairs = self.arrivals.iter().zip(self.arrivals.iter().skip(1));
        let next = pairs.filter(|(a, b)| b.sequence == a.sequence.wrapping_add(1));
        next.map(|(a, b)| (b.at.saturating_duration_since(a.at).as_secs_f64() * 1_000.0 - 20.0).abs()).collect()
    }

    /// For each mark that was said at one of `said`, the milliseconds until it was heard; `None` where it was not.
    ///
    /// A packet is heard as it comes: its last sample at that moment. So 20 ms of packet count once, as they do in a mouth.
    pub fn delays_ms(&self, said: &[Instant]) -> Vec<Option<f64>> {
        let (sound, starts) = self.sound();
        let mark = mark();
        said.iter().map(|&said| self.find(&sound, &starts, &mark, said)).collect()
    }

    /// All that came, decoded, and where in it each packet begins.
    fn sound(&self) -> (Vec<f32>, Vec<usize>) {
        let mut decoder = self.opus.then(|| Decoder::new(RATE as u32, Channels::Mono).ok()).flatten();
        let (mut sound, mut starts) = (Vec::new(), Vec::with_capacity(self.arrivals.len()));
        let (mut begin, mut pcm) = (0, [0; 6 * FRAME]);
        for arrival in &self.arrivals {
            let payload = self.bytes.get(begin..arrival.end).unwrap_or_default();
            begin = arrival.end;
            starts.push(sound.len());
            match &mut decoder {
                Some(decoder) => {
                    let len = decoder.decode(payload, &mut pcm, false).unwrap_or(0);
                    sound.extend(pcm.iter().take(len).map(|&sample| f32::from(sample)));
                }
                None => sound.extend(payload.iter().map(|&code| f32::from(from_ulaw(code)))),
            }
        }
        (sound, starts)
    }

    /// `length` samples of what came from `since` on, at 8 kHz, as one hears it who waits for every packet: each at the place of
    /// its timestamp; what is missing is concealed by the decoder (Opus), or silent.
    pub fn played(&self, since: Instant, length: usize) -> Vec<i16> {
        let mut decoder = self.opus.then(|| Decoder::new(RATE as u32, Channels::Mono).ok()).flatten();
        let Some(first) = self.arrivals.first() else { return Vec::new() };
        let per_sample = if self.opus { 6 } else { 1 };
        let place =
            |arrival: &Arrival| i64::from(arrival.timestamp.wrapping_sub(first.timestamp).cast_signed()) / per_sample;
        let begins = [0].into_iter().chain(self.arrivals.iter().map(|arrival| arrival.end));
        let mut packets: Vec<_> =
            self.arrivals.iter().zip(begins).map(|(arrival, begin)| (place(arrival), arrival, begin)).collect();
        packets.sort_by_key(|(place, ..)| *place);
        let from = self.arrivals.iter().find(|arrival| arrival.at >= since).map_or(0, place);
        let (mut sound, mut pcm, end) = (Vec::new(), [0; 6 * FRAME], from + length as i64);
        for (place, arrival, begin) in packets {
            // An old packet again has no place any more.
            if place < sound.len() as i64 || place > end {
                continue;
            }
            while (sound.len() as i64) < place {
                let missing = FRAME.min((place - sound.len() as i64) as usize);
                let concealed = decoder.as_mut().and_then(|opus| opus.decode(&[], pcm.get_mut(..missing)?, false).ok());
                if concealed.is_none() {
                    pcm.fill(0);
                }
                sound.extend(pcm.iter().take(missing));
            }
            let payload = self.bytes.get(begin..arrival.end).unwrap_or_default();
            match &mut decoder {
                Some(decoder) => {
                    let len = decoder.decode(payload, &mut pcm, false).unwrap_or(0);
                    sound.extend(pcm.iter().take(len));
                }
                None => sound.extend(payload.iter().map(|&code| from_ulaw(code))),
            }
        }
        sound.into_iter().skip(usize::try_from(from).unwrap_or(0)).take(length).collect()
    }

    fn find(&self, sound: &[f32], starts: &[usize], mark: &[f32; MARK], said: Instant) -> Option<f64> {
        let first = self.arrivals.partition_point(|arrival| arrival.at < said);
        let end = self.arrivals.partition_point(|arrival| arrival.at < said + LONGEST);
        let from = *starts.get(first)?;
        let until = starts.get(end).copied().unwrap_or(sound.len());
        let energy: f32 = mark.iter().map(|level| level * level).sum();
        let like = |at: usize| {
            let heard = sound.get(at..at + MARK)?;
            let (mut product, mut own) = (0.0, 1.0);
            for (sample, level) in heard.iter().zip(mark) {
                product += sample * level;
                own += sample * sample;
            }
            // What is nearly silent has no likeness to anything.
            (own > 1e6).then(|| product / (own * energy).sqrt())
        };
        let likeness = (from..until).filter_map(|at| Some((at, like(at)?)));
        let (at, _) = likeness.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, likeness)| *likeness > LIKENESS)?;
        let packet = starts.partition_point(|start| *start <= at).checked_sub(1)?;
        let into_ms = (at - starts.get(packet)?) as f64 * 1_000.0 / RATE as f64;
        let came = self.arrivals.get(packet)?.at.saturating_duration_since(said).as_secs_f64() * 1_000.0;
        Some(came - 20.0 + into_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sound::{Coding, prepare, speech, with_marks};

    /// Hears the speech in packets that take 40 ms, but for those of the numbers in `lost`.
    fn heard(coding: Coding, lost: &[u16]) -> (Heard, Vec<Instant>) {
        let prepared = prepare(&with_marks(speech(None).unwrap()), coding, true).unwrap();
        let begin = Instant::now();
        let (mut heard, mut said) = (Heard { opus: coding.is_opus(), ..Heard::default() }, Vec::new());
        for (n, payload) in prepared.payloads.iter().enumerate() {
            let sent = begin + Duration::from_millis(n as u64 * 20 + 20);
            said.extend(prepared.marks[n].map(|ms| sent - Duration::from_secs_f64((20.0 - ms) / 1_000.0)));
            let sequence = 65_500_u16.wrapping_add(n as u16);
            if !lost.contains(&(n as u16)) {
                let timestamp = 0xffff_ff00_u32.wrapping_add(n as u32 * coding.step());
                heard.add(sent + Duration::from_millis(40), (sequence, timestamp), payload);
            }
        }
        (heard, said)
    }

    #[test]
    fn a_mark_is_found_where_it_is() {
        for (coding, codec_ms) in [(Coding::Pcmu, 0.0), (Coding::Opus, 6.5), (Coding::FullBand, 6.5)] {
            let (heard, said) = heard(coding, &[]);
            let delays = heard.delays_ms(&said);
            assert_eq!(delays.len(), 20);
            for delay in delays {
                let delay = delay.unwrap_or_else(|| panic!("a mark is lost in {coding:?}"));
                assert!((delay - 40.0 - codec_ms).abs() < 1.5, "{coding:?}: {delay} ms");
            }
        }
    }

    #[test]
    fn losses_and_gaps_are_counted() {
        let (heard, said) = heard(Coding::Pcmu, &[25, 26, 27, 100]);
        assert_eq!(heard.packets(), (996, 4));
        assert!(heard.jitter_ms().iter().all(|ms| *ms < 0.01));
        let delays = heard.delays_ms(&said);
        assert_eq!(delays.iter().filter(|delay| delay.is_none()).count(), 1, "the lost packets had the first mark");
    }

    #[test]
    fn of_a_whole_life_packets_are_counted_beyond_the_last_number() {
        let mut life = Life::default();
        assert_eq!((life.came, life.lost()), (0, 0));
        for sequence in [65_534, 65_535, 1, 0, 3] {
            life.add(sequence);
        }
        assert_eq!((life.came, life.lost()), (5, 1));
    }

    #[test]
    fn what_is_played_is_what_was_said_whatever_order_it_came_in() {
        let said = speech(None).unwrap();
        let prepared = prepare(&said, Coding::Pcmu, false).unwrap();
        let begin = Instant::now();
        let mut heard = Heard::default();
        for n in [0, 1, 3, 2, 4, 6, 7, 7] {
            let at = begin + Duration::from_millis(n as u64 * 20);
            heard.add(at, (n as u16, 160 * n as u32), &prepared.payloads[n]);
        }
        let played = heard.played(begin + Duration::from_millis(20), 6 * FRAME);
        let expected: Vec<i16> = prepared.payloads[1..7].concat().iter().map(|&code| from_ulaw(code)).collect();
        assert_eq!((played.len(), &played[..4 * FRAME]), (6 * FRAME, &expected[..4 * FRAME]));
        assert_eq!((&played[4 * FRAME..5 * FRAME], &played[5 * FRAME..]), (&[0; FRAME][..], &expected[5 * FRAME..]));
    }

    #[test]
    fn opus_is_played_at_its_own_time_with_losses_concealed() {
        let (heard, _) = heard(Coding::Opus, &[30]);
        let since = heard.arrivals[10].at;
        let (all, later) = (heard.played(heard.arrivals[0].at, 8_000), heard.played(since, 3_000));
        assert_eq!(later, all[10 * FRAME..10 * FRAME + 3_000]);
        assert!(all[30 * FRAME..31 * FRAME].iter().any(|&sample| sample != 0), "the loss is no hole");
    }

    #[test]
    fn silence_has_no_marks() {
        let mut heard = Heard::default();
        assert_eq!((heard.packets(), heard.delays_ms(&[Instant::now()])), ((0, 0), vec![None]));
        let begin = Instant::now();
        (0..100)
            .for_each(|n| heard.add(begin + Duration::from_millis(n * 20), (n as u16, 160 * n as u32), &[0xff; 160]));
        assert_eq!(heard.delays_ms(&[begin]), vec![None]);
    }
}
