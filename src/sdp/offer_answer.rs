//! What is common to both legs of the offer/answer model ([RFC 3264](https://www.rfc-editor.org/rfc/rfc3264)).

use std::fmt;
use std::net::IpAddr;

use sdp_types::Media;

use super::plan::{AcceptedCodec, TelephoneEvent};
use crate::codec::Codec;

/// The payload number of Opus in our own offers.
pub(super) const OWN_OPUS: u8 = 111;
/// The payload number of redundancy in them: Chromium's own.
pub(super) const OWN_RED: u8 = 63;

/// The codecs of a peer that we want too, in the peer's order.
pub(super) fn in_common(theirs: &[AcceptedCodec], ours: &[Codec]) -> Vec<AcceptedCodec> {
    theirs.iter().filter(|their| ours.contains(&their.codec)).copied().collect()
}

/// The same in the order of an answer of ours: the peer's (RFC 3264 section 6.1), but where our first codec is a wideband one
/// those of both sides go before the telephone's.
pub(super) fn in_common_wideband_first(theirs: &[AcceptedCodec], ours: &[Codec]) -> Vec<AcceptedCodec> {
    let mut common = in_common(theirs, ours);
    if ours.first().is_some_and(|codec| codec.is_wideband()) {
        // Stable: in our order, and all that is the telephone's behind, in the peer's.
        common.sort_by_key(|c| {
            ours.iter().position(|codec| *codec == c.codec && codec.is_wideband()).unwrap_or(ours.len())
        });
    }
    common
}

/// The codec of a peer that we prefer.
pub(super) fn preferred(theirs: &[AcceptedCodec], ours: &[Codec]) -> Option<AcceptedCodec> {
    ours.iter().find_map(|codec| theirs.iter().find(|their| their.codec == *codec).copied())
}

/// The telephone-event at the codec's own clock, or else the one at 8000 Hz, which is all that some browsers have.
pub(super) fn event_for(codec: Codec, events: &[TelephoneEvent]) -> Option<TelephoneEvent> {
    let at = |clock| events.iter().find(|event| event.clock_rate == clock).copied();
    at(codec.clock_rate()).or_else(|| at(8_000))
}

/// `IN IP4 192.0.2.1` or `IN IP6 2001:db8::1`, as it stands in `o=` and `c=`.
pub(super) fn address(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("IN IP4 {ip}"),
        IpAddr::V6(ip) => format!("IN IP6 {ip}"),
    }
}

/// The lines of a codec under a payload number: `a=rtpmap`, and `a=fmtp` where `parameters` are not empty.
pub(super) fn codec_lines(out: &mut String, accepted: AcceptedCodec, parameters: &str) {
    let AcceptedCodec { payload_type, codec } = accepted;
    out.push_str(&format!("a=rtpmap:{payload_type} {}/{}", codec.name(), codec.clock_rate()));
    if codec.channels() > 1 {
        out.push_str(&format!("/{}", codec.channels()));
    }
    out.push_str("\r\n");
    if !parameters.is_empty() {
        out.push_str(&format!("a=fmtp:{payload_type} {parameters}\r\n"));
    }
}

/// The lines of redundancy under a payload number, of Opus under `opus`: one packet of before in each
/// ([RFC 2198](https://www.rfc-editor.org/rfc/rfc2198#section-5) section 5).
pub(super) fn red_lines(out: &mut String, red: u8, opus: u8) {
    out.push_str(&format!("a=rtpmap:{red} red/{}/{}\r\n", Codec::Opus.clock_rate(), Codec::Opus.channels()));
    out.push_str(&format!("a=fmtp:{red} {opus}/{opus}\r\n"));
}

/// The lines of a telephone-event: the sixteen digits ([RFC 4733](https://www.rfc-editor.org/rfc/rfc4733#section-3.2)).
pub(super) fn event_lines(out: &mut String, event: TelephoneEvent) {
    let TelephoneEvent { payload_type, clock_rate } = event;
    out.push_str(&format!("a=rtpmap:{payload_type} telephone-event/{clock_rate}\r\na=fmtp:{payload_type} 0-16\r\n"));
}

/// A media line that we refuse: its port is 0, and it stays in its place (RFC 3264 section 6).
pub(super) fn refused_line(out: &mut String, media: &Media) {
    let mut words = media.fmt.split_ascii_whitespace();
    let format = words.next().unwrap_or("0");
    out.push_str(&format!("m={} 0 {} {format}\r\n", media.media, media.proto));
}

/// The origin of our own descriptions in one dialog: the id stays, the version goes up by one when the content changes
/// and only then (RFC 3264 section 8).
#[derive(Clone)]
pub struct OwnDescription {
    session_id: u64,
    version: u64,
    sent: Option<String>,
}

impl fmt::Debug for OwnDescription {
    /// What was sent may hold keys (`a=crypto`): those never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session_id, version, .. } = self;
        f.debug_struct("OwnDescription")
            .field("session_id", session_id)
            .field("version", version)
            .finish_non_exhaustive()
    }
}

impl OwnDescription {
    /// A dialog's description before the first was sent. Ids are kept below 2^62, which every peer can read.
    pub fn new(session_id: u64) -> Self {
        OwnDescription { session_id: session_id >> 2, version: 1, sent: None }
    }

    /// The id for `o=`.
    pub fn session_id(&self) -> u64 {
        self.session_id
    }

    /// The version of what was sent last.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The description that was sent last.
    pub fn sent(&self) -> Option<&str> {
        self.sent.as_deref()
    }

    /// The description to send: `write(session_id, version)` is called with the version that the content deserves.
    pub fn revise(&mut self, mut write: impl FnMut(u64, u64) -> String) -> String {
        let mut text = write(self.session_id, self.version);
        if self.sent.as_deref().is_some_and(|sent| sent != text) {
            self.version += 1;
            text = write(self.session_id, self.version);
        }
        self.sent = Some(text.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_description_are_not_shown_by_debug() {
        let mut own = OwnDescription::new(400);
        own.revise(|_, _| "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0".into());
        assert!(!format!("{own:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn the_version_goes_up_with_the_content_and_only_then() {
        let mut own = OwnDescription::new(400);
        let write = |content: &'static str| move |id: u64, version: u64| format!("o=- {id} {version}\r\n{content}");
        assert_eq!(own.revise(write("a")), "o=- 100 1\r\na");
        assert_eq!(own.revise(write("a")), "o=- 100 1\r\na");
        assert_eq!(own.revise(write("b")), "o=- 100 2\r\nb");
        assert_eq!(own.revise(write("b")), "o=- 100 2\r\nb");
        assert_eq!(own.revise(write("a")), "o=- 100 3\r\na");
        assert_eq!((own.session_id(), own.version(), own.sent()), (100, 3, Some("o=- 100 3\r\na")));
    }

    #[test]
    fn an_event_follows_the_clock_of_its_codec() {
        let wide = TelephoneEvent { payload_type: 110, clock_rate: 48_000 };
        let narrow = TelephoneEvent { payload_type: 126, clock_rate: 8_000 };
        assert_eq!(event_for(Codec::Opus, &[wide, narrow]), Some(wide));
        assert_eq!(event_for(Codec::Opus, &[narrow]), Some(narrow));
        assert_eq!(event_for(Codec::Pcmu, &[wide, narrow]), Some(narrow));
        assert_eq!(event_for(Codec::Pcmu, &[wide]), None);
    }
}
