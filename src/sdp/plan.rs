//! The media plan: what the signalling plane wants of a call's media, as plain data, and what the media plane reports.

use std::fmt;
use std::net::SocketAddr;

use super::keys::{DtlsRole, Fingerprint, IceCredentials, SrtpPlan};
use super::network::Network;
use super::quality::{CallQuality, Verdict};
use crate::codec::Codec;

/// The desired state of a call's media, whole. A worker applies it idempotently: the same plan twice is no event.
///
/// A side whose leg is another one than before (of another kind, in another [`RtpSlot`], or with another SSRC of ours) has its
/// leg replaced; the other side hears nothing of it but the new party: its SSRC, sequence numbers and timestamps go on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MediaPlan {
    /// Who called; `None` until its media is negotiated.
    pub a: Option<LegPlan>,
    /// Who was called; `None` until its media is negotiated.
    pub b: Option<LegPlan>,
}

impl MediaPlan {
    /// The leg of a side.
    pub fn leg(&self, side: Side) -> Option<&LegPlan> {
        match side {
            Side::A => self.a.as_ref(),
            Side::B => self.b.as_ref(),
        }
    }

    /// The leg of a side, to be changed.
    pub fn leg_mut(&mut self, side: Side) -> Option<&mut LegPlan> {
        match side {
            Side::A => self.a.as_mut(),
            Side::B => self.b.as_mut(),
        }
    }
}

/// One leg of a call: its media, and what its party hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegPlan {
    /// What was negotiated.
    pub media: LegMedia,
    /// What we send there.
    pub hears: Hears,
}

/// The media of a leg, by its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegMedia {
    /// ICE, DTLS and SRTP.
    Browser(BrowserMedia),
    /// RTP to a trunk or a phone, plain or protected by SDES keys.
    Rtp(RtpMedia),
}

impl LegMedia {
    /// The browser's media, if it is one.
    pub fn browser(&self) -> Option<&BrowserMedia> {
        match self {
            LegMedia::Browser(media) => Some(media),
            LegMedia::Rtp(_) => None,
        }
    }

    /// The RTP leg's media, if it is one.
    pub fn rtp(&self) -> Option<&RtpMedia> {
        match self {
            LegMedia::Browser(_) => None,
            LegMedia::Rtp(media) => Some(media),
        }
    }

    /// What its transport goes by.
    pub fn transport(&self) -> TransportName {
        match self {
            LegMedia::Browser(media) => TransportName::Ice(media.local_ice.ufrag.clone()),
            LegMedia::Rtp(media) => TransportName::Rtp(media.ssrc),
        }
    }

    /// What we send.
    pub fn send(&self) -> AcceptedCodec {
        match self {
            LegMedia::Browser(media) => media.send,
            LegMedia::Rtp(media) => media.send,
        }
    }

    /// The most bits per second of Opus that the peer wants to receive.
    pub fn opus_bitrate(&self) -> Option<u32> {
        match self {
            LegMedia::Browser(media) => media.opus_bitrate,
            LegMedia::Rtp(media) => media.opus_bitrate,
        }
    }

    /// Digits in RTP; `None` when not negotiated.
    pub fn telephone_event(&self) -> Option<TelephoneEvent> {
        match self {
            LegMedia::Browser(media) => media.telephone_event,
            LegMedia::Rtp(media) => media.telephone_event,
        }
    }

    /// Whether the peer wants nothing of us at present: it holds.
    pub fn is_held(&self) -> bool {
        !self.direction().sends() || self.rtp().is_some_and(|media| media.remote_rtp.is_none())
    }

    /// Seen from ourselves.
    pub fn direction(&self) -> Direction {
        match self {
            LegMedia::Browser(media) => media.direction,
            LegMedia::Rtp(media) => media.direction,
        }
    }

    /// Whether `other` is the same leg, perhaps with new parameters: of the same kind, in the same slot, with the one SSRC
    /// that we send with.
    pub fn is_same_leg(&self, other: &LegMedia) -> bool {
        match (self, other) {
            (LegMedia::Browser(one), LegMedia::Browser(other)) => one.ssrc == other.ssrc,
            (LegMedia::Rtp(one), LegMedia::Rtp(other)) => (one.slot, one.ssrc) == (other.slot, other.ssrc),
            _ => false,
        }
    }
}

