//! Each message as a datagram.

use ringback::sip::Message;

use crate::data;
use crate::table::Verdict;

#[test]
fn each_message_meets_its_verdict() {
    for (case, bytes) in data::cases() {
        let verdict = match Message::parse(&bytes) {
            Ok(Message::Request(_)) => Verdict::Request,
            Ok(Message::Response(_)) => Verdict::Response,
            Err(error) => error.status().map_or(Verdict::Dropped, Verdict::Refused),
        };
        assert_eq!(verdict, case.verdict, "{} ({}): {}", case.file, case.section, case.reason);
    }
}

#[test]
fn what_is_read_is_written_without_loss() {
    for (case, bytes) in data::cases() {
        let Ok(first) = Message::parse(&bytes) else { continue };
        let again = Message::parse(&first.to_bytes()).unwrap_or_else(|error| panic!("{}: {error}", case.file));
        // Content-Length is written anew, in the last place.
        let fields = |message: &Message| {
            let is_length = |name: &str| name.eq_ignore_ascii_case("l") || name.eq_ignore_ascii_case("content-length");
            let fields = message.headers().iter().filter(|(name, _)| !is_length(name));
            fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(fields(&first), fields(&again), "{}", case.file);
        match (&first, &again) {
            (Message::Request(a), Message::Request(b)) => {
                assert_eq!((&a.method, a.uri.to_string(), &a.body), (&b.method, b.uri.to_string(), &b.body));
                let line = String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned();
                assert!(line.contains(&a.uri.to_string()), "{}: {} is not as it was written", case.file, a.uri);
            }
            (Message::Response(a), Message::Response(b)) => {
                assert_eq!((a.status, &a.reason, &a.body), (b.status, &b.reason, &b.body));
            }
            _ => panic!("{}", case.file),
        }
    }
}

/// A datagram may end anywhere.
#[test]
fn every_beginning_of_a_message_is_read_without_panic() {
    for (_, bytes) in data::cases() {
        for end in 0..bytes.len() {
            let _ = Message::parse(&bytes[..end]);
        }
    }
}
