//! Messages on a stream ([RFC 3261 section 18.3](https://www.rfc-editor.org/rfc/rfc3261#section-18.3)): where one ends is
//! told by its Content-Length.

use thiserror::Error;

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// One whole message.
    Message(Vec<u8>),
    /// A double CRLF between messages, to be answered by one CRLF
    /// ([RFC 5626 section 3.5.1](https://www.rfc-editor.org/rfc/rfc5626#section-3.5.1)).
    KeepAlive,
}

/// Why a stream cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A message longer than the limit.
    #[error("message too long")]
    TooLong,
    /// A Content-Length that is no number: where the next message begins is unknown.
    #[error("bad Content-Length")]
    ContentLength,
}

/// Cuts a stream into messages. Holds at most one message and one read.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    max_message: usize,
    broken: Option<FrameError>,
    /// Where the line begins in which the end of the head is looked for, and the first byte not yet looked at: so each
    /// byte is looked at once, however small the pieces are in which they come.
    line: usize,
    seen: usize,
    /// The length of the message at the front, once its head is whole.
    front: Option<usize>,
}

impl Framer {
    /// A framer for messages of at most `max_message` bytes, head and body together.
    pub fn new(max_message: usize) -> Framer {
        Framer { buffer: Vec::new(), max_message, broken: None, line: 0, seen: 0, front: None }
    }

    /// Takes what was read; then [`Framer::next`] until it gives none.
    ///
    /// # Errors
    /// The stream is broken; close it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        self.buffer.extend_from_slice(bytes);
        // Until the next whole message is cut out the buffer must be on its way to one.
        match self.measure() {
            Ok(None) if self.buffer.len() > self.max_message => self.fail(FrameError::TooLong),
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
        self.broken.map_or(Ok(()), Err)
    }

