//! What Ringback needs of libopus that has no safe interface elsewhere: a decoder whose complexity can be set (5 and more
//! turns deep PLC on), and deep PLC itself, for any sound.
//!
//! This is the one place of the house with `unsafe`: a handful of calls, each with the reason why it is sound. The package
//! that uses it forbids `unsafe`.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{CStr, c_int};
use std::fmt;
use std::ptr::{self, NonNull};

use opusic_sys as ffi;

/// The code of an error of libopus; its names are those of `opus_defines.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error(c_int);

impl Error {
    /// Whether the packet is at fault (`OPUS_INVALID_PACKET`).
    pub fn is_invalid_packet(self) -> bool {
        self.0 == ffi::OPUS_INVALID_PACKET
    }

    /// Whether a length given by the caller is at fault (`OPUS_BAD_ARG`, `OPUS_BUFFER_TOO_SMALL`).
    pub fn is_bad_argument(self) -> bool {
        self.0 == ffi::OPUS_BAD_ARG || self.0 == ffi::OPUS_BUFFER_TOO_SMALL
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "libopus: error {}", self.0)
    }
}

impl std::error::Error for Error {}

fn length(code: c_int) -> Result<usize, Error> {
    usize::try_from(code).map_err(|_| Error(code))
}

/// What memory is given to a process in on most machines, in bytes.
const PAGE: usize = 4_096;

