//! [RFC 4475](https://www.rfc-editor.org/rfc/rfc4475), SIP torture test messages: all 49. The carrier's folders `valid` and
//! `invalid` are not the RFC's verdicts; the column of sections is.

use ringback::sip::FrameError;

use crate::table::Answer::{Call, Silence, Status};
use crate::table::{Case, Mend, Stream, dropped, refused, request, response};

pub const CASES: &[Case] = &[
    // 3.1.1 Valid messages
    request(
        "valid/wsinv.dat",
        "3.1.1.1",
        Status(481),
        "legal white space, folding and names; its To-tag is no dialog's",
    ),
    request("valid/intmeth.dat", "3.1.1.2", Status(501), "every character the grammar allows; nobody knows the method"),
    request("valid/esc01.dat", "3.1.1.3", Call, "escapes in URIs, one of which hides a URI in a user part"),
    request("valid/escnull.dat", "3.1.1.4", Status(405), "%00 in a URI is legal and must not cut it short"),
    request("valid/esc02.dat", "3.1.1.5", Status(501), "% in methods and names is no escape: this is not REGISTER"),
    request("valid/lwsdisp.dat", "3.1.1.6", Status(200), "no white space is needed between a display name and <"),
    request("valid/longreq.dat", "3.1.1.7", Call, "long values in many header fields, 34 Via lines among them"),
    request("valid/dblreq.dat", "3.1.1.8", Status(405), "what follows the body in a datagram is ignored")
        .on_stream(Stream::Two),
    request("valid/semiuri.dat", "3.1.1.9", Status(200), "semicolons in a user part are no URI parameters"),
    request("valid/transports.dat", "3.1.1.10", Status(200), "unknown transports in Via are well formed"),
    request("valid/mpart01.dat", "3.1.1.11", Status(405), "a multipart body with binary parts; MESSAGE is not for us"),
    response("valid/unreason.dat", "3.1.1.12", "a reason phrase of UTF-8 and punctuation"),
    response("valid/noreason.dat", "3.1.1.13", "an empty reason phrase"),
    // 3.1.2 Invalid messages
    refused(
        "invalid/badinv01.dat",
        "3.1.2.1",
        400,
        "stray separators in Via and Contact; the first Via says where to answer",
    ),
    refused("invalid/clerr.dat", "3.1.2.2", 400, "Content-Length beyond the datagram; a stream waits for the rest")
        .on_stream(Stream::Waits),
    refused("invalid/ncl.dat", "3.1.2.3", 400, "negative Content-Length: a stream cannot go on after it")
        .on_stream(Stream::Broken(FrameError::ContentLength)),
    refused("invalid/scalar02.dat", "3.1.2.4", 400, "CSeq above 2^31 (and Max-Forwards above 255, Expires above 2^32)"),
    dropped("invalid/scalarlg.dat", "3.1.2.5", "a response whose CSeq cannot be: discarded"),
    refused("invalid/quotbal.dat", "3.1.2.6", 400, "a quoted string without an end in To"),
    refused("invalid/ltgtruri.dat", "3.1.2.7", 400, "the Request-URI in angle brackets"),
    refused("invalid/lwsruri.dat", "3.1.2.8", 400, "white space within the Request-URI"),
    refused("invalid/lwsstart.dat", "3.1.2.9", 400, "more than one space between the parts of the request line"),
    refused("invalid/trws.dat", "3.1.2.10", 400, "spaces after the version"),
    refused("invalid/escruri.dat", "3.1.2.11", 400, "header fields in the Request-URI"),
    request("invalid/baddate.dat", "3.1.2.12", Call, "a Date in EST: who has no use for Date lets it pass"),
    refused("invalid/regbadct.dat", "3.1.2.13", 400, "a Contact with a question mark must stand in brackets"),
    request(
        "invalid/badaspec.dat",
        "3.1.2.14",
        Status(200),
        "spaces inside the brackets of To: the liberal may ignore them",
    ),
    refused("invalid/baddn.dat", "3.1.2.15", 400, "a comma in a display name without quotes").mended(Mend::EmptyLine),
    refused("invalid/badvers.dat", "3.1.2.16", 505, "SIP/7.0, in Via as well"),
    refused("invalid/mismatch01.dat", "3.1.2.17", 400, "CSeq names another method"),
    refused("invalid/mismatch02.dat", "3.1.2.18", 400, "CSeq names another method than the unknown one"),
    dropped("invalid/bigcode.dat", "3.1.2.19", "a status beyond 699: discarded"),
    // 3.2 Transaction layer semantics
    request(
        "invalid/badbranch.dat",
        "3.2.1",
        Status(200),
        "a branch of the magic cookie alone is none: matched as RFC 2543 does",
    ),
    // 3.3 Application layer semantics
    refused("invalid/insuf.dat", "3.3.1", 400, "no To, From or Call-ID"),
    request("invalid/unkscm.dat", "3.3.2", Status(416), "a Request-URI of an unknown scheme"),
    request("invalid/novelsc.dat", "3.3.3", Status(416), "a Request-URI of a scheme that is not ours"),
    request(
        "invalid/unksm2.dat",
        "3.3.4",
        Status(405),
        "other schemes in To, From and Contact are well formed; no registrar here",
    ),
    request("invalid/bext01.dat", "3.3.5", Status(420), "required extensions that we lack"),
    request("invalid/invut.dat", "3.3.6", Call, "an unknown body: bodies are their user's, who refuses it with 415"),
    request("invalid/regaut01.dat", "3.3.7", Status(405), "an unknown authorization scheme; no registrar here"),
    refused("invalid/multi01.dat", "3.3.8", 400, "two each of CSeq, Call-ID, To, From"),
    refused("invalid/mcl01.dat", "3.3.9", 400, "two Content-Lengths that differ: a stream cannot go on after them")
        .on_stream(Stream::Broken(FrameError::ContentLength)),
    response(
        "invalid/bcast.dat",
        "3.3.10",
        "well formed, but with a second Via it is not for us; nothing goes to the broadcast address",
    ),
    request("invalid/zeromf.dat", "3.3.11", Status(200), "Max-Forwards 0 is no matter where the request ends"),
    request("invalid/cparam01.dat", "3.3.12", Status(405), "an unknown parameter of Contact; no registrar here"),
    request("invalid/cparam02.dat", "3.3.13", Status(405), "an unknown parameter of Contact's URI; no registrar here"),
    request(
        "invalid/regescrt.dat",
        "3.3.14",
        Status(405),
        "header fields in Contact's URI, in brackets; no registrar here",
    ),
    request(
        "invalid/sdp01.dat",
        "3.3.15",
        Call,
        "Accept without application/sdp: who sends INVITE must take it nevertheless",
    ),
    // 3.4 Backward compatibility
    request(
        "invalid/inv2543.dat",
        "3.4.1",
        Status(400),
        "read as RFC 2543 wrote it; without Contact there is no dialog",
    )
    .on_stream(Stream::HeadOnly),
    // Not of the RFC, but in the same folder
    dropped("invalid/test.dat", "-", "no version, no Via: nowhere to answer"),
];

/// Nothing in the table is left to chance.
#[test]
fn all_49_are_there() {
    assert_eq!(CASES.iter().filter(|case| case.section.starts_with("3.")).count(), 49);
    assert!(CASES.iter().all(|case| case.answer != Silence || !matches!(case.verdict, crate::table::Verdict::Request)));
}
