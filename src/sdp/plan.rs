//! The media plan: what the signalling plane wants of a call's media, as plain data, and what the media plane reports.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::codec::Codec;

/// The desired state of a call's media, whole. A worker applies it idempotently: the same plan twice is no event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MediaPlan {
    /// The browser's leg; `None` until the browser's description is known (an incoming call that rings).
    pub browser: Option<BrowserMedia>,
    /// The trunk's leg; `None` until the trunk's description is known.
    pub trunk: Option<TrunkMedia>,
    /// The ringing tone that the browser hears for as long as no valid early RTP arrives
    /// ([RFC 3960](https://www.rfc-editor.org/rfc/rfc3960#section-3.2) section 3.2); `None`: none.
    pub ringback: Option<Tone>,
    /// `false` while media is early: the browser's audio is not yet sent to the trunk.
    pub established: bool,
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

/// ICE credentials of one side ([RFC 8839](https://www.rfc-editor.org/rfc/rfc8839#section-5.4) section 5.4).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IceCredentials {
    /// 4 to 256 characters.
    pub ufrag: String,
    /// 22 to 256 characters.
    pub pwd: String,
}

impl fmt::Debug for IceCredentials {
    /// The password never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// The fingerprint of a certificate ([RFC 8122](https://www.rfc-editor.org/rfc/rfc8122#section-5) section 5).
/// `Display` and `FromStr` are the value of `a=fingerprint`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// The hash's name in lower case, as in `sha-256`.
    pub algorithm: String,
    /// The digest, raw: 20 to 64 bytes.
    pub digest: Vec<u8>,
}

/// Why a text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate fingerprint")]
pub struct FingerprintError;

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.algorithm)?;
        for (index, byte) in self.digest.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let (algorithm, digest) = text.trim().split_once(' ').ok_or(FingerprintError)?;
        let algorithm = algorithm.to_ascii_lowercase();
        let expected = digest_length(&algorithm);
        let digest = digest
            .trim()
            .split(':')
            .map(|pair| match pair.as_bytes() {
                // `from_str_radix` alone would take a sign.
                [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                    u8::from_str_radix(pair, 16).map_err(|_| FingerprintError)
                }
                _ => Err(FingerprintError),
            })
            .collect::<Result<Vec<u8>, _>>()?;
        if expected.is_some_and(|expected| expected != digest.len()) || digest.len() > 64 {
            return Err(FingerprintError);
        }
        Ok(Fingerprint { algorithm, digest })
    }
}

/// The length of a digest by its name in RFC 8122; `None` for a name that we do not know.
fn digest_length(algorithm: &str) -> Option<usize> {
    match algorithm {
        "md5" => Some(16),
        "sha-1" => Some(20),
        "sha-224" => Some(28),
        "sha-256" => Some(32),
        "sha-384" => Some(48),
        "sha-512" => Some(64),
        _ => None,
    }
}

/// Our own role in the DTLS handshake ([RFC 5763](https://www.rfc-editor.org/rfc/rfc5763#section-5) section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DtlsRole {
    /// We are the server and wait for the ClientHello: the default.
    Passive,
    /// We are the client.
    Active,
}

/// A codec under the payload number that was negotiated for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AcceptedCodec {
    /// The RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// The codec.
    pub codec: Codec,
}

/// Digits in RTP ([RFC 4733](https://www.rfc-editor.org/rfc/rfc4733)) as negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TelephoneEvent {
    /// The RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// The RTP clock in Hz: 8000, or 48000 beside Opus.
    pub clock_rate: u32,
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
    /// The header extension that carries our mid: its number and the mid ([RFC 8843](https://www.rfc-editor.org/rfc/rfc8843) section 15).
    pub mid_extension: Option<(u8, String)>,
}

/// The trunk's leg as negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkMedia {
    /// Where our RTP goes; `None` while the peer holds with 0.0.0.0 or wants none.
    pub remote_rtp: Option<SocketAddr>,
    /// The host that the peer's signalling comes from: besides that of `remote_rtp` the only one whose RTP may be taken for
    /// the peer's, where a NAT stands between. `None`: only the described host's is.
    pub peer: Option<IpAddr>,
    /// Where our RTCP goes: `a=rtcp`, or the RTP port plus one.
    pub remote_rtcp: Option<SocketAddr>,
    /// What we send.
    pub send: AcceptedCodec,
    /// What the trunk may send, `send` among them.
    pub accepted: Vec<AcceptedCodec>,
    /// Digits in RTP; `None` when not negotiated.
    pub telephone_event: Option<TelephoneEvent>,
    /// Further payload types under which the peer's digits are taken: ours, where its answer has a number of its own.
    pub accepted_events: Vec<TelephoneEvent>,
    /// The payload type of comfort noise ([RFC 3389](https://www.rfc-editor.org/rfc/rfc3389)) if the peer named it.
    pub comfort_noise: Option<u8>,
    /// Seen from ourselves.
    pub direction: Direction,
    /// The SSRC that we send with.
    pub ssrc: u32,
    /// Milliseconds of audio in a packet of ours.
    pub ptime: u8,
}

/// One of the two legs of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The browser's leg.
    Browser,
    /// The trunk's leg.
    Trunk,
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

/// What a worker reports about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaReport {
    /// ICE and DTLS of the browser's leg are up.
    Connected,
    /// The first valid RTP packet of a side.
    FirstRtp(Side),
    /// A digit came in RTP.
    Digit {
        /// The side that pressed it.
        from: Side,
        /// One of `0-9 * # A-D`.
        digit: char,
        /// How long it was held, in milliseconds.
        ms: u16,
    },
    /// A leg's media is lost for good.
    Lost(MediaLoss),
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
    /// A fault of our own in this call's bridge.
    BridgePanic,
    /// The trunk sent nothing for too long although it should.
    TrunkSilent,
}

/// Counters of one call's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MediaStats {
    /// The browser's leg.
    pub browser: LegStats,
    /// The trunk's leg.
    pub trunk: LegStats,
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
    /// Interarrival jitter in milliseconds ([RFC 3550](https://www.rfc-editor.org/rfc/rfc3550#section-6.4.1) section 6.4.1).
    pub jitter_ms: u32,
    /// Milliseconds of audio that had to be invented.
    pub concealed_ms: u64,
    /// Packets refused: from a source not latched, or not authentic.
    pub rejected: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
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

    #[test]
    fn a_fingerprint_reads_what_it_writes() {
        let digest: Vec<u8> = (0..32).map(|n| n * 7).collect();
        let fingerprint = Fingerprint { algorithm: "sha-256".into(), digest };
        let text = fingerprint.to_string();
        assert!(text.starts_with("sha-256 00:07:0E:"), "{text}");
        assert_eq!(text.parse::<Fingerprint>().unwrap(), fingerprint);
        assert_eq!(text.to_ascii_lowercase().parse::<Fingerprint>().unwrap(), fingerprint);
    }

    #[test]
    fn a_bad_fingerprint_is_refused() {
        for text in ["", "sha-256", "sha-256 ", "sha-256 00:11", "sha-256 +1:22", "sha-1 zz:11", "x 0", "x é:11"] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let ice = IceCredentials { ufrag: "abcd".into(), pwd: "very-secret-password-22".into() };
        assert!(!format!("{ice:?}").contains("secret"));
    }
}
