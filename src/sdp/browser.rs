//! The browser's leg: ICE-lite, DTLS-SRTP, one bundled audio line with rtcp-mux.
//!
//! We answer with one codec, so that nothing needs to be negotiated again whatever the trunk does later.

use std::net::SocketAddr;

use sdp_types::{Media, Session};

use super::keys::{DtlsRole, Fingerprint, IceCredentials};
use super::offer_answer::{
    OWN_OPUS, OWN_RED, address, codec_lines, event_for, event_lines, in_common, preferred, red_lines, refused_line,
};
use super::plan::{AcceptedCodec, Band, BrowserMedia, Direction, TelephoneEvent};
use super::session::{AudioLine, SdpError, parse};
use crate::codec::Codec;

/// The header extension that carries the mid ([RFC 8843](https://www.rfc-editor.org/rfc/rfc8843#section-15) section 15).
pub const MID_EXTENSION: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// Milliseconds of audio in a packet of ours.
const PTIME: u8 = 20;
/// Our track, behind another line.
const OWN_TRACK: &str = "\r\na=msid:ringback audio";
/// The mid of the audio line in our own offers.
const OWN_MID: &str = "0";
/// The number of the mid extension in our own offers.
const OWN_MID_EXTENSION: u8 = 1;
/// Our own offers' numbers for telephone-event at 48000 and at 8000 Hz.
const OWN_EVENTS: [TelephoneEvent; 2] =
    [TelephoneEvent { payload_type: 110, clock_rate: 48_000 }, TelephoneEvent { payload_type: 126, clock_rate: 8_000 }];

/// What we bring to a browser's negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserLocal {
    /// Our ICE credentials for this call.
    pub ice: IceCredentials,
    /// The process' certificate.
    pub fingerprint: Fingerprint,
    /// Where browsers reach us, best first; at least one.
    pub candidates: Vec<SocketAddr>,
    /// The SSRC that we send with.
    pub ssrc: u32,
    /// Our CNAME.
    pub cname: String,
    /// For `o=`.
    pub session_id: u64,
    /// For `o=`; see [`super::OwnDescription`].
    pub version: u64,
}

/// Which codecs a browser gets, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecPolicy {
    /// The codecs, best first.
    pub browser: Vec<Codec>,
    /// What the other side of the call can carry: no more is asked of the browser's Opus. Less is cheaper to decode, and
    /// better for its bits.
    pub band: Band,
    /// Whether digits may go in RTP.
    pub telephone_event: bool,
    /// Whether browsers that can are asked to send each packet of Opus twice (RFC 2198, docs/decisions/0018).
    pub red: bool,
}

impl Default for CodecPolicy {
    fn default() -> Self {
        CodecPolicy {
            // G.722 for those who ask for it alone: it is wider than G.711, and most trunks are not.
            browser: vec![Codec::Opus, Codec::Pcmu, Codec::Pcma, Codec::G722],
            band: Band::Narrow,
            telephone_event: true,
            red: true,
        }
    }
}

/// A browser's offer, read and checked.
#[derive(Debug, Clone)]
pub struct BrowserOffer {
    session: Session,
    peer: Peer,
    connection: Connection,
    bundled: bool,
}

/// Which of a browser's peer connections a description is of: a connection keeps the username and number of its `o=` line
/// ([RFC 8829](https://www.rfc-editor.org/rfc/rfc8829#section-5.2.2) section 5.2.2) and its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    origin: (String, String),
    fingerprints: Vec<Fingerprint>,
}

impl Connection {
    /// That of a description.
    ///
    /// # Errors
    /// What [`SdpError`] names.
    pub fn read(text: &str) -> Result<Connection, SdpError> {
        let session = parse(text.as_bytes())?;
        let line = line_of_sound(&session, usable).ok_or_else(|| why_not(&session))?;
        Ok(Connection::of(text, fingerprints(&line)?))
    }

    fn of(text: &str, mut fingerprints: Vec<Fingerprint>) -> Connection {
        fingerprints
            .sort_unstable_by(|one, other| (&one.algorithm, &one.digest).cmp(&(&other.algorithm, &other.digest)));
        // The parser is not asked: it would refuse numbers that some peers write (see `session::clean`).
        let mut words = text.lines().find_map(|line| line.strip_prefix("o=")).unwrap_or_default().split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let origin = (word(), word());
        Connection { origin, fingerprints }
    }
}