/// What the party of a leg hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Hears {
    /// Silence: packets that keep the way open while there is another leg, and no packet at all while there is none.
    #[default]
    Nothing,
    /// The other party.
    Peer,
    /// The other party, and this tone for as long as none of its RTP arrives
    /// ([RFC 3960](https://www.rfc-editor.org/rfc/rfc3960#section-3.2) section 3.2).
    PeerOr(Tone),
    /// Music, or what stands for it: the other party holds.
    Music,
    /// The other party, who holds and may have music of his own, and ours for as long as none of its RTP arrives.
    PeerOrMusic,
    /// This tone: the other party is being replaced by somebody whose phone rings.
    Tone(Tone),
    /// A comfort tone: there is no other party, and the way to this one is tried.
    Comfort,
}

impl Hears {
    /// Whether the other party is heard.
    pub fn peer(self) -> bool {
        matches!(self, Hears::Peer | Hears::PeerOr(_) | Hears::PeerOrMusic)
    }
}

/// Which of the call's leased pairs of RTP ports: a call may have several, as during a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RtpSlot(pub u8);

impl RtpSlot {
    /// So many slots a call may have at a time; their numbers are below this.
    pub const LIMIT: u8 = 4;
}

/// A national ringing tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tone {
    /// 440 + 480 Hz, 2 s on, 4 s off.
    Us,
    /// 400 + 450 Hz, 0.4 s on, 0.2 s off, 0.4 s on, 2 s off.
    Uk,
    /// 425 Hz, 1 s on, 4 s off.
    Eu,
}

/// A codec under the payload number that was negotiated for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AcceptedCodec {
    /// The RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// The codec.
    pub codec: Codec,
}

/// How much of a sound's spectrum the far side of a call can carry, as far as its codecs allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Band {
    /// The telephone's: G.711.
    #[default]
    Narrow,
    /// Up to 7 kHz: G.722.
    Wide,
    /// All there is: Opus, which is passed through.
    Full,
}

impl Band {
    /// The widest that any of `codecs` carries.
    pub fn of(codecs: impl IntoIterator<Item = Codec>) -> Band {
        let band = |codec| match codec {
            Codec::Opus => Band::Full,
            Codec::G722 => Band::Wide,
            Codec::Pcmu | Codec::Pcma => Band::Narrow,
        };
        codecs.into_iter().map(band).max().unwrap_or_default()
    }
}

/// What goes before the other where sound can be passed on as it comes. Opus between two that speak it is passed on in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pass {
    /// How it sounds: G.711 is played out, so that what is lost is concealed and packets are 20 ms apart.
    #[default]
    Quality,
    /// What it costs, and its delay: G.711 of one law and packet length goes on as it comes, gaps and all.
    Cost,
}

/// Digits in RTP ([RFC 4733](https://www.rfc-editor.org/rfc/rfc4733)) as negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TelephoneEvent {
    /// The RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// The RTP clock in Hz: 8000, or 48000 beside Opus.
    pub clock_rate: u32,
}

/// Digits as tones in the sound of a leg (DTMF, [ITU-T Q.23](https://www.itu.int/rec/T-REC-Q.23)): those that come are told as
/// digits, those to be sent are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct InBand {
    /// Whether the other party hears nothing of a tone that came: its sound is held back by 40 ms for that. Else no sound waits,
    /// and it hears less than 20 ms of each, which is no digit to anybody
    /// ([ITU-T Q.24](https://www.itu.int/rec/T-REC-Q.24)).
    pub suppress: bool,
}

