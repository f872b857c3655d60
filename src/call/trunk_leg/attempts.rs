//! The attempts to reach the party that is called: one hop of the route after another, and what each came to.

use std::net::SocketAddr;
use std::time::Duration;

use super::pay::Whose;
use super::{TrunkLeg, sdp_body};
use crate::call::description::Description;
use crate::call::leg::Happened;
use crate::call::number::LONGEST_NUMBER;
use crate::call::params;
use crate::call::route::{Hop, MOST_REDIRECTS};
use crate::call::slots::Loan;
use crate::call::{Cause, Context, Effect, Origin, Redirects, Special, Trunk, TrunkTried};
use crate::dialplan::FailoverOn;
use crate::sip::{Failure, Flow, Headers, Invite, NameAddr, Params, SessionOptions, Target};

impl TrunkLeg {
    /// The INVITE did not become a call. The next trunk is tried where the rule's failover says so (of itself: where this
    /// one could not do anything about the call, and not where somebody has refused), and only while its user has heard
    /// nothing of it: never after a provisional response beyond 100.
    pub(super) fn failed(
        &mut self,
        cx: &mut Context,
        status: u16,
        reason: &str,
        why: Failure,
        headers: &Headers,
    ) -> Happened {
        self.session = None;
        self.silent_until = None;
        let (cause, said) = match why {
            Failure::Timeout => (Cause::from_status(Origin::Network, 408), String::new()),
            Failure::Transport => (Cause::special(Origin::Network, Special::TrunkUnreachable), String::new()),
            _ => Cause::from_refusal(status, reason, headers.get("Reason")),
        };
        self.tried_in_vain(cx, status, &cause.clone().in_words(&said));
        let unanswered = matches!(why, Failure::Timeout | Failure::Transport);
        let overloaded = why == Failure::Rejected && status == 503;
        if unanswered || overloaded {
            self.target_failed(cx, headers.retry_after().filter(|_| overloaded));
        }
        if why == Failure::Rejected && (300..400).contains(&status) && self.redirected(cx, headers) {
            return self.next_trunk(cx, cause);
        }
        let takes = |on| self.route.as_ref().is_some_and(|route| route.failover.on.contains(&on));
        let elsewhere = match why {
            Failure::Timeout => takes(FailoverOn::Timeout),
            Failure::Transport => takes(FailoverOn::Unreachable),
            Failure::Rejected => self.route.as_ref().is_some_and(|route| route.failover.takes(status)),
            _ => false,
        };
        if elsewhere && !self.heard { self.next_trunk(cx, cause) } else { Happened::Over(cause) }
    }

    /// A 3xx, where the trunk's are followed: its Contacts are the next hops, at most five in a call and none twice, and
    /// none whose number the dial plan does not allow by this trunk.
    fn redirected(&mut self, cx: &mut Context, headers: &Headers) -> bool {
        let Some(trunk) = self.trunk.clone().filter(|trunk| trunk.redirects == Redirects::Trunk) else { return false };
        let hops = Hop::redirected(cx, &trunk, self.target.as_ref(), headers);
        let Some(route) = &mut self.route else { return false };
        let mut followed = Vec::new();
        for hop in hops {
            if let (Some(number), Some(tried)) = (route.other_number(&hop), self.tried.last_mut()) {
                tried.redirected.push(number.chars().take(LONGEST_NUMBER).collect());
            }
            let Some(hop) = route.allows(cx, hop) else {
                tracing::warn!(call = %self.call, trunk = trunk.name, "a redirection to a number that is not allowed");
                continue;
            };
            let name = hop.uri.as_ref().map(ToString::to_string).unwrap_or_default();
            if self.places.len() < MOST_REDIRECTS && !self.places.contains(&name) {
                self.places.push(name);
                followed.push(hop);
            }
        }
        tracing::info!(call = %self.call, trunk = trunk.name, places = followed.len(), "the trunk redirects the call");
        let any = !followed.is_empty();
        for hop in followed.into_iter().rev() {
            route.hops.push_front(hop);
        }
        any
    }

    pub(super) fn result(&mut self, cx: &Context, result: impl Into<String>) {
        if let Some(tried) = self.tried.last_mut() {
            tried.finish(result, cx.now.unix_ms);
        }
    }

    pub(super) fn tried_in_vain(&mut self, cx: &Context, status: u16, cause: &Cause) {
        if let Some(tried) = self.tried.last_mut() {
            tried.fail(status.to_string(), cause, cx.now.unix_ms);
        }
    }

    pub(super) fn next_trunk(&mut self, cx: &mut Context, cause: Cause) -> Happened {
        match self.invite(cx, cause) {
            Ok(()) => Happened::Nothing,
            Err(cause) => Happened::Over(cause),
        }
    }

