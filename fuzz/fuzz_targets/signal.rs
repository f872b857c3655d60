//! The browser protocol.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringback::signal::ClientMessage;

fuzz_target!(|frame: &str| match ClientMessage::parse(frame) {
    Ok(message) => {
        let json = message.to_json();
        let again = ClientMessage::parse(&json).expect("what we write can be read");
        assert_eq!(again.to_json(), json);
    }
    Err(error) => {
        // It goes back to the browser.
        let _ = error.into_message().to_json();
    }
});