/// The direction of a media stream, seen from ourselves
/// ([RFC 3264](https://www.rfc-editor.org/rfc/rfc3264#section-6.1) section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// We send and do not receive.
    SendOnly,
    /// We receive and do not send.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// A direction from its two halves.
    pub fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Whether we send.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether we receive.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same stream seen from the other end.
    pub fn reversed(self) -> Self {
        Direction::new(self.receives(), self.sends())
    }

    /// What we may answer to a peer's `offered` direction (which is seen from the peer), wanting `self`:
    /// never more than the offer leaves open (RFC 3264 section 6.1).
    pub fn answer_to(self, offered: Direction) -> Self {
        let open = offered.reversed();
        Direction::new(self.sends() && open.sends(), self.receives() && open.receives())
    }

    /// The name of the attribute, as in `a=sendrecv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// The direction that an attribute's name means, if it means one.
    pub fn from_attribute(name: &str) -> Option<Self> {
        match name {
            "sendrecv" => Some(Direction::SendRecv),
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::RecvOnly),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The browser's leg as negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserMedia {
    /// Our own ICE credentials.
    pub local_ice: IceCredentials,
    /// The browser's.
    pub remote_ice: IceCredentials,
    /// The certificates that the browser may show, at least one.
    pub fingerprints: Vec<Fingerprint>,
    /// Our role in DTLS.
    pub dtls: DtlsRole,
    /// What we send.
    pub send: AcceptedCodec,
    /// What the browser may send, `send` among them.
    pub accepted: Vec<AcceptedCodec>,
    /// The payload type under which the browser may send each packet of Opus together with those before it
    /// ([RFC 2198](https://www.rfc-editor.org/rfc/rfc2198)).
    pub red: Option<u8>,
    /// Digits in RTP, at the clock of the codec in use; `None` when not negotiated.
    pub telephone_event: Option<TelephoneEvent>,
    /// Seen from ourselves.
    pub direction: Direction,
    /// The one SSRC that we send with for the life of the peer connection.
    pub ssrc: u32,
    /// Our CNAME for RTCP.
    pub cname: String,
    /// Milliseconds of audio in a packet of ours.
    pub ptime: u8,
    /// Whether the browser can use Opus' in-band error correction (RFC 7587 `useinbandfec`).
    pub opus_fec: bool,
    /// The most bits per second of Opus that it wants to receive (RFC 7587 `maxaveragebitrate`).
    pub opus_bitrate: Option<u32>,
    /// The header extension that carries our mid: its number and the mid ([RFC 8843](https://www.rfc-editor.org/rfc/rfc8843) section 15).
    pub mid_extension: Option<(u8, String)>,
}

/// An RTP leg, to a trunk or a phone, as negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpMedia {
    /// The ports of ours that it uses.
    pub slot: RtpSlot,
    /// Whether the media line said RTP/SAVP: later descriptions of the session keep to it.
    pub savp: bool,
    /// The keys, where RTP and RTCP are protected.
    pub srtp: Option<SrtpPlan>,
    /// Where our RTP goes; `None` while the peer holds with 0.0.0.0 or wants none.
    pub remote_rtp: Option<SocketAddr>,
    /// Where the peer's RTP may come from besides the host of `remote_rtp`: the host of its signalling, where a NAT stands
    /// between, and the networks of its media servers as configured. Empty: only from the described host.
    pub sources: Vec<Network>,
    /// Where our RTCP goes: `a=rtcp`, or the RTP port plus one.
    pub remote_rtcp: Option<SocketAddr>,
    /// What we send.
    pub send: AcceptedCodec,
    /// What the peer may send, `send` among them.
    pub accepted: Vec<AcceptedCodec>,
    /// Digits in RTP; `None` when not negotiated.
    pub telephone_event: Option<TelephoneEvent>,
    /// The payload type of redundancy (RFC 2198): known to nobody but those who make a plan of their own, as no description of
    /// ours offers it to trunks and phones.
    pub red: Option<u8>,
    /// Further payload types under which the peer's digits are taken: ours, where its answer has a number of its own.
    pub accepted_events: Vec<TelephoneEvent>,
    /// Digits as tones in the sound, both ways; `None`: tones are sound like any other.
    pub inband: Option<InBand>,
    /// Whether G.711 is passed on as it comes.
    pub pass: Pass,
    /// The payload type of comfort noise ([RFC 3389](https://www.rfc-editor.org/rfc/rfc3389)) if the peer named it.
    pub comfort_noise: Option<u8>,
    /// Seen from ourselves.
    pub direction: Direction,
    /// The SSRC that we send with.
    pub ssrc: u32,
    /// Milliseconds of audio in a packet of ours.
    pub ptime: u8,
    /// Whether the peer can use Opus' in-band error correction (RFC 7587 `useinbandfec`).
    pub opus_fec: bool,
    /// The most bits per second of Opus that it wants to receive (RFC 7587 `maxaveragebitrate`).
    pub opus_bitrate: Option<u32>,
    /// Whether the peer wants VoIP metrics in our RTCP ([RFC 3611](https://www.rfc-editor.org/rfc/rfc3611#section-5.1)
    /// section 5.1, `a=rtcp-xr:voip-metrics`).
    pub voip_metrics: bool,
}

