//! Lists of Via and Contact, Replaces, challenges and their answers, and the other header fields with a grammar.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringback::sip::{Challenge, Headers, Replaces};

const LISTS: [&str; 4] = ["Via", "Contact", "Route", "Record-Route"];

fuzz_target!(|lines: Vec<(u8, String)>| {
    let mut headers = Headers::new();
    for (which, value) in &lines {
        let name = LISTS.get(usize::from(which % 4)).copied().unwrap_or("Via");
        headers.push(name, value.clone());
        for name in ["From", "To", "CSeq", "Call-ID", "Expires", "Max-Forwards", "Retry-After", "Content-Length"] {
            headers.set(name, value.clone());
        }
        if let Ok(replaces) = value.parse::<Replaces>() {
            assert_eq!(replaces.to_string().parse().as_ref(), Ok(&replaces));
        }
        let _ = value.parse::<Challenge>();
    }
    // What is read of a list and written again is read as the same.
    if let Ok(vias) = headers.vias() {
        let mut again = Headers::new();
        vias.iter().for_each(|via| again.push("Via", via.to_string()));
        assert_eq!(again.vias().as_ref(), Ok(&vias));
    }
    if let Ok(contacts) = headers.contacts() {
        let mut again = Headers::new();
        contacts.iter().for_each(|contact| again.push("Contact", contact.to_string()));
        assert_eq!(again.contacts().as_ref(), Ok(&contacts));
    }
    let _ = (headers.routes(), headers.record_routes(), headers.top_via(), headers.from(), headers.to());
    let _ = (headers.cseq(), headers.call_id(), headers.expires(), headers.max_forwards(), headers.retry_after());
    headers.remove_first("Via");
    headers.replace_first("Contact", "<sip:a@b>");
});