/// What a browser's audio line says, be it an offer or an answer.
#[derive(Debug, Clone)]
struct Peer {
    index: usize,
    mid: Option<String>,
    ice: IceCredentials,
    fingerprints: Vec<Fingerprint>,
    role: DtlsRole,
    /// Whether the other role is open to us too (`actpass`).
    either: bool,
    codecs: Vec<AcceptedCodec>,
    red: Option<u8>,
    events: Vec<TelephoneEvent>,
    opus_fec: bool,
    opus_bitrate: Option<u32>,
    direction: Direction,
    mid_extension: Option<u8>,
    ptime: u8,
}

impl BrowserOffer {
    /// Reads an offer and checks that it can be answered at all; codecs are [`answer`](BrowserOffer::answer)'s business.
    ///
    /// # Errors
    /// What [`SdpError`] names.
    pub fn read(text: &str) -> Result<BrowserOffer, SdpError> {
        BrowserOffer::of(text, |session| line_of_sound(session, usable))
    }

    /// The same in a session in which `before` was agreed: its sound may have moved to another line.
    ///
    /// # Errors
    /// What [`SdpError`] names.
    pub fn read_again(text: &str, before: &BrowserMedia) -> Result<BrowserOffer, SdpError> {
        BrowserOffer::of(text, |session| line_of_sound_again(session, before, usable))
    }

    fn of(text: &str, choose: impl Fn(&Session) -> Option<AudioLine<'_>>) -> Result<BrowserOffer, SdpError> {
        let session = parse(text.as_bytes())?;
        let line = choose(&session).ok_or_else(|| why_not(&session))?;
        // Absent means active in an offer (RFC 4145 section 4).
        let setup = line.transport_attribute("setup").unwrap_or("active");
        let role = match setup {
            "actpass" | "active" => DtlsRole::Passive,
            "passive" => DtlsRole::Active,
            _ => return Err(SdpError::Setup),
        };
        let peer = Peer { either: setup == "actpass", ..Peer::read(&line, role)? };
        let connection = Connection::of(text, peer.fingerprints.clone());
        let bundled = peer.mid.as_deref().is_some_and(|mid| bundle(&session).contains(&mid));
        Ok(BrowserOffer { session, peer, connection, bundled })
    }

    /// Which of the browser's connections it is for.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// A DTLS association that stands keeps its roles (RFC 8842 section 5.5): ours is this one, if the offer leaves it open.
    pub fn keep_role(&mut self, role: DtlsRole) {
        if self.peer.either {
            self.peer.role = role;
        }
    }

    /// How many media lines the offer has.
    pub fn media_lines(&self) -> usize {
        self.session.medias.len()
    }

    /// The offered direction, seen from the browser.
    pub fn direction(&self) -> Direction {
        self.peer.direction
    }

    /// The codecs that the browser offers, in its order.
    pub fn codecs(&self) -> Vec<Codec> {
        self.peer.codecs.iter().map(|c| c.codec).collect()
    }

    /// The browser's ICE credentials: others than before ask for an ICE restart
    /// ([RFC 8839 section 4.4.3.1.1](https://www.rfc-editor.org/rfc/rfc8839#section-4.4.3.1.1)).
    pub fn ice(&self) -> &IceCredentials {
        &self.peer.ice
    }

    /// Our answer, which is final, and what follows from both.
    ///
    /// # Errors
    /// [`SdpError::NoCodec`].
    pub fn answer(&self, local: &BrowserLocal, policy: &CodecPolicy) -> Result<(String, BrowserMedia), SdpError> {
        self.answer_wanting(local, policy, Direction::SendRecv)
    }