impl RtpMedia {
    /// The simplest leg: plain RTP in slot 0, both ways with one codec in packets of 20 ms, RTCP one port above, no digits.
    pub fn new(remote: SocketAddr, send: AcceptedCodec, ssrc: u32) -> Self {
        RtpMedia {
            slot: RtpSlot(0),
            savp: false,
            srtp: None,
            remote_rtp: Some(remote),
            sources: Vec::new(),
            remote_rtcp: remote.port().checked_add(1).map(|port| SocketAddr::new(remote.ip(), port)),
            send,
            accepted: vec![send],
            telephone_event: None,
            red: None,
            accepted_events: Vec::new(),
            inband: None,
            pass: Pass::Quality,
            comfort_noise: None,
            direction: Direction::SendRecv,
            ssrc,
            ptime: 20,
            voip_metrics: false,
            opus_fec: false,
            opus_bitrate: None,
        }
    }
}

/// One of the two sides of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who called.
    A,
    /// Who was called.
    B,
}

impl Side {
    /// Both.
    pub const BOTH: [Side; 2] = [Side::A, Side::B];

    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// What the signalling plane tells a worker about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaCommand {
    /// The call's first plan.
    Start(MediaPlan),
    /// A later plan, which replaces the one before.
    Update(MediaPlan),
    /// Play digits to one side.
    Digits {
        /// The side that shall hear them.
        to: Side,
        /// `0-9 * # A-D`, in order.
        digits: String,
        /// The length of each in milliseconds.
        ms: u16,
    },
    /// The call is over: report [`MediaReport::Stopped`] and forget it.
    Stop,
}

/// What a leg's transport goes by: another one has another name, and so has a browser's after an ICE restart. A report that
/// crosses a new plan on its way is known by it as one of what was before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TransportName {
    /// A browser's: our ufrag.
    Ice(String),
    /// An RTP peer's: our SSRC.
    Rtp(u32),
}

/// What a worker reports about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaReport {
    /// ICE and DTLS of a browser's leg are up.
    Connected {
        /// Whose.
        side: Side,
        /// Which of those that it had.
        transport: TransportName,
    },
    /// The first valid RTP packet of a side.
    FirstRtp(Side),
    /// A telephone-event of a side without a browser began.
    EventBegan(Side),
    /// A digit that came in RTP or as a tone has ended.
    Digit {
        /// The side that pressed it.
        from: Side,
        /// One of `0-9 * # A-D`.
        digit: char,
        /// How long it was held, in milliseconds.
        ms: u16,
    },
    /// A leg's media is lost for good.
    Lost {
        /// Whose.
        side: Side,
        /// Which of those that it had.
        transport: TransportName,
        /// Why.
        loss: MediaLoss,
    },
    /// How the call sounds: once a second while it has two legs, or one that hears [`Hears::Comfort`].
    Quality(CallQuality),
    /// Why what `from` says does not reach the other side, or, with `None`, that it does again. Comes at each change, and
    /// says nothing of a call that rings or is on hold.
    Audio {
        /// Whose sound it is.
        from: Side,
        /// Why it is not heard.
        verdict: Option<Verdict>,
    },
    /// A fault of our own: the call has no media any more.
    Failed,
    /// The last report of a call.
    Stopped(MediaStats),
}

/// Why a leg's media was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MediaLoss {
    /// No STUN check of the browser arrived in time.
    IceTimeout,
    /// The browser's checks stopped ([RFC 7675](https://www.rfc-editor.org/rfc/rfc7675)): its tab or its network is gone.
    ConsentExpired,
    /// The DTLS handshake failed.
    DtlsFailed,
    /// The browser's certificate is not the one that its description named.
    FingerprintMismatch,
    /// The browser closed its peer connection (DTLS close_notify): the page left or hung up without saying so.
    BrowserClosed,
    /// An RTP peer sent nothing for too long although it should.
    RtpSilent,
}

