//! Reading session descriptions ([RFC 8866](https://www.rfc-editor.org/rfc/rfc8866)): limits, repairs, and views of
//! what a negotiation needs of an audio line.

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Attribute, Media, ParserError, Session};

use super::plan::{AcceptedCodec, Direction, TelephoneEvent};
use crate::codec::Codec;

/// The longest description that is read, in bytes.
pub const MAX_DESCRIPTION: usize = 64 * 1024;
/// The most media lines of a description that is read.
pub const MAX_MEDIA_LINES: usize = 32;
/// The most lines of a description that is read.
pub const MAX_LINES: usize = 2_000;

/// Why a description cannot be used. It is always the peer's fault; [`SdpError::status`] is what to tell it in SIP.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// Longer than [`MAX_DESCRIPTION`], [`MAX_LINES`] or [`MAX_MEDIA_LINES`] allow.
    #[error("the session description is too long")]
    TooLong,
    /// Against the grammar.
    #[error("not a session description: {0}")]
    Syntax(#[from] ParserError),
    /// No audio line that we could take.
    #[error("the session description has no audio that could be used")]
    NoAudio,
    /// An answer that refuses our audio line (its port is 0).
    #[error("the audio was refused")]
    Refused,
    /// An answer with more or fewer media lines than its offer
    /// ([RFC 3264](https://www.rfc-editor.org/rfc/rfc3264#section-6) section 6).
    #[error("the answer has not the media lines of the offer")]
    NotAnAnswer,
    /// No codec that both sides have.
    #[error("no codec in common")]
    NoCodec,
    /// A transport that does not fit the leg: encrypted where plain RTP is due, or the other way round.
    #[error("the media transport does not fit")]
    Transport,
    /// No `a=crypto` line that can be used where the media must be encrypted.
    #[error("no key for encrypted media that could be used")]
    Crypto,
    /// No address to send to, or one that is no unicast IP address.
    #[error("the connection address is missing or unusable")]
    Address,
    /// An address to send to of the other family: IPv4 where our media has IPv6 alone, or the other way round.
    #[error("the connection address is of an address family that our media does not have")]
    AddressFamily,
    /// Lines that a fragment for ICE does not have.
    #[error("not a fragment of a session description (RFC 8840)")]
    Fragment,
    /// ICE credentials are missing or against their grammar.
    #[error("the ICE credentials are missing or malformed")]
    Ice,
    /// The peer is ICE-lite as we are: nobody would send a check.
    #[error("both sides are ICE-lite")]
    BothLite,
    /// No certificate fingerprint, or none that could be checked.
    #[error("the certificate fingerprint is missing or malformed")]
    Fingerprint,
    /// RTP and RTCP on one port are due and were not offered.
    #[error("rtcp-mux is missing")]
    RtcpMux,
    /// DTLS roles that do not fit ([RFC 5763](https://www.rfc-editor.org/rfc/rfc5763#section-5) section 5).
    #[error("the DTLS roles do not fit")]
    Setup,
}

impl SdpError {
    /// The SIP status: 400 for what is no description, 488 for one that cannot be used.
    pub fn status(&self) -> u16 {
        match self {
            SdpError::TooLong | SdpError::Syntax(_) | SdpError::Fragment => 400,
            _ => 488,
        }
    }
}

/// Reads a description; lines that do not matter to a negotiation are not looked at.
///
/// # Errors
/// [`SdpError::TooLong`] and [`SdpError::Syntax`].
pub fn parse(bytes: &[u8]) -> Result<Session, SdpError> {
    if bytes.len() > MAX_DESCRIPTION {
        return Err(SdpError::TooLong);
    }
    // Free text comes in Latin-1 too; what matters is ASCII.
    let text = String::from_utf8_lossy(bytes);
    if text.lines().count() > MAX_LINES {
        return Err(SdpError::TooLong);
    }
    let session = Session::parse(clean(&text).as_bytes())?;
    if session.medias.len() > MAX_MEDIA_LINES {
        return Err(SdpError::TooLong);
    }
    Ok(session)
}