/// Memory that begins with a page, zeroed.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// `size` bytes, made full pages; `None` where there are none.
    fn new(size: usize) -> Option<Self> {
        let layout = Layout::from_size_align(size.max(1).next_multiple_of(PAGE), PAGE).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { start, layout })
    }

    /// Gives the system each page back that holds nothing but zeros: it comes again, zeroed, when it is used first. It is how a
    /// decoder that never conceals does without the memory of deep PLC.
    #[cfg(target_os = "linux")]
    fn give_back(&mut self) {
        // SAFETY: takes a name and returns a number.
        if unsafe { libc::sysconf(libc::_SC_PAGESIZE) } != PAGE as libc::c_long {
            return;
        }
        // SAFETY: as many bytes are this value's own, were zeroed when it was made, and are not written to meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) };
        let empty: Vec<usize> = bytes
            .chunks_exact(PAGE)
            .enumerate()
            .filter(|(_, page)| page.iter().all(|byte| *byte == 0))
            .map(|(n, _)| n * PAGE)
            .collect();
        for at in empty {
            // SAFETY: a whole page of this value's own, of the heap and so private and anonymous: it reads as zeros afterwards,
            // which it holds already. Where the system declines it stays as it is.
            unsafe { libc::madvise(self.start.as_ptr().add(at).cast(), PAGE, libc::MADV_DONTNEED) };
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn give_back(&mut self) {}
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it came from the allocator with this layout and is given back once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// A decoder of any Opus stream to mono.
pub struct Decoder {
    memory: Memory,
    /// Samples of 120 ms, the longest packet: what libopus may write at most.
    longest: usize,
}

// SAFETY: the state is a plain block of memory that this value alone owns; libopus ties nothing to a thread.
unsafe impl Send for Decoder {}

impl Decoder {
    /// A decoder that renders at `hz`: 8000, 12000, 16000, 24000 or 48000; complexity 0 to 10 (5 and more: deep PLC).
    ///
    /// # Errors
    /// [`Error`] for another rate or complexity, or without memory.
    pub fn new(hz: u32, complexity: u8) -> Result<Self, Error> {
        let rate = i32::try_from(hz).map_err(|_| Error(ffi::OPUS_BAD_ARG))?;
        // SAFETY: takes a number of channels and returns a size.
        let size = length(unsafe { ffi::opus_decoder_get_size(1) })?;
        let memory = Memory::new(size).ok_or(Error(ffi::OPUS_ALLOC_FAIL))?;
        let mut decoder = Self { memory, longest: hz as usize * 12 / 100 };
        // SAFETY: the memory is as large as libopus wants it, and aligned; the arguments are checked by libopus.
        length(unsafe { ffi::opus_decoder_init(decoder.state(), rate, 1) })?;
        // SAFETY: the state is valid, and this request takes one `int`.
        let code = unsafe {
            ffi::opus_decoder_ctl(decoder.state(), ffi::OPUS_SET_COMPLEXITY_REQUEST, c_int::from(complexity))
        };
        length(code)?;
        decoder.memory.give_back();
        Ok(decoder)
    }

    fn state(&mut self) -> *mut ffi::OpusDecoder {
        self.memory.start.as_ptr().cast()
    }

    /// Decodes `packet` into `out` and returns the samples written. An empty packet is a lost one: all of `out` is filled by
    /// concealment, and its length must be a multiple of 2.5 ms. With `fec` it is the redundancy in `packet`, about what came
    /// before it, that fills all of `out`.
    ///
    /// # Errors
    /// [`Error`] for a packet that is none and for lengths that do not fit.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16], fec: bool) -> Result<usize, Error> {
        let data = if packet.is_empty() { ptr::null() } else { packet.as_ptr() };
        let len = i32::try_from(packet.len()).map_err(|_| Error(ffi::OPUS_BAD_ARG))?;
        let room = i32::try_from(out.len().min(self.longest)).map_err(|_| Error(ffi::OPUS_BAD_ARG))?;
        // SAFETY: `data` points to `len` readable bytes or is null with a length of 0, `out` holds `room` writable samples of
        // one channel, and the state is this value's own.
        length(unsafe { ffi::opus_decode(self.state(), data, len, out.as_mut_ptr(), room, c_int::from(fec)) })
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

/// `LPCNetPLCState` of libopus (dnn/lpcnet.h), which its decoder holds inside.
#[repr(C)]
struct State {
    _opaque: [u8; 0],
}

/// The release of libopus whose private functions are declared here: soundness rests on their signatures.
const RELEASE: &CStr = c"libopus 1.6.1";

// Declared in dnn/lpcnet.h; linked statically from the archive that `opusic-sys` builds.
unsafe extern "C" {
    fn lpcnet_plc_init(state: *mut State) -> c_int;
    fn lpcnet_plc_reset(state: *mut State);
    fn lpcnet_plc_update(state: *mut State, pcm: *mut i16) -> c_int;
    fn lpcnet_plc_conceal(state: *mut State, pcm: *mut i16) -> c_int;
}

fn is_known(release: &CStr) -> bool {
    release == RELEASE
}

/// Samples of one step of [`DeepPlc`]: 10 ms at 16 kHz.
pub const STEP: usize = 160;
/// The steps of the past that count.
pub const MEMORY: usize = 15;

/// Deep PLC: continues speech at 16 kHz from what was heard, by a network that foresees its features and a vocoder (FARGAN).
pub struct DeepPlc {
    memory: Box<[u128]>,
}

impl DeepPlc {
    /// Deep PLC that has heard nothing; `None` where libopus is another release than the one whose private functions are
    /// declared here, or does not load its weights. A libopus without deep PLC does not link.
    pub fn new() -> Option<Self> {
        // SAFETY: returns a string that is constant and ends with a zero.
        let release = unsafe { CStr::from_ptr(ffi::opus_get_version_string()) };
        if !is_known(release) {
            return None;
        }
        // SAFETY: takes a number of channels and returns a size.
        let size = length(unsafe { ffi::opus_decoder_get_size(1) }).ok()?;
        // The decoder holds the state that we need inside its own structure, so the state is smaller than the decoder.
        let mut plc = Self { memory: vec![0; size.div_ceil(size_of::<u128>())].into_boxed_slice() };
        // SAFETY: the memory is zeroed, aligned to 16 as `malloc` aligns, and larger than the state.
        let code = unsafe { lpcnet_plc_init(plc.state()) };
        (code == 0).then_some(plc)
    }

    /// Takes a step of sound that is heard.
    pub fn hear(&mut self, pcm: &[i16; STEP]) {
        let mut pcm = *pcm;
        // SAFETY: the state was initialised in `new`; 160 samples are read.
        let _ = unsafe { lpcnet_plc_update(self.state(), pcm.as_mut_ptr()) };
    }

    /// Makes a step of what may have followed; several in a row fade.
    pub fn conceal(&mut self, pcm: &mut [i16; STEP]) {
        // SAFETY: the state was initialised in `new`; 160 samples are written.
        let _ = unsafe { lpcnet_plc_conceal(self.state(), pcm.as_mut_ptr()) };
    }

    /// Forgets all that was heard.
    pub fn reset(&mut self) {
        // SAFETY: the state was initialised in `new`.
        unsafe { lpcnet_plc_reset(self.state()) }
    }

    fn state(&mut self) -> *mut State {
        self.memory.as_mut_ptr().cast()
    }
}

impl fmt::Debug for DeepPlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeepPlc").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Harmonics of 140 Hz whose level swells: something like a vowel.
    fn voice(start: usize, len: usize) -> Vec<i16> {
        (start..start + len)
            .map(|n| {
                let t = n as f32 / 16_000.0;
                let sum: f32 =
                    (1..20).map(|h| (std::f32::consts::TAU * 140.0 * h as f32 * t + h as f32).sin() / h as f32).sum();
                (3_000.0 * sum) as i16
            })
            .collect()
    }

    fn rms(pcm: &[i16]) -> f32 {
        (pcm.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / pcm.len() as f32).sqrt()
    }

    /// Wideband packets of 20 ms.
    fn packets() -> Vec<Vec<u8>> {
        packets_at(16_000)
    }

    /// Packets of 20 ms of all the band that a rate has.
    fn packets_at(hz: i32) -> Vec<Vec<u8>> {
        let frame = hz / 50;
        let mut error = 0;
        // SAFETY: a valid place for the code; the encoder is destroyed below.
        let encoder = unsafe { ffi::opus_encoder_create(hz, 1, ffi::OPUS_APPLICATION_VOIP, &raw mut error) };
        assert_eq!(error, ffi::OPUS_OK);
        let packets = (0..20)
            .map(|n| {
                let (pcm, mut packet) = (voice(n * frame as usize, frame as usize), vec![0_u8; 400]);
                // SAFETY: a frame is read, 400 bytes may be written.
                let len = unsafe { ffi::opus_encode(encoder, pcm.as_ptr(), frame, packet.as_mut_ptr(), 400) };
                packet.truncate(usize::try_from(len).unwrap());
                packet
            })
            .collect();
        // SAFETY: it came from `opus_encoder_create`.
        unsafe { ffi::opus_encoder_destroy(encoder) };
        packets
    }

    /// What follows the packets when 60 ms are lost.
    fn after_loss(complexity: u8) -> Vec<i16> {
        let mut decoder = Decoder::new(16_000, complexity).unwrap();
        let mut pcm = vec![0; 320];
        for packet in packets() {
            assert_eq!(decoder.decode(&packet, &mut pcm, false), Ok(320));
        }
        (0..3)
            .flat_map(|_| {
                let mut lost = vec![0; 320];
                assert_eq!(decoder.decode(&[], &mut lost, false), Ok(320));
                lost
            })
            .collect()
    }

    #[test]
    fn the_library_is_built_with_deep_plc_and_the_complexity_switches_it_on() {
        let (plain, deep) = (after_loss(0), after_loss(5));
        assert_ne!(plain, deep, "deep PLC is missing from libopus, or was not switched on");
        assert_eq!(deep, after_loss(10));
        assert!(rms(&deep[..320]) > 1_500.0, "{}", rms(&deep[..320]));
    }

    #[test]
    fn deep_plc_is_made_with_the_release_alone_whose_private_functions_are_declared() {
        assert!(DeepPlc::new().is_some());
        for other in [c"libopus 1.6", c"libopus 1.6.2", c"libopus 1.6.1-fixed", c"libopus unknown"] {
            assert!(!is_known(other), "{other:?}");
        }
    }

    #[test]
    fn speech_is_continued_and_fades() {
        let mut plc = DeepPlc::new().unwrap();
        for n in 0..30 {
            plc.hear(voice(n * STEP, STEP).first_chunk().unwrap());
        }
        let mut steps = Vec::new();
        for _ in 0..60 {
            let mut pcm = [0; STEP];
            plc.conceal(&mut pcm);
            steps.push(pcm);
        }
        let truth = voice(30 * STEP, STEP);
        let error: Vec<i16> = steps[0].iter().zip(&truth).map(|(a, b)| a.saturating_sub(*b)).collect();
        assert!(rms(&error) < 0.6 * rms(&truth), "{} of {}", rms(&error), rms(&truth));
        assert!(rms(&steps[59]) < 100.0, "{}", rms(&steps[59]));
        // After a reset nothing is left to be continued.
        plc.reset();
        let mut pcm = [0; STEP];
        plc.conceal(&mut pcm);
        assert!(rms(&pcm) < 200.0, "{}", rms(&pcm));
    }

    #[test]
    fn the_state_keeps_within_its_memory() {
        const GUARD: u128 = 0x5a5a_5a5a_5a5a_5a5a_5a5a_5a5a_5a5a_5a5a;
        let mut plc = DeepPlc::new().unwrap();
        let len = plc.memory.len();
        let mut memory = vec![0; len * 2];
        memory[len..].fill(GUARD);
        plc.memory = memory.into_boxed_slice();
        // SAFETY: as in `new`, with room to spare.
        assert_eq!(unsafe { lpcnet_plc_init(plc.state()) }, 0);
        for n in 0..200 {
            let mut pcm = [0; STEP];
            if n % 7 < 4 {
                plc.hear(voice(n * STEP, STEP).first_chunk().unwrap());
            } else {
                plc.conceal(&mut pcm);
            }
            if n == 100 {
                plc.reset();
            }
        }
        assert!(plc.memory[len..].iter().all(|word| *word == GUARD));
        // It is the decoder's other parts that this memory is too large by.
        assert!(plc.memory[len - 64..len].iter().all(|word| *word == 0), "the state is as large as the decoder");
    }

    /// Pages of the decoder that are there.
    fn resident(decoder: &Decoder) -> usize {
        let Memory { start, layout } = decoder.memory;
        let mut there = vec![0_u8; layout.size() / PAGE];
        // SAFETY: the decoder's own memory, which begins with a page; a byte for each page of it.
        let code = unsafe { libc::mincore(start.as_ptr().cast(), layout.size(), there.as_mut_ptr()) };
        assert_eq!(code, 0);
        there.iter().filter(|page| *page & 1 != 0).count()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_decoder_of_narrowband_speech_has_no_memory_of_what_it_does_not_use() {
        let packets = packets_at(8_000);
        let mut decoder = Decoder::new(8_000, 5).unwrap();
        let (made, all) = (resident(&decoder), decoder.memory.layout.size() / PAGE);
        let mut pcm = [0; 160];
        for packet in &packets {
            assert_eq!(decoder.decode(packet, &mut pcm, false), Ok(160));
        }
        assert_eq!(decoder.decode(&[], &mut pcm, false), Ok(160));
        let used = resident(&decoder);
        assert!(made <= used && used * 2 <= all, "{made}, then {used} of {all} pages");
    }

    #[test]
    fn pages_that_were_given_back_change_nothing_that_is_heard() {
        let decode = |mut decoder: Decoder| -> Vec<i16> {
            let mut heard = Vec::new();
            for (n, packet) in packets().iter().chain(&packets_at(8_000)).chain(&packets()).enumerate() {
                let mut pcm = [0; 320];
                let packet = if n % 8 == 6 { &[][..] } else { packet };
                assert_eq!(decoder.decode(packet, &mut pcm, false), Ok(320));
                heard.extend(pcm);
            }
            heard
        };
        let ours = Decoder::new(16_000, 5).unwrap();
        let mut whole = Decoder::new(16_000, 5).unwrap();
        // SAFETY: the memory is as large as libopus wants it: all of it is written anew.
        assert_eq!(unsafe { ffi::opus_decoder_init(whole.state(), 16_000, 1) }, ffi::OPUS_OK);
        // SAFETY: the state is valid, and this request takes one `int`.
        let code = unsafe { ffi::opus_decoder_ctl(whole.state(), ffi::OPUS_SET_COMPLEXITY_REQUEST, 5 as c_int) };
        assert_eq!(code, ffi::OPUS_OK);
        assert_eq!(decode(ours), decode(whole));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(Decoder::new(44_100, 5).unwrap_err().is_bad_argument());
        assert!(Decoder::new(u32::MAX, 5).unwrap_err().is_bad_argument());
        assert!(Decoder::new(8_000, 11).unwrap_err().is_bad_argument());
        let mut decoder = Decoder::new(8_000, 5).unwrap();
        assert!(decoder.decode(&[3], &mut [0; 160], false).unwrap_err().is_invalid_packet());
        assert!(decoder.decode(&packets()[0], &mut [0; 20], false).unwrap_err().is_bad_argument());
        assert!(decoder.decode(&[], &mut [0; 7], false).is_err());
        assert_eq!(decoder.decode(&[], &mut [0; 5_000], false), Ok(960));
        assert!(decoder.decode(&[], &mut [], false).is_err());
        assert_eq!(Error(-1).to_string(), "libopus: error -1");
    }
}
