//! Session tokens: JSON Web Tokens ([RFC 7519](https://www.rfc-editor.org/rfc/rfc7519)) that the operator's own server
//! signs and a browser brings with `hello`.

use std::collections::HashSet;
use std::fmt;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

use super::rules::MAX_TOKEN;
use super::values::{valid_destination, valid_user};

/// The shortest HS256 secret, in bytes, that a configuration shall take: shorter ones can be guessed
/// ([RFC 7518](https://www.rfc-editor.org/rfc/rfc7518#section-3.2) section 3.2).
pub const MIN_SECRET: usize = 32;

/// What a token says. Claims that are not named here (`iat`, an operator's own) are allowed and have no meaning.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// What the session may call: normalised numbers, or prefixes that end in `*`; absent: all that the dial plan allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destinations: Option<Vec<String>>,
    /// The user's own number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<String>,
    /// The longest that a call may last, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<u32>,
    /// The user's class in the dial plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The token's own name, no other token has it; limits of a token know it by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The token is good for one call; it must have a `jti`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// When the token ends, in Unix seconds.
    #[serde(deserialize_with = "numeric_date")]
    pub exp: u64,
    /// From when on the token holds, in Unix seconds.
    #[serde(default, deserialize_with = "optional_date", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
}

/// A `NumericDate` (RFC 7519 section 2): seconds since 1970, perhaps with a fraction, which is dropped.
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    // Up to 2^53 every whole second is exact.
    if (0.0..=9_007_199_254_740_992.0).contains(&seconds) {
        Ok(seconds as u64)
    } else {
        Err(serde::de::Error::custom("not a date"))
    }
}

/// The same for a claim that may be absent; present, it must be a date.
fn optional_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    numeric_date(deserializer).map(Some)
}

/// Signs a token with a shared secret (HS256), as an operator's own server would.
pub fn sign_hs256(secret: &[u8], claims: &Claims) -> String {
    // Strings and numbers under fixed names, and a key that fits the algorithm: there is nothing to refuse.
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret)).unwrap_or_default()
}

/// Why a token, or a key, is not taken. The text is fit for the browser: it says nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not three parts of base64url and JSON, or too long.
    #[error("the token is malformed")]
    Malformed,
    /// Signed by another algorithm than the one configured.
    #[error("the token is signed by another algorithm than this gateway takes")]
    Algorithm,
    /// The signature is not genuine.
    #[error("the token's signature is wrong")]
    Signature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not begun.
    #[error("the token is not valid yet")]
    NotYet,
    /// It is meant for somebody else (`aud`).
    #[error("the token is for another audience")]
    Audience,
    /// A claim is missing, of the wrong kind or against its rule.
    #[error("the token's claims are incomplete or not as the protocol says")]
    Claims,
    /// Not the PEM text of an Ed25519 public key.
    #[error("not an Ed25519 public key in PEM form (-----BEGIN PUBLIC KEY-----)")]
    Key,
}

/// Checks tokens against one key and the one algorithm that belongs to it.
#[derive(Clone)]
pub struct TokenVerifier {
    key: DecodingKey,
    validation: Validation,
}

impl fmt::Debug for TokenVerifier {
    /// The key never reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").field("algorithms", &self.validation.algorithms).finish_non_exhaustive()
    }
}

impl TokenVerifier {
    /// For tokens signed with a shared secret (HS256) of at least [`MIN_SECRET`] bytes.
    pub fn hs256(secret: &[u8]) -> Self {
        Self::new(DecodingKey::from_secret(secret), Algorithm::HS256)
    }

    /// For tokens signed with an Ed25519 key (EdDSA), given the public key as PEM.
    ///
    /// # Errors
    /// [`TokenError::Key`].
    pub fn ed_dsa(public_pem: &[u8]) -> Result<Self, TokenError> {
        let key = DecodingKey::from_ed_pem(public_pem).map_err(|_| TokenError::Key)?;
        Ok(Self::new(key, Algorithm::EdDSA))
    }

    fn new(key: DecodingKey, algorithm: Algorithm) -> Self {
        let mut validation = Validation::new(algorithm);
        // The library would ask the system's clock; `verify` compares with the time that it is given.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.required_spec_claims = HashSet::new();
        TokenVerifier { key, validation }
    }

    /// The claims of a genuine token whose time is now; `unix_now` in seconds.
    ///
    /// # Errors
    /// What [`TokenError`] names.
    pub fn verify(&self, token: &str, unix_now: u64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let claims = decode::<Claims>(token, &self.key, &self.validation).map_err(|e| why(e.kind()))?.claims;
        if claims.exp <= unix_now {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|from| from > unix_now) {
            return Err(TokenError::NotYet);
        }
        if claims.well_formed() { Ok(claims) } else { Err(TokenError::Claims) }
    }
}

impl Claims {
    /// What the token is known by: its `jti`, or where that is none that could stand in a log the digest of the whole.
    pub fn id(&self, token: &str) -> String {
        let digest = || Sha256::digest(token).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.jti.clone().filter(|jti| valid_user(jti)).unwrap_or_else(digest)
    }

    /// Whether each value obeys the rule for its kind: they go into SIP headers and dial plans.
    fn well_formed(&self) -> bool {
        valid_user(&self.sub)
            && self.caller_id.as_deref().is_none_or(valid_user)
            && self.class.as_deref().is_none_or(valid_user)
            && self.max_duration != Some(0)
            && (!self.once || self.jti.as_deref().is_some_and(valid_user))
            && self.destinations.iter().flatten().all(|destination| valid_destination(destination))
    }
}

fn why(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidAlgorithmName
        | ErrorKind::UnsupportedAlgorithm
        | ErrorKind::MissingAlgorithm => TokenError::Algorithm,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::Json(error) if error.is_data() => TokenError::Claims,
        _ => TokenError::Malformed,
    }
}

#[cfg(test)]
mod tests;
