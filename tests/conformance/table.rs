//! The form of the tables: what each message must do, and why.

use ringback::sip::FrameError;

/// What [`ringback::sip::Message::parse`] makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is a request.
    Request,
    /// It is a response.
    Response,
    /// It is refused with this status.
    Refused(u16),
    /// It is dropped without a word.
    Dropped,
}

/// What a user agent without calls answers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Silence,
    /// One response of this status.
    Status(u16),
    /// 100, and the user is told of a call.
    Call,
}

/// What [`ringback::sip::Framer`] makes of it on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// One message, all of it.
    Whole,
    /// Its head; the rest is taken for the next message, for want of a Content-Length.
    HeadOnly,
    /// Two messages, and a rest that is none: the second is longer than it says.
    Two,
    /// Nothing yet: more is promised than there is.
    Waits,
    /// The end of the stream.
    Broken(FrameError),
}

/// How the copy at hand differs from a message on the wire, and is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mend {
    /// It does not differ.
    Nothing,
    /// The empty line after the head is missing.
    EmptyLine,
    /// Content-Length does not fit the body.
    ContentLength,
}

/// One message.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its path below the test data.
    pub file: &'static str,
    /// The section of its RFC.
    pub section: &'static str,
    pub verdict: Verdict,
    pub answer: Answer,
    pub stream: Stream,
    pub mend: Mend,
    /// Why.
    pub reason: &'static str,
}

/// A request that is taken.
pub const fn request(file: &'static str, section: &'static str, answer: Answer, reason: &'static str) -> Case {
    Case { file, section, verdict: Verdict::Request, answer, stream: Stream::Whole, mend: Mend::Nothing, reason }
}

/// A response that is taken; none of them answers anything of ours.
pub const fn response(file: &'static str, section: &'static str, reason: &'static str) -> Case {
    Case { verdict: Verdict::Response, ..request(file, section, Answer::Silence, reason) }
}

/// A request that is refused where it is read.
pub const fn refused(file: &'static str, section: &'static str, status: u16, reason: &'static str) -> Case {
    Case { verdict: Verdict::Refused(status), ..request(file, section, Answer::Status(status), reason) }
}

/// What is not even answered.
pub const fn dropped(file: &'static str, section: &'static str, reason: &'static str) -> Case {
    Case { verdict: Verdict::Dropped, ..request(file, section, Answer::Silence, reason) }
}

impl Case {
    /// It is not one whole message on a stream.
    pub const fn on_stream(self, stream: Stream) -> Case {
        Case { stream, ..self }
    }

    /// The copy at hand is mended first.
    pub const fn mended(self, mend: Mend) -> Case {
        Case { mend, ..self }
    }
}
