//! A stage for one test: the gateway, a browser, and SIPp as the phone or the caller of the trunk `lab`; where a test needs
//! another party, a second SIPp as the trunk `second`.

use serde_json::{Value, json};

use super::peer::gateway::{self, Gateway};
use super::peer::{Browser, Codecs, PATIENCE, Phone, Sound};
use super::sipp::{Setup, Sipp};

/// What the browser says, what the first phone says, and what the second.
pub const BROWSER_TONE: f64 = 1000.0;
pub const PHONE_TONE: f64 = 620.0;
pub const SECOND_TONE: f64 = 1550.0;

/// 100 to 199 go out by the trunk `lab`, 300 to 399 by the trunk `second`, as dialled; what comes in for 201 rings `alice`,
/// for 202 nobody who is there.
const PLAN: &str = r#"
[plan]
name = "lab"
default = "deny"

[numbering]
country = "44"
national = "0"
international = ["00", "+"]
short = ["1XX", "2XX", "3XX"]

[[in]]
name = "alice"
did = "201"
ring = { users = ["alice"], for = "30s" }

[[in]]
name = "nobody"
did = "202"
ring = { users = ["nobody"], for = "30s" }
"#;

/// What a test sets up before anything runs.
pub struct Plot {
    sipp: Setup,
    second: Option<Setup>,
    trunk: String,
    config: String,
    rules: String,
}

impl Plot {
    /// A trunk `lab` that is this SIPp.
    pub fn of(sipp: Setup) -> Plot {
        Plot { sipp, second: None, trunk: String::new(), config: String::new(), rules: String::new() }
    }

    /// A trunk `second` that is this SIPp.
    pub fn second(mut self, sipp: Setup) -> Plot {
        self.second = Some(sipp.at([127, 0, 0, 2]));
        self
    }

    /// Further keys of both trunks, as lines of the configuration.
    pub fn trunk(mut self, keys: &str) -> Plot {
        self.trunk.push_str(keys);
        self.trunk.push('\n');
        self
    }

    /// Further sections of the configuration.
    pub fn config(mut self, sections: &str) -> Plot {
        self.config.push_str(sections);
        self.config.push('\n');
        self
    }

    /// Further rules of the dial plan; they come first.
    pub fn rules(mut self, rules: &str) -> Plot {
        self.rules.push_str(rules);
        self.rules.push('\n');
        self
    }

    fn trunk_section(&self, name: &str, sipp: &Setup) -> String {
        let transport = sipp.trunk_transport().map(|word| format!("transport = \"{word}\"\n")).unwrap_or_default();
        // SIPp's scenarios know nothing of OPTIONS beside calls.
        let options = if self.trunk.contains("options =") { "" } else { "options = 0\n" };
        format!(
            "[trunk.{name}]\naddress = \"{}\"\nnumber_format = \"as-dialled\"\n{transport}{options}{}{}\n",
            sipp.address(),
            sipp.tls_keys().1,
            self.trunk
        )
    }

    /// Starts the gateway, the phones among the SIPps (callers start when they are asked to) and `alice`'s browser.
    pub async fn start(self) -> Scene {
        let phone = Phone::start(&self.sipp.ip.to_string()).await;
        let second_phone = match &self.second {
            Some(second) => Some(Phone::start(&second.ip.to_string()).await),
            None => None,
        };
        let mut trunks = self.trunk_section("lab", &self.sipp);
        let mut rules = format!("{}{}", self.rules, out_rule("lab", "1XX"));
        if let Some(second) = &self.second {
            trunks.push_str(&self.trunk_section("second", second));
            rules.push_str(&out_rule("second", "3XX"));
        }
        let (trunks, plan) = (format!("{trunks}{}", self.config), format!("{PLAN}{rules}"));
        let (sip, _) = self.sipp.tls_keys();
        let setup = gateway::Setup { ip: self.sipp.ip, sip: &sip, ..gateway::Setup::new(&trunks, &plan) };
        let gateway = Gateway::start(setup).await;
        let sipp = Actor::enter(self.sipp.media(&phone), &gateway).await;
        let second = match (self.second, second_phone) {
            (Some(setup), Some(phone)) => Some((Actor::enter(setup.media(&phone), &gateway).await, phone)),
            _ => None,
        };
        let browser = Browser::open(gateway.http, "alice").await;
        let (second, second_phone) = second.unzip();
        Scene { gateway, browser, phone, sipp, second, second_phone }
    }
}

fn out_rule(trunk: &str, pattern: &str) -> String {
    format!("[[out]]\nname = \"{trunk}\"\npattern = \"{pattern}\"\ntiers = [[\"{trunk}\"]]\n")
}

/// A SIPp that waits for its cue, or plays.
pub enum Actor {
    Waiting(Setup),
    Playing(Sipp),
    Gone,
}

impl Actor {
    /// A phone plays at once, a caller waits.
    async fn enter(setup: Setup, gateway: &Gateway) -> Actor {
        if setup.is_caller() { Actor::Waiting(setup) } else { Actor::Playing(setup.phone(gateway.sip).await) }
    }

    fn cue(&mut self, gateway: &Gateway) {
        match std::mem::replace(self, Actor::Gone) {
            Actor::Waiting(setup) => *self = Actor::Playing(setup.caller(gateway.sip)),
            other => *self = other,
        }
    }

    fn playing(&self) -> &Sipp {
        match self {
            Actor::Playing(sipp) => sipp,
            _ => panic!("this SIPp does not run"),
        }
    }

