//! What stands between the browsers and the phones: a Ringback, or an rtpengine by the orders of a SIP proxy.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::time::timeout;

use crate::Options;
use crate::description::{description, through, where_audio_is};
use crate::gateway::{Gateway, Setup};
use crate::ng::Orders;
use crate::scrape::Workers;
use crate::session::{Session, Standing};
use crate::trunk::Trunk;

/// How long a call may take to come to the phone.
const PATIENCE: Duration = Duration::from_secs(30);

/// One of them.
pub enum Middle {
    /// A Ringback, started here or not.
    Ringback {
        /// Its address, `ws://HOST:PORT`.
        url: String,
        /// Where its metrics are, if it is on this machine.
        http: Option<SocketAddr>,
        /// The number that is called.
        number: String,
        /// The browsers' token.
        token: Option<String>,
        /// The phones.
        trunk: Trunk,
        /// The program that was started here.
        own: Option<Box<Gateway>>,
    },
    /// An rtpengine.
    Rtpengine(Orders),
}

/// The signalling of one call.
pub enum Line {
    /// A session of the browser.
    Session(Standing),
    /// The name of an rtpengine's call.
    Named(String),
}

/// What was agreed on.
pub struct Agreed {
    /// Where the phone's sound goes.
    pub phone: SocketAddr,
    /// The call.
    pub line: Line,
    /// How long the browser waited for the answer, and for somebody to answer.
    pub answer_after: Duration,
    /// See `answer_after`.
    pub answered_after: Duration,
}

impl Middle {
    /// The one that `options` wants, which will have `calls` calls at most.
    ///
    /// # Errors
    /// When it cannot be had, and why.
    pub async fn start(options: &Options, calls: usize) -> anyhow::Result<Middle> {
        if let Some(address) = options.rtpengine {
            let mut orders = Orders::to(address).await?;
            orders.ping().await?;
            return Ok(Middle::Rtpengine(orders));
        }
        let trunk = Trunk::start(options.phones).await?;
        let (number, token) = (options.number.clone(), options.token.clone());
        let (url, http, own) = match &options.gateway {
            Some(url) => {
                let url = url.trim_end_matches('/').to_owned();
                let http =
                    url.trim_start_matches("ws://").parse().ok().filter(|http: &SocketAddr| http.ip().is_loopback());
                (url, http, None)
            }
            None => {
                let (program, workers, busy_at) = (options.program.clone(), options.workers, options.busy_at);
                let setup = Setup { program, phones: trunk.address, number: number.clone(), calls, workers, busy_at };
                let gateway = Gateway::start(&setup).await?;
                (format!("ws://{}", gateway.http), Some(gateway.http), Some(Box::new(gateway)))
            }
        };
        Ok(Middle::Ringback { url, http, number, token, trunk, own })
    }

    /// What is measured, in words.
    pub fn name(&self) -> &'static str {
        match self {
            Middle::Ringback { .. } => "ringback",
            Middle::Rtpengine(_) => "rtpengine",
        }
    }

    /// The process that was started here.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Middle::Ringback { own, .. } => own.as_ref().map(|own| own.pid),
            Middle::Rtpengine(_) => None,
        }
    }

    /// What its workers say of themselves, where it tells.
    pub async fn workers(&self) -> Option<Workers> {
        match self {
            Middle::Ringback { http: Some(http), .. } => Workers::read(*http).await.ok(),
            _ => None,
        }
    }

    /// Places call number `call`, of a browser at `page` that offers `offer`, to a phone at `media`; the browser gets its
    /// answer by `answered`, as soon as it comes.
    ///
    /// # Errors
    /// When it does not come about, and why.
    pub async fn place(
        &mut self,
        call: usize,
        (offer, page): (&str, SocketAddr),
        media: SocketAddr,
        answered: impl FnOnce(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Agreed> {
        match self {
            Middle::Ringback { url, number, token, trunk, .. } => {
                let mut session = Session::open(url, &format!("bench-{call}"), token.as_deref()).await?;
                let told = trunk.expect(media);
                let begun = Instant::now();
                let answer = session.call(number, offer).await?;
                let answer_after = begun.elapsed();
                answered(&answer)?;
                let phone = timeout(PATIENCE, told).await.context("the call does not come to the phone")??;
                let line = Line::Session(session.answered().await?);
                Ok(Agreed { phone, line, answer_after, answered_after: begun.elapsed() })
            }
            Middle::Rtpengine(orders) => {
                let name = format!("bench-{}-{call}-{}", std::process::id(), media.port());
                let begun = Instant::now();
                let to_phone = orders.offer(&name, &through(offer, page)).await?;
                let answer = orders.answer(&name, &description(media)).await?;
                let after = begun.elapsed();
                answered(&answer)?;
                let phone = where_audio_is(&to_phone).context("no address for the phone")?;
                Ok(Agreed { phone, line: Line::Named(name), answer_after: after, answered_after: after })
            }
        }
    }

    /// Ends a call.
    ///
    /// # Errors
    /// When it had ended before, and why.
    pub async fn hang_up(&mut self, line: Line) -> anyhow::Result<()> {
        match (line, self) {
            (Line::Session(standing), _) => standing.hang_up().await,
            (Line::Named(name), Middle::Rtpengine(orders)) => orders.delete(&name).await,
            (Line::Named(_), _) => Ok(()),
        }
    }

    /// Ends what was started here.
    ///
    /// # Errors
    /// When a gateway of our own does not end well, or has failed before.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Middle::Ringback { trunk, own, .. } = self else { return Ok(()) };
        trunk.stop().await;
        let Some(own) = own else { return Ok(()) };
        let log = own.log();
        own.stop().await?;
        ensure!(!log.contains("panicked"), "the gateway has failed:\n{log}");
        Ok(())
    }
}
