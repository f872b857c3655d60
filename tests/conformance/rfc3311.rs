//! [RFC 3311](https://www.rfc-editor.org/rfc/rfc3311): UPDATE, both roles, early and established.

use crate::script::{Row, check};

/// Section 5.1: who may send one, and when.
const SENDING: &[Row] = &[
    (
        "a caller, once the answer came reliably and the peer takes UPDATE",
        "call
         > INVITE cseq=1 allow=UPDATE
         < 183 require=100rel rseq=1 sdp allow=INVITE,UPDATE,PRACK contact=<sip:them@198.51.100.2:5077>
         > PRACK cseq=2
         ! provisional
         reoffer
         > UPDATE cseq=3 sdp=reoffer contact to=sip:them@198.51.100.2:5077 tag=b -se
         < 200 UPDATE sdp contact=<sip:them@198.51.100.2:5088>
         ! reoffer-answered sdp
         reoffer
         > UPDATE cseq=4 to=sip:them@198.51.100.2:5088",
    ),
    (
        "not before there is an answer, nor after one that came unreliably",
        "call
         > INVITE
         reoffer
         ! error State
         < 183 sdp allow=UPDATE
         ! provisional
         reoffer
         ! error State",
    ),
    (
        "not to a peer who does not allow it",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp allow=INVITE,PRACK
         > PRACK
         ! provisional
         reoffer
         ! error State",
    ),
    (
        "not while another offer is open",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp allow=UPDATE
         > PRACK
         ! provisional
         reoffer
         > UPDATE
         reoffer
         ! error Pending",
    ),
    (
        "a callee, once his reliable answer is acknowledged",
        "< INVITE sdp supported=100rel allow=UPDATE
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE
         reoffer
         ! error Pending
         < PRACK rack=ok
         > 200 PRACK
         reoffer
         > UPDATE sdp=reoffer cseq=1
         < 200 UPDATE sdp
         ! reoffer-answered sdp
         accept
         > 200 INVITE -sdp",
    ),
    (
        "a callee whose offer was answered in the PRACK",
        "< INVITE supported=100rel allow=UPDATE
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE
         < PRACK rack=ok sdp
         > 200 PRACK
         ! pracked sdp
         reoffer
         > UPDATE sdp=reoffer",
    ),
    (
        "a refusal leaves everything as it was (section 5.3)",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp allow=UPDATE
         > PRACK
         ! provisional
         reoffer
         > UPDATE
         < 488 UPDATE
         ! reoffer-answered 488
         < 200
         > ACK
         ! answered",
    ),
    (
        "so does one that the peer knows nothing of, or never answers: the INVITE decides",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp allow=UPDATE
         > PRACK
         ! provisional
         < 200 PRACK
         reoffer
         > UPDATE
         < 481 UPDATE
         ! reoffer-answered 481
         < 200
         > ACK
         ! answered",
    ),
    (
        "a challenge is answered",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp allow=UPDATE
         > PRACK
         ! provisional
         reoffer
         > UPDATE cseq=3 -credentials
         < 401 UPDATE challenge
         > UPDATE cseq=4 credentials sdp=reoffer
         < 200 UPDATE sdp
         ! reoffer-answered sdp",
    ),
    (
        "500 with Retry-After is tried again after it",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp allow=UPDATE
         > PRACK
         ! provisional
         < 200 PRACK
         reoffer
         > UPDATE cseq=3
         < 500 UPDATE retry-after=3
         wait 2999ms
         wait 1ms
         > UPDATE cseq=4 sdp=reoffer",
    ),
    (
        "in an established session an offer of ours is a re-INVITE",
        "call
         > INVITE
         < 200 sdp allow=INVITE,UPDATE
         > ACK
         ! answered
         reoffer
         > INVITE sdp=reoffer -supported=100rel",
    ),
    (
        "the answer to the INVITE overtakes that to the UPDATE",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp allow=UPDATE
         > PRACK
         ! provisional
         reoffer
         > UPDATE
         < 200
         > ACK
         ! answered
         reoffer
         ! error Pending
         < 200 UPDATE sdp
         ! reoffer-answered sdp",
    ),
];

