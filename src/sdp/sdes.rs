//! SRTP keys in session descriptions: SDES ([RFC 4568](https://www.rfc-editor.org/rfc/rfc4568)), required (RTP/SAVP) or as
//! the peer can ([RFC 8643](https://www.rfc-editor.org/rfc/rfc8643): `a=crypto` under RTP/AVP).
//!
//! Each description of ours has one key for each suite, the same for the life of a session: a re-offer changes no key by
//! itself, and so both sides keep their rollover counters (RFC 4568 section 7.1.4).

use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use super::keys::{SrtpKey, SrtpPlan, SrtpSuite};
use super::session::SdpError;

/// Peers pad or do not (RFC 4568 section 6.1 leaves it to base64).
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The most `a=crypto` lines that are read.
const MOST_LINES: usize = 16;

/// Whether a leg's media is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SrtpPolicy {
    /// Plain RTP alone: keys are neither offered nor taken.
    #[default]
    Off,
    /// Keys are offered under RTP/AVP, and taken wherever the peer has some (RFC 8643).
    Optional,
    /// RTP/SAVP with keys, or no media.
    Required,
}

impl SrtpSuite {
    /// All, in the order of our offers: first what every peer has.
    pub const ALL: [SrtpSuite; 4] = [
        SrtpSuite::AesCm128HmacSha1_80,
        SrtpSuite::AeadAes128Gcm,
        SrtpSuite::AeadAes256Gcm,
        SrtpSuite::AesCm128HmacSha1_32,
    ];

    /// The name in `a=crypto`.
    pub fn name(self) -> &'static str {
        match self {
            SrtpSuite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            SrtpSuite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            SrtpSuite::AeadAes128Gcm => "AEAD_AES_128_GCM",
            SrtpSuite::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// The suite of a name, if we have it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of the master key.
    pub fn key_len(self) -> usize {
        if self == SrtpSuite::AeadAes256Gcm { 32 } else { 16 }
    }

    /// Bytes of the tag at the end of a packet, behind the master key identifier; 0 where the tag is part of the cipher's
    /// text. 32 bits are for RTP alone (RFC 4568 section 6.2.2).
    pub fn tag_len(self, is_rtp: bool) -> usize {
        match self {
            SrtpSuite::AesCm128HmacSha1_32 if is_rtp => 4,
            SrtpSuite::AesCm128HmacSha1_80 | SrtpSuite::AesCm128HmacSha1_32 => 10,
            SrtpSuite::AeadAes128Gcm | SrtpSuite::AeadAes256Gcm => 0,
        }
    }

    /// Bytes of the master key and its salt.
    pub fn key_and_salt_len(self) -> usize {
        match self {
            SrtpSuite::AesCm128HmacSha1_80 | SrtpSuite::AesCm128HmacSha1_32 => 30,
            SrtpSuite::AeadAes128Gcm => 28,
            SrtpSuite::AeadAes256Gcm => 44,
        }
    }
}

/// Our own keys for one session, one for each suite.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKeys([u8; SrtpKeys::LEN]);

impl SrtpKeys {
    /// Random bytes needed.
    pub const LEN: usize = 132;

    /// Keys from random bytes, which must come from a generator that nobody can guess and serve no other session.
    pub fn new(random: [u8; SrtpKeys::LEN]) -> Self {
        SrtpKeys(random)
    }

    /// The key for a suite.
    pub fn key(&self, suite: SrtpSuite) -> SrtpKey {
        let before = SrtpSuite::ALL.into_iter().take_while(|other| *other != suite);
        let start: usize = before.map(SrtpSuite::key_and_salt_len).sum();
        SrtpKey(self.0.get(start..start + suite.key_and_salt_len()).unwrap_or_default().to_vec())
    }
}

impl fmt::Debug for SrtpKeys {
    /// Keys never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SrtpKeys(..)")
    }
}

/// What we bring to the negotiation of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtpLocal {
    /// What the trunk is to have.
    pub policy: SrtpPolicy,
    /// Our keys.
    pub keys: SrtpKeys,
    /// What an earlier offer and answer of this session came to: a re-offer of ours keeps to it.
    pub agreed: Option<SrtpAgreed>,
}

/// What an offer and answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SrtpAgreed {
    /// Whether the media line said RTP/SAVP.
    pub savp: bool,
    /// The suite; `None`: plain RTP.
    pub suite: Option<SrtpSuite>,
}

impl SrtpLocal {
    /// Plain RTP.
    pub fn off() -> Self {
        SrtpLocal { policy: SrtpPolicy::Off, keys: SrtpKeys([0; SrtpKeys::LEN]), agreed: None }
    }

