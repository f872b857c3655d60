//! [RFC 4028](https://www.rfc-editor.org/rfc/rfc4028): the session timer. In the scripts time is virtual.

use crate::script::{Row, check};

/// Sections 7.1 to 7.3: the caller.
const UAC: &[Row] = &[
    (
        "none is asked for: nothing is said, and nothing comes of what the peer says",
        "call
         > INVITE -supported=timer -se -min-se
         < 200 sdp se=120;refresher=uac
         > ACK
         ! answered
         wait 600s",
    ),
    (
        "one is asked for; the answering side decides who refreshes",
        "call timer=1800/90
         > INVITE supported=timer se=1800 -min-se -require",
    ),
    (
        "with a wish of ours, and a limit",
        "call timer=1800/120/us
         > INVITE se=1800;refresher=uac min-se=120",
    ),
    (
        "the peer shall",
        "call timer=1800/120/them
         > INVITE se=1800;refresher=uas min-se=120",
    ),
    (
        "a peer without the extension: the session never expires",
        "call timer=100/90
         > INVITE
         < 200 sdp
         > ACK
         ! answered
         wait 1000s",
    ),
    (
        "we refresh: UPDATE without a description at half the interval, where the peer takes it",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac require=timer allow=INVITE,UPDATE
         > ACK
         ! answered
         wait 59999ms
         wait 1ms
         > UPDATE -sdp contact supported=timer se=120;refresher=uac cseq=2
         < 200 UPDATE se=120;refresher=uac
         wait 60s
         > UPDATE cseq=3",
    ),
    (
        "otherwise a re-INVITE with just what was described last",
        "call timer=1800/90
         > INVITE sdp=offer
         < 200 sdp se=120;refresher=uac allow=INVITE,BYE
         > ACK
         ! answered
         wait 60s
         > INVITE sdp=offer se=120;refresher=uac -supported=100rel
         < 200 sdp se=120;refresher=uac
         > ACK
         ! refreshed sdp
         reoffer
         > INVITE sdp=reoffer se=120;refresher=uac
         < 200 sdp se=120;refresher=uac
         > ACK
         ! reoffer-answered
         wait 60s
         > INVITE sdp=reoffer
         < 200 sdp se=120;refresher=uac
         > ACK
         ! refreshed
         reoffer
         > INVITE
         < 488
         > ACK
         ! reoffer-answered 488
         < INVITE sdp
         > 100 INVITE
         ! reoffered
         answer
         > 200 INVITE sdp=answer
         < ACK
         wait 60s
         > INVITE sdp=answer",
    ),
    (
        "a peer who allows UPDATE and then does not is refreshed by re-INVITE",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac allow=INVITE,UPDATE
         > ACK
         ! answered
         wait 60s
         > UPDATE
         < 405 UPDATE
         wait 1ms
         > INVITE sdp=offer
         < 200 sdp se=120;refresher=uac
         > ACK
         ! refreshed
         wait 60s
         > INVITE",
    ),
    (
        "a peer who does not say who refreshes leaves it to us",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120 allow=UPDATE
         > ACK
         ! answered
         wait 60s
         > UPDATE",
    ),
    (
        "a 2xx with an interval below our Min-SE: refreshed in time for the peer, and asked for ours again",
        "call timer=1800/120
         > INVITE se=1800 min-se=120
         < 200 sdp se=60;refresher=uac allow=UPDATE
         > ACK
         ! answered
         wait 29999ms
         wait 1ms
         > UPDATE se=120;refresher=uac min-se=120
         < 200 UPDATE se=60;refresher=uac
         wait 29999ms
         wait 1ms
         > UPDATE se=120;refresher=uac",
    ),
    (
        "an interval in which no refresh could be repeated is not followed down",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=2;refresher=uac allow=UPDATE
         > ACK
         ! answered
         wait 15999ms
         wait 1ms
         > UPDATE se=90;refresher=uac",
    ),
    (
        "the peer refreshes: each of his refreshes counts from its answer",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uas
         > ACK
         ! answered
         wait 80s
         < UPDATE se=120;refresher=uac supported=timer
         > 200 UPDATE se=120;refresher=uac require=timer
         wait 87s
         < INVITE sdp se=120;refresher=uac supported=timer
         > 100 INVITE
         ! reoffered
         answer
         > 200 INVITE se=120;refresher=uac require=timer
         < ACK
         wait 87s
         wait 1s
         ! ended session-timer
         > BYE",
    ),
    (
        "422: asked again for what the peer takes, in the same call",
        "call timer=120/90
         > INVITE cseq=1 se=120 -min-se
         < 422 min-se=1800
         > ACK
         > INVITE cseq=2 se=1800 min-se=1800 sdp=offer -tag
         < 422 min-se=3600
         > ACK
         > INVITE cseq=3 se=3600 min-se=3600
         < 200 sdp se=3600;refresher=uac allow=UPDATE
         > ACK
         ! answered
         wait 1800s
         > UPDATE se=3600;refresher=uac min-se=3600",
    ),
    (
        "422 that tells nothing new is a refusal",
        "call timer=1800/90
         > INVITE
         < 422 min-se=90
         > ACK
         ! failed 422
         ! closed",
    ),
    (
        "422 without end is a refusal, too",
        "call timer=100/90
         > INVITE
         < 422 min-se=200
         > ACK
         > INVITE
         < 422 min-se=300
         > ACK
         > INVITE
         < 422 min-se=400
         > ACK
         > INVITE
         < 422 min-se=500
         > ACK
         ! failed 422
         ! closed",
    ),
    (
        "a challenge and a 422, one after the other",
        "call timer=100/90
         > INVITE cseq=1
         < 401 challenge
         > ACK
         > INVITE cseq=2 credentials se=100
         < 422 min-se=200
         > ACK
         > INVITE cseq=3 credentials se=200
         < 401 challenge
         > ACK
         > INVITE cseq=4 credentials se=200",
    ),
    (
        "420 to the timer: a call without one",
        "call timer=100/90
         > INVITE se
         < 420 unsupported=timer
         > ACK
         > INVITE cseq=2 -se -min-se -supported=timer sdp
         < 200 sdp
         > ACK
         ! answered
         wait 600s",
    ),
];

