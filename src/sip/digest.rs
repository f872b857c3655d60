//! Digest authentication as a client ([RFC 7616](https://www.rfc-editor.org/rfc/rfc7616),
//! [RFC 8760](https://www.rfc-editor.org/rfc/rfc8760)): MD5 and SHA-256, their session variants, qop `auth`, `auth-int`
//! or none (RFC 2069). The server's side is in `authority`.

use std::fmt;
use std::str::FromStr;

use md5::{Digest, Md5};
use sha2::Sha256;
use thiserror::Error;

use super::message::Method;
use super::uri::{has_line_break, split_outside_quotes};

/// Why a challenge cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DigestError {
    /// Not a Digest challenge, or without realm or nonce.
    #[error("not a digest challenge")]
    Malformed,
    /// Neither MD5 nor SHA-256.
    #[error("unknown digest algorithm")]
    Algorithm,
    /// Neither `auth` nor `auth-int`.
    #[error("unknown quality of protection")]
    Qop,
    /// The credentials are for another realm.
    #[error("a challenge of another realm")]
    Realm,
    /// A value that may not enter a header.
    #[error("bad character in the credentials")]
    Character,
}

/// User name and password for a trunk's challenges. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
    /// The only realm to answer; `None`: any of that trunk.
    pub realm: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// The value of WWW-Authenticate or Proxy-Authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Whose it is.
    pub realm: String,
    /// The server's once-value.
    pub nonce: String,
    /// To be returned as it is.
    pub opaque: Option<String>,
    /// As written; MD5 where none is.
    pub algorithm: Option<String>,
    /// The qualities of protection on offer.
    pub qop: Vec<String>,
    /// Only the nonce was too old: the password need not be wrong.
    pub stale: bool,
}

impl FromStr for Challenge {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Challenge, DigestError> {
        let fields = Fields::parse(text).ok_or(DigestError::Malformed)?;
        let get = |name: &str| fields.get(name);
        Ok(Challenge {
            realm: get("realm").ok_or(DigestError::Malformed)?,
            nonce: get("nonce").ok_or(DigestError::Malformed)?,
            opaque: get("opaque"),
            algorithm: get("algorithm"),
            qop: get("qop").map(|q| q.split(',').map(|w| w.trim().to_ascii_lowercase()).collect()).unwrap_or_default(),
            stale: get("stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
        })
    }
}

/// The parameters of a challenge or of its answer, quotes resolved.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `Digest name=value, name="value"`; `None` for another scheme and for a quote that stays open.
    pub(super) fn parse(text: &str) -> Option<Fields> {
        let (scheme, params) = text.trim().split_once(char::is_whitespace)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let pairs = split_outside_quotes(params, ',')?.into_iter().filter_map(|part| part.split_once('='));
        Some(Fields(pairs.map(|(name, value)| (name.trim().to_ascii_lowercase(), unquote(value.trim()))).collect()))
    }

    /// The first of that name (in lower case).
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value.clone())
    }
}

fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else { return text.into() };
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        value.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    value
}

/// A hash that digests are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// What every peer knows.
    Md5,
    /// RFC 8760.
    Sha256,
}

impl Algorithm {
    /// As the `algorithm` parameter says it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    /// H(username:realm:password) in hex: what stands for a password, and is worth as much.
    pub fn ha1(self, username: &str, realm: &str, password: &str) -> String {
        self.hex(format!("{username}:{realm}:{password}").as_bytes())
    }

    pub(super) fn hex(self, text: &[u8]) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

impl Challenge {
    fn hash(&self) -> Result<(Algorithm, bool), DigestError> {
        match self.algorithm.as_deref().unwrap_or("MD5").to_ascii_lowercase().as_str() {
            "md5" => Ok((Algorithm::Md5, false)),
            "md5-sess" => Ok((Algorithm::Md5, true)),
            "sha-256" => Ok((Algorithm::Sha256, false)),
            "sha-256-sess" => Ok((Algorithm::Sha256, true)),
            _ => Err(DigestError::Algorithm),
        }
    }

