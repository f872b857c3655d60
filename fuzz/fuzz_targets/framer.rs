//! SIP on a stream: the pieces in which it comes make no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringback::sip::{Frame, FrameError, Framer};

const LIMIT: usize = 2_000;

/// All frames up to the first error, which tells the end of the stream.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let mut framer = Framer::new(LIMIT);
    let mut frames = Vec::new();
    for piece in pieces {
        let error = framer.push(piece).err();
        while let Some(frame) = framer.next() {
            frames.push(frame);
        }
        if let Some(error) = error.or_else(|| framer.push(&[]).err()) {
            return (frames, Some(error));
        }
    }
    (frames, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, stream)) = bytes.split_first() else { return };
    let (single, single_end) = frames(stream.chunks(1));
    let (pieces, pieces_end) = frames(stream.chunks(usize::from(size).max(1)));
    for frame in single.iter().chain(&pieces) {
        assert!(!matches!(frame, Frame::Message(message) if message.len() > LIMIT));
    }
    // A large piece may break the stream sooner, never give other messages.
    assert!(single.starts_with(&pieces));
    if pieces_end.is_none() {
        assert_eq!((single, single_end), (pieces, None));
    }
});