    /// Calls the next hop of the route that can be called at all; `cause` is what the leg ends with if none can.
    pub(super) fn invite(&mut self, cx: &mut Context, mut cause: Cause) -> Result<(), Cause> {
        loop {
            let next = self.route.as_mut().and_then(|route| route.hops.pop_front());
            let (Some(hop), Some(loan)) = (next, self.loan.clone()) else { return Err(cause) };
            let trunk = hop.trunk.clone();
            self.tried.push(TrunkTried::begin(&trunk.name, cx.now.unix_ms));
            if let Err(refused) = self.admit(cx, &hop) {
                self.result(cx, refused.word());
                self.skip(&trunk.name);
                continue;
            }
            let Some(flow) = hop.flow else { continue };
            if let Err((whose, tripped)) = self.pay(cx, &hop) {
                self.result(cx, "limit");
                self.skip(&trunk.name);
                match whose {
                    Whose::Trunk => cause = tripped,
                    Whose::Payer => return Err(tripped),
                }
                continue;
            }
            self.heard = false;
            self.early.clear();
            self.settled.clear();
            self.media = None;
            self.trunk = Some(trunk.clone());
            self.remote = Some(flow.remote);
            self.target = hop.target.clone();
            self.longest = self.longest_by(cx, &hop);
            let mut description = match self.describe(cx, &loan, &trunk, flow.remote) {
                Ok(description) => description,
                Err(none) => {
                    self.tried_in_vain(cx, 488, &none);
                    cause = none;
                    continue;
                }
            };
            let offer = description.offer();
            self.description = Some(description);
            let Some(invite) = self.request(cx, &hop, flow, offer) else {
                let cause = Cause::special(Origin::Gateway, Special::InvalidNumber);
                self.tried_in_vain(cx, 484, &cause);
                return Err(cause);
            };
            match cx.ua.invite(cx.now.instant, invite) {
                Ok(session) => {
                    cx.effects.push(Effect::Own(session));
                    cx.trunks.began(session, &trunk.name);
                    self.runs_up(cx, session, &trunk.name);
                    self.session = Some(session);
                    let silence = self.route.as_ref().and_then(|route| {
                        let more = !route.hops.is_empty() && route.failover.on.contains(&FailoverOn::Timeout);
                        more.then(|| route.failover.after.unwrap_or(cx.settings.trunk_silence))
                    });
                    self.silent_until = silence.map(|silence| cx.now.instant + silence);
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(call = %self.call, trunk = trunk.name, %error, "INVITE");
                    cause = Cause::special(Origin::Gateway, Special::NoResources);
                    self.tried_in_vain(cx, 503, &cause);
                }
            }
        }
    }

    pub(super) fn describe(
        &self,
        cx: &mut Context,
        loan: &Loan,
        trunk: &Trunk,
        remote: SocketAddr,
    ) -> Result<Description, Cause> {
        match self.browser {
            true => Ok(Description::browser(cx, loan, self.band)),
            false => Description::rtp(cx, loan, trunk, remote),
        }
    }

    /// The present target did not answer, or has no room: it stands back for a while, by its own word where it gave one.
    pub(super) fn target_failed(&mut self, cx: &mut Context, retry_after: Option<Duration>) {
        if let (Some(trunk), Some(target)) = (&self.trunk, &self.target) {
            cx.trunks.failed(cx.now.instant, &trunk.name, target, retry_after);
        }
    }

    /// The INVITE; `None` where the number or the caller cannot stand in a URI.
    fn request(&mut self, cx: &Context, hop: &Hop, flow: Flow, offer: String) -> Option<Invite> {
        let (route, trunk) = (self.route.as_ref()?, hop.trunk.as_ref());
        let number = trunk.number_format.present(&route.number);
        let Flow { transport, local, remote, .. } = flow;
        let here = Target { transport, local, remote, server_name: None };
        let target = hop.target.as_ref().unwrap_or(&here);
        let (to, request_uri) = match &hop.uri {
            Some(uri) => {
                // To says whom the caller wants, also where a redirection leads elsewhere (RFC 3261 section 8.1.3.4).
                let mut to =
                    if hop.target.is_some() { trunk.uri(&number, uri.host.clone(), None)? } else { uri.clone() };
                (to.params, to.headers) = (Params::default(), None);
                (to, uri.clone())
            }
            None => {
                let (host, port) = trunk.host_at(target);
                let to = trunk.uri(&number, host, port)?;
                let mut uri = to.clone();
                if transport.is_reliable() {
                    uri.params.set("transport", Some(transport.uri_name()));
                }
                (to, uri)
            }
        };
        let own_host = trunk.own_host(target, cx.settings.host_of(local));
        let told = trunk.tell(&route.from, own_host)?;
        self.sent = Some(number);
        let params = params::to_headers(&route.params).filter(|_| trunk.params);
        let own = trunk.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Max-Forwards"));
        let forwards = (!own).then(|| ("Max-Forwards".to_owned(), route.forwards.to_string()));
        Some(Invite {
            flow,
            request_uri,
            from: told.from,
            to: NameAddr::new(to),
            contact_user: Some(self.call.to_string()),
            headers: told
                .headers
                .into_iter()
                .chain(trunk.headers.iter().cloned())
                .chain(forwards)
                .chain(params)
                .collect(),
            body: Some(sdp_body(offer)),
            credentials: trunk.credentials.clone(),
            options: SessionOptions {
                replaces: route.replaces.clone(),
                referred_by: route.referred_by.clone(),
                ..trunk.options.clone()
            },
        })
    }
}