    /// How good its algorithm is, to choose among several (RFC 8760 section 2.4); `None` for one we do not know.
    pub fn strength(&self) -> Option<u8> {
        self.hash().ok().map(|(hash, _)| if hash == Algorithm::Sha256 { 2 } else { 1 })
    }
}

/// The value of Authorization or Proxy-Authorization. `uri` is byte for byte the Request-URI, `nc` counts the uses of the
/// nonce from 1.
///
/// # Errors
/// [`DigestError`]: an algorithm, quality or realm that we do not answer.
pub fn answer(
    challenge: &Challenge,
    credentials: &Credentials,
    method: &Method,
    uri: &str,
    body: &[u8],
    cnonce: &str,
    nc: u32,
) -> Result<String, DigestError> {
    if credentials.realm.as_ref().is_some_and(|r| *r != challenge.realm) {
        return Err(DigestError::Realm);
    }
    let values = [
        &credentials.username,
        &challenge.realm,
        &challenge.nonce,
        challenge.opaque.as_ref().unwrap_or(&challenge.realm),
    ];
    if values.into_iter().any(|v| has_line_break(v)) {
        return Err(DigestError::Character);
    }
    let (hash, session) = challenge.hash()?;
    let offered = |word: &str| challenge.qop.iter().any(|q| q == word);
    let qop = match () {
        () if challenge.qop.is_empty() => None,
        () if offered("auth") => Some("auth"),
        () if offered("auth-int") => Some("auth-int"),
        () => return Err(DigestError::Qop),
    };
    let Challenge { realm, nonce, .. } = challenge;
    let mut a1 = hash.ha1(&credentials.username, realm, &credentials.password);
    if session {
        a1 = hash.hex(format!("{a1}:{nonce}:{cnonce}").as_bytes());
    }
    let a2 = match qop {
        Some("auth-int") => hash.hex(format!("{method}:{uri}:{}", hash.hex(body)).as_bytes()),
        _ => hash.hex(format!("{method}:{uri}").as_bytes()),
    };
    let response = match qop {
        Some(qop) => hash.hex(format!("{a1}:{nonce}:{nc:08x}:{cnonce}:{qop}:{a2}").as_bytes()),
        None => hash.hex(format!("{a1}:{nonce}:{a2}").as_bytes()),
    };
    let mut value = format!(
        "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\"",
        quote(&credentials.username),
        quote(realm),
        quote(nonce)
    );
    if let Some(algorithm) = &challenge.algorithm {
        value.push_str(&format!(", algorithm={algorithm}"));
    }
    if let Some(qop) = qop {
        value.push_str(&format!(", cnonce=\"{cnonce}\", qop={qop}, nc={nc:08x}"));
    } else if session {
        value.push_str(&format!(", cnonce=\"{cnonce}\""));
    }
    if let Some(opaque) = &challenge.opaque {
        value.push_str(&format!(", opaque=\"{}\"", quote(opaque)));
    }
    Ok(value)
}

fn quote(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn response(value: &str) -> &str {
        value.split("response=\"").nth(1).unwrap().split('"').next().unwrap()
    }

    fn mufasa(password: &str) -> Credentials {
        Credentials { username: "Mufasa".into(), password: password.into(), realm: None }
    }

    /// RFC 7616 section 3.9.1.
    #[test]
    fn the_vectors_of_rfc_7616() {
        let table = [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ];
        for (algorithm, expected) in table {
            let challenge: Challenge = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            )
            .parse()
            .unwrap();
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let get = Method::Other("GET".into());
            let value = answer(&challenge, &mufasa("Circle of Life"), &get, "/dir/index.html", b"", cnonce, 1).unwrap();
            assert_eq!(response(&value), expected);
            assert!(value.contains("nc=00000001") && value.contains("qop=auth,"));
        }
    }

    /// RFC 2617 section 3.5, and the same challenge without qop (RFC 2069, with its erratum 749).
    #[test]
    fn the_vectors_of_older_peers() {
        let text = "digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", qop=auth";
        let challenge: Challenge = text.parse().unwrap();
        let get = Method::Other("GET".into());
        let value = answer(&challenge, &mufasa("Circle Of Life"), &get, "/dir/index.html", b"", "0a4f113b", 1).unwrap();
        assert_eq!(response(&value), "6629fae49393a05397450978507c4ef1");
        let plain: Challenge = text.replace(", qop=auth", "").parse().unwrap();
        let value = answer(&plain, &mufasa("CircleOfLife"), &get, "/dir/index.html", b"", "", 1).unwrap();
        assert_eq!(response(&value), "1949323746fe6a43ef61f9606e7febea");
    }

    #[test]
    fn what_is_not_ours_is_not_answered() {
        let challenge = |text: &str| text.parse::<Challenge>().unwrap();
        let ask = |c: &Challenge, realm: Option<&str>| {
            let credentials = Credentials { realm: realm.map(Into::into), ..mufasa("x") };
            answer(c, &credentials, &Method::Invite, "sip:a@b", b"", "c", 1).err()
        };
        assert_eq!(ask(&challenge("Digest realm=\"a\", nonce=\"n\""), Some("b")), Some(DigestError::Realm));
        let unknown = challenge("Digest realm=\"a\", nonce=\"n\", algorithm=SHA-512");
        assert_eq!((ask(&unknown, None), unknown.strength()), (Some(DigestError::Algorithm), None));
        assert_eq!(ask(&challenge("Digest realm=a, nonce=n, qop=\"foo\""), None), Some(DigestError::Qop));
        for bad in ["Basic realm=\"a\"", "Digest", "Digest nonce=\"n\"", "Digest realm=\"open"] {
            assert!(bad.parse::<Challenge>().is_err());
        }
        assert!(!format!("{:?}", mufasa("canary")).contains("canary"));
    }
}