    /// The next message or keep-alive, if it is whole.
    #[allow(clippy::should_implement_trait)] // not an iterator: it goes on after None
    pub fn next(&mut self) -> Option<Frame> {
        if self.skip_line_ends() {
            return Some(Frame::KeepAlive);
        }
        match self.measure() {
            Ok(Some(len)) if len <= self.buffer.len() => {
                let rest = self.buffer.split_off(len);
                self.restart();
                Some(Frame::Message(std::mem::replace(&mut self.buffer, rest)))
            }
            Ok(_) => None,
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// True while no message has begun: nothing is held, or line ends alone.
    pub fn is_between(&self) -> bool {
        self.buffer.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// Takes the single CRLF that answers a keep-alive of ours (RFC 5626 section 3.5.1), if that is all there is. To be
    /// asked only by who awaits one: it could be the first half of a keep-alive of the peer's.
    pub fn take_pong(&mut self) -> bool {
        let is_pong = self.buffer == b"\r\n";
        if is_pong {
            self.buffer.clear();
            self.restart();
        }
        is_pong
    }

    fn fail(&mut self, error: FrameError) {
        self.broken = Some(error);
        self.buffer = Vec::new();
        self.restart();
    }

    fn restart(&mut self) {
        (self.line, self.seen, self.front) = (0, 0, None);
    }

    /// Skips line ends before a message (section 7.5); true for two of them, which are a keep-alive. One alone may be half
    /// of a keep-alive, so it stays until more has come.
    fn skip_line_ends(&mut self) -> bool {
        loop {
            let (skipped, keep_alive) = match self.buffer.as_slice() {
                [b'\r', b'\n', b'\r', b'\n', ..] => (4, true),
                [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return false,
                [b'\r', b'\n', ..] => (2, false),
                [b'\n', ..] => (1, false),
                _ => return false,
            };
            self.buffer.drain(..skipped);
            self.restart();
            if keep_alive {
                return true;
            }
        }
    }

    /// The length of the message at the front, once its head is whole.
    fn measure(&mut self) -> Result<Option<usize>, FrameError> {
        if self.front.is_some() || self.buffer.first() == Some(&b'\n') || self.buffer.starts_with(b"\r\n") {
            return Ok(self.front);
        }
        let Some(head) = self.head() else { return Ok(None) };
        let body = content_length(self.buffer.get(..head).unwrap_or_default())?;
        match head.checked_add(body) {
            Some(len) if len <= self.max_message => self.front = Some(len),
            _ => return Err(FrameError::TooLong),
        }
        Ok(self.front)
    }

    /// The length of the head: up to and with the first empty line, of CRLF or of a bare line feed as
    /// [`super::Message::parse`] has it.
    fn head(&mut self) -> Option<usize> {
        while let Some(at) = self.buffer.get(self.seen..)?.iter().position(|b| *b == b'\n') {
            let end = self.seen + at + 1;
            self.seen = end;
            let line = self.buffer.get(self.line..end)?;
            if matches!(line, b"\r\n" | b"\n") {
                return Some(end);
            }
            self.line = end;
        }
        self.seen = self.buffer.len();
        None
    }
}

/// The Content-Length of a head; 0 without one, which a stream must not leave out but some peers do. Two that differ make
/// it unknowable where the next message begins.
fn content_length(head: &[u8]) -> Result<usize, FrameError> {
    let is_continuation = |line: &[u8]| matches!(line.first(), Some(b' ' | b'\t'));
    let mut length = None;
    let mut lines = head.split(|b| *b == b'\n').skip(1).peekable();
    while let Some(line) = lines.next() {
        let Some(colon) = line.iter().position(|b| *b == b':').filter(|_| !is_continuation(line)) else { continue };
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii();
        if !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let mut value = value.get(1..).unwrap_or_default().to_vec();
        while let Some(more) = lines.next_if(|line| is_continuation(line)) {
            value.extend_from_slice(more);
        }
        let number = number(value.trim_ascii())?;
        if length.is_some_and(|length| length != number) {
            return Err(FrameError::ContentLength);
        }
        length = Some(number);
    }
    Ok(length.unwrap_or(0))
}

fn number(text: &[u8]) -> Result<usize, FrameError> {
    match std::str::from_utf8(text) {
        Ok(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().map_err(|_| FrameError::TooLong)
        }
        _ => Err(FrameError::ContentLength),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MESSAGE: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 4\r\n\r\nbody";

    fn frames(chunks: impl IntoIterator<Item = Vec<u8>>) -> Vec<Frame> {
        let mut framer = Framer::new(1000);
        let mut frames = Vec::new();
        for chunk in chunks {
            framer.push(&chunk).unwrap();
            while let Some(frame) = framer.next() {
                frames.push(frame);
            }
        }
        frames
    }

    #[test]
    fn messages_are_cut_however_the_stream_arrives() {
        let whole = Frame::Message(MESSAGE.to_vec());
        let two = [MESSAGE, MESSAGE].concat();
        assert_eq!(frames([MESSAGE.to_vec()]), std::slice::from_ref(&whole));
        assert_eq!(frames([two.clone()]), [whole.clone(), whole.clone()]);
        assert_eq!(frames(two.iter().map(|b| vec![*b])), [whole.clone(), whole.clone()]);
        let led = [b"\r\n".as_slice(), MESSAGE].concat();
        assert_eq!(frames(led.iter().map(|b| vec![*b])), [whole]);
    }

    #[test]
    fn a_double_crlf_is_a_keep_alive() {
        let stream = [b"\r\n\r\n".as_slice(), MESSAGE, b"\r\n\r\n"].concat();
        let expected = [Frame::KeepAlive, Frame::Message(MESSAGE.to_vec()), Frame::KeepAlive];
        assert_eq!(frames([stream.clone()]), expected);
        assert_eq!(frames(stream.iter().map(|b| vec![*b])), expected);
    }

    #[test]
    fn content_length_is_found_where_it_is_and_only_there() {
        let table = [
            ("A\r\nContent-Length:\r\n 4\r\n\r\n", 4),
            ("A\r\nL\t:4\r\nl: 04\r\n\r\n", 4),
            ("A\r\nSubject: x\r\n Content-Length: 9\r\n\r\n", 0),
            ("A\nl: 4\n\n", 4),
            ("A\nl: 4\r\n\n", 4),
        ];
        for (head, body) in table {
            let message = [head.as_bytes(), &b"body"[..body]].concat();
            let whole = Frame::Message(message.clone());
            let two = [message.clone(), message].concat();
            assert_eq!(frames([two.clone()]), [whole.clone(), whole.clone()], "{head}");
            assert_eq!(frames(two.iter().map(|b| vec![*b])), [whole.clone(), whole], "{head}");
        }
    }

    #[test]
    fn a_single_crlf_answers_a_keep_alive_of_ours() {
        let mut framer = Framer::new(1000);
        assert!(framer.is_between() && !framer.take_pong());
        framer.push(b"\r\n").unwrap();
        assert_eq!(framer.next(), None);
        assert!(framer.is_between() && framer.take_pong() && !framer.take_pong());
        // The peer's own keep-alive behind its answer to ours.
        framer.push(b"\r\n\r\n\r\n").unwrap();
        assert_eq!((framer.next(), framer.next()), (Some(Frame::KeepAlive), None));
        assert!(framer.take_pong());
        framer.push(&MESSAGE[..9]).unwrap();
        assert!(!framer.is_between() && !framer.take_pong());
        framer.push(&MESSAGE[9..]).unwrap();
        assert_eq!(framer.next(), Some(Frame::Message(MESSAGE.to_vec())));
        assert!(framer.is_between());
    }

    #[test]
    fn stray_line_ends_are_skipped() {
        let stream = [b"\n\n\r\n\n\r\n".as_slice(), MESSAGE, b"\r\n\r"].concat();
        let expected = [Frame::Message(MESSAGE.to_vec())];
        assert_eq!(frames([stream.clone()]), expected);
        assert_eq!(frames(stream.iter().map(|b| vec![*b])), expected);
    }

    #[test]
    fn a_stream_without_end_or_sense_is_broken_for_good() {
        let mut framer = Framer::new(100);
        assert_eq!(framer.push(&[b'a'; 101]), Err(FrameError::TooLong));
        assert_eq!(framer.push(MESSAGE), Err(FrameError::TooLong));
        let table: [(&[u8], FrameError); 5] = [
            (b"A\r\nl: 1\r\nContent-Length: 2\r\n\r\n", FrameError::ContentLength),
            (b"A\r\nl: 1\r\n 2\r\n\r\n", FrameError::ContentLength),
            (b"A\r\nl: -1\r\n\r\n", FrameError::ContentLength),
            (b"A\r\nContent-Length: 99999999999999999999999\r\n\r\n", FrameError::TooLong),
            (b"A\r\nContent-Length: 96\r\n\r\n", FrameError::TooLong),
        ];
        for (bytes, error) in table {
            assert_eq!(Framer::new(100).push(bytes), Err(error));
        }
    }
}