    /// The same where we want no more than `wanted`: who is held is not listened to.
    ///
    /// # Errors
    /// [`SdpError::NoCodec`].
    pub fn answer_wanting(
        &self,
        local: &BrowserLocal,
        policy: &CodecPolicy,
        wanted: Direction,
    ) -> Result<(String, BrowserMedia), SdpError> {
        let send = preferred(&self.peer.codecs, &policy.browser).ok_or(SdpError::NoCodec)?;
        let event = policy.telephone_event.then(|| event_for(send.codec, &self.peer.events)).flatten();
        let mut media = self.peer.media(local, policy, vec![send], event).ok_or(SdpError::NoCodec)?;
        media.direction = wanted.answer_to(self.peer.direction);
        let left: Vec<(AudioLine<'_>, AcceptedCodec)> = self.left(send.codec).collect();
        let mids = left.iter().filter_map(|(line, _)| line.attribute("mid")).chain(self.peer.mid.as_deref());
        let mids = mids.collect::<Vec<_>>().join(" ");
        let mut out = head(local, self.bundled.then_some(mids.as_str()));
        let sound = AudioLines {
            proto: "UDP/TLS/RTP/SAVPF",
            codecs: &media.accepted,
            red: media.red,
            events: media.telephone_event.as_slice(),
            mid: self.peer.mid.as_deref(),
            mid_extension: self.peer.mid_extension,
            setup: if media.dtls == DtlsRole::Passive { "passive" } else { "active" },
            direction: media.direction,
            ptime: media.ptime,
            has_source: true,
        };
        for (index, other) in self.session.medias.iter().enumerate() {
            let proto = &other.proto;
            if index == self.peer.index {
                audio(&mut out, local, policy, &AudioLines { proto, ..sound });
            } else if let Some((line, codec)) = left.iter().find(|(line, _)| line.index == index) {
                let (codecs, mid) = (std::slice::from_ref(codec), line.attribute("mid"));
                let direction = Direction::Inactive;
                let silent = AudioLines {
                    proto,
                    codecs,
                    mid,
                    direction,
                    red: None,
                    events: &[],
                    mid_extension: mid_extension(line),
                    has_source: false,
                    ..sound
                };
                audio(&mut out, local, policy, &silent);
            } else {
                refuse(&mut out, other);
            }
        }
        Ok((out, media))
    }

    /// The lines that the sound had before: they stay open and silent, as the first of a bundle has its transport.
    fn left(&self, codec: Codec) -> impl Iterator<Item = (AudioLine<'_>, AcceptedCodec)> {
        let bundle = if self.bundled { bundle(&self.session) } else { Vec::new() };
        let before = AudioLine::all(&self.session).take_while(|line| line.index < self.peer.index);
        let open = before.filter(move |line| {
            let mid = line.attribute("mid").filter(|mid| is_token(mid));
            usable(line.media) && mid.is_some_and(|mid| bundle.contains(&mid))
        });
        open.filter_map(move |line| Some((line, line.codecs().into_iter().find(|c| c.codec == codec)?)))
    }
}

/// Our own offer, for an incoming call: all codecs of the policy, and the browser chooses.
pub fn offer(local: &BrowserLocal, policy: &CodecPolicy) -> String {
    let mut out = head(local, Some(OWN_MID));
    let events: &[TelephoneEvent] = if policy.telephone_event { &OWN_EVENTS } else { &[] };
    let lines = AudioLines {
        proto: "UDP/TLS/RTP/SAVPF",
        codecs: &own_codecs(policy),
        red: policy.red.then_some(OWN_RED),
        events,
        mid: Some(OWN_MID),
        mid_extension: Some(OWN_MID_EXTENSION),
        setup: "actpass",
        direction: Direction::SendRecv,
        ptime: PTIME,
        has_source: true,
    };
    audio(&mut out, local, policy, &lines);
    out
}

/// Our next offer in a session in which we have sent `sent` last, an offer or an answer: the same lines in the same order with
/// what was agreed in them, the same transport, and only the direction anew.
///
/// The browser keeps its part in DTLS ([RFC 8842 section 5.5](https://www.rfc-editor.org/rfc/rfc8842#section-5.5)).
pub fn offer_again(sent: &str, version: u64, direction: Direction) -> String {
    let mut out = String::with_capacity(sent.len());
    // The line of our sound has our source.
    let of_sound = sent.split("\nm=").position(|lines| lines.contains("\na=ssrc:"));
    let mut media_lines = 0;
    for line in sent.lines() {
        media_lines += usize::from(line.starts_with("m="));
        let open = of_sound == Some(media_lines);
        let attribute = line.strip_prefix("a=").unwrap_or_default();
        if let Some(origin) = line.strip_prefix("o=") {
            let mut words: Vec<String> = origin.split(' ').map(str::to_owned).collect();
            if let Some(word) = words.get_mut(2) {
                *word = version.to_string();
            }
            out.push_str(&format!("o={}", words.join(" ")));
        } else if open && Direction::from_attribute(attribute).is_some() {
            out.push_str(&format!("a={direction}"));
            // What did not send had no track; one that comes back is of the stream it was.
            if direction.sends() && !sent.contains("a=msid:") {
                out.push_str(OWN_TRACK);
            }
        } else if attribute.starts_with("setup:") {
            out.push_str("a=setup:actpass");
        } else {
            out.push_str(line);
        }
        out.push_str("\r\n");
    }
    out
}

/// Reads a browser's answer to [`offer_again`] in a session in which it has sent `before` last: what was agreed of codecs
/// stands, unless it names others of them.
///
/// # Errors
/// What [`SdpError`] names; [`SdpError::Refused`] where the audio line is gone.
pub fn read_answer_again(
    before: &BrowserMedia,
    wanted: Direction,
    policy: &CodecPolicy,
    text: &str,
) -> Result<BrowserMedia, SdpError> {
    let session = parse(text.as_bytes())?;
    let line = line_of_sound_again(&session, before, |media| media.port != 0).ok_or(SdpError::Refused)?;
    if !usable(line.media) {
        return Err(SdpError::Transport);
    }
    let peer = Peer::read(&line, before.dtls)?;
    let accepted = in_common(&peer.codecs, &policy.browser);
    let send = *accepted.first().ok_or(SdpError::NoCodec)?;
    let event = before.telephone_event.filter(|event| peer.events.contains(event));
    Ok(BrowserMedia {
        remote_ice: peer.ice,
        fingerprints: peer.fingerprints,
        send,
        red: before.red.filter(|_| send.codec == Codec::Opus && peer.red == before.red),
        accepted,
        telephone_event: event,
        direction: wanted.answer_to(peer.direction),
        ..before.clone()
    })
}

/// Reads a browser's answer to [`offer`].
///
/// # Errors
/// What [`SdpError`] names; [`SdpError::Refused`] for an audio line with port 0.
pub fn read_answer(local: &BrowserLocal, policy: &CodecPolicy, text: &str) -> Result<BrowserMedia, SdpError> {
    let session = parse(text.as_bytes())?;
    if session.medias.len() != 1 {
        return Err(SdpError::NotAnAnswer);
    }
    let line = AudioLine::find(&session, |_| true).ok_or(SdpError::NotAnAnswer)?;
    if line.media.port == 0 {
        return Err(SdpError::Refused);
    }
    if !usable(line.media) {
        return Err(SdpError::Transport);
    }
    let role = match line.transport_attribute("setup") {
        Some("passive") => DtlsRole::Active,
        Some("active") => DtlsRole::Passive,
        _ => return Err(SdpError::Setup),
    };
    let peer = Peer::read(&line, role)?;
    let accepted = in_common(&peer.codecs, &policy.browser);
    let send = accepted.first().ok_or(SdpError::NoCodec)?.codec;
    let event = answered_event(policy, send, &peer.events);
    peer.media(local, policy, accepted, event).ok_or(SdpError::NoCodec)
}

/// The telephone-event of an answer to our offer, in which we had to name both clocks without knowing the browser.
/// One that takes both beside Opus sends its digits at 8000 Hz.
fn answered_event(policy: &CodecPolicy, send: Codec, events: &[TelephoneEvent]) -> Option<TelephoneEvent> {
    let narrow = events.iter().find(|event| event.clock_rate == 8_000).copied();
    policy.telephone_event.then(|| narrow.or_else(|| event_for(send, events))).flatten()
}

/// The codecs of our own offer under our own numbers.
fn own_codecs(policy: &CodecPolicy) -> Vec<AcceptedCodec> {
    policy
        .browser
        .iter()
        .map(|&codec| AcceptedCodec { payload_type: codec.static_payload_type().unwrap_or(OWN_OPUS), codec })
        .collect()
}

/// Whether a media line is SRTP keyed by DTLS (or may be: old names lack the prefix) and not refused.
/// A `bundle-only` line has port 0 and is open all the same (RFC 8843 section 6).
fn usable(media: &Media) -> bool {
    let secure = media.proto.ends_with("RTP/SAVPF") || media.proto.ends_with("RTP/SAVP");
    let open = media.port != 0 || media.attributes.iter().any(|a| a.attribute == "bundle-only");
    secure && open
}

/// The audio line with the browser's sound, of those that `is_open` takes: the first that names a source, or the first.
fn line_of_sound(session: &Session, is_open: impl Fn(&Media) -> bool) -> Option<AudioLine<'_>> {
    let open = || AudioLine::all(session).filter(|line| is_open(line.media));
    open().find(has_source).or_else(|| open().next())
}