/// Section 5.2: what is answered.
const RECEIVING: &[Row] = &[
    (
        "without a description it refreshes the target, at any time",
        "call
         > INVITE
         < 180
         ! provisional
         < UPDATE contact=<sip:them@198.51.100.2:5099>
         > 200 UPDATE contact -sdp
         < 180 require=100rel rseq=1
         > PRACK to=sip:them@198.51.100.2:5099
         ! provisional",
    ),
    (
        "an offer while ours has no answer: 491",
        "call
         > INVITE
         < 180
         ! provisional
         < UPDATE sdp
         > 491 UPDATE -retry-after",
    ),
    (
        "an offer while his own has no answer: 500 with Retry-After",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 180
         > 180 INVITE
         < UPDATE sdp
         > 500 UPDATE retry-after",
    ),
    (
        "an offer while that in our reliable response has no answer: 491",
        "< INVITE supported=100rel
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE
         < UPDATE sdp
         > 491 UPDATE",
    ),
    (
        "an offer in an early dialog that is agreed on, answered and refused",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp
         > PRACK
         ! provisional
         < UPDATE sdp contact=<sip:them@198.51.100.2:5099>
         ! reoffered sdp
         answer
         > 200 UPDATE sdp=answer contact
         < UPDATE sdp
         ! reoffered sdp
         answer 488
         > 488 UPDATE
         < 200
         > ACK
         ! answered",
    ),
    (
        "the same at the callee's",
        "< INVITE sdp supported=100rel
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE
         < PRACK rack=ok
         > 200 PRACK
         < UPDATE sdp
         ! reoffered sdp
         answer
         > 200 UPDATE sdp=answer
         accept
         > 200 INVITE -sdp",
    ),
    (
        "a second one before the answer to the first, with an offer or not: 500 with Retry-After",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp
         > PRACK
         ! provisional
         < UPDATE sdp
         ! reoffered
         < UPDATE sdp
         > 500 UPDATE retry-after
         < UPDATE
         > 500 UPDATE retry-after
         answer
         > 200 UPDATE sdp=answer",
    ),
    (
        "glare: an offer that crosses ours is 491, and ours is tried again after 0 to 2 s, as we own no Call-ID",
        "< INVITE sdp supported=100rel allow=UPDATE
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE
         < PRACK rack=ok
         > 200 PRACK
         reoffer
         > UPDATE
         < UPDATE sdp
         > 491 UPDATE
         < 491 UPDATE
         next 0s..2s
         > UPDATE sdp=reoffer",
    ),
    (
        "by the owner of the Call-ID after 2.1 to 4 s",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp allow=UPDATE
         > PRACK
         ! provisional
         < 200 PRACK
         reoffer
         > UPDATE
         < 491 UPDATE
         next 2100ms..4s
         > UPDATE sdp=reoffer",
    ),
    (
        "after a glare the peer's offer goes first, and ours follows its answer",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp allow=UPDATE
         > PRACK
         ! provisional
         < 200 PRACK
         reoffer
         > UPDATE
         < 491 UPDATE
         < UPDATE sdp
         ! reoffered sdp
         wait 10s
         answer
         > 200 UPDATE sdp=answer
         > UPDATE sdp=reoffer",
    ),
    (
        "established: an offer, a refresh, and one that comes too early",
        "call
         > INVITE
         < 200 sdp
         > ACK
         ! answered
         < UPDATE sdp
         ! reoffered sdp
         < UPDATE
         > 500 UPDATE retry-after
         < INVITE sdp
         > 500 INVITE retry-after
         answer
         > 200 UPDATE sdp=answer contact
         < UPDATE contact=<sip:them@198.51.100.2:5099>
         > 200 UPDATE -sdp
         hangup
         > BYE to=sip:them@198.51.100.2:5099",
    ),
    (
        "established: an offer that crosses our re-INVITE",
        "call
         > INVITE
         < 200 sdp
         > ACK
         ! answered
         reoffer
         > INVITE
         < UPDATE sdp
         > 491 UPDATE
         < UPDATE
         > 200 UPDATE",
    ),
    (
        "what a fork that lost still waits for is refused",
        "call
         > INVITE
         < 183 tag=one require=100rel rseq=1 sdp
         > PRACK
         ! provisional
         < UPDATE sdp
         ! reoffered
         < 200 tag=two sdp
         > ACK tag=two
         > 487 UPDATE
         ! answered",
    ),
    (
        "an UPDATE for no dialog",
        "< INVITE sdp
         > 100 INVITE
         ! incoming
         hangup
         > 480 INVITE
         ! closed
         < UPDATE
         > 481 UPDATE",
    ),
];