/// Section 9: the callee, table 2.
const UAS: &[Row] = &[
    (
        "no timer of ours, none of the caller's",
        "< INVITE sdp supported=timer
         > 100 INVITE
         ! incoming
         accept
         > 200 INVITE -se -require",
    ),
    (
        "no timer of ours: the caller's holds, and he refreshes",
        "< INVITE sdp supported=timer se=120
         > 100 INVITE
         ! incoming
         accept
         > 200 INVITE se=120;refresher=uac require=timer
         < ACK
         ! acked
         wait 88s
         ! ended session-timer
         > BYE",
    ),
    (
        "as he wishes: uac",
        "< INVITE sdp supported=timer se=120;refresher=uac
         > 100 INVITE
         ! incoming
         accept
         > 200 INVITE se=120;refresher=uac require=timer",
    ),
    (
        "as he wishes: uas",
        "< INVITE sdp supported=timer se=120;refresher=uas allow=UPDATE
         > 100 INVITE
         ! incoming
         accept
         > 200 INVITE se=120;refresher=uas require=timer
         < ACK
         ! acked
         wait 60s
         > UPDATE se=120;refresher=uac -sdp",
    ),
    (
        "our wish, where he has none",
        "< INVITE sdp supported=timer se=120 allow=INVITE
         > 100 INVITE
         ! incoming
         configure timer=1800/90/us
         accept
         > 200 INVITE se=120;refresher=uas require=timer sdp=final
         < ACK
         ! acked
         wait 60s
         > INVITE sdp=final se=120;refresher=uac",
    ),
    (
        "the shorter interval holds, but not below his Min-SE",
        "< INVITE sdp supported=timer se=1800 min-se=300
         > 100 INVITE
         ! incoming
         configure timer=120/90
         accept
         > 200 INVITE se=300;refresher=uac",
    ),
    (
        "he can and does not ask: we do",
        "< INVITE sdp supported=timer
         > 100 INVITE
         ! incoming
         configure timer=1800/90
         accept
         > 200 INVITE se=1800;refresher=uac require=timer",
    ),
    (
        "he does not know it: we ask, and refresh ourselves",
        "< INVITE sdp allow=INVITE,UPDATE
         > 100 INVITE
         ! incoming
         configure timer=1800/90
         accept
         > 200 INVITE se=1800;refresher=uas -require
         < ACK
         ! acked
         wait 900s
         > UPDATE se=1800;refresher=uac
         < 200 UPDATE
         wait 3600s",
    ),
    (
        "he does not know it and a proxy asks: only where we want a timer",
        "< INVITE sdp se=120
         > 100 INVITE
         ! incoming
         accept
         > 200 INVITE -se -require",
    ),
    (
        "too short an interval: 422 with our Min-SE",
        "< INVITE sdp supported=timer se=60
         > 100 INVITE
         ! incoming
         configure timer=1800/90
         > 422 INVITE min-se=90
         ! error Refused(422)
         ! closed",
    ),
    (
        "the same of a proxy's, for a caller who could make nothing of it: no timer",
        "< INVITE sdp se=60
         > 100 INVITE
         ! incoming
         configure timer=1800/90
         accept
         > 200 INVITE -se",
    ),
    (
        "Require: timer is understood",
        "< INVITE sdp require=timer se=120;refresher=uac
         > 100 INVITE
         ! incoming
         accept
         > 200 INVITE se=120;refresher=uac require=timer",
    ),
    (
        "a header that cannot be read is none",
        "< INVITE sdp supported=timer se=soon
         > 100 INVITE
         ! incoming
         accept
         > 200 INVITE -se",
    ),
];