/// The line that it is in later on: the last that names a source. A track that was taken away and is added again has a line of
/// its own behind the one that it had, which goes on naming its own
/// ([RFC 8829](https://www.rfc-editor.org/rfc/rfc8829#section-5.2.2) section 5.2.2). Where none does, as with a browser that names
/// no source while it sends nothing, it is the line of `before`.
fn line_of_sound_again<'a>(
    session: &'a Session,
    before: &BrowserMedia,
    is_open: impl Fn(&Media) -> bool,
) -> Option<AudioLine<'a>> {
    let open = || AudioLine::all(session).filter(|line| is_open(line.media));
    let known = before.mid_extension.as_ref().map(|(_, mid)| mid.as_str());
    let same = |line: &AudioLine<'_>| known.is_some() && line.attribute("mid") == known;
    open().filter(has_source).last().or_else(|| open().find(same)).or_else(|| open().next())
}

fn has_source(line: &AudioLine<'_>) -> bool {
    line.has("msid") || line.has("ssrc")
}

/// Why no audio line is usable.
fn why_not(session: &Session) -> SdpError {
    match AudioLine::find(session, |media| media.port != 0) {
        Some(_) => SdpError::Transport,
        None => SdpError::NoAudio,
    }
}

/// The mids of the first bundle group.
fn bundle(session: &Session) -> Vec<&str> {
    session
        .attributes
        .iter()
        .filter(|a| a.attribute == "group")
        .find_map(|a| a.value.as_deref()?.strip_prefix("BUNDLE "))
        .map(|mids| mids.split_ascii_whitespace().collect())
        .unwrap_or_default()
}