/// RFC 3261 sections 12 and 14, as far as they bear on the above: offers in re-INVITEs, and where requests go.
const REINVITE: &[Row] = &[
    (
        "glare: the owner of the Call-ID waits 2.1 to 4 s",
        "call
         > INVITE
         < 200 sdp
         > ACK
         ! answered
         reoffer
         > INVITE sdp=reoffer
         < INVITE sdp
         > 491 INVITE
         < ACK
         < 491
         > ACK
         next 2100ms..4s
         > INVITE sdp=reoffer",
    ),
    (
        "the other 0 to 2 s",
        "< INVITE sdp
         > 100 INVITE
         ! incoming
         accept
         > 200 INVITE
         < ACK
         ! acked
         reoffer
         > INVITE sdp=reoffer cseq=1
         < 491
         > ACK
         next 0s..2s
         > INVITE sdp=reoffer cseq=2",
    ),
    (
        "a refused re-INVITE leaves the session as it was",
        "call
         > INVITE
         < 200 sdp
         > ACK
         ! answered
         reoffer
         > INVITE
         < 488
         > ACK
         ! reoffer-answered 488
         reoffer
         > INVITE",
    ),
    (
        "one for which the peer has no dialog any more ends it",
        "call
         > INVITE
         < 200 sdp
         > ACK
         ! answered
         reoffer
         > INVITE
         < 481
         > ACK
         ! reoffer-answered 481
         ! ended remote
         > BYE",
    ),
    (
        "a re-INVITE without an offer is answered with ours, and the answer comes in the ACK",
        "call
         > INVITE
         < 200 sdp
         > ACK
         ! answered
         < INVITE
         > 100 INVITE
         ! reoffered -sdp
         answer
         > 200 INVITE sdp=answer
         < UPDATE sdp
         > 491 UPDATE
         < ACK sdp
         ! acked sdp",
    ),
    (
        "a PRACK refreshes no target",
        "< INVITE sdp supported=100rel contact=<sip:them@198.51.100.2:5071>
         > 100 INVITE
         ! incoming
         ring 180
         > 180 INVITE
         < PRACK rack=ok contact=<sip:them@198.51.100.2:5072>
         > 200 PRACK
         accept
         > 200 INVITE
         < ACK
         ! acked
         hangup
         > BYE to=sip:them@198.51.100.2:5071",
    ),
    (
        "a caller's early requests take the routes in reverse, loose ones as Route",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp allow=UPDATE route=<sip:two.example;lr>,<sip:one.example;lr>
         > PRACK to=sip:them@198.51.100.2:5060 hop=sip:one.example;lr hop=sip:two.example;lr
         ! provisional
         reoffer
         > UPDATE to=sip:them@198.51.100.2:5060 hop=sip:one.example;lr
         < 200 contact=<sip:them@198.51.100.2:5088> route=<sip:three.example;lr>
         > ACK to=sip:them@198.51.100.2:5088 hop=sip:three.example;lr -hop=sip:one.example;lr
         ! answered",
    ),
    (
        "a strict one is the Request-URI, and the target the last Route",
        "call
         > INVITE
         < 183 require=100rel rseq=1 sdp route=<sip:one.example>
         > PRACK to=sip:one.example hop=sip:them@198.51.100.2:5060
         ! provisional",
    ),
    (
        "a callee's take them in order, and a re-INVITE changes the target but not the routes",
        "< INVITE sdp supported=100rel allow=UPDATE route=<sip:one.example;lr>,<sip:two.example;lr>
         > 100 INVITE
         ! incoming
         ring 183 sdp
         > 183 INVITE route=<sip:one.example;lr>
         < PRACK rack=ok
         > 200 PRACK
         reoffer
         > UPDATE to=sip:them@198.51.100.2:5060 hop=sip:one.example;lr hop=sip:two.example;lr
         < 200 UPDATE sdp
         ! reoffer-answered
         accept
         > 200 INVITE route=<sip:one.example;lr>
         < ACK
         ! acked
         < INVITE sdp contact=<sip:them@198.51.100.2:5099> route=<sip:four.example;lr>
         > 100 INVITE
         ! reoffered
         answer
         > 200 INVITE
         < ACK
         hangup
         > BYE to=sip:them@198.51.100.2:5099 hop=sip:one.example;lr -hop=sip:four.example;lr",
    ),
    (
        "a refused re-INVITE changes no target (section 14.2 as RFC 6141 has it)",
        "call
         > INVITE
         < 200 sdp
         > ACK
         ! answered
         < INVITE sdp contact=<sip:them@198.51.100.2:5099>
         > 100 INVITE
         ! reoffered
         answer 488
         > 488 INVITE
         hangup
         > BYE to=sip:them@198.51.100.2:5060",
    ),
];

#[test]
fn section_5_1_sending() {
    check(SENDING);
}

#[test]
fn section_5_2_receiving() {
    check(RECEIVING);
}

#[test]
fn rfc_3261_sections_12_and_14_the_dialog_and_its_offers() {
    check(REINVITE);
}
