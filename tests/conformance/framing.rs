//! Each message on a stream: in one piece, byte by byte, and with another one behind it.

use ringback::sip::{Frame, FrameError, Framer, Message};

use crate::data;
use crate::table::{Case, Stream, Verdict};

const LIMIT: usize = 64 * 1024;
const NEXT: &[u8] = b"OPTIONS sip:next@example.com SIP/2.0\r\nContent-Length: 4\r\n\r\nnext";

/// What a stream gives in these pieces, and how it ends.
fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let mut framer = Framer::new(LIMIT);
    let mut frames = Vec::new();
    for piece in pieces {
        if let Err(error) = framer.push(piece) {
            return (frames, Some(error));
        }
        while let Some(frame) = framer.next() {
            frames.push(frame);
        }
    }
    (frames, framer.push(&[]).err())
}

/// The same for one piece and for single bytes.
fn both_ways(case: &Case, bytes: &[u8]) -> (Vec<Frame>, Option<FrameError>) {
    let whole = frames([bytes].into_iter());
    assert_eq!(whole, frames(bytes.chunks(1)), "{}: byte by byte", case.file);
    for size in [2, 3, 7, 64, 1_000] {
        assert_eq!(whole, frames(bytes.chunks(size)), "{}: in pieces of {size}", case.file);
    }
    whole
}

fn head(bytes: &[u8]) -> usize {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4
}

#[test]
fn each_message_is_cut_out_of_its_stream() {
    for (case, bytes) in data::cases() {
        // The one that is no message at all.
        if case.section == "-" {
            continue;
        }
        let (found, error) = both_ways(&case, &bytes);
        let messages: Vec<&[u8]> = found
            .iter()
            .map(|frame| match frame {
                Frame::Message(message) => message.as_slice(),
                Frame::KeepAlive => panic!("{}: a keep-alive", case.file),
            })
            .collect();
        let context = format!("{} ({}): {}", case.file, case.section, case.reason);
        match case.stream {
            Stream::Whole => assert_eq!((messages, error), (vec![bytes.as_slice()], None), "{context}"),
            Stream::HeadOnly => assert_eq!((messages, error), (vec![&bytes[..head(&bytes)]], None), "{context}"),
            Stream::Two => {
                assert_eq!(error, None, "{context}");
                assert_eq!(messages[0], &bytes[..head(&bytes)], "{context}");
                let taken: Vec<bool> = messages.iter().map(|message| Message::parse(message).is_ok()).collect();
                assert_eq!(taken, [true, true, false], "{context}");
            }
            Stream::Waits => assert_eq!((messages.len(), error), (0, None), "{context}"),
            Stream::Broken(why) => assert_eq!((messages.len(), error), (0, Some(why)), "{context}"),
        }
    }
}

#[test]
fn a_bad_message_does_not_harm_the_next_in_its_segment() {
    for (case, bytes) in data::cases() {
        let (found, error) = both_ways(&case, &[bytes.as_slice(), NEXT].concat());
        let last = found.last() == Some(&Frame::Message(NEXT.to_vec()));
        match case.stream {
            Stream::Whole | Stream::Two => {
                assert!(last && error.is_none(), "{}", case.file);
                assert_eq!(found.len(), if case.stream == Stream::Two { 4 } else { 2 }, "{}", case.file);
            }
            // Where the next one begins cannot be told.
            Stream::HeadOnly | Stream::Waits => assert!(!last && error.is_none(), "{}", case.file),
            Stream::Broken(why) => assert_eq!((found, error), (Vec::new(), Some(why)), "{}", case.file),
        }
    }
}

/// On a stream a message is never cut where the parser, which sees only its own bytes, would ask for more.
#[test]
fn what_is_cut_out_is_judged_as_a_datagram_is() {
    for (case, bytes) in data::cases().into_iter().filter(|(case, _)| case.stream == Stream::Whole) {
        for frame in both_ways(&case, &bytes).0 {
            let Frame::Message(message) = frame else { panic!("{}", case.file) };
            let taken = matches!(case.verdict, Verdict::Request | Verdict::Response);
            assert_eq!(Message::parse(&message).is_ok(), taken, "{}", case.file);
        }
    }
}
