#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a-secret-of-thirty-two-bytes-or-so";
/// Made for these tests and used nowhere else.
const ED_PRIVATE: &[u8] = b"-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEICUHRdbIRfHXS9ezvZ3dBNuv7tCunmVTIfN6bjdrs6l2\n\
    -----END PRIVATE KEY-----\n";
const ED_PUBLIC: &[u8] = b"-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAZV5EDTbSPBoM7l3IhBcL80V3dbEL2LlhWcntI2MnfY8=\n\
    -----END PUBLIC KEY-----\n";
const RSA_PUBLIC: &[u8] = b"-----BEGIN PUBLIC KEY-----\n\
    MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC7u+xAK0kNEyvQmX0blkNc8HTl\n\
    YnuZ3s047LvWSSODitW77DOCm41TngChP4zgcifLm2yx5HOo5a00IuU92IzzeyYC\n\
    tjagq5CQr2LPAMyTV0zCto5wHmsJesbnKVrC1Swo3Twlsn8tJFhioXDYa38+lAEv\n\
    VwE8YtyaOt5Rk8LovwIDAQAB\n\
    -----END PUBLIC KEY-----\n";

fn claims() -> Value {
    json!({ "sub": "alice", "exp": NOW + 60 })
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn hs(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn ed(claims: &Value) -> String {
    encode(&Header::new(Algorithm::EdDSA), claims, &EncodingKey::from_ed_pem(ED_PRIVATE).unwrap()).unwrap()
}

#[test]
fn a_genuine_token_gives_its_claims() {
    let all = json!({
        "sub": "agent7", "exp": NOW + 1, "nbf": NOW, "iat": NOW - 5, "jti": "x", "cost_centre": 7,
        "destinations": ["+4420*", "600"], "caller_id": "+442079460101", "max_duration": 3600, "class": "agent",
    });
    for claims in [
        TokenVerifier::hs256(SECRET).verify(&hs(&all), NOW).unwrap(),
        TokenVerifier::ed_dsa(ED_PUBLIC).unwrap().verify(&ed(&all), NOW).unwrap(),
    ] {
        assert_eq!((claims.sub.as_str(), claims.class.as_deref()), ("agent7", Some("agent")));
        assert_eq!(claims.destinations.as_deref(), Some(["+4420*".to_owned(), "600".to_owned()].as_slice()));
        assert_eq!((claims.caller_id.as_deref(), claims.max_duration), (Some("+442079460101"), Some(3600)));
    }
}

#[test]
fn what_we_sign_we_take() {
    let claims = Claims { sub: "alice".into(), exp: NOW + 1, max_duration: Some(60), ..Claims::default() };
    assert_eq!(TokenVerifier::hs256(SECRET).verify(&sign_hs256(SECRET, &claims), NOW), Ok(claims));
}

#[test]
fn time_is_the_time_given() {
    let verifier = TokenVerifier::hs256(SECRET);
    let verify = |claims: Value, now| verifier.verify(&hs(&claims), now).map(|c| c.exp);
    assert_eq!(verify(claims(), NOW + 59), Ok(NOW + 60));
    assert_eq!(verify(claims(), NOW + 60), Err(TokenError::Expired));
    assert_eq!(verify(claims(), u64::MAX), Err(TokenError::Expired));
    assert_eq!(verify(with("nbf", json!(NOW + 1)), NOW), Err(TokenError::NotYet));
    assert_eq!(verify(with("nbf", json!(NOW)), NOW), Ok(NOW + 60));
    assert_eq!(verify(with("exp", json!(NOW as f64 + 0.5)), NOW - 1), Ok(NOW));
}

#[test]
fn claims_obey_their_rules() {
    let verifier = TokenVerifier::hs256(SECRET);
    let mut no_user = claims();
    no_user.as_object_mut().unwrap().remove("sub");
    let mut for_ever = claims();
    for_ever.as_object_mut().unwrap().remove("exp");
    for claims in [
        no_user,
        for_ever,
        with("sub", json!("")),
        with("sub", json!("a\r\nVia: x")),
        with("sub", json!(7)),
        with("exp", json!("tomorrow")),
        with("exp", json!(-1)),
        with("exp", json!(1e300)),
        with("nbf", json!("x")),
        with("caller_id", json!("<sip:x>")),
        with("destinations", json!("600")),
        with("destinations", json!(["a\u{0}"])),
        with("max_duration", json!(0)),
        with("max_duration", json!(-5)),
        with("class", json!("a b")),
    ] {
        assert_eq!(verifier.verify(&hs(&claims), NOW), Err(TokenError::Claims), "{claims}");
    }
    assert_eq!(verifier.verify(&hs(&with("aud", json!("another"))), NOW), Err(TokenError::Audience));
}

/// Swaps the header of a token.
fn with_header(token: &str, header: &Value) -> String {
    let rest = token.split_once('.').unwrap().1;
    format!("{}.{rest}", base64url(header.to_string().as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(word >> (18 - 6 * index)) as usize & 63]));
        }
    }
    out
}

