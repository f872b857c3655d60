//! What protects a leg's media: the credentials of ICE, the certificates of DTLS, the keys of SDES.

use std::fmt;

/// ICE credentials of one side ([RFC 8839](https://www.rfc-editor.org/rfc/rfc8839#section-5.4) section 5.4).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IceCredentials {
    /// 4 to 256 characters.
    pub ufrag: String,
    /// 22 to 256 characters.
    pub pwd: String,
}

impl IceCredentials {
    /// These, as they are.
    pub fn new(ufrag: impl Into<String>, pwd: impl Into<String>) -> Self {
        Self { ufrag: ufrag.into(), pwd: pwd.into() }
    }

    /// What the ufrag begins with; see [`Lease`](crate::call::Lease).
    pub fn mark(&self) -> char {
        self.ufrag.chars().next().unwrap_or('A')
    }
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

/// A suite of SRTP ([RFC 4568](https://www.rfc-editor.org/rfc/rfc4568#section-6.2) section 6.2,
/// [RFC 7714](https://www.rfc-editor.org/rfc/rfc7714#section-14.2) section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpSuite {
    /// AES in counter mode with tags of 80 bits.
    AesCm128HmacSha1_80,
    /// The same with tags of 32 bits on RTP.
    AesCm128HmacSha1_32,
    /// AES-128 in Galois/counter mode.
    AeadAes128Gcm,
    /// AES-256 in Galois/counter mode.
    AeadAes256Gcm,
}

/// A master key followed by its master salt, as SDES carries them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SrtpKey(pub Vec<u8>);

impl fmt::Debug for SrtpKey {
    /// A key never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SrtpKey(..)")
    }
}

/// How an RTP leg is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtpPlan {
    /// The suite, one for both ways.
    pub suite: SrtpSuite,
    /// What we protect with.
    pub our_key: SrtpKey,
    /// What the peer protects with.
    pub their_key: SrtpKey,
    /// Bytes of the master key identifier in the peer's packets (RFC 3711 section 3.1); 0: it sends none.
    pub their_mki: u8,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
        let ice = IceCredentials::new("abcd", "very-secret-password-22");
        assert!(!format!("{ice:?}").contains("secret"));
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = SrtpKey(b"very secret".to_vec());
        let plan = SrtpPlan { suite: SrtpSuite::AeadAes128Gcm, our_key: key.clone(), their_key: key, their_mki: 0 };
        let text = format!("{plan:?}");
        assert!(!text.contains("118") && !text.contains("secret"), "{text}");
    }
}
