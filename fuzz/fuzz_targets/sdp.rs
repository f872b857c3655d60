//! Session descriptions: a browser's and a trunk's, offers and answers.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use ringback::sdp::{
    BrowserLocal, BrowserOffer, CodecPolicy, Fingerprint, IceCredentials, SrtpKeys, SrtpLocal, SrtpPolicy, TrunkLocal,
    browser, session, trunk,
};

fuzz_target!(|text: &str| {
    let address = SocketAddr::from(([192, 0, 2, 1], 40_000));
    let own = BrowserLocal {
        ice: IceCredentials { ufrag: "abcd".into(), pwd: "abcdefghijklmnopqrstuv".into() },
        fingerprint: Fingerprint { algorithm: "sha-256".into(), digest: vec![7; 32] },
        candidates: vec![address],
        ssrc: 1,
        cname: "c".into(),
        session_id: 1,
        version: 1,
    };
    let policy = CodecPolicy::default();
    if let Ok(offer) = BrowserOffer::read(text)
        && let Ok((answer, _)) = offer.answer(&own, &policy)
    {
        session::parse(answer.as_bytes()).expect("what we write can be read");
    }
    let _ = browser::read_answer(&own, &policy, text);
    for policy in [SrtpPolicy::Off, SrtpPolicy::Optional, SrtpPolicy::Required] {
        let srtp = SrtpLocal { policy, keys: SrtpKeys::new([7; SrtpKeys::LEN]), agreed: None };
        let local = TrunkLocal { srtp, ..TrunkLocal::new(address, 1) };
        if let Ok((answer, _)) = trunk::answer(&local, text.as_bytes()) {
            session::parse(answer.as_bytes()).expect("what we write can be read");
        }
        let _ = trunk::read_answer(&local, text.as_bytes());
    }
    let _ = session::unchanged(text.as_bytes(), text.as_bytes());
});
