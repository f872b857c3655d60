//! [RFC 3262](https://www.rfc-editor.org/rfc/rfc3262): reliable provisional responses and PRACK, both roles.

use crate::script::{Row, check};

/// Section 4: what a caller does with reliable responses.
const UAC: &[Row] = &[
    (
        "what is offered is said, and no more",
        "call
         > INVITE supported=100rel -require -rack
         < 100
         ! trying",
    ),
    (
        "off: nothing is said of it",
        "call reliable=off
         > INVITE -supported=100rel -require",
    ),
    (
        "required: the peer must, too",
        "call reliable=required
         > INVITE require=100rel supported=100rel",
    ),
    (
        "without an offer of ours, the offer of a reliable response would want an answer in the PRACK: there is none",
        "call offerless reliable=required
         > INVITE -supported=100rel -require",
    ),
    (
        "a 100 is never reliable, and a response that does not require it is not either",
        "call
         > INVITE
         < 100 require=100rel rseq=1
         ! trying
         < 180 rseq=1
         ! provisional 180 unreliable
         < 183 require=100rel sdp
         ! provisional 183 unreliable sdp",
    ),
    (
        "PRACK goes to the Contact of the response, in its early dialog, with the next CSeq",
        "call
         > INVITE cseq=1
         < 183 tag=x require=100rel rseq=988789 contact=<sip:them@198.51.100.2:5077> sdp
         > PRACK rack=988789/1/INVITE cseq=2 tag=x to=sip:them@198.51.100.2:5077 -sdp -contact
         ! provisional 183 reliable sdp
         < 200 PRACK",
    ),
    (
        "repeated responses are not acknowledged again, and those that leave a gap are not looked at",
        "call
         > INVITE
         < 183 require=100rel rseq=7 sdp
         > PRACK rack=7/1/INVITE cseq=2
         ! provisional 183 reliable
         < 183 require=100rel rseq=7 sdp
         < 180 require=100rel rseq=9
         < 180 require=100rel rseq=6
         < 180 require=100rel rseq=8
         > PRACK rack=8/1/INVITE cseq=3
         ! provisional 180 reliable
         < 182 require=100rel rseq=9
         > PRACK rack=9/1/INVITE cseq=4
         ! provisional 182 reliable",
    ),
    (
        "each early dialog has an order, and numbers, of its own",
        "call
         > INVITE
         < 183 tag=one require=100rel rseq=5 sdp
         > PRACK tag=one rack=5/1/INVITE cseq=2
         ! provisional 183 reliable sdp
         < 183 tag=two require=100rel rseq=900 sdp
         > PRACK tag=two rack=900/1/INVITE cseq=2
         ! provisional 183 reliable sdp
         < 180 tag=one require=100rel rseq=6
         > PRACK tag=one rack=6/1/INVITE cseq=3
         ! provisional 180 reliable -sdp",
    ),
    (
        "the answer in a reliable response is final: what later responses say is not followed",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp
         > PRACK
         ! provisional 183 reliable sdp
         < 180 require=100rel rseq=2 sdp
         > PRACK
         ! provisional 180 reliable -sdp
         < 180 sdp
         ! provisional 180 unreliable -sdp
         < 200 sdp
         > ACK -sdp
         ! answered -sdp",
    ),
    (
        "without 100rel the last one counts",
        "call
         > INVITE
         < 183 sdp
         ! provisional 183 unreliable sdp
         < 183 sdp
         ! provisional 183 unreliable sdp
         < 200 sdp
         > ACK
         ! answered sdp",
    ),
    (
        "the answer of one fork is not that of another",
        "call
         > INVITE
         < 183 tag=one require=100rel rseq=1 sdp
         > PRACK tag=one
         ! provisional 183 reliable sdp
         < 200 tag=two sdp
         > ACK tag=two
         ! answered sdp",
    ),
    (
        "a challenged PRACK is sent again with credentials",
        "call
         > INVITE
         < 183 require=100rel rseq=3 sdp
         > PRACK cseq=2 rack=3/1/INVITE -credentials
         ! provisional 183 reliable
         < 401 PRACK challenge
         > PRACK cseq=3 rack=3/1/INVITE credentials
         < 200 PRACK",
    ),
    (
        "a PRACK that fails or is never answered changes nothing: the INVITE decides",
        "call
         > INVITE
         < 183 require=100rel rseq=3 sdp
         > PRACK
         ! provisional 183 reliable
         < 481 PRACK
         < 200
         > ACK
         ! answered",
    ),
    (
        "after CANCEL nothing is acknowledged any more",
        "call
         > INVITE
         < 100
         ! trying
         hangup
         > CANCEL
         < 183 require=100rel rseq=3 sdp
         < 200 CANCEL
         < 487
         > ACK
         ! failed 487
         ! closed",
    ),
    (
        "RFC 3261 section 8.1.3.5: 420 is tried again without what it names",
        "call reliable=required
         > INVITE cseq=1 require=100rel
         < 420 unsupported=100rel
         > ACK
         > INVITE cseq=2 -require -supported=100rel sdp
         < 180
         ! provisional 180 unreliable",
    ),
    (
        "a 420 that names nothing of ours is the end",
        "call reliable=required
         > INVITE
         < 420 unsupported=x
         > ACK
         ! failed 420
         ! closed",
    ),
    (
        "the acknowledged INVITE is the one that was sent last",
        "call
         > INVITE cseq=1
         < 401 challenge
         > ACK
         > INVITE cseq=2 credentials
         < 180 require=100rel rseq=44
         > PRACK rack=44/2/INVITE cseq=3
         ! provisional 180 reliable",
    ),
    (
        "a PRACK to a caller means nothing of his",
        "call
         > INVITE
         < 180
         ! provisional 180
         < PRACK rack=1/1/INVITE
         > 481 PRACK",
    ),
];

