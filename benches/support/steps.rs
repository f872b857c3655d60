//! The steps of a call whose cost is measured: `counts` counts their instructions, `media` takes their time.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringback::codec::opus::{OpusDecoder, OpusEncoder, OpusSettings};
use ringback::codec::{Codec, Decoder, Encoder, Rate};
use ringback::media::{Bridge, Means};
use ringback::rtp::jitter::Kind;
use ringback::rtp::packet::{RtpHeader, RtpPacket};
use ringback::rtp::playout::{Incoming, Playout};
use ringback::rtp::srtp::{Profile, SrtpContext};
use ringback::sdp::{BrowserLocal, BrowserOffer, CodecPolicy, IceCredentials, LegMedia, MediaPlan, Pass};
use ringback::sip::transaction::{TransactionOutput, Transactions};
use ringback::sip::{Flow, Message, Timers, Transport};
use ringback::webrtc::Identity;

use crate::call::{self, Call, Says};
use crate::voice::voice;

/// Inputs that a step has in turn.
const INPUTS: usize = 200;
/// What Chromium 156 offers for one microphone.
const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=extmap-allow-mixed\r\n\
    a=msid-semantic: WMS 7f3a\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=ice-options:trickle\r\n\
    a=fingerprint:sha-256 6B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r\n\
    a=setup:actpass\r\na=mid:0\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
    a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n\
    a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=sendrecv\r\na=msid:7f3a 5c1d\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
    a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\n\
    a=rtpmap:126 telephone-event/8000\r\na=ssrc:3570614608 cname:4TOk42mSjXCkVIa6\r\na=ssrc:3570614608 msid:7f3a 5c1d\r\n";
const INVITE: &str = "INVITE sip:+442079460999@192.0.2.9;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKBRANCH;rport\r\nMax-Forwards: 70\r\n\
    From: \"Alice\" <sip:+442079460142@192.0.2.1>;tag=a73kszlfl\r\nTo: <sip:+442079460999@192.0.2.9;user=phone>\r\n\
    Call-ID: 3848276298220188511@192.0.2.1\r\nCSeq: 1 INVITE\r\nContact: <sip:gw@192.0.2.1:5060>\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY\r\nSupported: 100rel, timer, replaces\r\n\
    Session-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\nP-Asserted-Identity: <sip:+442079460142@192.0.2.1>\r\n\
    Content-Type: application/sdp\r\nContent-Length: 4\r\n\r\nv=0\n";

/// What is done over and over.
pub trait Step {
    /// The world around it, which is not measured.
    fn before(&mut self) {}
    /// What is measured.
    fn work(&mut self);
}

/// Makes a step ready.
pub type Make = fn() -> Box<dyn Step>;

/// The steps by name.
pub const STEPS: [(&str, Make); 18] = [
    ("opus-decode", || opus_decode(None)),
    ("opus-decode-with-redundancy", || opus_decode(Some(10))),
    ("opus-decode-full-band", opus_decode_full_band),
    ("opus-encode", || opus_encode(None, voice)),
    ("opus-encode-with-redundancy", || opus_encode(Some(10), voice)),
    ("opus-encode-silence", || opus_encode(None, |_| [0; 160])),
    ("g711-decode-encode", g711),
    ("srtp-gcm-both-ways", || srtp(Profile::AeadAes128Gcm)),
    ("srtp-sha1-both-ways", || srtp(Profile::Aes128CmSha1_80)),
    ("playout-insert-fetch", playout),
    ("bridge-step-transcoded", || settled(Call::connected(Codec::Opus))),
    ("bridge-step-full-band", || settled(Call::connected_saying(Codec::Opus, Pass::Quality, full_band()))),
    ("bridge-step-silence", || settled(Call::connected(Codec::Opus).with_silent_trunk())),
    ("bridge-step-relayed", || settled(Call::connected(Codec::Pcmu))),
    ("bridge-step-passed-on", || settled(Call::connected_as(Codec::Pcmu, Pass::Cost))),
    ("browser-answer-and-bridge", || Box::new(SetUp::new())),
    ("sip-parse-invite", sip_parse),
    ("sip-transaction", sip_transaction),
];

/// A step that needs no world around it.
struct Plain<F>(F);

impl<F: FnMut()> Step for Plain<F> {
    fn work(&mut self) {
        (self.0)();
    }
}