impl<'a> AudioLine<'a> {
    /// An attribute of the transport: of the line, of the line that carries the bundle's transport, or of the session.
    fn transport_attribute(&self, name: &str) -> Option<&'a str> {
        let values = self.transport_attributes(name);
        values.first().copied()
    }

    /// All values of such an attribute.
    fn transport_attributes(&self, name: &str) -> Vec<&'a str> {
        if self.has(name) {
            return self.attributes(name);
        }
        let group = bundle(self.session);
        let mid_of = |media: &'a Media| media.attributes.iter().find(|a| a.attribute == "mid")?.value.as_deref();
        let bundled = mid_of(self.media).is_some_and(|mid| group.contains(&mid));
        let tagged =
            self.session.medias.iter().enumerate().find(|(_, m)| bundled && mid_of(m) == group.first().copied());
        match tagged {
            Some((index, media)) => AudioLine { index, media, session: self.session }.attributes(name),
            None => self.attributes(name),
        }
    }
}

impl Peer {
    fn read(line: &AudioLine<'_>, role: DtlsRole) -> Result<Peer, SdpError> {
        if line.session.attributes.iter().any(|a| a.attribute == "ice-lite") {
            return Err(SdpError::BothLite);
        }
        if !line.has("rtcp-mux") && line.transport_attribute("rtcp-mux").is_none() {
            return Err(SdpError::RtcpMux);
        }
        let (opus_fec, opus_bitrate) = line.opus();
        Ok(Peer {
            index: line.index,
            mid: line.attribute("mid").filter(|mid| is_token(mid)).map(str::to_owned),
            ice: ice(line)?,
            fingerprints: fingerprints(line)?,
            role,
            either: false,
            events: line.telephone_events(),
            opus_fec,
            opus_bitrate,
            direction: line.direction(),
            mid_extension: mid_extension(line),
            ptime: line.ptime(PTIME).min(PTIME),
            codecs: line.codecs(),
            red: line.red(),
        })
    }