/// Leaves the lines that a negotiation reads: version, connection, media and attributes, each on its own number.
///
/// What peers get wrong in the others (an `o=` version above 64 bits, a negative bandwidth, two `s=` lines, no `t=`)
/// then costs no call. Runs of blanks in a media line become one.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match line.as_bytes() {
            [b'v' | b'c' | b'a', b'=', ..] => out.push_str(line.trim_end()),
            [b'm', b'=', ..] => {
                for (index, word) in line.split_ascii_whitespace().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    out.push_str(word);
                }
            }
            // Known lines that do not matter here; anything else stays and is the parser's to judge.
            [b'o' | b's' | b'i' | b'u' | b'e' | b'p' | b'b' | b't' | b'r' | b'z' | b'k', b'=', ..] => {}
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// Whether two descriptions say the same, whatever their `o=` lines say: a refresh is no media event.
///
/// Peers raise the version without a change, and change without raising it; only the content counts.
pub fn unchanged(before: &[u8], after: &[u8]) -> bool {
    fn content(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
        bytes
            .split(|&byte| byte == b'\n')
            .map(|line| line.trim_ascii_end())
            .filter(|line| !line.is_empty() && !line.starts_with(b"o="))
    }
    content(before).eq(content(after))
}

/// One audio line with the session around it.
#[derive(Clone, Copy)]
pub(super) struct AudioLine<'a> {
    /// Its place among the media lines.
    pub index: usize,
    /// The line.
    pub media: &'a Media,
    /// The whole.
    pub session: &'a Session,
}

/// The value of the first attribute of a name in a list; `Some("")` for one without a value.
fn first<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|a| a.attribute == name).map(|a| a.value.as_deref().unwrap_or_default())
}

impl<'a> AudioLine<'a> {
    /// All audio lines, in their order.
    pub fn all(session: &'a Session) -> impl Iterator<Item = Self> {
        let audio = session.medias.iter().enumerate().filter(|(_, media)| media.media == "audio");
        audio.map(move |(index, media)| AudioLine { index, media, session })
    }

    /// The first audio line that `usable` takes.
    pub fn find(session: &'a Session, usable: impl Fn(&Media) -> bool) -> Option<Self> {
        let (index, media) = session.medias.iter().enumerate().find(|(_, m)| m.media == "audio" && usable(m))?;
        Some(AudioLine { index, media, session })
    }