/// A step with one input after the other, over and over.
struct Each<I, F> {
    inputs: Vec<I>,
    at: usize,
    work: F,
}

impl<I, F: FnMut(&I)> Step for Each<I, F> {
    fn before(&mut self) {
        self.at = (self.at + 1) % self.inputs.len();
    }

    fn work(&mut self) {
        (self.work)(black_box(&self.inputs[self.at]));
    }
}

fn each<I: 'static>(inputs: Vec<I>, work: impl FnMut(&I) + 'static) -> Box<dyn Step> {
    Box::new(Each { at: inputs.len() - 1, inputs, work })
}

fn encoder(fec: Option<u8>) -> OpusEncoder {
    OpusEncoder::new(Rate::Narrow, OpusSettings { fec, ..OpusSettings::default() }).expect("an encoder")
}

fn opus_encode(fec: Option<u8>, says: fn(usize) -> [i16; 160]) -> Box<dyn Step> {
    let (mut encoder, mut packet) = (encoder(fec), [0; 400]);
    each((0..INPUTS).map(says).collect(), move |frame| {
        black_box(encoder.encode(frame, &mut packet).expect("a packet"));
    })
}

fn opus_decode(fec: Option<u8>) -> Box<dyn Step> {
    let mut encoder = encoder(fec);
    let packet = |frame: usize| {
        let mut packet = vec![0; 400];
        let len = encoder.encode(&voice::<160>(frame), &mut packet).expect("a packet");
        packet.truncate(len);
        packet
    };
    decode((0..INPUTS).map(packet).collect())
}

fn opus_decode_full_band() -> Box<dyn Step> {
    decode((0..INPUTS as u64).map(full_band()).collect())
}

fn decode(packets: Vec<Vec<u8>>) -> Box<dyn Step> {
    let (mut decoder, mut pcm) = (OpusDecoder::new(Rate::Narrow).expect("a decoder"), [0; 960]);
    each(packets, move |packet| {
        black_box(decoder.decode(packet, &mut pcm).expect("sound"));
    })
}

/// What a browser says that was asked for nothing: the whole band, at 32 kbit/s.
fn full_band() -> Says {
    use opus::{Application, Bandwidth, Bitrate, Channels, Encoder};
    let mut encoder = Encoder::new(48_000, Channels::Mono, Application::Voip).expect("an encoder");
    encoder.set_bitrate(Bitrate::Bits(32_000)).expect("a bit rate");
    encoder.set_bandwidth(Bandwidth::Fullband).expect("the band");
    encoder.set_inband_fec(true).expect("redundancy");
    let mut packet = |frame| encoder.encode_vec(&voice::<960>(frame), 400).expect("a packet");
    let packets: Vec<Vec<u8>> = (0..INPUTS).map(&mut packet).collect();
    Box::new(move |frame| packets[frame as usize % INPUTS].clone())
}

fn g711() -> Box<dyn Step> {
    let mut encoder = Encoder::new(Codec::Pcmu, Rate::Narrow, OpusSettings::default()).expect("an encoder");
    let mut decoder = Decoder::new(Codec::Pcmu, Rate::Narrow).expect("a decoder");
    let (mut codes, mut pcm) = ([0; 160], [0; 960]);
    each(vec![voice::<160>(7)], move |frame| {
        let len = encoder.encode(frame, &mut codes).expect("a packet");
        black_box(decoder.decode(&codes[..len], &mut pcm).expect("sound"));
    })
}

fn srtp(profile: Profile) -> Box<dyn Step> {
    let key = vec![7; profile.key_len()];
    let salt = vec![9; profile.salt_len()];
    let context = || SrtpContext::new(profile, &key, &salt).expect("a context");
    let (mut ours, mut theirs) = (context(), context());
    let (mut packet, mut n) = ([0; 300], 0_u16);
    Box::new(Plain(move || {
        let header = RtpHeader { sequence: n, timestamp: u32::from(n) * 160, ssrc: 9, ..RtpHeader::default() };
        n = n.wrapping_add(1);
        header.write(&mut packet).expect("room");
        let len = ours.protect_rtp(&mut packet, 172).expect("room");
        black_box(theirs.unprotect_rtp(&mut packet[..len]).expect("authentic"));
    }))
}

