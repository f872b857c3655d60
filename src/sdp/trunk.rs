//! The trunk's leg: our own clean-room descriptions under RTP/AVP, or RTP/SAVP with keys.
//!
//! Nothing of a browser's description gets in here: mid, bundle, rtcp-mux, ICE or fingerprints draw a 488 from trunks.

use std::net::SocketAddr;

use sdp_types::Session;

use super::keys::SrtpPlan;
use super::network::Network;
use super::offer_answer::{
    OWN_OPUS, address, codec_lines, event_for, event_lines, in_common, in_common_wideband_first, refused_line,
};
use super::plan::{AcceptedCodec, Direction, InBand, Pass, RtpMedia, RtpSlot, TelephoneEvent};
use super::sdes::{SrtpAgreed, SrtpLocal, Transport};
use super::session::{AudioLine, SdpError, parse};
use crate::codec::Codec;

/// The payload number of telephone-event in our offers.
pub const TELEPHONE_EVENT: u8 = 101;
/// The same at Opus' clock.
const WIDE_TELEPHONE_EVENT: u8 = 110;
/// What we say of the Opus that we want: it is decoded at our rate, or passed on, whatever its own.
const OPUS: &str = "minptime=10;useinbandfec=1";

/// The payload numbers of our own offers where RFC 3551 fixes none. In a session a number keeps its meaning (RFC 3264
/// section 8.3.2): those of an offer that we answered are ours from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnNumbers {
    opus: u8,
    events: [TelephoneEvent; 2],
}

impl Default for OwnNumbers {
    fn default() -> Self {
        let event = |payload_type, clock_rate| TelephoneEvent { payload_type, clock_rate };
        OwnNumbers { opus: OWN_OPUS, events: [event(TELEPHONE_EVENT, 8_000), event(WIDE_TELEPHONE_EVENT, 48_000)] }
    }
}

impl OwnNumbers {
    /// Takes over what an answer of ours has agreed to; a number of ours that means something else there gives way.
    fn adopt(&mut self, media: &RtpMedia) {
        let agreed: Vec<TelephoneEvent> =
            media.telephone_event.into_iter().chain(media.accepted_events.iter().copied()).collect();
        let codecs = media.accepted.iter().map(|a| a.payload_type);
        let mut taken: Vec<u8> = codecs.chain(agreed.iter().map(|e| e.payload_type)).collect();
        let mut number = |own: u8, agreed: Option<u8>| {
            let free = |n: &u8| !taken.contains(n);
            let number = agreed.unwrap_or_else(|| std::iter::once(own).chain(96..=127).find(free).unwrap_or(own));
            taken.push(number);
            number
        };
        let opus = media.accepted.iter().find(|a| a.codec == Codec::Opus).map(|a| a.payload_type);
        self.opus = number(self.opus, opus);
        for event in &mut self.events {
            let same = agreed.iter().find(|agreed| agreed.clock_rate == event.clock_rate);
            event.payload_type = number(event.payload_type, same.map(|e| e.payload_type));
        }
    }
}

/// What we bring to a trunk's negotiation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkLocal {
    /// Which of the call's ports it is.
    pub slot: RtpSlot,
    /// Where we take RTP, as the peer shall see it; RTCP goes to the port plus one.
    pub rtp: SocketAddr,
    /// Where the peer's RTP may come from besides the host that it describes; see [`RtpMedia::sources`].
    pub sources: Vec<Network>,
    /// For `o=`.
    pub session_id: u64,
    /// For `o=`; see [`super::OwnDescription`].
    pub version: u64,
    /// The codecs, in our order: many carriers take the first they know.
    pub codecs: Vec<Codec>,
    /// The payload numbers of what has none by itself.
    pub numbers: OwnNumbers,
    /// Milliseconds of audio in a packet.
    pub ptime: u8,
    /// Whether digits may go in RTP.
    pub telephone_event: bool,
    /// Whether digits are tones in the sound where they do not go in RTP.
    pub inband: Option<InBand>,
    /// Whether G.711 is passed on as it comes.
    pub pass: Pass,
    /// What we want, seen from ourselves.
    pub direction: Direction,
    /// The SSRC that we send with.
    pub ssrc: u32,
    /// Whether the media is protected, and our keys.
    pub srtp: SrtpLocal,
}

impl TrunkLocal {
    /// The plainest: slot 0, both laws of G.711, 20 ms, digits in RTP, both ways.
    pub fn new(rtp: SocketAddr, ssrc: u32) -> Self {
        TrunkLocal {
            slot: RtpSlot(0),
            rtp,
            sources: Vec::new(),
            session_id: 1,
            version: 1,
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            numbers: OwnNumbers::default(),
            ptime: 20,
            telephone_event: true,
            inband: None,
            pass: Pass::Quality,
            direction: Direction::SendRecv,
            ssrc,
            srtp: SrtpLocal::off(),
        }
    }

