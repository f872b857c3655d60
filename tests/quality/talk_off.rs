//! Speech in which the detector of digits as tones must find none (what ITU-T Q.24 calls false operation by speech).

use std::path::{Path, PathBuf};

use ringback::codec::dtmf::DtmfDetector;
use ringback::codec::{Codec, Decoder, MAX_PACKET_SAMPLES, Rate};

/// 20 ms of G.722.
const PACKET: usize = 160;
/// Of the prompts of each speaker every so many is listened to.
const EVERY: usize = 3;

/// Listens to the G.722 prompts below `sounds` at both rates; how long they are in seconds, and the digits found.
pub fn listen(sounds: &Path) -> (usize, usize) {
    let mut files = Vec::new();
    collect(sounds, &mut files);
    files.sort();
    let (mut packets, mut found) = (0, 0);
    for file in files.iter().step_by(EVERY) {
        let bytes = std::fs::read(file).expect("a prompt");
        packets += bytes.len() / PACKET;
        for rate in [Rate::Narrow, Rate::Wide] {
            let mut decoder = Decoder::new(Codec::G722, rate).expect("a decoder");
            let mut detector = DtmfDetector::new(rate.hz());
            let mut pcm = [0; MAX_PACKET_SAMPLES];
            for payload in bytes.chunks_exact(PACKET) {
                let len = decoder.decode(payload, &mut pcm).expect("G.722");
                detector.handle(&pcm[..len], |update| {
                    println!("{} at {} Hz: {update:?}", file.display(), rate.hz());
                    found += 1;
                });
            }
        }
    }
    (packets / 50, found)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "g722") {
            files.push(path);
        }
    }
}