/// Sections 7.4 and 10: refreshes, and the end without them.
const REFRESH: &[Row] = &[
    (
        "at two thirds of a short interval, and 32 s before the end of a long one, the session is over",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=1800;refresher=uas
         > ACK
         ! answered
         wait 1767s
         wait 1s
         ! ended session-timer
         > BYE",
    ),
    (
        "90 s: 30 s before the end",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=90;refresher=uas
         > ACK
         ! answered
         wait 59s
         wait 1s
         ! ended session-timer
         > BYE",
    ),
    (
        "a refresh that is refused leaves the session, and is tried again half way to its end",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac allow=UPDATE
         > ACK
         ! answered
         wait 60s
         > UPDATE cseq=2
         < 500 UPDATE
         wait 13999ms
         wait 1ms
         > UPDATE cseq=3
         < 503 UPDATE
         wait 7s
         > UPDATE cseq=4
         < 200 UPDATE se=120;refresher=uac
         wait 59s
         wait 1s
         > UPDATE cseq=5",
    ),
    (
        "refused to the end",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac allow=UPDATE
         > ACK
         ! answered
         wait 60s
         > UPDATE
         < 500 UPDATE
         wait 14s
         > UPDATE
         < 500 UPDATE
         wait 7s
         > UPDATE
         < 500 UPDATE
         wait 3500ms
         > UPDATE
         < 500 UPDATE
         wait 1750ms
         > UPDATE
         < 500 UPDATE
         wait 875ms
         > UPDATE
         < 500 UPDATE
         wait 875ms
         ! ended session-timer
         > BYE",
    ),
    (
        "408 and 481 end the dialog",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac allow=UPDATE
         > ACK
         ! answered
         wait 60s
         > UPDATE
         < 481 UPDATE
         ! ended remote
         > BYE
         < 200 BYE
         ! closed",
    ),
    (
        "408 by a proxy, to a re-INVITE",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac
         > ACK
         ! answered
         wait 60s
         > INVITE
         < 408
         > ACK
         ! ended remote
         > BYE",
    ),
    (
        "glare: the peer's offer is refused with 491, and so is our refresh; it is tried again",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac
         > ACK
         ! answered
         wait 60s
         > INVITE sdp=offer
         < INVITE sdp
         > 491 INVITE
         < ACK
         < 491
         > ACK
         next 2100ms..4s
         > INVITE sdp=offer",
    ),
    (
        "an offer of our user's waits for the refresh, and is a refresh itself",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac
         > ACK
         ! answered
         wait 60s
         > INVITE sdp=offer
         reoffer
         < 200 sdp se=120;refresher=uac
         > ACK
         ! refreshed
         > INVITE sdp=reoffer se=120;refresher=uac
         < 200 sdp se=120;refresher=uac
         > ACK
         ! reoffer-answered
         wait 59s
         wait 1s
         > INVITE sdp=reoffer",
    ),
    (
        "422 to a refresh",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac allow=UPDATE
         > ACK
         ! answered
         wait 60s
         > UPDATE se=120;refresher=uac
         < 422 UPDATE min-se=600
         > UPDATE se=600;refresher=uac min-se=600
         < 200 UPDATE se=600;refresher=uac
         wait 300s
         > UPDATE se=600;refresher=uac min-se=600",
    ),
    (
        "our 422 to a refresh of the peer's",
        "call timer=1800/300
         > INVITE
         < 200 sdp se=600;refresher=uas
         > ACK
         ! answered
         < UPDATE se=120;refresher=uac supported=timer
         > 422 UPDATE min-se=300
         < INVITE sdp se=120;refresher=uac supported=timer
         > 422 INVITE min-se=300",
    ),
    (
        "the peer takes the refreshing over",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac allow=UPDATE
         > ACK
         ! answered
         wait 30s
         < UPDATE se=120;refresher=uac supported=timer
         > 200 UPDATE se=120;refresher=uac
         wait 80s
         < UPDATE se=120;refresher=uac supported=timer
         > 200 UPDATE",
    ),
    (
        "the peer hands it to us",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uas
         > ACK
         ! answered
         wait 30s
         < UPDATE se=120;refresher=uas supported=timer allow=UPDATE
         > 200 UPDATE se=120;refresher=uas
         wait 60s
         > UPDATE se=120;refresher=uac",
    ),
    (
        "a refresh that says nothing of the timer keeps it, and who refreshes",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac allow=UPDATE
         > ACK
         ! answered
         wait 30s
         < UPDATE supported=timer
         > 200 UPDATE se=120;refresher=uas
         wait 60s
         > UPDATE se=120;refresher=uac",
    ),
    (
        "the answer to a refresh without Session-Expires turns it off",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac allow=UPDATE
         > ACK
         ! answered
         wait 60s
         > UPDATE
         < 200 UPDATE
         wait 600s",
    ),
    (
        "the largest Min-SE that was heard of stays",
        "< INVITE sdp supported=timer se=1800;refresher=uas min-se=500 allow=UPDATE
         > 100 INVITE
         ! incoming
         configure timer=600/90
         accept
         > 200 INVITE se=600;refresher=uas
         < ACK
         ! acked
         wait 300s
         > UPDATE se=600;refresher=uac min-se=500",
    ),
    (
        "a refresh of the peer's while his own offer has no answer",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac allow=INVITE
         > ACK
         ! answered
         wait 59900ms
         < INVITE sdp supported=timer
         > 100 INVITE
         ! reoffered
         wait 1s
         answer
         > 200 INVITE se=120;refresher=uas
         < ACK
         wait 60s
         > INVITE sdp=answer",
    ),
    (
        "after our hangup there is nothing to refresh",
        "call timer=1800/90
         > INVITE
         < 200 sdp se=120;refresher=uac allow=UPDATE
         > ACK
         ! answered
         hangup
         > BYE
         < 200 BYE
         ! closed
         wait 300s",
    ),
];

#[test]
fn section_7_the_caller() {
    check(UAC);
}

#[test]
fn section_9_the_callee() {
    check(UAS);
}

#[test]
fn sections_7_4_and_10_refreshes() {
    check(REFRESH);
}