    /// Keeps to what an offer and answer came to in later offers: the transport, and the suite.
    pub fn settle(&mut self, media: &RtpMedia) {
        let suite = media.srtp.as_ref().map(|srtp| srtp.suite);
        self.srtp.agreed = Some(SrtpAgreed { savp: media.savp, suite });
    }

    /// Keeps, besides, to the payload numbers of an offer that we answered.
    pub fn settle_answered(&mut self, media: &RtpMedia) {
        self.settle(media);
        self.numbers.adopt(media);
    }

    /// The telephone-events of our own offers: at the clock of each codec that we offer.
    fn events(&self) -> Vec<TelephoneEvent> {
        let clock = |event: &TelephoneEvent| event.clock_rate == 8_000 || self.codecs.contains(&Codec::Opus);
        self.numbers.events.into_iter().filter(|event| self.telephone_event && clock(event)).collect()
    }

    /// The codecs under their payload numbers; both laws of G.711 if there would be none.
    fn accepted(&self) -> Vec<AcceptedCodec> {
        let numbered = |codecs: &[Codec]| -> Vec<AcceptedCodec> {
            codecs
                .iter()
                .map(|&codec| {
                    let payload_type = codec.static_payload_type().unwrap_or(self.numbers.opus);
                    AcceptedCodec { payload_type, codec }
                })
                .collect()
        };
        let own = numbered(&self.codecs);
        if own.is_empty() { numbered(&[Codec::Pcmu, Codec::Pcma]) } else { own }
    }

    /// The lines before the first media line.
    fn head(&self) -> String {
        let address = address(self.rtp.ip());
        format!("v=0\r\no=- {} {} {address}\r\ns=-\r\nc={address}\r\nt=0 0\r\n", self.session_id, self.version)
    }
}

/// Writes the audio line and its attributes.
fn audio(out: &mut String, local: &TrunkLocal, proto: &str, lines: &AudioLines<'_>) {
    out.push_str(&format!("m=audio {} {proto}", local.rtp.port()));
    let numbers = lines.codecs.iter().map(|c| c.payload_type).chain(lines.comfort_noise);
    for number in numbers.chain(lines.events.iter().map(|e| e.payload_type)) {
        out.push_str(&format!(" {number}"));
    }
    out.push_str("\r\n");
    for codec in lines.codecs {
        codec_lines(out, *codec, if codec.codec == Codec::Opus { OPUS } else { "" });
    }
    if let Some(number) = lines.comfort_noise {
        out.push_str(&format!("a=rtpmap:{number} CN/8000\r\n"));
    }
    for event in lines.events {
        event_lines(out, *event);
    }
    out.push_str(&lines.crypto);
    out.push_str(&format!("a=ptime:{}\r\na={}\r\n", lines.ptime, lines.direction));
}

/// What stands in an audio line of ours.
struct AudioLines<'a> {
    codecs: &'a [AcceptedCodec],
    comfort_noise: Option<u8>,
    events: &'a [TelephoneEvent],
    crypto: String,
    ptime: u8,
    direction: Direction,
}

/// Our offer.
pub fn offer(local: &TrunkLocal) -> String {
    let mut out = local.head();
    let lines = AudioLines {
        codecs: &local.accepted(),
        comfort_noise: None,
        events: &local.events(),
        crypto: local.srtp.offer_lines(),
        ptime: local.ptime,
        direction: local.direction,
    };
    audio(&mut out, local, local.srtp.transport(), &lines);
    out
}

/// Reads the answer to [`offer`].
///
/// # Errors
/// What [`SdpError`] names; [`SdpError::Refused`] for an audio line with port 0.
pub fn read_answer(local: &TrunkLocal, answer: &[u8]) -> Result<RtpMedia, SdpError> {
    let session = parse(answer)?;
    let line = AudioLine::find(&session, |_| true).ok_or(SdpError::NoAudio)?;
    if line.media.port == 0 {
        return Err(SdpError::Refused);
    }
    let transport = Transport::of(&line.media.proto);
    let srtp = local.srtp.read_answer(transport, &line.attributes("crypto"))?;
    let ours = local.accepted();
    let names: Vec<Codec> = ours.iter().map(|c| c.codec).collect();
    let common = in_common(&line.codecs(), &names);
    let mut media = RtpMedia { srtp, ..media(local, &line, common)? };
    // What we offered we take, although the answer named only some of it: peers send what they like.
    // It sends with our offer's numbers, and we with those of its answer (RFC 3264 section 6.1); the number of the answer
    // is taken too, as many peers send that.
    for codec in ours {
        if media.accepted.iter().all(|a| a.payload_type != codec.payload_type) {
            media.accepted.push(codec);
        }
    }
    for own in local.events() {
        let agreed = || media.telephone_event.iter().chain(&media.accepted_events);
        let same_clock = agreed().any(|event| event.clock_rate == own.clock_rate);
        if same_clock && agreed().all(|event| event.payload_type != own.payload_type) {
            media.accepted_events.push(own);
        }
    }
    Ok(media)
}

