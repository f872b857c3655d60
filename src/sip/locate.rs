//! Which servers stand behind a name, and in which order they are tried:
//! [RFC 3263](https://www.rfc-editor.org/rfc/rfc3263) with the weights of
//! [RFC 2782](https://www.rfc-editor.org/rfc/rfc2782).
//!
//! Nothing here asks a resolver. [`locate`] reads what has been answered so far and either says what is to be asked next
//! or gives the result; the world outside asks, files the answers and calls again.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{ResolveError, Target, Transport, TrunkDns};

/// Services of one NAPTR answer, records of one SRV answer, addresses of one name: beyond these an answer is cut.
const MAX_SERVICES: usize = 8;
const MAX_RECORDS: usize = 32;
const MAX_ADDRESSES: usize = 16;

/// One of our own listeners: what a server must speak to be of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The transport.
    pub transport: Transport,
    /// The address; its family is the one that is reached from it.
    pub local: SocketAddr,
}

/// A question to the DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// NAPTR records of a domain.
    Naptr(String),
    /// SRV records of a service.
    Srv(String),
    /// A and AAAA records of a host.
    Addresses(String),
}

/// A NAPTR record ([RFC 3403](https://www.rfc-editor.org/rfc/rfc3403#section-4.1)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    /// Lower ones first.
    pub order: u16,
    /// Lower ones first, within one order.
    pub preference: u16,
    /// `s`: the replacement has SRV records.
    pub flags: String,
    /// `SIP+D2U` and the like.
    pub services: String,
    /// The name to ask for next.
    pub replacement: String,
}

/// A SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones first.
    pub priority: u16,
    /// The share of the calls within one priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host; `.` says that the service is decidedly not there.
    pub target: String,
}

/// What the DNS said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// NAPTR records.
    Naptr(Vec<Naptr>),
    /// SRV records.
    Srv(Vec<Srv>),
    /// Addresses, most wanted first.
    Addresses(Vec<IpAddr>),
    /// There is no such name, or no such record of it.
    Nothing,
    /// No server answered, or none that could.
    Failed,
}

/// The answers so far.
pub type Answers = BTreeMap<Question, Answer>;

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask these, at once if you like, file the answers and call again.
    Ask(Vec<Question>),
    /// Done.
    Done(Result<Located, ResolveError>),
}

/// The servers of a destination, in groups: the groups are tried one after the other, and within a group the order is
/// drawn by weight for every call anew ([`Located::order`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    groups: Vec<Vec<Server>>,
}

/// One server: a SRV record, or a name without one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    weight: u16,
    targets: Vec<Target>,
}

impl Located {
    /// Targets in this very order.
    pub fn fixed(targets: impl IntoIterator<Item = Target>) -> Self {
        let groups = targets.into_iter().map(|target| vec![Server { weight: 0, targets: vec![target] }]).collect();
        Located { groups }
    }

    /// Leaves out targets that cannot be had.
    pub fn retain(&mut self, mut keep: impl FnMut(&Target) -> bool) {
        for group in &mut self.groups {
            for server in group.iter_mut() {
                server.targets.retain(&mut keep);
            }
            group.retain(|server| !server.targets.is_empty());
        }
        self.groups.retain(|group| !group.is_empty());
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.targets().next().is_none()
    }

    /// All targets, in no order that matters.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.groups.iter().flatten().flat_map(|server| &server.targets)
    }

    /// The order in which they are tried this time: by priority, and within one priority drawn by weight (RFC 2782, "the
    /// format of the SRV RR"); each target once.
    pub fn order(&self, rng: &mut StdRng) -> Vec<Target> {
        let mut order = Vec::new();
        for group in &self.groups {
            // Those of weight 0 lead the list, so that the draw of 0 is theirs.
            let mut left: Vec<&Server> = group.iter().collect();
            left.sort_by_key(|server| server.weight != 0);
            while !left.is_empty() {
                let sum: u32 = left.iter().map(|server| u32::from(server.weight)).sum();
                let drawn = rng.random_range(0..=sum);
                let mut running = 0;
                let reached = |server: &&Server| {
                    running += u32::from(server.weight);
                    running >= drawn
                };
                let at = left.iter().position(reached).unwrap_or(0);
                for target in &left.remove(at).targets {
                    if !order.contains(target) {
                        order.push(target.clone());
                    }
                }
            }
        }
        order
    }
}

