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
}

impl Framer {
    /// A framer for messages of at most `max_message` bytes, head and body together.
    pub fn new(max_message: usize) -> Framer {
        Framer { buffer: Vec::new(), max_message, broken: None }
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
        match self.message_len() {
            Err(error) => self.fail(error),
            Ok(None) if self.buffer.len() > self.max_message => self.fail(FrameError::TooLong),
            Ok(_) => Ok(()),
        }
    }

    fn fail(&mut self, error: FrameError) -> Result<(), FrameError> {
        self.broken = Some(error);
        self.buffer = Vec::new();
        Err(error)
    }

    /// The next message or keep-alive, if it is whole.
    #[allow(clippy::should_implement_trait)] // not an iterator: it goes on after None
    pub fn next(&mut self) -> Option<Frame> {
        if self.buffer.starts_with(b"\r\n\r\n") {
            self.buffer.drain(..4);
            return Some(Frame::KeepAlive);
        }
        // A single CRLF before a message is skipped (section 7.5); it may also be half of a keep-alive, so wait for more.
        while self.buffer.len() > 2 && self.buffer.starts_with(b"\r\n") && self.buffer.get(2) != Some(&b'\r') {
            self.buffer.drain(..2);
        }
        match self.message_len() {
            Ok(Some(len)) if len <= self.buffer.len() => {
                let rest = self.buffer.split_off(len);
                Some(Frame::Message(std::mem::replace(&mut self.buffer, rest)))
            }
            Ok(_) => None,
            Err(error) => {
                self.broken = Some(error);
                self.buffer = Vec::new();
                None
            }
        }
    }

    /// The length of the message at the front, once its head is whole.
    fn message_len(&self) -> Result<Option<usize>, FrameError> {
        if self.buffer.starts_with(b"\r\n") {
            return Ok(None);
        }
        let Some(head) = find(&self.buffer, b"\r\n\r\n").map(|i| i + 4) else { return Ok(None) };
        let body = content_length(self.buffer.get(..head).unwrap_or_default())?;
        match head.checked_add(body) {
            Some(len) if len <= self.max_message => Ok(Some(len)),
            _ => Err(FrameError::TooLong),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// The Content-Length of a head; 0 without one, which a stream must not leave out but some peers do.
fn content_length(head: &[u8]) -> Result<usize, FrameError> {
    for line in head.split(|b| *b == b'\n') {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l") {
            let digits = value.get(1..).unwrap_or_default().trim_ascii();
            let text = std::str::from_utf8(digits).map_err(|_| FrameError::ContentLength)?;
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(FrameError::ContentLength);
            }
            return text.parse().map_err(|_| FrameError::TooLong);
        }
    }
    Ok(0)
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
    fn a_stream_without_end_or_sense_is_broken_for_good() {
        let mut framer = Framer::new(100);
        assert_eq!(framer.push(&[b'a'; 101]), Err(FrameError::TooLong));
        assert_eq!(framer.push(MESSAGE), Err(FrameError::TooLong));
        let table: [(&[u8], FrameError); 3] = [
            (b"A\r\nl: -1\r\n\r\n", FrameError::ContentLength),
            (b"A\r\nContent-Length: 99999999999999999999999\r\n\r\n", FrameError::TooLong),
            (b"A\r\nContent-Length: 96\r\n\r\n", FrameError::TooLong),
        ];
        for (bytes, error) in table {
            assert_eq!(Framer::new(100).push(bytes), Err(error));
        }
    }
}
