//! What stands between the page and the phone: our gateway, or another on the same inputs (`tests/quality/run --rivals`).

use std::net::SocketAddr;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::asterisk::{self, Asterisk};
use crate::description::through;
use crate::peer::gateway::Setup;
use crate::peer::{Browser, Gateway, PATIENCE};
use crate::rtpengine::{self, Rtpengine};
use crate::trunk::{Trunk, described};

const PLAN: &str = r#"
[plan]
name = "quality"
default = "deny"

[numbering]
country = "44"
national = "0"
international = ["00", "+"]
short = ["1XX"]

[[out]]
name = "out"
pattern = "1XX"
tiers = [["out"]]
"#;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Ours,
    /// Another, which runs already and takes its orders at this address.
    Rtpengine(SocketAddr),
    Asterisk(SocketAddr),
}

pub enum Middle {
    Ours { gateway: Box<Gateway>, trunk: Trunk },
    Rtpengine(Rtpengine),
    Asterisk { asterisk: Asterisk, trunk: Trunk },
}

/// The signalling of one call.
pub enum Line {
    Ours { browser: Browser, number: String, trunk: mpsc::Receiver<SocketAddr> },
    Rtpengine(rtpengine::Line),
    Asterisk { line: asterisk::Line, trunk: mpsc::Receiver<SocketAddr> },
}

/// What was agreed on: the answer to the page, and where the phone's sound goes.
pub struct Agreed {
    pub answer: String,
    pub phone: SocketAddr,
}

impl Middle {
    pub async fn start(which: Which) -> Middle {
        match which {
            Which::Ours => {
                let trunk = Trunk::start().await;
                let lines = format!(
                    "[trunk.out]\naddress = \"{}\"\nnumber_format = \"as-dialled\"\noptions = 0\n\
                     [limits]\ncalls_per_socket = 1000\n",
                    trunk.address
                );
                let setup = Setup { rtp_ports: 200, log: "ringback=info,warn", ..Setup::new(&lines, PLAN) };
                Middle::Ours { gateway: Box::new(Gateway::start(setup).await), trunk }
            }
            Which::Rtpengine(address) => Middle::Rtpengine(Rtpengine::at(address).await),
            Which::Asterisk(address) => {
                let trunk = Trunk::start().await;
                Middle::Asterisk { asterisk: Asterisk { address, phone: trunk.address }, trunk }
            }
        }
    }

    /// Makes the call number `index` of this run ready, whose phone's sound is at `media`.
    pub async fn line(&self, index: usize, media: SocketAddr) -> Line {
        match self {
            Middle::Ours { gateway, trunk } => {
                let number = format!("1{index:02}");
                let browser = Browser::open(gateway.http, &format!("page-{index}")).await;
                Line::Ours { browser, trunk: trunk.line(&number, media), number }
            }
            Middle::Rtpengine(rtpengine) => Line::Rtpengine(rtpengine.line(index, media).await),
            Middle::Asterisk { asterisk, trunk } => {
                let line = asterisk.line(index).await;
                Line::Asterisk { trunk: trunk.line(&line.number, media), line }
            }
        }
    }

    pub async fn stop(self) {
        match self {
            Middle::Ours { gateway, trunk } => {
                gateway.stop().await;
                trunk.stop().await;
            }
            Middle::Rtpengine(_) => {}
            Middle::Asterisk { trunk, .. } => trunk.stop().await,
        }
    }

    pub fn is_ours(&self) -> bool {
        matches!(self, Middle::Ours { .. })
    }
}

impl Line {
    /// Places the call of a page whose datagrams come from `page`.
    pub async fn place(&mut self, offer: String, page: SocketAddr) -> Agreed {
        match self {
            Line::Ours { browser, number, trunk } => {
                browser.send(json!({ "type": "call", "call": "c", "to": number, "sdp": offer })).await;
                let answer = browser.expect("answer").await;
                let answer = answer["sdp"].as_str().expect("a description").to_owned();
                let phone = at_the_trunk(trunk).await;
                browser.expect("answered").await;
                Agreed { answer, phone }
            }
            Line::Rtpengine(line) => line.place(&through(&offer, page)).await,
            Line::Asterisk { line, trunk } => {
                let answer = line.place(&through(&offer, page)).await;
                // It names the machine's other addresses, where it does not listen.
                let answer = through(&answer, described(&answer));
                Agreed { answer, phone: at_the_trunk(trunk).await }
            }
        }
    }

    pub async fn hang_up(self) {
        match self {
            Line::Ours { mut browser, .. } => {
                browser.hangup("c").await;
                browser.ended("us").await;
            }
            Line::Rtpengine(line) => line.hang_up().await,
            Line::Asterisk { line, .. } => line.hang_up().await,
        }
    }
}

async fn at_the_trunk(trunk: &mut mpsc::Receiver<SocketAddr>) -> SocketAddr {
    timeout(PATIENCE, trunk.recv()).await.ok().flatten().expect("a call at the trunk")
}