/// Finds the servers of `destination` that our `listeners` can reach: RFC 3263 section 4.1 (the transport) and 4.2 (port
/// and address). A service whose look-up failed counts as absent: many a router's resolver knows only addresses.
pub fn locate(destination: &TrunkDns, listeners: &[Listener], answers: &Answers) -> Step {
    let search = Search { destination, listeners, answers };
    match search.run() {
        Ok(result) => Step::Done(result),
        Err(Open(questions)) => Step::Ask(questions),
    }
}

/// The questions that are in the way.
struct Open(Vec<Question>);

/// A service to look for: its SRV name, and what it speaks.
struct Service {
    transport: Transport,
    name: String,
}

/// One server before its addresses are known.
struct Candidate {
    transport: Transport,
    weight: u16,
    port: u16,
    host: String,
}

struct Search<'a> {
    destination: &'a TrunkDns,
    listeners: &'a [Listener],
    answers: &'a Answers,
}

impl Search<'_> {
    fn run(&self) -> Result<Result<Located, ResolveError>, Open> {
        let host = self.destination.host.trim_end_matches('.').to_ascii_lowercase();
        let stated = self.destination.transport;
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if let Ok(ip) = literal {
            return Ok(self.numeric(stated.unwrap_or(Transport::Udp), ip.to_canonical()));
        }
        let itself = |transport: Transport| {
            let port = self.destination.port.unwrap_or(transport.default_port());
            vec![vec![Candidate { transport, weight: 0, port, host: host.clone() }]]
        };
        if self.destination.port.is_some() {
            return self.addresses(itself(stated.unwrap_or(Transport::Udp)));
        }
        let services = match stated {
            Some(transport) => vec![service(transport, &host)],
            None => self.services(&host)?,
        };
        // Section 4.2: without any SRV record it is the name itself, by the transport that was said or that NAPTR told.
        let told = self.naptr(&host).first().map(|service| service.transport);
        let transport = stated.or(told).unwrap_or(Transport::Udp);
        match self.records(services)? {
            None => self.addresses(itself(transport)),
            Some(groups) => self.addresses(groups),
        }
    }

    fn numeric(&self, transport: Transport, ip: IpAddr) -> Result<Located, ResolveError> {
        let port = self.destination.port.unwrap_or(transport.default_port());
        let target = self.target(transport, SocketAddr::new(ip, port));
        target.map(|target| Located::fixed([target])).ok_or(ResolveError::NoListener)
    }

    /// The target that this address is; `None` where we have no listener for it. The name that its certificate must show is
    /// the one that was looked up, whatever names the DNS led to (RFC 5922 section 4).
    fn target(&self, transport: Transport, remote: SocketAddr) -> Option<Target> {
        let fits = |l: &&Listener| l.transport == transport && l.local.is_ipv4() == remote.is_ipv4();
        let local = self.listeners.iter().find(fits)?.local;
        let server_name = (transport == Transport::Tls).then(|| self.destination.host.trim_end_matches('.').to_owned());
        Some(Target { transport, remote, local, server_name })
    }

    fn can(&self, transport: Transport) -> bool {
        self.listeners.iter().any(|listener| listener.transport == transport)
    }

    /// Section 4.1: the services of the domain's NAPTR records; without any, those that a SRV record might have.
    fn services(&self, name: &str) -> Result<Vec<Service>, Open> {
        self.answered(vec![Question::Naptr(name.to_owned())])?;
        let told = self.naptr(name);
        if !told.is_empty() {
            return Ok(told);
        }
        let all = [Transport::Udp, Transport::Tcp, Transport::Tls];
        Ok(all.into_iter().filter(|transport| self.can(*transport)).map(|transport| service(transport, name)).collect())
    }

    /// The services of NAPTR records that we can speak, most wanted first.
    fn naptr(&self, name: &str) -> Vec<Service> {
        let Some(Answer::Naptr(records)) = self.answers.get(&Question::Naptr(name.to_owned())) else {
            return Vec::new();
        };
        let mut records: Vec<&Naptr> = records.iter().filter(|r| r.flags.eq_ignore_ascii_case("s")).collect();
        records.sort_by_key(|record| (record.order, record.preference));
        let of = |record: &Naptr| {
            let transport = match record.services.to_ascii_uppercase().as_str() {
                "SIP+D2U" => Transport::Udp,
                "SIP+D2T" => Transport::Tcp,
                "SIPS+D2T" => Transport::Tls,
                _ => return None,
            };
            let name = record.replacement.trim_end_matches('.').to_ascii_lowercase();
            (self.can(transport) && !name.is_empty()).then_some(Service { transport, name })
        };
        records.into_iter().filter_map(of).take(MAX_SERVICES).collect()
    }

    /// Section 4.2: the servers of these services, grouped by service and priority; `None`: no service has a record.
    fn records(&self, services: Vec<Service>) -> Result<Option<Vec<Vec<Candidate>>>, Open> {
        self.answered(services.iter().map(|service| Question::Srv(service.name.clone())).collect())?;
        let mut groups = None;
        for service in services {
            let Some(Answer::Srv(records)) = self.answers.get(&Question::Srv(service.name)) else { continue };
            let groups = groups.get_or_insert_with(Vec::new);
            let mut by_priority: BTreeMap<u16, Vec<Candidate>> = BTreeMap::new();
            for record in records.iter().take(MAX_RECORDS) {
                let host = record.target.trim_end_matches('.').to_ascii_lowercase();
                let group = by_priority.entry(record.priority).or_default();
                if !host.is_empty() {
                    let (weight, port) = (record.weight, record.port);
                    group.push(Candidate { transport: service.transport, weight, port, host });
                }
            }
            groups.extend(by_priority.into_values());
        }
        Ok(groups)
    }

    /// The last step: addresses, of which those stay that we have a listener for.
    fn addresses(&self, groups: Vec<Vec<Candidate>>) -> Result<Result<Located, ResolveError>, Open> {
        let mut names: Vec<&str> = groups.iter().flatten().map(|candidate| candidate.host.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        self.answered(names.into_iter().map(|name| Question::Addresses(name.to_owned())).collect())?;
        let (mut some, mut failed) = (false, false);
        let mut server = |candidate: Candidate| {
            let found: &[IpAddr] = match self.answers.get(&Question::Addresses(candidate.host)) {
                Some(Answer::Addresses(found)) => found,
                Some(Answer::Failed) => {
                    failed = true;
                    &[]
                }
                _ => &[],
            };
            some |= !found.is_empty();
            let at = |ip: &IpAddr| self.target(candidate.transport, SocketAddr::new(*ip, candidate.port));
            let targets: Vec<Target> = found.iter().take(MAX_ADDRESSES).filter_map(at).collect();
            (!targets.is_empty()).then_some(Server { weight: candidate.weight, targets })
        };
        let groups: Vec<Vec<Server>> = groups
            .into_iter()
            .map(|group| group.into_iter().filter_map(&mut server).collect::<Vec<_>>())
            .filter(|group| !group.is_empty())
            .collect();
        Ok(match groups.is_empty() {
            false => Ok(Located { groups }),
            true if failed => Err(ResolveError::Unanswered),
            true if some => Err(ResolveError::NoListener),
            true => Err(ResolveError::NotFound),
        })
    }

    /// Goes on only when all these are answered.
    fn answered(&self, questions: Vec<Question>) -> Result<(), Open> {
        let open: Vec<Question> = questions.into_iter().filter(|q| !self.answers.contains_key(q)).collect();
        if open.is_empty() { Ok(()) } else { Err(Open(open)) }
    }
}

/// The SRV name of a transport's service (RFC 3263 section 4.1).
fn service(transport: Transport, domain: &str) -> Service {
    let prefix = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        Transport::Ws => "_sip._ws",
        Transport::Wss => "_sips._ws",
    };
    Service { transport, name: format!("{prefix}.{domain}") }
}

#[cfg(test)]
mod tests;