    /// An attribute of the line, else of the session.
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        first(&self.media.attributes, name).or_else(|| first(&self.session.attributes, name))
    }

    /// All values of an attribute of the line; of the session when the line has none.
    pub fn attributes(&self, name: &str) -> Vec<&'a str> {
        fn all<'b>(list: &'b [Attribute], name: &str) -> Vec<&'b str> {
            list.iter().filter(|a| a.attribute == name).map(|a| a.value.as_deref().unwrap_or_default()).collect()
        }
        let own = all(&self.media.attributes, name);
        if own.is_empty() { all(&self.session.attributes, name) } else { own }
    }

    /// Whether the line itself has an attribute.
    pub fn has(&self, name: &str) -> bool {
        first(&self.media.attributes, name).is_some()
    }

    /// The payload numbers, in the peer's order of preference.
    pub fn formats(&self) -> Vec<u8> {
        self.media.fmt.split_ascii_whitespace().filter_map(|f| f.parse().ok()).filter(|pt| *pt < 128).collect()
    }

    /// What `a=rtpmap` says of a payload number: name, clock rate and channels.
    fn rtpmap(&self, payload_type: u8) -> Option<(&'a str, u32, u8)> {
        self.media.attributes.iter().filter(|a| a.attribute == "rtpmap").find_map(|a| {
            let (number, mapping) = a.value.as_deref()?.trim().split_once(' ')?;
            if number.parse() != Ok(payload_type) {
                return None;
            }
            let mut parts = mapping.trim().split('/');
            let name = parts.next()?;
            let clock = parts.next()?.trim().parse().ok()?;
            let channels = parts.next().map_or(Some(1), |c| c.trim().parse().ok())?;
            Some((name, clock, channels))
        })
    }

    /// The parameters that `a=fmtp` gives a payload number.
    pub fn fmtp(&self, payload_type: u8) -> Option<&'a str> {
        self.media.attributes.iter().filter(|a| a.attribute == "fmtp").find_map(|a| {
            let (number, parameters) = a.value.as_deref()?.trim().split_once(' ')?;
            (number.parse() == Ok(payload_type)).then_some(parameters)
        })
    }

    /// The codecs that we know, in the peer's order; of each only the first number.
    pub fn codecs(&self) -> Vec<AcceptedCodec> {
        let mut found: Vec<AcceptedCodec> = Vec::new();
        for payload_type in self.formats() {
            let codec = match self.rtpmap(payload_type) {
                Some((name, clock, channels)) => codec_named(name, clock, channels),
                None => static_codec(payload_type),
            };
            if let Some(codec) = codec.filter(|codec| found.iter().all(|f| f.codec != *codec)) {
                found.push(AcceptedCodec { payload_type, codec });
            }
        }
        found
    }

    /// What the peer says of the Opus that it wants to receive: whether it can use in-band error correction, and the most
    /// bits per second ([RFC 7587](https://www.rfc-editor.org/rfc/rfc7587#section-6.1) section 6.1).
    pub fn opus(&self) -> (bool, Option<u32>) {
        let opus = self.codecs().into_iter().find(|c| c.codec == Codec::Opus);
        let fmtp = opus.and_then(|c| self.fmtp(c.payload_type)).unwrap_or_default();
        let bitrate = parameter(fmtp, "maxaveragebitrate").and_then(|value| value.parse().ok());
        (parameter(fmtp, "useinbandfec") == Some("1"), bitrate)
    }

    /// The payload number under which the peer would send each packet of Opus together with those before it: `red` of Opus' own
    /// clock whose parameters name nothing but Opus' number ([RFC 2198](https://www.rfc-editor.org/rfc/rfc2198#section-5)
    /// section 5).
    pub fn red(&self) -> Option<u8> {
        let AcceptedCodec { payload_type: opus, codec } = self.codecs().into_iter().find(|c| c.codec == Codec::Opus)?;
        let names_opus = |parameters: &str| parameters.trim().split('/').all(|number| number.parse() == Ok(opus));
        self.formats().into_iter().find(|payload_type| {
            self.rtpmap(*payload_type).is_some_and(|(name, clock, channels)| {
                name.eq_ignore_ascii_case("red") && (clock, channels) == (codec.clock_rate(), codec.channels())
            }) && self.fmtp(*payload_type).is_some_and(names_opus)
        })
    }

    /// The telephone-events of each clock.
    pub fn telephone_events(&self) -> Vec<TelephoneEvent> {
        self.formats()
            .into_iter()
            .filter_map(|payload_type| match self.rtpmap(payload_type) {
                Some((name, clock_rate, _)) if name.eq_ignore_ascii_case("telephone-event") => {
                    Some(TelephoneEvent { payload_type, clock_rate })
                }
                _ => None,
            })
            .collect()
    }

    /// The payload number of narrowband comfort noise ([RFC 3389](https://www.rfc-editor.org/rfc/rfc3389)).
    pub fn comfort_noise(&self) -> Option<u8> {
        self.formats().into_iter().find(|payload_type| match self.rtpmap(*payload_type) {
            Some((name, clock, _)) => name.eq_ignore_ascii_case("CN") && clock == 8_000,
            None => *payload_type == 13,
        })
    }

    /// The direction, seen from the peer; `sendrecv` when it says none.
    pub fn direction(&self) -> Direction {
        let of = |list: &[Attribute]| list.iter().find_map(|a| Direction::from_attribute(&a.attribute));
        of(&self.media.attributes).or_else(|| of(&self.session.attributes)).unwrap_or_default()
    }

    /// The address of `c=`, at the line or else at the session; unspecified addresses mean hold
    /// (RFC 3264 section 8.4) and are returned as they are.
    pub fn address(&self) -> Result<IpAddr, SdpError> {
        let connection = self.media.connections.first().or(self.session.connection.as_ref());
        let address = connection.ok_or(SdpError::Address)?.connection_address.as_str();
        unicast(address)
    }

    /// Where the peer wants RTP and RTCP; `None` on hold by an unspecified address.
    pub fn destination(&self) -> Result<Option<(SocketAddr, Option<SocketAddr>)>, SdpError> {
        let ip = self.address()?;
        if ip.is_unspecified() {
            return Ok(None);
        }
        let rtp = SocketAddr::new(ip, self.media.port);
        let rtcp = match self.attribute("rtcp") {
            Some(value) => rtcp_address(value, ip),
            None => self.media.port.checked_add(1).map(|port| SocketAddr::new(ip, port)),
        };
        Ok(Some((rtp, rtcp)))
    }

    /// Milliseconds of audio that the peer wants in a packet, in whole steps of 10 between 10 and 60.
    pub fn ptime(&self, own: u8) -> u8 {
        let number = |name| self.attribute(name).and_then(|v| v.trim().parse::<f32>().ok()).filter(|v| *v >= 10.0);
        let wanted = number("ptime").unwrap_or(f32::from(own));
        let wanted = number("maxptime").map_or(wanted, |most| wanted.min(most));
        // Between 10 and 60 by the clamp, so the cast is exact after the rounding down.
        ((wanted.clamp(10.0, 60.0) / 10.0).floor() * 10.0) as u8
    }
}