    /// What follows from the peer's line and our choice; `None` without a codec.
    fn media(
        &self,
        local: &BrowserLocal,
        policy: &CodecPolicy,
        accepted: Vec<AcceptedCodec>,
        telephone_event: Option<TelephoneEvent>,
    ) -> Option<BrowserMedia> {
        let send = *accepted.first()?;
        Some(BrowserMedia {
            local_ice: local.ice.clone(),
            remote_ice: self.ice.clone(),
            fingerprints: self.fingerprints.clone(),
            dtls: self.role,
            send,
            accepted,
            red: self.red.filter(|_| policy.red && send.codec == Codec::Opus),
            telephone_event,
            direction: Direction::SendRecv.answer_to(self.direction),
            ssrc: local.ssrc,
            cname: local.cname.clone(),
            ptime: self.ptime,
            opus_fec: self.opus_fec,
            opus_bitrate: self.opus_bitrate,
            // A one-byte header extension holds 16 bytes (RFC 8285 section 4.2).
            mid_extension: self.mid_extension.zip(self.mid.clone().filter(|mid| mid.len() <= 16)),
        })
    }
}

/// The peer's ICE credentials (RFC 8839 section 5.4).
fn ice(line: &AudioLine<'_>) -> Result<IceCredentials, SdpError> {
    let value = |name| line.transport_attribute(name).unwrap_or_default();
    ice_credentials(value("ice-ufrag"), value("ice-pwd")).ok_or(SdpError::Ice)
}

/// ICE credentials, if both are well-formed (RFC 8839 section 5.4).
pub(super) fn ice_credentials(ufrag: &str, pwd: &str) -> Option<IceCredentials> {
    let valid = |text: &str, least| {
        (least..=256).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'='))
    };
    let both = valid(ufrag, 4) && valid(pwd, 22);
    both.then(|| IceCredentials::new(ufrag, pwd))
}

/// The peer's fingerprints of algorithms that can be checked and are not broken (RFC 8122 section 5).
fn fingerprints(line: &AudioLine<'_>) -> Result<Vec<Fingerprint>, SdpError> {
    let strong = |f: &Fingerprint| matches!(f.algorithm.as_str(), "sha-256" | "sha-384" | "sha-512");
    let found: Vec<Fingerprint> = line
        .transport_attributes("fingerprint")
        .into_iter()
        .filter_map(|value| value.parse().ok())
        .filter(strong)
        .collect();
    if found.is_empty() { Err(SdpError::Fingerprint) } else { Ok(found) }
}

/// The number under which the peer takes the mid extension (RFC 8285: 1 to 14 in one byte).
fn mid_extension(line: &AudioLine<'_>) -> Option<u8> {
    line.attributes("extmap").into_iter().find_map(|value| {
        let (number, uri) = value.split_once(' ')?;
        if uri.split_ascii_whitespace().next() != Some(MID_EXTENSION) {
            return None;
        }
        // A direction may follow the number; one that does not let us send it is as good as none.
        let (number, direction) = number.split_once('/').unwrap_or((number, "sendrecv"));
        let open = Direction::from_attribute(direction)?.receives();
        number.parse().ok().filter(|number| open && (1..=14).contains(number))
    })
}

/// A `token` of RFC 8866.
fn is_token(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&b))
}

/// The lines before the first media line.
fn head(local: &BrowserLocal, bundle: Option<&str>) -> String {
    let origin = local.candidates.first().map_or_else(|| "IN IP4 0.0.0.0".to_owned(), |c| address(c.ip()));
    let mut out =
        format!("v=0\r\no=- {} {} {origin}\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n", local.session_id, local.version);
    if let Some(mid) = bundle {
        out.push_str(&format!("a=group:BUNDLE {mid}\r\n"));
    }
    out.push_str("a=msid-semantic: WMS *\r\n");
    out
}

/// A media line that we refuse, with its mid.
fn refuse(out: &mut String, media: &Media) {
    refused_line(out, media);
    out.push_str("c=IN IP4 0.0.0.0\r\na=inactive\r\n");
    if let Some(mid) = media.attributes.iter().find(|a| a.attribute == "mid").and_then(|a| a.value.as_deref()) {
        out.push_str(&format!("a=mid:{mid}\r\n"));
    }
}

