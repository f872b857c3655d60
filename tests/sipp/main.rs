//! Whole calls through the running program, with SIPp as the phone or the caller and a browser that is a media engine
//! of its own. A call counts as good when the SOUND at the far end is: each test that connects one measures both ways.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // these tests are sockets, clocks and programs
#![allow(missing_docs)]

mod inbound;
mod outbound;
#[path = "../peer/mod.rs"]
mod peer;
mod sipp;

use peer::gateway::Setup;
use peer::{Browser, Gateway, Phone, Sound};

/// What the browser says, and what the phone says.
const BROWSER_TONE: f64 = 1000.0;
const PHONE_TONE: f64 = 620.0;

/// 100 to 199 go out by the trunk `lab`, as dialled; what comes in for 201 rings `alice`, for 202 nobody who is there.
const PLAN: &str = r#"
[plan]
name = "lab"
default = "deny"

[numbering]
country = "44"
national = "0"
international = ["00", "+"]
short = ["1XX", "2XX"]

[[out]]
name = "phones"
pattern = "1XX"
tiers = [["lab"]]

[[in]]
name = "alice"
did = "201"
ring = { users = ["alice"], for = "30s" }

[[in]]
name = "nobody"
did = "202"
ring = { users = ["nobody"], for = "30s" }
"#;

/// A gateway with one trunk, to `phone`; `more` are further keys of the trunk.
async fn gateway(phone: &sipp::Setup, more: &str) -> Gateway {
    let address = phone.address();
    let trunks = format!("[trunk.lab]\naddress = \"{address}\"\nnumber_format = \"as-dialled\"\n{more}\n");
    Gateway::start(Setup { trunks: &trunks, plan: PLAN }).await
}

/// Both say their tone, and each hears the other's and not its own.
async fn talk(browser: &Browser, phone: &Phone) {
    browser.say(Sound::Tone(BROWSER_TONE)).await;
    phone.say(Sound::Tone(PHONE_TONE)).await;
    let at_phone = phone.heard.tone("the phone", BROWSER_TONE).await;
    let at_browser = browser.heard.tone("the browser", PHONE_TONE).await;
    let own = browser.heard.read(|heard| heard.report(BROWSER_TONE, 1000).share);
    assert!(own < 0.05, "the browser hears itself: {own}");
    println!("at the phone {at_phone:?}\nat the browser {at_browser:?}");
}