/// Section 3: what a callee does.
const UAS: &[Row] = &[
    (
        "the caller cannot: nothing is reliable, and the answer is in the 200",
        "< INVITE sdp
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE sdp -require -rseq
         wait 1s
         accept
         > 200 INVITE sdp",
    ),
    (
        "off: the caller could, and is not bothered",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         configure reliable=off
         ring 180
         > 180 INVITE -require -rseq",
    ),
    (
        "off, but the caller requires it",
        "< INVITE sdp require=100rel
         > 100 INVITE
         ! incoming
         configure reliable=off
         > 420 INVITE unsupported=100rel
         ! error Refused(420)
         ! closed",
    ),
    (
        "required, and the caller cannot: 421",
        "< INVITE sdp
         > 100 INVITE
         ! incoming
         configure reliable=required
         > 421 INVITE require=100rel
         ! error Refused(421)
         ! closed",
    ),
    (
        "repeated after T1, doubling, until the PRACK",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 180
         > 180 INVITE require=100rel rseq contact
         wait 499ms
         wait 1ms
         > 180 INVITE rseq
         wait 1s
         > 180 INVITE
         wait 2s
         > 180 INVITE
         < PRACK rack=ok
         > 200 PRACK
         wait 30s",
    ),
    (
        "64*T1 without PRACK: 5xx",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 180
         > 180 INVITE
         wait 31500ms
         > 180 INVITE
         > 180 INVITE
         > 180 INVITE
         > 180 INVITE
         > 180 INVITE
         > 180 INVITE
         wait 500ms
         > 504 INVITE
         ! cancelled
         ! closed",
    ),
    (
        "what matches nothing is 481: another RSeq, another CSeq, another method, none at all, the same again",
        "< INVITE sdp supported=100rel cseq=1
         > 100 INVITE
         ! incoming
         ring 180
         > 180 INVITE
         < PRACK rack=1/1/INVITE
         > 481 PRACK
         < PRACK rack=x/1/INVITE
         > 481 PRACK
         < PRACK
         > 481 PRACK
         < PRACK rack=ok
         > 200 PRACK
         < PRACK rack=ok
         > 481 PRACK",
    ),
    (
        "the second waits for the PRACK of the first, and has the next number",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 180
         > 180 INVITE rseq
         ring 183 sdp
         ring 181
         < PRACK rack=ok
         > 200 PRACK
         > 183 INVITE rseq sdp
         < PRACK rack=ok
         > 200 PRACK
         > 181 INVITE rseq -sdp
         < PRACK rack=ok
         > 200 PRACK",
    ),
    (
        "no 200 before the PRACK where the response had a description; then it says no more",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE sdp require=100rel
         accept
         wait 500ms
         > 183 INVITE
         < PRACK rack=ok
         > 200 PRACK
         > 200 INVITE -sdp
         < ACK
         ! acked -sdp",
    ),
    (
        "a response without one does not hold the 200 up, and its PRACK may follow",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 180
         > 180 INVITE -sdp
         accept
         > 200 INVITE sdp
         < PRACK rack=ok
         > 200 PRACK
         < PRACK rack=ok
         > 481 PRACK
         < ACK
         ! acked",
    ),
    (
        "a refusal waits for nothing",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE
         hangup
         > 480 INVITE
         ! closed
         < PRACK rack=ok
         > 481 PRACK",
    ),
    (
        "CANCEL while the PRACK is awaited, and the answer with it",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE
         accept
         < CANCEL
         > 200 CANCEL
         > 487 INVITE
         ! cancelled
         ! closed",
    ),
    (
        "BYE while the PRACK is awaited",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE
         accept
         < BYE
         > 200 BYE
         > 487 INVITE
         ! cancelled
         ! closed",
    ),
    (
        "section 5: our offer in the response, the answer in the PRACK",
        "< INVITE supported=100rel
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE sdp
         accept
         < PRACK rack=ok sdp
         > 200 PRACK -sdp
         ! pracked sdp
         > 200 INVITE -sdp
         < ACK
         ! acked -sdp",
    ),
    (
        "an offer of ours is not put where its arrival is not certain",
        "< INVITE
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE -sdp
         accept
         > 200 INVITE sdp
         < ACK sdp
         ! acked sdp",
    ),
    (
        "section 5: another offer in the PRACK is answered in its 200",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE sdp
         < PRACK rack=ok sdp
         ! reoffered sdp
         answer
         > 200 PRACK sdp=answer -contact
         accept
         > 200 INVITE -sdp",
    ),
    (
        "or refused, and acknowledges all the same",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE sdp
         < PRACK rack=ok sdp
         ! reoffered sdp
         answer 488
         > 488 PRACK
         wait 30s
         accept
         > 200 INVITE",
    ),
    (
        "an offer in the PRACK while ours has no answer yet is none",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 180
         > 180 INVITE -sdp
         < PRACK rack=ok sdp
         > 200 PRACK -sdp",
    ),
    (
        "it goes on ringing with a response of its own: the same one again would be a repetition",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE sdp rseq
         < PRACK rack=ok
         > 200 PRACK
         wait 60s
         > 183 INVITE rseq -sdp
         < PRACK rack=ok
         > 200 PRACK",
    ),
];

#[test]
fn section_4_the_caller() {
    check(UAC);
}

#[test]
fn section_3_the_callee() {
    check(UAS);
}