/// The address in an `a=rtcp` value, `port [IN IP4 address]` ([RFC 3605](https://www.rfc-editor.org/rfc/rfc3605)).
fn rtcp_address(value: &str, default: IpAddr) -> Option<SocketAddr> {
    let mut words = value.split_ascii_whitespace();
    let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
    let ip = match words.nth(2) {
        Some(address) => unicast(address).ok().filter(|ip| !ip.is_unspecified())?,
        None => default,
    };
    Some(SocketAddr::new(ip, port))
}

/// An IP address that one peer may have; a name, multicast and broadcast are refused.
fn unicast(address: &str) -> Result<IpAddr, SdpError> {
    let ip: IpAddr = address.trim().parse().map_err(|_| SdpError::Address)?;
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_multicast() || broadcast { Err(SdpError::Address) } else { Ok(ip) }
}

/// The codec of an `a=rtpmap`.
fn codec_named(name: &str, clock: u32, channels: u8) -> Option<Codec> {
    [Codec::Opus, Codec::Pcmu, Codec::Pcma, Codec::G722].into_iter().find(|codec| {
        codec.name().eq_ignore_ascii_case(name) && codec.clock_rate() == clock && codec.channels() == channels
    })
}

/// The codec that a payload number means without an `a=rtpmap` (RFC 3551 table 4).
fn static_codec(payload_type: u8) -> Option<Codec> {
    [Codec::Pcmu, Codec::Pcma, Codec::G722].into_iter().find(|codec| codec.static_payload_type() == Some(payload_type))
}