fn playout() -> Box<dyn Step> {
    let (start, mut playout) = (Instant::now(), Playout::new(20));
    let (payload, mut n) = ([0; 160], 0_u32);
    Box::new(Plain(move || {
        let now = start + Duration::from_millis(u64::from(n) * 20);
        let header = RtpHeader { sequence: n as u16, timestamp: n.wrapping_mul(160), ..RtpHeader::default() };
        n += 1;
        let packet = RtpPacket { header, payload: &payload };
        playout.insert(now, &Incoming { packet, clock_rate: 8_000, duration: 160, kind: Kind::Audio, fec: false });
        black_box(playout.next(now, 0));
    }))
}

/// A whole step of a bridge: one packet in and one out in each direction, SRTP included; divide by 20 ms for the share of a
/// core that a call takes.
impl Step for Call {
    fn before(&mut self) {
        self.around();
        self.forget();
        self.prepare();
    }

    fn work(&mut self) {
        Call::work(self);
    }
}

/// The delay of the first seconds, which differs from run to run, has been played away.
fn settled(mut call: Call) -> Box<dyn Step> {
    for _ in 0..1_000 {
        call.before();
        call.work();
    }
    Box::new(call)
}

/// A browser's offer is read and answered, and a bridge made, with all that the process has for all calls: the browser's part of
/// a call's set-up before its first datagram.
struct SetUp {
    local: BrowserLocal,
    policy: CodecPolicy,
    means: Means,
    made: Option<Bridge>,
}

impl SetUp {
    fn new() -> Self {
        let identity = Identity::generate().expect("a certificate");
        let local = BrowserLocal {
            ice: IceCredentials::new("ourufrag", "our-password-of-24-chars"),
            fingerprint: identity.fingerprint(),
            candidates: vec![address(9)],
            ssrc: 9,
            cname: "gateway".into(),
            session_id: 77,
            version: 1,
        };
        let means = Means { identity: Some(identity), music: None };
        Self { local, policy: CodecPolicy::default(), means, made: None }
    }
}

impl Step for SetUp {
    fn before(&mut self) {
        self.made = None;
    }

    fn work(&mut self) {
        let offer = BrowserOffer::read(black_box(OFFER)).expect("an offer");
        let (answer, browser) = offer.answer(&self.local, &self.policy).expect("an answer");
        black_box(answer);
        let plan = MediaPlan {
            a: Some(call::leg(LegMedia::Browser(browser))),
            b: Some(call::leg(LegMedia::Rtp(call::trunk_media(address(1))))),
        };
        self.made = Some(Bridge::new(Instant::now(), plan, &self.means, [3; 32]).expect("a bridge"));
    }
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 5_060))
}

fn sip_parse() -> Box<dyn Step> {
    each(vec![INVITE.as_bytes()], |bytes| {
        black_box(Message::parse(bytes).expect("a message"));
    })
}

/// An INVITE comes, is answered with 100, 180 and 486, and acknowledged.
fn sip_transaction() -> Box<dyn Step> {
    let flow = Flow { transport: Transport::Udp, local: address(9), remote: address(1), id: 0 };
    let parsed = |text: &str| Message::parse(text.as_bytes()).expect("a message");
    let pair = |n: usize| {
        let invite = INVITE.replace("BRANCH", &format!("b{n}"));
        let to = "To: <sip:+442079460999@192.0.2.9;user=phone>";
        let ack = invite.replace("INVITE", "ACK").replace(to, &format!("{to};tag=b"));
        (parsed(&invite), parsed(&ack))
    };
    let (mut now, mut transactions) = (Instant::now(), Transactions::new(Timers::default(), 1_000));
    each((0..INPUTS).map(pair).collect(), move |(invite, ack)| {
        transactions.receive(now, flow, invite.clone());
        while let Some(output) = transactions.poll_output() {
            if let TransactionOutput::Request { id, request, .. } = output {
                for (status, reason) in [(100, "Trying"), (180, "Ringing"), (486, "Busy Here")] {
                    transactions.respond(now, id, request.response(status, reason));
                }
            }
        }
        transactions.receive(now, flow, ack.clone());
        while transactions.poll_output().is_some() {}
        now += Duration::from_secs(10);
        transactions.handle_timeout(now);
        while transactions.poll_output().is_some() {}
        assert!(transactions.is_empty(), "the transaction has ended");
    })
}
