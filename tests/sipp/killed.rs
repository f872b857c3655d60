//! The gateway is killed in the middle of a call: SIPp, which knows of nothing, gets the BYE of the next one.

use std::time::{Duration, Instant};

use super::{Plot, Setup};

/// (By TCP SIPp ends its call with the connection; that and TLS are in the gateway's own suite.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_gets_the_bye_of_the_next_gateway() {
    let journal = "[journal]\nfile = \"calls.journal\"";
    let mut scene = Plot::of(Setup::new("phone-answer")).config(journal).start().await;
    scene.dial().await;
    scene.talk().await;
    let listens = scene.gateway.killed_and_started().await;
    let begun = Instant::now();
    scene.sipp_ends().await;
    let took = listens + begun.elapsed();
    println!("listens after {} ms, SIPp's call is over after {} ms", listens.as_millis(), took.as_millis());
    assert!(took < Duration::from_secs(5), "{took:?}");
    scene.strike().await;
}
