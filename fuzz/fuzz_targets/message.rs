//! SIP messages, and what a user agent makes of them.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use ringback::sip::{Flow, Message, Timers, Transport, UaConfig, UserAgent};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::parse(bytes) {
        let written = message.to_bytes();
        let again = Message::parse(&written).expect("what we write can be read");
        assert_eq!(again.to_bytes(), written);
    }
    let mut ua = UserAgent::new(
        UaConfig {
            user_agent: String::new(),
            timers: Timers::default(),
            max_sessions: 4,
            max_transactions: 16,
            registrar: true,
            advertise: Vec::new(),
        },
        [1; 32],
    );
    let address = |last| SocketAddr::from(([192, 0, 2, last], 5060));
    let flow = Flow { transport: Transport::Udp, local: address(1), remote: address(2), id: 0 };
    let now = Instant::now();
    for seconds in [0, 1, 40] {
        ua.handle_datagram(now + Duration::from_secs(seconds), flow, bytes);
        ua.handle_timeout(now + Duration::from_secs(seconds));
        while ua.poll_output().is_some() {}
    }
});
