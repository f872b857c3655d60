//! Where a SIP peer is called, and as whom.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::identity::user_of;
use super::screening::{self, Destination, Wish};
use super::{Context, Params, Phone, Rights, Trunk};
use crate::dialplan::Failover;
use crate::sip::{Flow, Headers, Host, NameAddr, Replaces, Scheme, Target, Uri};

/// How many places 3xx of one call may name that are tried.
pub const MOST_REDIRECTS: usize = 5;

/// One place to send an INVITE to.
#[derive(Clone, Debug)]
pub struct Hop {
    /// How the peer wants to be spoken to.
    pub trunk: Arc<Trunk>,
    /// The way there; `None`: where the trunk is, is not known at present.
    pub flow: Option<Flow>,
    /// Which of the trunk's targets that is; none for a phone.
    pub target: Option<Target>,
    /// The Request-URI, where it is not made of the number: a phone's Contact, or where a redirection points to.
    pub uri: Option<Uri>,
    /// The longest call that the dial plan allows to the number that a redirection has named.
    pub longest: Option<Duration>,
    /// That number, normalised, where it is another than the one called.
    pub number: Option<String>,
}

impl Hop {
    /// The targets of a trunk, in the order in which they are to be tried.
    pub fn of_trunk(cx: &mut Context, trunk: &Arc<Trunk>) -> Vec<Hop> {
        let targets = cx.trunks.targets(cx.now.instant, cx.rng, &trunk.name);
        let hop = |target: Option<Target>| Hop {
            trunk: trunk.clone(),
            flow: target.as_ref().map(Target::flow),
            target,
            uri: None,
            longest: None,
            number: None,
        };
        match targets.is_empty() {
            true => vec![hop(None)],
            false => targets.into_iter().map(|target| hop(Some(target))).collect(),
        }
    }

    /// A registered phone.
    pub fn of_phone(trunk: Arc<Trunk>, phone: Phone) -> Hop {
        Hop { trunk, flow: Some(phone.flow), target: None, uri: Some(phone.contact), longest: None, number: None }
    }

    /// Where a 3xx leads to: its Contacts by their `q`, as far as they name a party of the same trunk (RFC 3261 section
    /// 8.1.3.4). Others are not ours to call: the dial plan has said by which trunk this number goes. What number such a
    /// place has is for [`Route::allows`] to judge.
    pub fn redirected(cx: &mut Context, trunk: &Arc<Trunk>, present: Option<&Target>, headers: &Headers) -> Vec<Hop> {
        let mut contacts = headers.contacts().unwrap_or_default();
        let q = |contact: &NameAddr| contact.params.value("q").and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
        contacts.sort_by(|one, other| q(other).total_cmp(&q(one)));
        let targets = cx.trunks.targets(cx.now.instant, cx.rng, &trunk.name);
        let target_of = |uri: &Uri| match &uri.host {
            Host::Name(name) => {
                let is_own = |own: &str| own.eq_ignore_ascii_case(name);
                let domain = matches!(&trunk.domain, Some(Host::Name(domain)) if is_own(domain));
                let looked_up = trunk.dns.as_ref().is_some_and(|dns| is_own(&dns.host));
                if domain || looked_up { present.or(targets.first()).cloned() } else { None }
            }
            Host::V4(ip) => targets.iter().find(|target| target.remote.ip().to_canonical() == *ip).cloned(),
            Host::V6(ip) => targets.iter().find(|target| target.remote.ip() == *ip).cloned(),
        };
        let sip = contacts.into_iter().filter(|contact| contact.uri.scheme == Scheme::Sip);
        let hops = sip.filter_map(|contact| {
            let target = target_of(&contact.uri)?;
            let mut flow = target.flow();
            if let Some(port) = contact.uri.port.filter(|_| !matches!(contact.uri.host, Host::Name(_))) {
                flow.remote.set_port(port);
            }
            let mut uri = contact.uri;
            uri.headers = None;
            let (trunk, flow) = (trunk.clone(), Some(flow));
            Some(Hop { trunk, flow, target: Some(target), uri: Some(uri), longest: None, number: None })
        });
        hops.take(MOST_REDIRECTS).collect()
    }

    /// Where the INVITE goes.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.flow.map(|flow| flow.remote)
    }
}

/// Where and as whom a SIP peer is called.
#[derive(Clone, Debug)]
pub struct Route {
    /// The places to try, in order.
    pub hops: VecDeque<Hop>,
    /// The normalised number.
    pub number: String,
    /// The caller's number or name, or `anonymous`.
    pub from: String,
    /// The dialog that the call takes the place of: an attended transfer to somebody else's call.
    pub replaces: Option<Replaces>,
    /// Who transferred (RFC 3892).
    pub referred_by: Option<String>,
    /// The Max-Forwards of the call: a loop through us shall end.
    pub forwards: u8,
    /// On whose behalf it is; `None`: nobody's, and no redirection leads to another number.
    pub rights: Option<Rights>,
    /// When the next hop is tried.
    pub failover: Failover,
    /// An emergency call: no limit of a trunk holds for it.
    pub emergency: bool,
    /// The call has been counted on its account.
    pub counted: bool,
    /// What trunks that want to know are told of the call.
    pub params: Params,
}

impl Route {
    /// A route for a call of its own.
    pub fn new(hops: impl IntoIterator<Item = Hop>, number: String, from: String) -> Route {
        Route {
            hops: hops.into_iter().collect(),
            number,
            from,
            replaces: None,
            referred_by: None,
            forwards: 70,
            rights: None,
            failover: Failover::default(),
            emergency: false,
            counted: false,
            params: Params::new(),
        }
    }

    /// The number that a place named by a 3xx stands for, normalised, where that is not the number called; `""`: it has
    /// none.
    pub fn other_number(&self, hop: &Hop) -> Option<String> {
        let number = hop.uri.as_ref().and_then(user_of).unwrap_or_default();
        let number = hop.trunk.number_format.normalise(&number);
        (number != self.number).then_some(number)
    }

    /// Whether a place that a 3xx has named may be called: one of another number only where the dial plan lets him call
    /// that number whose call it is, and by this very trunk. It is then called as the plan writes it.
    pub fn allows(&self, cx: &mut Context, mut hop: Hop) -> Option<Hop> {
        let Some(number) = self.other_number(&hop) else { return Some(hop) };
        let rights = self.rights.as_ref()?;
        let screened = screening::screen_wish(cx, &Wish { rights, to: &number, from: None }).ok()?;
        let by_this = match &screened.to {
            Destination::Trunks(trunks) => trunks.iter().any(|trunk| trunk.name == hop.trunk.name),
            Destination::Users(_) => false,
        };
        let uri = hop.uri.as_mut().filter(|_| by_this)?;
        let written = hop.trunk.number_format.present(&screened.number);
        uri.user = hop.trunk.uri(&written, uri.host.clone(), None)?.user;
        hop.longest = Some(screened.longest);
        hop.number = Some(screened.number);
        Some(hop)
    }
}
