//! Sound between the decoder, which yields packets, and the frames asked for.

use crate::codec::stretch::{Ease, HISTORY_MS, LONGEST_STRETCH_MS, Stretcher};
use crate::codec::{MAX_PACKET_SAMPLES, Rate};
use crate::rtp::playout::{Hurry, Pace};

/// Decoded sound that waits for its frame, and what was played last, to stretch from.
#[derive(Debug)]
pub(super) struct Fifo {
    rate: Rate,
    /// The past, what waits, and room.
    samples: Box<[i16]>,
    /// Samples that wait.
    len: usize,
    stretcher: Stretcher,
    /// What was left out and put in at other rates, in microseconds.
    before: (u64, u64),
}

impl Fifo {
    /// An empty one; the past is silence.
    pub fn new(rate: Rate) -> Self {
        let size = rate.samples(HISTORY_MS + LONGEST_STRETCH_MS) + rate.frame() + MAX_PACKET_SAMPLES;
        Self { rate, samples: vec![0; size].into(), len: 0, stretcher: Stretcher::new(rate), before: (0, 0) }
    }

    /// Samples that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The time that they sound, in microseconds.
    pub fn ready_us(&self) -> u32 {
        (self.len * 1_000 / self.rate.samples(1)) as u32
    }

    /// What was left out and put in so far, in milliseconds.
    pub fn stretched_ms(&self) -> (u64, u64) {
        let (removed_us, added_us) = self.stretched_us();
        (removed_us / 1_000, added_us / 1_000)
    }

    fn stretched_us(&self) -> (u64, u64) {
        let us = |samples: u64| samples * 1_000_000 / u64::from(self.rate.hz());
        let (removed, added) = self.before;
        (removed + us(self.stretcher.removed()), added + us(self.stretcher.added()))
    }

    fn past(&self) -> usize {
        self.rate.samples(HISTORY_MS)
    }

    /// Appends; the caller pushes at most one packet onto less than one frame, so there is room.
    pub fn push(&mut self, pcm: &[i16]) {
        let start = self.past() + self.len;
        if let Some(room) = self.samples.get_mut(start..).and_then(|room| room.get_mut(..pcm.len())) {
            room.copy_from_slice(pcm);
            self.len += pcm.len();
        }
        self.stretcher.hear(pcm);
    }

    /// Makes what waits longer or shorter where that is not heard.
    pub fn stretch(&mut self, pace: Pace) {
        let by = pace.by_us * self.rate.hz() as i64 / 1_000_000;
        if by == 0 {
            return self.stretcher.rest();
        }
        let ease = match pace.hurry {
            Hurry::Unheard => Ease::Unheard,
            Hurry::Soon => Ease::Soon,
            Hurry::Now => Ease::Now,
        };
        let from = self.past();
        let end = self.stretcher.stretch(&mut self.samples, from, from + self.len, by as isize, ease);
        self.len = end - from;
    }

    /// Forgets what waits, and the past.
    pub fn clear(&mut self) {
        self.samples.fill(0);
        self.len = 0;
    }

    /// Takes the next frame; what is missing of it is silence.
    pub fn pop(&mut self, frame: &mut [i16]) {
        let past = self.past();
        let taken = frame.len().min(self.len);
        frame.fill(0);
        for (to, from) in frame.iter_mut().zip(self.samples.iter().skip(past).take(taken)) {
            *to = *from;
        }
        self.samples.copy_within(taken..past + self.len, 0);
        self.len -= taken;
    }

    /// All goes over to `rate`. What waits is less than a frame: good enough without a filter.
    pub fn convert(&mut self, rate: Rate) {
        let mut new = Self { before: self.stretched_us(), ..Self::new(rate) };
        let old = self.samples.get(..self.past() + self.len).unwrap_or_default();
        let (from, to) = (self.rate.scale(), rate.scale());
        new.len = self.len * to / from;
        let end = new.past() + new.len;
        for (n, sample) in new.samples.iter_mut().take(end).enumerate() {
            *sample = old.get(n * from / to).copied().unwrap_or_default();
        }
        *self = new;
    }
}