    /// The suites of an offer.
    fn offered(&self) -> Vec<SrtpSuite> {
        match (self.policy, self.agreed) {
            (SrtpPolicy::Off, _) => Vec::new(),
            (_, Some(agreed)) => agreed.suite.into_iter().collect(),
            (_, None) => SrtpSuite::ALL.to_vec(),
        }
    }

    /// The transport of an offer.
    pub(super) fn transport(&self) -> &'static str {
        let savp = match self.agreed {
            Some(agreed) => agreed.savp,
            None => self.policy == SrtpPolicy::Required,
        };
        if savp { "RTP/SAVP" } else { "RTP/AVP" }
    }

    /// The `a=crypto` lines of an offer.
    pub(super) fn offer_lines(&self) -> String {
        let lines = self.offered().into_iter().zip(1_u32..);
        lines.map(|(suite, tag)| self.line(tag, suite)).collect()
    }

    fn line(&self, tag: u32, suite: SrtpSuite) -> String {
        format!("a=crypto:{tag} {} inline:{}\r\n", suite.name(), STANDARD.encode(self.keys.key(suite).0))
    }

    /// Reads the keys of the peer's answer under `transport`; `None`: plain RTP.
    ///
    /// # Errors
    /// [`SdpError::Transport`] and [`SdpError::Crypto`] where the policy does not allow what was answered.
    pub(super) fn read_answer(&self, transport: Transport, crypto: &[&str]) -> Result<Option<SrtpPlan>, SdpError> {
        let offered = self.offered();
        let found = usable(crypto).find(|line| offered.contains(&line.suite));
        self.judge(transport, found.map(|line| self.plan(line)))
    }

    /// Chooses among the keys of the peer's offer under `transport`: ours, and the `a=crypto` line of our answer; `None`:
    /// plain RTP.
    ///
    /// # Errors
    /// [`SdpError::Transport`] and [`SdpError::Crypto`] where the policy does not allow what was offered.
    pub(super) fn answer(&self, transport: Transport, crypto: &[&str]) -> Result<Option<(SrtpPlan, String)>, SdpError> {
        // The offerer's first is the one it wants most (RFC 4568 section 5.1.2).
        let found = usable(crypto).next().filter(|_| self.policy != SrtpPolicy::Off);
        let chosen = found.map(|line| {
            let text = self.line(line.tag, line.suite);
            (self.plan(line), text)
        });
        self.judge(transport, chosen)
    }

    fn plan(&self, line: CryptoLine) -> SrtpPlan {
        SrtpPlan { suite: line.suite, our_key: self.keys.key(line.suite), their_key: line.key, their_mki: line.mki }
    }

    /// Whether the policy allows it.
    fn judge<T>(&self, transport: Transport, keys: Option<T>) -> Result<Option<T>, SdpError> {
        match (self.policy, transport) {
            (_, Transport::Other) | (SrtpPolicy::Off, Transport::Savp) => Err(SdpError::Transport),
            (SrtpPolicy::Off, Transport::Avp) => Ok(None),
            (SrtpPolicy::Optional, Transport::Avp) => Ok(keys),
            (SrtpPolicy::Required, Transport::Avp) | (_, Transport::Savp) => keys.map(Some).ok_or(SdpError::Crypto),
        }
    }
}

/// The transport of a media line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// RTP/AVP, or RTP/AVPF.
    Avp,
    /// RTP/SAVP, or RTP/SAVPF.
    Savp,
    /// Not ours.
    Other,
}

impl Transport {
    pub(super) fn of(proto: &str) -> Self {
        let is = |names: [&str; 2]| names.iter().any(|name| proto.eq_ignore_ascii_case(name));
        if is(["RTP/AVP", "RTP/AVPF"]) {
            Transport::Avp
        } else if is(["RTP/SAVP", "RTP/SAVPF"]) {
            Transport::Savp
        } else {
            Transport::Other
        }
    }
}

/// One `a=crypto` line that we can use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CryptoLine {
    tag: u32,
    suite: SrtpSuite,
    key: SrtpKey,
    /// Bytes of the identifier that each packet under this key carries.
    mki: u8,
}

/// The lines that we can use, in their order. Those with suites or parameters that we do not have are passed over
/// (RFC 4568 section 5.1.2).
fn usable<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = CryptoLine> + 'a {
    lines.iter().take(MOST_LINES).filter_map(|line| read(line))
}

/// Reads the value of an `a=crypto` attribute (RFC 4568 section 9.1).
fn read(value: &str) -> Option<CryptoLine> {
    let mut words = value.split_ascii_whitespace();
    let tag = words.next().filter(|tag| tag.len() <= 9 && tag.bytes().all(|byte| byte.is_ascii_digit()))?;
    let suite = SrtpSuite::from_name(words.next()?)?;
    let (key, mki) = read_key(words.next()?, suite)?;
    // What changes the protection must be followed or refused; a size of the replay window is a hint alone, and what is
    // marked `-` may be ignored (RFC 4568 section 6.3).
    let ignorable = |word: &str| word.starts_with('-') || word.to_ascii_uppercase().starts_with("WSH=");
    words.all(ignorable).then_some(CryptoLine { tag: tag.parse().ok()?, suite, key, mki })
}