/// What stands in an audio line of ours.
#[derive(Clone, Copy)]
struct AudioLines<'a> {
    proto: &'a str,
    codecs: &'a [AcceptedCodec],
    red: Option<u8>,
    events: &'a [TelephoneEvent],
    mid: Option<&'a str>,
    mid_extension: Option<u8>,
    setup: &'a str,
    direction: Direction,
    ptime: u8,
    /// Whether it is the line of our sound.
    has_source: bool,
}

/// Writes the audio line and its attributes.
fn audio(out: &mut String, local: &BrowserLocal, policy: &CodecPolicy, lines: &AudioLines<'_>) {
    let first = local.candidates.first();
    let (port, connection) = first.map_or((9, "IN IP4 0.0.0.0".to_owned()), |c| (c.port(), address(c.ip())));
    out.push_str(&format!("m=audio {port} {}", lines.proto));
    let opus = lines.codecs.iter().find(|c| c.codec == Codec::Opus).map(|c| c.payload_type);
    // Chromium sends redundancy where it goes before the codec that it is of.
    let red = lines.red.zip(opus);
    let red_number = red.map(|(number, _)| number);
    let codecs = lines.codecs.iter().map(|c| c.payload_type);
    for number in red_number.into_iter().chain(codecs).chain(lines.events.iter().map(|e| e.payload_type)) {
        out.push_str(&format!(" {number}"));
    }
    out.push_str(&format!("\r\nc={connection}\r\n"));
    if let Some(mid) = lines.mid {
        out.push_str(&format!("a=mid:{mid}\r\n"));
    }
    out.push_str(&format!("a={}\r\na=rtcp-mux\r\n", lines.direction));
    out.push_str(&format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", local.ice.ufrag, local.ice.pwd));
    candidates(out, &local.candidates);
    out.push_str(&format!("a=fingerprint:{}\r\na=setup:{}\r\n", local.fingerprint, lines.setup));
    if let Some((number, opus)) = red {
        red_lines(out, number, opus);
    }
    for codec in lines.codecs {
        let parameters = if codec.codec == Codec::Opus { opus_parameters(policy) } else { "" };
        codec_lines(out, *codec, parameters);
    }
    for event in lines.events {
        event_lines(out, *event);
    }
    out.push_str(&format!("a=ptime:{}\r\n", lines.ptime));
    if let Some(number) = lines.mid_extension {
        out.push_str(&format!("a=extmap:{number} {MID_EXTENSION}\r\n"));
    }
    if lines.direction.sends() {
        out.push_str(OWN_TRACK.trim_start());
        out.push_str("\r\n");
    }
    if lines.has_source {
        out.push_str(&format!("a=ssrc:{} cname:{}\r\n", local.ssrc, local.cname));
    }
}

/// What we ask of the browser's Opus ([RFC 7587](https://www.rfc-editor.org/rfc/rfc7587#section-6.1) section 6.1).
///
/// `maxplaybackrate` alone makes Chromium choose 10 kbit/s, too few even for narrowband: hence the bit rate.
fn opus_parameters(policy: &CodecPolicy) -> &'static str {
    match policy.band {
        Band::Narrow => {
            "minptime=10;useinbandfec=1;maxplaybackrate=8000;sprop-maxcapturerate=8000;maxaveragebitrate=24000"
        }
        Band::Wide => {
            "minptime=10;useinbandfec=1;maxplaybackrate=16000;sprop-maxcapturerate=16000;maxaveragebitrate=32000"
        }
        // What is passed through is not ours to cut; the bit rate is the browsers' own default, and known to be kept then.
        Band::Full => "minptime=10;useinbandfec=1;maxaveragebitrate=32000",
    }
}

/// Our host candidates, the first the best, and the word that no more will come (RFC 8839 sections 5.1 and 8.2).
fn candidates(out: &mut String, candidates: &[SocketAddr]) {
    for (index, candidate) in candidates.iter().enumerate().take(16) {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        // RFC 8445 section 5.1.2.1, type preference 126 for a host candidate, component 1.
        let priority = (126 << 24) | (65_535_u32.saturating_sub(index) << 8) | 255;
        let (ip, port) = (candidate.ip().to_canonical(), candidate.port());
        out.push_str(&format!("a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n", index.saturating_add(1)));
    }
    out.push_str("a=end-of-candidates\r\n");
}

#[cfg(test)]
mod tests;