/// Our answer to a trunk's offer, and what follows from both.
///
/// # Errors
/// What [`SdpError`] names.
pub fn answer(local: &TrunkLocal, offer: &[u8]) -> Result<(String, RtpMedia), SdpError> {
    let session = parse(offer)?;
    let (line, keys) = pick(local, &session)?;
    let (srtp, crypto) = keys.unzip();
    let crypto = crypto.unwrap_or_default();
    let names: Vec<Codec> = local.accepted().iter().map(|c| c.codec).collect();
    let media = RtpMedia { srtp, ..media(local, &line, in_common_wideband_first(&line.codecs(), &names))? };
    let events: Vec<TelephoneEvent> =
        media.telephone_event.into_iter().chain(media.accepted_events.iter().copied()).collect();
    let mut out = local.head();
    for (index, other) in session.medias.iter().enumerate() {
        if index != line.index {
            refused_line(&mut out, other);
            continue;
        }
        let lines = AudioLines {
            codecs: &media.accepted,
            comfort_noise: media.comfort_noise,
            events: &events,
            crypto: crypto.clone(),
            ptime: media.ptime,
            direction: media.direction,
        };
        audio(&mut out, local, &line.media.proto, &lines);
    }
    Ok((out, media))
}

/// Keys that were agreed, and the line of our answer that says so.
type Keys = Option<(SrtpPlan, String)>;

/// The audio line to take among those that are not refused by their offerer: the first with keys, where keys are wanted, else
/// the first that our policy allows (some peers offer the same audio twice, encrypted and plain).
fn pick<'a>(local: &TrunkLocal, session: &'a Session) -> Result<(AudioLine<'a>, Keys), SdpError> {
    let mut refused = SdpError::NoAudio;
    let mut plain = None;
    for line in AudioLine::all(session).filter(|line| line.media.port != 0) {
        match local.srtp.answer(Transport::of(&line.media.proto), &line.attributes("crypto")) {
            Ok(keys @ Some(_)) => return Ok((line, keys)),
            Ok(None) => plain = plain.or(Some(line)),
            Err(error) => refused = error,
        }
    }
    plain.map(|line| (line, None)).ok_or(refused)
}

/// What follows from a peer's audio line.
fn media(local: &TrunkLocal, line: &AudioLine<'_>, common: Vec<AcceptedCodec>) -> Result<RtpMedia, SdpError> {
    let send = *common.first().ok_or(SdpError::NoCodec)?;
    let destination = line.destination()?;
    let family = |ip: std::net::IpAddr| ip.to_canonical().is_ipv4();
    if destination.is_some_and(|(rtp, _)| family(rtp.ip()) != family(local.rtp.ip())) {
        return Err(SdpError::AddressFamily);
    }
    // An unspecified address is the hold of RFC 2543: the peer takes nothing (RFC 3264 section 8.4).
    let theirs = match destination {
        Some(_) => line.direction(),
        None => Direction::new(line.direction().sends(), false),
    };
    let mut accepted_events = if local.telephone_event { events_for(&common, line) } else { Vec::new() };
    let telephone_event = event_for(send.codec, &accepted_events);
    accepted_events.retain(|event| Some(*event) != telephone_event);
    let (opus_fec, opus_bitrate) = line.opus();
    Ok(RtpMedia {
        slot: local.slot,
        savp: Transport::of(&line.media.proto) == Transport::Savp,
        srtp: None,
        remote_rtp: destination.map(|(rtp, _)| rtp),
        sources: local.sources.clone(),
        remote_rtcp: destination.and_then(|(_, rtcp)| rtcp),
        send,
        red: None,
        telephone_event,
        accepted_events,
        inband: local.inband.filter(|_| telephone_event.is_none()),
        pass: local.pass,
        comfort_noise: line.comfort_noise(),
        accepted: common,
        direction: local.direction.answer_to(theirs),
        ssrc: local.ssrc,
        ptime: line.ptime(local.ptime),
        voip_metrics: line
            .attribute("rtcp-xr")
            .is_some_and(|formats| formats.split_ascii_whitespace().any(|format| format == "voip-metrics")),
        opus_fec,
        opus_bitrate,
    })
}

/// The peer's telephone-events at 8000 Hz, which every codec may have, and at the clock of any codec in common.
fn events_for(common: &[AcceptedCodec], line: &AudioLine<'_>) -> Vec<TelephoneEvent> {
    let mut events: Vec<TelephoneEvent> = Vec::new();
    for event in line.telephone_events() {
        let clock = event.clock_rate == 8_000 || common.iter().any(|c| c.codec.clock_rate() == event.clock_rate);
        if clock && events.iter().all(|e| e.clock_rate != event.clock_rate) {
            events.push(event);
        }
    }
    events
}

#[cfg(test)]
mod tests;
