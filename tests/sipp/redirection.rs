//! RFC 3261 section 8.1.3.4: a trunk that answers with a 302 instead of the phone.

use super::peer::Codecs;
use super::{Plot, Setup};

/// Another place of the same trunk: the phone there gets the call, with the number that it is known by there, and speaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_302_within_the_trunk_is_followed() {
    let other = Setup::new("phone-answer");
    // The dial plan allows it, by this trunk.
    let contact = format!("sip:155@{}", other.address());
    let mut scene = Plot::of(Setup::new("phone-moved").word("CONTACT", &contact)).start().await;
    let other = other.media(&scene.phone).phone(scene.gateway.sip).await;
    let call = scene.dial().await;
    scene.talk().await;
    assert_eq!(other.lines("INVITE "), [format!("{contact} SIP/2.0")]);
    let to = other.header("To").expect("a To");
    assert!(to.contains("sip:101@"), "To says whom the caller wants: {to}");
    scene.hang_up(&call).await;
    other.finish().await;
    scene.finish().await;
}

/// Another party, be it the phone of another trunk of ours, is not called: the dial plan has said where the number goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_302_elsewhere_is_a_refusal() {
    let second = Setup::new("phone-answer").at([127, 0, 0, 2]);
    let contact = format!("sip:301@{}", second.address());
    let moved = Setup::new("phone-moved").word("CONTACT", &contact);
    let mut scene = Plot::of(moved).second(second).start().await;
    scene.browser.call("101", Codecs::All).await;
    let ended = scene.browser.ended("them").await;
    assert_eq!(ended["sip"], 302, "{ended}");
    scene.sipp_ends().await;
    let record = scene.gateway.record().await;
    assert_eq!(record["trunks"].as_array().map(Vec::len), Some(1), "{record}");
    assert_eq!(scene.second().lines("INVITE "), [""; 0], "the other trunk was called");
    // It answers there whoever is to be called there.
    let call = scene.dial_with("301", Codecs::All).await;
    scene.talk_to_second().await;
    scene.hang_up(&call).await;
    scene.finish().await;
}
