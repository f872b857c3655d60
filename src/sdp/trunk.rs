//! The trunk's leg: our own clean-room descriptions under RTP/AVP.
//!
//! Nothing of a browser's description gets in here: mid, bundle, rtcp-mux, ICE or fingerprints draw a 488 from trunks.

use std::net::SocketAddr;

use sdp_types::{Media, Session};

use super::network::Network;
use super::offer_answer::{address, codec_lines, event_for, event_lines, in_common, refused_line};
use super::plan::{AcceptedCodec, Direction, RtpMedia, RtpSlot, TelephoneEvent};
use super::session::{AudioLine, SdpError, parse};
use crate::codec::Codec;

/// The payload number of telephone-event in our offers.
pub const TELEPHONE_EVENT: u8 = 101;
const OWN_EVENT: TelephoneEvent = TelephoneEvent { payload_type: TELEPHONE_EVENT, clock_rate: 8_000 };

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
    /// The codecs, in our order: many carriers take the first they know. Those without a payload number of their own
    /// (Opus) are left out.
    pub codecs: Vec<Codec>,
    /// Milliseconds of audio in a packet.
    pub ptime: u8,
    /// Whether digits may go in RTP.
    pub telephone_event: bool,
    /// What we want, seen from ourselves.
    pub direction: Direction,
    /// The SSRC that we send with.
    pub ssrc: u32,
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
            ptime: 20,
            telephone_event: true,
            direction: Direction::SendRecv,
            ssrc,
        }
    }

    /// The codecs under their payload numbers; both laws of G.711 if there would be none.
    fn accepted(&self) -> Vec<AcceptedCodec> {
        let numbered = |codecs: &[Codec]| -> Vec<AcceptedCodec> {
            codecs
                .iter()
                .filter_map(|&codec| {
                    codec.static_payload_type().map(|payload_type| AcceptedCodec { payload_type, codec })
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
    for number in numbers.chain(lines.event.map(|e| e.payload_type)) {
        out.push_str(&format!(" {number}"));
    }
    out.push_str("\r\n");
    for codec in lines.codecs {
        codec_lines(out, *codec, "");
    }
    if let Some(number) = lines.comfort_noise {
        out.push_str(&format!("a=rtpmap:{number} CN/8000\r\n"));
    }
    if let Some(event) = lines.event {
        event_lines(out, event);
    }
    out.push_str(&format!("a=ptime:{}\r\na={}\r\n", lines.ptime, lines.direction));
}

/// What stands in an audio line of ours.
struct AudioLines<'a> {
    codecs: &'a [AcceptedCodec],
    comfort_noise: Option<u8>,
    event: Option<TelephoneEvent>,
    ptime: u8,
    direction: Direction,
}

/// Our offer.
pub fn offer(local: &TrunkLocal) -> String {
    let mut out = local.head();
    let lines = AudioLines {
        codecs: &local.accepted(),
        comfort_noise: None,
        event: local.telephone_event.then_some(OWN_EVENT),
        ptime: local.ptime,
        direction: local.direction,
    };
    audio(&mut out, local, "RTP/AVP", &lines);
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
    if !plain(line.media) {
        return Err(SdpError::Transport);
    }
    let ours = local.accepted();
    let names: Vec<Codec> = ours.iter().map(|c| c.codec).collect();
    let common = in_common(&line.codecs(), &names);
    let mut media = media(local, &line, common)?;
    // What we offered we take, although the answer named only some of it: peers send what they like.
    for codec in ours {
        if media.accepted.iter().all(|a| a.codec != codec.codec && a.payload_type != codec.payload_type) {
            media.accepted.push(codec);
        }
    }
    // What the peer sends has our offer's numbers, what we send has those of its answer (RFC 3264 section 6.1); the
    // number of the answer is taken too, as many peers send that.
    if media.telephone_event.is_some_and(|event| event.payload_type != TELEPHONE_EVENT) {
        media.accepted_events.push(OWN_EVENT);
    }
    Ok(media)
}

/// Our answer to a trunk's offer, and what follows from both.
///
/// # Errors
/// What [`SdpError`] names.
pub fn answer(local: &TrunkLocal, offer: &[u8]) -> Result<(String, RtpMedia), SdpError> {
    let session = parse(offer)?;
    let line = pick(&session)?;
    let names: Vec<Codec> = local.accepted().iter().map(|c| c.codec).collect();
    let media = media(local, &line, in_common(&line.codecs(), &names))?;
    let mut out = local.head();
    for (index, other) in session.medias.iter().enumerate() {
        if index != line.index {
            refused_line(&mut out, other);
            continue;
        }
        let lines = AudioLines {
            codecs: &media.accepted,
            comfort_noise: media.comfort_noise,
            event: media.telephone_event,
            ptime: media.ptime,
            direction: media.direction,
        };
        audio(&mut out, local, &line.media.proto, &lines);
    }
    Ok((out, media))
}

/// The first plain audio line that is not refused by its offerer.
fn pick(session: &Session) -> Result<AudioLine<'_>, SdpError> {
    let open = |media: &Media| media.port != 0;
    AudioLine::find(session, |media| open(media) && plain(media)).ok_or_else(|| match AudioLine::find(session, open) {
        Some(_) => SdpError::Transport,
        None => SdpError::NoAudio,
    })
}

/// Whether a line is plain RTP.
fn plain(media: &Media) -> bool {
    media.proto.eq_ignore_ascii_case("RTP/AVP") || media.proto.eq_ignore_ascii_case("RTP/AVPF")
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
    Ok(RtpMedia {
        slot: local.slot,
        srtp: None,
        remote_rtp: destination.map(|(rtp, _)| rtp),
        sources: local.sources.clone(),
        remote_rtcp: destination.and_then(|(_, rtcp)| rtcp),
        send,
        telephone_event: local.telephone_event.then(|| event_for(send.codec, &line.telephone_events())).flatten(),
        accepted_events: Vec::new(),
        comfort_noise: line.comfort_noise(),
        accepted: common,
        direction: local.direction.answer_to(theirs),
        ssrc: local.ssrc,
        ptime: line.ptime(local.ptime),
    })
}

#[cfg(test)]
mod tests;