#[test]
fn the_algorithm_is_ours_to_choose_and_not_the_tokens() {
    let shared = TokenVerifier::hs256(SECRET);
    let public = TokenVerifier::ed_dsa(ED_PUBLIC).unwrap();
    // The public key as an HMAC secret: the classic confusion.
    let confused = encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(ED_PUBLIC)).unwrap();
    assert_eq!(public.verify(&confused, NOW), Err(TokenError::Algorithm));
    assert_eq!(public.verify(&hs(&claims()), NOW), Err(TokenError::Algorithm));
    assert_eq!(shared.verify(&ed(&claims()), NOW), Err(TokenError::Algorithm));
    let hs512 = encode(&Header::new(Algorithm::HS512), &claims(), &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(shared.verify(&hs512, NOW), Err(TokenError::Algorithm));
    for alg in ["none", "None", "NONE", "RS256", "hs256", ""] {
        for token in [hs(&claims()), ed(&claims())] {
            let forged = with_header(&token, &json!({ "alg": alg, "typ": "JWT" }));
            let unsigned = format!("{}.", forged.rsplit_once('.').unwrap().0);
            for token in [forged, unsigned] {
                assert!(shared.verify(&token, NOW).is_err() && public.verify(&token, NOW).is_err(), "{alg}: {token}");
            }
        }
    }
}

#[test]
fn forgeries_and_scraps_are_refused() {
    let verifier = TokenVerifier::hs256(SECRET);
    let other = encode(&Header::default(), &claims(), &EncodingKey::from_secret(b"another secret of thirty-two bytes"))
        .unwrap();
    assert_eq!(verifier.verify(&other, NOW), Err(TokenError::Signature));
    let token = hs(&claims());
    let stripped = format!("{}.", token.rsplit_once('.').unwrap().0);
    assert_eq!(verifier.verify(&stripped, NOW), Err(TokenError::Signature));
    for scrap in ["", ".", "..", "a.b.c", "a.b", "é.é.é", &format!("{token}.x"), &"x".repeat(MAX_TOKEN + 1)] {
        assert_eq!(verifier.verify(scrap, NOW), Err(TokenError::Malformed), "{scrap}");
    }
    let payload = hs(&json!({ "sub": "mallory", "exp": NOW + 60 }));
    let parts: Vec<&str> = token.split('.').collect();
    let swapped = format!("{}.{}.{}", parts[0], payload.split('.').nth(1).unwrap(), parts[2]);
    assert_eq!(verifier.verify(&swapped, NOW), Err(TokenError::Signature));
}

#[test]
fn a_key_is_an_ed25519_public_key_or_refused() {
    for key in [b"".as_slice(), b"nonsense", ED_PRIVATE, RSA_PUBLIC] {
        assert_eq!(TokenVerifier::ed_dsa(key).map(|_| ()), Err(TokenError::Key));
    }
    assert!(!format!("{:?}", TokenVerifier::hs256(SECRET)).contains("secret"));
}