/// One parameter of an `a=fmtp` value.
pub(super) fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|item| {
        let (key, value) = item.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn with(lines: &str) -> Session {
        parse(format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n{lines}").as_bytes()).expect(lines)
    }

    fn audio(session: &Session) -> AudioLine<'_> {
        AudioLine::find(session, |_| true).unwrap()
    }

    #[test]
    fn odd_lines_that_do_not_matter_cost_no_call() {
        let odd = [
            "v=0\no=- 99999999999999999999999 99999999999999999999999 IN IP4 192.0.2.1\ns=-\nt=0 0\nm=audio 9 RTP/AVP 0\n",
            "v=0\r\no=root  user name 1 1 IN IP4 x\r\ns=\r\nm=audio  9  RTP/AVP  0 8 \r\n",
            "v=0\r\ns=one\r\ns=two\r\nb=AS:-1\r\nt=now\r\nm=audio 9 RTP/AVP 0\r\nb=X\r\n\r\n",
            "v=0\r\nm=audio 9 RTP/AVP 0\r\nx=unknown\r\n",
        ];
        for text in odd {
            let session = parse(text.as_bytes()).expect(text);
            assert_eq!(audio(&session).codecs().first().map(|c| c.codec), Some(Codec::Pcmu), "{text}");
        }
        assert!(parse(b"v=0\r\ns=caf\xe9\r\na=tool:\xff\r\nm=audio 9 RTP/AVP 0\r\n").is_ok());
    }

    #[test]
    fn what_is_no_description_is_a_400() {
        for text in ["", "v=1\r\n", "hello", "m=audio 9 RTP/AVP 0\r\n", "v=0\r\nm=audio 70000 RTP/AVP 0\r\n"] {
            assert_eq!(parse(text.as_bytes()).expect_err(text).status(), 400, "{text}");
        }
        let long = format!("v=0\r\n{}", "a=x\r\n".repeat(MAX_LINES));
        assert_eq!(parse(long.as_bytes()), Err(SdpError::TooLong));
        let wide = format!("v=0\r\na={}\r\n", "x".repeat(MAX_DESCRIPTION));
        assert_eq!(parse(wide.as_bytes()), Err(SdpError::TooLong));
        let many = format!("v=0\r\n{}", "m=audio 9 RTP/AVP 0\r\n".repeat(MAX_MEDIA_LINES + 1));
        assert_eq!(parse(many.as_bytes()), Err(SdpError::TooLong));
    }

    #[test]
    fn codecs_are_found_by_name_clock_and_channels() {
        let session = with(
            "m=audio 9 RTP/AVP 96 0 97 98 99 9 13 101 200 x\r\na=rtpmap:96 OPUS/48000/2\r\na=rtpmap:97 opus/48000\r\n\
             a=rtpmap:98 pcmu/8000/1\r\na=rtpmap:99 PCMA/16000\r\na=rtpmap:101 Telephone-Event/8000\r\na=fmtp:96 UseInbandFec = 1;x\r\n",
        );
        let line = audio(&session);
        let codecs: Vec<_> = line.codecs().iter().map(|c| (c.payload_type, c.codec)).collect();
        assert_eq!(codecs, [(96, Codec::Opus), (0, Codec::Pcmu), (9, Codec::G722)]);
        assert_eq!(line.telephone_events(), [TelephoneEvent { payload_type: 101, clock_rate: 8000 }]);
        assert_eq!(line.comfort_noise(), Some(13));
        assert_eq!(parameter(line.fmtp(96).unwrap(), "useinbandfec"), Some("1"));
        // A number that `a=rtpmap` gives to something else is not the static codec.
        let session = with("m=audio 9 RTP/AVP 0\r\na=rtpmap:0 G729/8000\r\n");
        assert!(audio(&session).codecs().is_empty());
    }

    #[test]
    fn connection_falls_back_from_line_to_session() {
        let table = [
            ("c=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n", Some(("192.0.2.1:4000", Some("192.0.2.1:4001")))),
            (
                "c=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\n",
                Some(("[2001:db8::1]:4000", Some("[2001:db8::1]:4001"))),
            ),
            (
                "c=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp:5003 IN IP4 192.0.2.9\r\n",
                Some(("192.0.2.1:4000", Some("192.0.2.9:5003"))),
            ),
            (
                "c=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp:5003\r\n",
                Some(("192.0.2.1:4000", Some("192.0.2.1:5003"))),
            ),
            ("c=IN IP4 192.0.2.1\r\nm=audio 65535 RTP/AVP 0\r\n", Some(("192.0.2.1:65535", None))),
            ("c=IN IP4 0.0.0.0\r\nm=audio 4000 RTP/AVP 0\r\n", None),
            ("c=IN IP6 ::\r\nm=audio 4000 RTP/AVP 0\r\n", None),
        ];
        for (lines, expected) in table {
            let expected: Option<(SocketAddr, Option<SocketAddr>)> =
                expected.map(|(rtp, rtcp)| (rtp.parse().unwrap(), rtcp.map(|r| r.parse().unwrap())));
            assert_eq!(audio(&with(lines)).destination(), Ok(expected), "{lines}");
        }
        for address in ["IP4 phone.example", "IP4 224.0.0.1", "IP4 255.255.255.255", "IP6 ff02::1"] {
            let session = with(&format!("c=IN {address}\r\nm=audio 4000 RTP/AVP 0\r\n"));
            assert_eq!(audio(&session).destination(), Err(SdpError::Address), "{address}");
        }
        assert_eq!(audio(&with("m=audio 4000 RTP/AVP 0\r\n")).destination(), Err(SdpError::Address));
    }

    #[test]
    fn packet_times_are_whole_tens() {
        for (lines, ptime) in [
            ("", 20),
            ("a=ptime:30\r\n", 30),
            ("a=ptime:10\r\n", 10),
            ("a=ptime:60\r\n", 60),
            ("a=ptime:200\r\n", 60),
            ("a=ptime:25\r\n", 20),
            ("a=ptime:5\r\n", 20),
            ("a=ptime:nan\r\n", 20),
            ("a=ptime:-inf\r\n", 20),
            ("a=ptime:x\r\n", 20),
            ("a=maxptime:10\r\n", 10),
            ("a=ptime:60\r\na=maxptime:40\r\n", 40),
        ] {
            let session = with(&format!("m=audio 9 RTP/AVP 0\r\n{lines}"));
            assert_eq!(audio(&session).ptime(20), ptime, "{lines}");
        }
    }

    #[test]
    fn a_refresh_is_the_same_whatever_its_origin_says() {
        let before = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nm=audio 9 RTP/AVP 0\r\n";
        let after = b"v=0\no=- 1 2 IN IP4 192.0.2.1\ns=-\nm=audio 9 RTP/AVP 0\n\n";
        let other = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nm=audio 9 RTP/AVP 8\r\n";
        assert!(unchanged(before, after));
        assert!(!unchanged(before, other));
    }
}