/// Reads `inline:KEY[|LIFETIME][|MKI:LENGTH]`: the key, and the length of its MKI or 0. Several keys are not taken.
fn read_key(params: &str, suite: SrtpSuite) -> Option<(SrtpKey, u8)> {
    let (method, info) = params.split_once(':')?;
    if !method.eq_ignore_ascii_case("inline") {
        return None;
    }
    let mut parts = info.split('|');
    let key = LENIENT.decode(parts.next()?).ok().filter(|key| key.len() == suite.key_and_salt_len())?;
    let mki = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => 0,
        (Some(one), None, _) if is_lifetime(one) => 0,
        (Some(one), None, _) => mki_length(one)?,
        (Some(lifetime), Some(mki), None) if is_lifetime(lifetime) => mki_length(mki)?,
        _ => return None,
    };
    Some((SrtpKey(key), mki))
}

/// The length in `MKI:LENGTH`. The value is of no use where there is one key: the packet's tag proves it.
fn mki_length(text: &str) -> Option<u8> {
    let (value, length) = text.split_once(':')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|_| digits(value) && digits(length))?;
    (1..=128).contains(&length).then_some(length)
}

/// Packets that the key is good for, `2^N` or a number. A call sends fewer: less than 2^20, seven hours of packets of 20 ms,
/// is not taken.
fn is_lifetime(text: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    match text.strip_prefix("2^") {
        Some(power) => number(power).is_some_and(|power| (20..=48).contains(&power)),
        None => number(text).is_some_and(|packets| (1 << 20..=1 << 48).contains(&packets)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// RFC 4568's own example key.
    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    fn keys() -> SrtpKeys {
        SrtpKeys::new(std::array::from_fn(|n| n as u8))
    }

    fn local(policy: SrtpPolicy) -> SrtpLocal {
        SrtpLocal { policy, keys: keys(), agreed: None }
    }

    #[test]
    fn lines_of_the_field_are_read_rfc4568() {
        let suite = SrtpSuite::AesCm128HmacSha1_80;
        for line in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 aes_cm_128_hmac_sha1_80 INLINE:{KEY}|2^31"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1048576 WSH=64"),
            format!(" 1  AES_CM_128_HMAC_SHA1_80  inline:{KEY}|2^48 -unknown"),
        ] {
            let read = read(&line).expect(&line);
            assert_eq!((read.tag, read.suite, &read.key.0[..8]), (1, suite, &b"YS___sem"[..]), "{line}");
        }
        for (suite, len) in [("AEAD_AES_128_GCM", 28), ("AEAD_AES_256_GCM", 44), ("AES_CM_128_HMAC_SHA1_32", 30)] {
            for key in [STANDARD.encode(vec![7; len]), STANDARD.encode(vec![7; len]).replace('=', "")] {
                assert_eq!(read(&format!("9 {suite} inline:{key}")).expect(suite).key.0, vec![7; len]);
            }
        }
    }

    /// Skype for Business and Teams write one (RFC 4568 section 6.1).
    #[test]
    fn a_master_key_identifier_is_told() {
        for (parameters, mki) in [("|2^31|1:1", 1), ("|1:4", 4), ("|1048576|007:128", 128), ("|2^31", 0)] {
            let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{parameters}");
            assert_eq!(read(&line).map(|line| line.mki), Some(mki), "{line}");
        }
    }

    #[test]
    fn what_we_cannot_follow_is_passed_over() {
        for line in [
            String::new(),
            "1".into(),
            "1 AES_CM_128_HMAC_SHA1_80".into(),
            "1 AES_CM_128_HMAC_SHA1_80 inline:".into(),
            format!("x AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("+1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 mikey:{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", &KEY[4..]),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}AAAA"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}*", &KEY[1..]),
            format!("1 AEAD_AES_128_GCM inline:{KEY}"),
            // Several keys, and what is no MKI.
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31|1:0"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31|1:129"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31|1"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31|1:+4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31|:4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4|2^31"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31|1:4|x"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4;inline:{KEY}|2^20|2:4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}"),
            // Lifetimes that are none, or too short for a call.
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^8"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^64"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|0"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|+2097152"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|"),
            // Session parameters that weaken or change the protection.
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTCP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNAUTHENTICATED_SRTP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=1"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} FEC_ORDER=FEC_SRTP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} WSH=64 unknown"),
        ] {
            assert_eq!(read(&line), None, "{line}");
        }
    }

    #[test]
    fn each_suite_has_a_key_of_its_own() {
        let total: usize = SrtpSuite::ALL.into_iter().map(SrtpSuite::key_and_salt_len).sum();
        assert_eq!(total, SrtpKeys::LEN);
        let mut all: Vec<u8> = Vec::new();
        for suite in SrtpSuite::ALL {
            let key = keys().key(suite);
            assert_eq!(key.0.len(), suite.key_and_salt_len());
            all.extend(key.0);
            assert_eq!(SrtpSuite::from_name(suite.name()), Some(suite));
        }
        assert_eq!(all, keys().0);
        assert!(!format!("{:?}", local(SrtpPolicy::Required)).contains('7'));
    }

    #[test]
    fn offers_by_policy() {
        assert_eq!(
            (local(SrtpPolicy::Off).transport(), local(SrtpPolicy::Off).offer_lines().as_str()),
            ("RTP/AVP", "")
        );
        assert_eq!(local(SrtpPolicy::Optional).transport(), "RTP/AVP");
        let required = local(SrtpPolicy::Required);
        assert_eq!(required.transport(), "RTP/SAVP");
        let lines = required.offer_lines();
        let names: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(names, SrtpSuite::ALL.map(SrtpSuite::name));
        assert!(
            lines.starts_with("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n")
        );
        // A later offer says what was agreed, and nothing else.
        let agreed =
            |savp, suite| SrtpLocal { agreed: Some(SrtpAgreed { savp, suite }), ..local(SrtpPolicy::Optional) };
        let suite = Some(SrtpSuite::AeadAes128Gcm);
        assert_eq!(agreed(true, suite).transport(), "RTP/SAVP");
        assert!(agreed(true, suite).offer_lines().starts_with("a=crypto:1 AEAD_AES_128_GCM inline:"));
        assert_eq!(agreed(false, suite).offer_lines().lines().count(), 1);
        assert_eq!((agreed(false, None).transport(), agreed(false, None).offer_lines().as_str()), ("RTP/AVP", ""));
    }

    /// RFC 4568 section 5.1.2: the first line that we can use, its tag and suite echoed, with our own key.
    #[test]
    fn the_answer_echoes_tag_and_suite_with_our_own_key() {
        let lines = [
            "3 F8_128_HMAC_SHA1_80 inline:x".to_owned(),
            format!("5 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|2^31"),
            format!("7 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (plan, line) = local(SrtpPolicy::Required).answer(Transport::Savp, &lines).unwrap().unwrap();
        let own = keys().key(SrtpSuite::AesCm128HmacSha1_32);
        assert_eq!(line, format!("a=crypto:5 AES_CM_128_HMAC_SHA1_32 inline:{}\r\n", STANDARD.encode(&own.0)));
        assert_eq!((plan.suite, plan.our_key), (SrtpSuite::AesCm128HmacSha1_32, own));
        assert_eq!(plan.their_key.0, STANDARD.decode(KEY).unwrap());
    }

    /// Policy and transport: what is taken encrypted, what plain, what not at all (RFC 8643 section 3).
    #[test]
    fn policies_and_transports() {
        use SrtpPolicy::*;
        use Transport::*;
        let good = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
        let (good, bad, none): (&[&str], &[&str], &[&str]) = (&[&good], &["1 AES_CM_128_HMAC_SHA1_80 x"], &[]);
        let table = [
            (Off, Avp, none, Ok(false)),
            (Off, Avp, good, Ok(false)),
            (Off, Savp, good, Err(SdpError::Transport)),
            (Optional, Avp, none, Ok(false)),
            (Optional, Avp, bad, Ok(false)),
            (Optional, Avp, good, Ok(true)),
            (Optional, Savp, good, Ok(true)),
            (Optional, Savp, bad, Err(SdpError::Crypto)),
            (Optional, Savp, none, Err(SdpError::Crypto)),
            (Required, Avp, none, Err(SdpError::Crypto)),
            (Required, Avp, good, Ok(true)),
            (Required, Savp, good, Ok(true)),
            (Required, Savp, bad, Err(SdpError::Crypto)),
            (Optional, Other, good, Err(SdpError::Transport)),
        ];
        for (policy, transport, lines, expected) in table {
            let local = local(policy);
            let answered = local.answer(transport, lines).map(|keys| keys.is_some());
            assert_eq!(answered, expected, "offer: {policy:?} {transport:?} {lines:?}");
            let read = local.read_answer(transport, lines).map(|keys| keys.is_some());
            assert_eq!(read, expected, "answer: {policy:?} {transport:?} {lines:?}");
        }
        // An answer with a suite that was not offered (any more) is none.
        let agreed = Some(SrtpAgreed { savp: true, suite: Some(SrtpSuite::AeadAes128Gcm) });
        let later = SrtpLocal { agreed, ..local(Required) };
        assert_eq!(later.read_answer(Savp, good), Err(SdpError::Crypto));
    }
}