/// Counters of one call's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MediaStats {
    /// Who called: all legs that this side had.
    pub a: LegStats,
    /// Who was called.
    pub b: LegStats,
}

impl MediaStats {
    /// The counters of a side.
    pub fn side(&self, side: Side) -> &LegStats {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

/// Counters of one leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LegStats {
    /// RTP packets received and taken.
    pub packets_in: u64,
    /// Their payload bytes.
    pub bytes_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Their payload bytes.
    pub bytes_out: u64,
    /// Packets that never arrived, by their sequence numbers.
    pub lost: u64,
    /// Packets that did not come, or not in time, and were played, or passed on, from a later one's redundancy ([RFC 2198](https://www.rfc-editor.org/rfc/rfc2198)).
    pub repaired: u64,
    /// Interarrival jitter in milliseconds ([RFC 3550](https://www.rfc-editor.org/rfc/rfc3550#section-6.4.1) section 6.4.1).
    pub jitter_ms: u32,
    /// Milliseconds of audio that had to be invented.
    pub concealed_ms: u64,
    /// Milliseconds of audio that were left out, to shorten the delay.
    pub accelerated_ms: u64,
    /// Milliseconds of audio that were added, to lengthen it.
    pub stretched_ms: u64,
    /// Packets refused: from a source not latched, or not authentic.
    pub rejected: u64,
    /// Milliseconds from a browser's description to its first connectivity check that passed.
    pub ice_ms: Option<u32>,
    /// Milliseconds from there to the end of the DTLS handshake.
    pub dtls_ms: Option<u32>,
}

impl LegStats {
    /// These counters and those of the leg that took the place of theirs; the jitter is the later leg's, the times of the
    /// set-up are the first one's.
    pub fn and(self, later: LegStats) -> LegStats {
        LegStats {
            packets_in: self.packets_in + later.packets_in,
            bytes_in: self.bytes_in + later.bytes_in,
            packets_out: self.packets_out + later.packets_out,
            bytes_out: self.bytes_out + later.bytes_out,
            lost: self.lost + later.lost,
            repaired: self.repaired + later.repaired,
            jitter_ms: if later.packets_in > 0 { later.jitter_ms } else { self.jitter_ms },
            concealed_ms: self.concealed_ms + later.concealed_ms,
            accelerated_ms: self.accelerated_ms + later.accelerated_ms,
            stretched_ms: self.stretched_ms + later.stretched_ms,
            rejected: self.rejected + later.rejected,
            ice_ms: self.ice_ms.or(later.ice_ms),
            dtls_ms: self.dtls_ms.or(later.dtls_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_never_opens_more_than_the_offer_rfc3264_6_1() {
        use Direction::*;
        let table = [
            // offered (the peer's view), wanted, answered (ours)
            (SendRecv, SendRecv, SendRecv),
            (SendRecv, SendOnly, SendOnly),
            (SendRecv, RecvOnly, RecvOnly),
            (SendRecv, Inactive, Inactive),
            (SendOnly, SendRecv, RecvOnly),
            (SendOnly, SendOnly, Inactive),
            (SendOnly, RecvOnly, RecvOnly),
            (SendOnly, Inactive, Inactive),
            (RecvOnly, SendRecv, SendOnly),
            (RecvOnly, SendOnly, SendOnly),
            (RecvOnly, RecvOnly, Inactive),
            (RecvOnly, Inactive, Inactive),
            (Inactive, SendRecv, Inactive),
            (Inactive, SendOnly, Inactive),
            (Inactive, RecvOnly, Inactive),
            (Inactive, Inactive, Inactive),
        ];
        for (offered, wanted, answered) in table {
            assert_eq!(wanted.answer_to(offered), answered, "offered {offered}, wanted {wanted}");
        }
    }

    #[test]
    fn a_direction_is_its_name_and_its_two_halves() {
        for direction in [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive] {
            assert_eq!(Direction::from_attribute(direction.as_str()), Some(direction));
            assert_eq!(direction.reversed().reversed(), direction);
            assert_eq!(Direction::new(direction.sends(), direction.receives()), direction);
        }
        assert_eq!(Direction::from_attribute("SendRecv"), None);
    }
}