    async fn finish(&mut self) {
        if let Actor::Playing(sipp) = std::mem::replace(self, Actor::Gone) {
            sipp.finish().await;
        }
    }
}

/// Everybody on the stage. The RTP of a SIPp's calls is a [`Phone`]'s, which speaks, listens and measures.
pub struct Scene {
    pub gateway: Gateway,
    pub browser: Browser,
    pub phone: Phone,
    sipp: Actor,
    second: Option<Actor>,
    second_phone: Option<Phone>,
}

impl Scene {
    /// The SIPp of the trunk `lab`.
    pub fn sipp(&self) -> &Sipp {
        self.sipp.playing()
    }

    /// The SIPp of the trunk `second`.
    pub fn second(&self) -> &Sipp {
        self.second.as_ref().expect("a second SIPp").playing()
    }

    /// The sound of the second SIPp's phone.
    pub fn second_phone(&self) -> &Phone {
        self.second_phone.as_ref().expect("a second phone")
    }

    /// The caller calls.
    pub fn cue(&mut self) {
        self.sipp.cue(&self.gateway);
    }

    /// The second caller calls.
    pub fn cue_second(&mut self) {
        self.second.as_mut().expect("a second SIPp").cue(&self.gateway);
    }

    /// The browser dials 101 and is answered.
    pub async fn dial(&mut self) -> String {
        self.dial_with("101", Codecs::All).await
    }

    /// The browser dials and is answered.
    pub async fn dial_with(&mut self, to: &str, codecs: Codecs) -> String {
        let call = self.browser.call(to, codecs).await;
        self.browser.expect("answered").await;
        call
    }

    /// The caller calls, and the browser rings.
    pub async fn ring(&mut self) -> Value {
        self.cue();
        self.browser.expect("incoming").await
    }

    /// The caller calls, and the browser takes the call.
    pub async fn answer(&mut self) -> String {
        let incoming = self.ring().await;
        self.accept(&incoming).await
    }

    /// The browser takes this call.
    pub async fn accept(&mut self, incoming: &Value) -> String {
        self.browser.accept(incoming).await;
        self.browser.expect("answered").await;
        incoming["call"].as_str().expect("a call").to_owned()
    }

    /// Browser and phone say their tone, and each hears the other's and not its own.
    pub async fn talk(&self) {
        talk(&self.browser, &self.phone, PHONE_TONE).await;
    }

    /// Browser and second phone say their tone, and each hears the other's and not its own.
    pub async fn talk_to_second(&self) {
        talk(&self.browser, self.second_phone(), SECOND_TONE).await;
    }

    /// The two phones say their tone, and each hears the other's: the browser is not between them any more.
    pub async fn phones_talk(&self) {
        let second = self.second_phone();
        self.phone.say(Sound::Tone(PHONE_TONE)).await;
        second.say(Sound::Tone(SECOND_TONE)).await;
        self.phone.heard.tone("the first phone", SECOND_TONE).await;
        second.heard.tone("the second phone", PHONE_TONE).await;
    }

    /// Waits until the last second at the phone has no tone of the browser's: it is held, or gone.
    pub async fn phone_hears_no_browser(&self) {
        let silent = |r: &super::peer::sound::Recording| r.report(BROWSER_TONE, 1000).share < 0.05;
        assert!(self.phone.heard.until(PATIENCE, silent).await, "the phone hears the browser still");
    }

    /// The browser holds the call or takes it back, and is told so.
    pub async fn hold(&mut self, call: &str, on: bool) {
        self.browser.send(json!({ "type": "hold", "call": call, "on": on })).await;
        let held = self.browser.expect("held").await;
        assert_eq!((&held["by"], &held["on"]), (&json!("us"), &json!(on)), "{held}");
    }

    /// The browser hangs up.
    pub async fn hang_up(&mut self, call: &str) {
        self.browser.hangup(call).await;
        let ended = self.browser.ended("us").await;
        assert_eq!(ended["call"], call);
    }

    /// The browser's tab is closed without a word; another, empty one takes its place.
    pub async fn close_tab(&mut self) {
        let other = Browser::open(self.gateway.http, "alice").await;
        std::mem::replace(&mut self.browser, other).close().await;
    }

    /// Waits for the end of the SIPp of `lab`, which must be as its scenario says.
    pub async fn sipp_ends(&mut self) {
        self.sipp.finish().await;
    }

    /// Every SIPp ends as its scenario says, one call record was written, and the gateway stops well.
    pub async fn finish(mut self) {
        self.sipp.finish().await;
        if let Some(second) = &mut self.second {
            second.finish().await;
        }
        assert!(self.gateway.record().await.is_object());
        self.strike().await;
    }

    /// Everybody leaves, whatever the SIPps' scenarios want still.
    pub async fn strike(self) {
        drop((self.sipp, self.second));
        self.phone.stop().await;
        if let Some(phone) = self.second_phone {
            phone.stop().await;
        }
        self.browser.close().await;
        self.gateway.stop().await;
    }
}

async fn talk(browser: &Browser, phone: &Phone, tone: f64) {
    browser.say(Sound::Tone(BROWSER_TONE)).await;
    phone.say(Sound::Tone(tone)).await;
    let at_phone = phone.heard.tone("the phone", BROWSER_TONE).await;
    let at_browser = browser.heard.tone("the browser", tone).await;
    let own = browser.heard.read(|heard| heard.report(BROWSER_TONE, 1000).share);
    assert!(own < 0.05, "the browser hears itself: {own}");
    println!("at the phone {at_phone:?}\nat the browser {at_browser:?}");
}
