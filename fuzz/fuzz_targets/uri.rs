//! SIP URIs, addresses, Via values, hosts.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use ringback::sip::{Host, NameAddr, Uri, Via};

fn round_trip<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let again = value.to_string().parse::<T>();
        assert!(again.is_ok_and(|again| again == value), "{value:?}");
    }
}

fuzz_target!(|text: &str| {
    round_trip::<Uri>(text);
    round_trip::<NameAddr>(text);
    round_trip::<Via>(text);
    round_trip::<Host>(text);
    if let Ok(uri) = text.parse::<Uri>() {
        let _ = uri.decoded_user();
    }
});
