//! SRTP on the trunk (SDES, RFC 4568): encrypted sound both ways, over a hold, in each suite and under each policy. The
//! phone's media end has the keys of SIPp's descriptions and takes nothing that is not authentic.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringback::rtp::srtp::Profile;

use super::peer::Sound;
use super::peer::phone::Keys;
use super::scene::Scene;
use super::{BROWSER_TONE, Plot, Setup, silence};

/// A suite, its name in SDP and its tag in our offers.
const CM_80: (Profile, &str, u8) = (Profile::Aes128CmSha1_80, "AES_CM_128_HMAC_SHA1_80", 1);
const GCM_128: (Profile, &str, u8) = (Profile::AeadAes128Gcm, "AEAD_AES_128_GCM", 2);
const GCM_256: (Profile, &str, u8) = (Profile::AeadAes256Gcm, "AEAD_AES_256_GCM", 3);
const CM_32: (Profile, &str, u8) = (Profile::Aes128CmSha1_32, "AES_CM_128_HMAC_SHA1_32", 4);

/// The phone's own master key and salt.
fn own_key(profile: Profile) -> Vec<u8> {
    (0..profile.key_len() + profile.salt_len()).map(|n| n as u8 * 5 + 1).collect()
}

fn inline(profile: Profile) -> String {
    STANDARD.encode(own_key(profile))
}

/// Gives the phone its key and that of the gateway, as it stands in the messages.
async fn exchange_keys(scene: &Scene, suite: (Profile, &str, u8)) {
    keys_of(scene, suite, &own_key(suite.0)).await;
}

/// The same with another key of the phone's than its description has.
async fn keys_of(scene: &Scene, (profile, name, _): (Profile, &str, u8), used: &[u8]) {
    scene.sipp().until("ACK sip:").await;
    let own = inline(profile);
    let lines = scene.sipp().lines("a=crypto:");
    let mut keys = lines.iter().filter_map(|line| line.split_once(' ')?.1.strip_prefix(name)?.strip_prefix(" inline:"));
    let theirs = keys.find(|key| !key.starts_with(&own)).expect("the gateway's key");
    let theirs = STANDARD.decode(theirs).expect("base64");
    scene.phone.secure(Keys::new(profile, used, &theirs)).await;
}

/// A browser calls the phone, which chooses this suite; the browser holds the call and takes it back.
async fn called(policy: &str, proto: &str, suite: (Profile, &str, u8), parameters: &str) {
    let (profile, name, tag) = suite;
    let key = inline(profile);
    let sipp = Setup::new("phone-secure")
        .word("PROTO", proto)
        .word("SUITE", name)
        .word("CRYPTO", format!("{tag} {name} inline:{key}{parameters}"))
        .word("AGAIN", format!("1 {name} inline:{key}{parameters}"));
    let mut scene = Plot::of(sipp).trunk(&format!("srtp = \"{policy}\"")).start().await;
    let call = scene.dial().await;
    exchange_keys(&scene, suite).await;
    scene.talk().await;
    scene.hold(&call, true).await;
    scene.phone_hears_no_browser().await;
    scene.hold(&call, false).await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn required_and_called() {
    called("required", "RTP/SAVP", CM_80, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn best_effort_and_called_rfc8643() {
    called("optional", "RTP/AVP", GCM_128, "|2^31").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shorter_tag_and_the_longer_key() {
    called("required", "RTP/SAVP", CM_32, "|2^20").await;
    called("required", "RTP/SAVP", GCM_256, "").await;
}

/// The phone calls a browser with a key: its tag and suite come back with the gateway's own key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calling_with_a_key() {
    for (policy, proto, suite) in
        [("required", "RTP/SAVP", GCM_128), ("optional", "RTP/SAVP", CM_80), ("optional", "RTP/AVP", CM_32)]
    {
        let (profile, name, _) = suite;
        let sipp = Setup::calling("caller-secure", "201")
            .word("PAUSE", 4000)
            .word("PROTO", proto)
            .word("SUITE", name)
            .word("TAG", 7)
            .word("CRYPTO", format!("7 {name} inline:{}", inline(profile)));
        let mut scene = Plot::of(sipp).trunk(&format!("srtp = \"{policy}\"")).start().await;
        scene.answer().await;
        exchange_keys(&scene, suite).await;
        scene.talk().await;
        scene.browser.ended("them").await;
        scene.finish().await;
    }
}

/// Best effort meets a phone that has no keys: the call is plain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn best_effort_with_a_phone_that_has_none() {
    let mut scene = Plot::of(Setup::new("phone-answer")).trunk("srtp = \"optional\"").start().await;
    let call = scene.dial().await;
    scene.talk().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}

/// The phone uses another key than its description has: nobody hears it, and the browser is told why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_than_was_agreed_is_told() {
    let (profile, name, tag) = CM_80;
    let crypto = format!("{tag} {name} inline:{}", inline(profile));
    let words = Setup::new("phone-secure").word("PROTO", "RTP/SAVP").word("SUITE", name).word("AGAIN", &crypto);
    let mut scene = Plot::of(words.word("CRYPTO", crypto)).trunk("srtp = \"required\"").start().await;
    let call = scene.dial().await;
    scene.browser.say(Sound::Tone(BROWSER_TONE)).await;
    keys_of(&scene, CM_80, &[7; 30]).await;
    silence::is_told(&mut scene, ("down", "them", "not-authentic")).await;
    scene.hang_up(&call).await;
    silence::is_recorded(&mut scene, ("b", "b", "not-authentic")).await;
    scene.strike().await;
}
