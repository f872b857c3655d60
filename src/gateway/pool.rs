//! The media workers and the ports they are given.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rand::Rng;
use tokio::sync::mpsc;

use super::GatewayError;
use crate::config::Media;
use crate::media::{Effort, Means};
use crate::net::{self, PortPool};
use crate::sdp::{MediaCommand, MediaReport, RtpSlot};
use crate::switch::{CallId, Lease, LeaseRefusal};
use crate::webrtc::Identity;
use crate::worker::{Lateness, Pairs, Seat, WorkerConfig, WorkerCounters, WorkerHandle};

/// Reports that may wait for the driver. A call makes a handful in its life, and one a second of how it sounds; a full queue
/// is counted and logged.
const REPORT_QUEUE: usize = 16_384;
/// What is kept free for those that matter: reports of quality alone find no room any more.
const REPORT_RESERVE: usize = REPORT_QUEUE / 4;
/// How long a freed port stays unused, so that no late packet of a dead call is heard in a new one.
const QUARANTINE: std::time::Duration = std::time::Duration::from_secs(5);

/// What a worker said of a call.
pub(super) type Report = (CallId, MediaReport);

/// The media workers and RTP ports; the driver's own.
pub(super) struct MediaPool {
    workers: Vec<WorkerHandle>,
    ports: PortPool,
    leases: HashMap<CallId, LeasedMedia>,
    advertise: Vec<IpAddr>,
    rtp_advertise: Option<IpAddr>,
    rtp_address: IpAddr,
    max_calls: usize,
    /// Browsers of this machine alone are served.
    local_only: bool,
    /// Reports that found the queue full.
    lost: Arc<AtomicU64>,
}

/// How much of it is in use.
#[derive(Debug)]
pub(super) struct PoolUse {
    pub(super) workers: Vec<WorkerUse>,
    /// Pairs of ports in use.
    pub(super) ports_leased: usize,
    /// Pairs that were in use a moment ago, and rest.
    pub(super) ports_resting: usize,
    pub(super) ports_free: usize,
    pub(super) lost_reports: u64,
}

/// How a media thread does.
#[derive(Debug)]
pub(super) struct WorkerUse {
    pub(super) running: bool,
    pub(super) calls: usize,
    /// Commands that wait for it.
    pub(super) waiting: usize,
    pub(super) counters: WorkerCounters,
    pub(super) lateness: Lateness,
    pub(super) effort: Effort,
    pub(super) busy: bool,
}

struct LeasedMedia {
    worker: usize,
    ports: Vec<(RtpSlot, u16)>,
    /// The sockets, until the worker has them: `None` once it has the call.
    pairs: Option<Pairs>,
}

impl LeasedMedia {
    fn on(worker: usize) -> Self {
        LeasedMedia { worker, ports: Vec::new(), pairs: Some(Vec::new()) }
    }
}

impl MediaPool {
    pub(super) fn start(
        media: &Media,
        max_calls: usize,
        identity: &Identity,
    ) -> Result<(MediaPool, mpsc::Receiver<Report>), GatewayError> {
        let (reports, queue) = mpsc::channel(REPORT_QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let mut workers = Vec::with_capacity(media.workers);
        let means = Means { identity: Some(identity.clone()), music: media.hold_music.clone() };
        // Firefox uses no candidate on a loopback address. So where no port is asked for (the embedded default) the socket
        // has this machine's other addresses too, and drops what comes from elsewhere; with a port it is bound as told.
        let local_only = media.browser.ip().is_loopback() && media.browser.port() == 0;
        let mut address = media.browser;
        if local_only {
            let is_v4 = address.is_ipv4();
            address.set_ip(if is_v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() });
        }
        let refused = |source| GatewayError::Worker { address, source };
        for (index, seat) in Seat::shared(address, media.workers).map_err(refused)?.into_iter().enumerate() {
            let cpu = media.cpus.get(index % media.cpus.len().max(1)).copied();
            let config = WorkerConfig { max_calls, local_only, cpu, name: format!("media-{index}") };
            let (reports, lost) = (reports.clone(), lost.clone());
            let report = move |call, report| {
                if matches!(report, MediaReport::Quality(_)) && reports.capacity() < REPORT_RESERVE {
                    return;
                }
                if reports.try_send((CallId(call), report)).is_err() {
                    let lost = lost.fetch_add(1, Ordering::Relaxed) + 1;
                    tracing::error!(lost, "the driver is behind: a media report is lost");
                }
            };
            let worker = WorkerHandle::spawn(seat, config, means.clone(), Box::new(report)).map_err(refused)?;
            worker.set_busy_at(media.busy_at);
            workers.push(worker);
        }
        let pool = MediaPool {
            workers,
            ports: PortPool::new(media.rtp_address, media.rtp_ports.clone(), QUARANTINE),
            leases: HashMap::new(),
            advertise: media.advertise.clone(),
            rtp_advertise: media.rtp_advertise,
            rtp_address: media.rtp_address,
            max_calls,
            local_only,
            lost,
        };
        Ok((pool, queue))
    }

    /// What calls that begin from now on are told of our addresses, which ports they get and how many there may be, and what
    /// is played to those on hold. What is bound stays.
    pub(super) fn reload(&mut self, media: &Media, max_calls: usize) {
        self.advertise.clone_from(&media.advertise);
        self.rtp_advertise = media.rtp_advertise;
        self.ports.set_range(media.rtp_ports.clone());
        // Never less: the switch counts, and what stands must not be in the way of an emergency call.
        self.max_calls = self.max_calls.max(max_calls);
        for worker in &mut self.workers {
            if worker.make_room(max_calls).is_err() {
                tracing::error!("a media worker is too busy to be told of more calls: it takes as many as before");
            }
        }
        for worker in &self.workers {
            worker.set_music(media.hold_music.clone());
            worker.set_busy_at(media.busy_at);
        }
    }

    /// Whether any media thread runs.
    pub(super) fn runs(&self) -> bool {
        self.workers.iter().any(WorkerHandle::is_running)
    }

    /// Whether all media threads that run have as much to do as they can.
    pub(super) fn is_busy(&self) -> bool {
        self.runs() && self.workers.iter().all(|worker| worker.is_busy() || !worker.is_running())
    }

    /// How much of it is in use.
    pub(super) fn usage(&self, now: Instant) -> PoolUse {
        let usage = |worker: &WorkerHandle| WorkerUse {
            running: worker.is_running(),
            calls: worker.calls(),
            waiting: worker.waiting(),
            counters: worker.counters(),
            lateness: worker.lateness(),
            effort: worker.effort(),
            busy: worker.is_busy(),
        };
        PoolUse {
            workers: self.workers.iter().map(usage).collect(),
            ports_leased: self.ports.leased(),
            ports_resting: self.ports.resting(now),
            ports_free: self.ports.free(now),
            lost_reports: self.lost.load(Ordering::Relaxed),
        }
    }

    /// The UDP address that browsers reach.
    pub(super) fn browser_address(&self) -> Option<SocketAddr> {
        self.workers.first().map(WorkerHandle::browser_address)
    }

    /// A worker, its candidates for browsers if `browser`, and a pair of RTP ports in `slot` as each of `peers` is to be told
    /// it; without peers no ports. All leases of a call lie on one worker.
    pub(super) fn lease(
        &mut self,
        now: Instant,
        call: CallId,
        slot: RtpSlot,
        peers: &[SocketAddr],
        browser: bool,
    ) -> Result<Lease, LeaseRefusal> {
        let worker = self.worker_for(call)?;
        let rtp: Vec<Option<IpAddr>> = peers.iter().map(|peer| self.rtp_host(*peer)).collect();
        if !rtp.is_empty() && rtp.iter().all(Option::is_none) {
            return Err(LeaseRefusal::AddressFamily);
        }
        let port = if rtp.is_empty() { 0 } else { self.add_pair(now, call, worker, slot)? };
        self.leases.entry(call).or_insert_with(|| LeasedMedia::on(worker));
        let handle = self.workers.get(worker).ok_or(LeaseRefusal::NoWorker)?;
        let candidates = if browser { self.candidates(handle.browser_address()) } else { Vec::new() };
        let rtp = rtp.into_iter().map(|host| host.map(|host| SocketAddr::new(host, port))).collect();
        Ok(Lease { candidates, ufrag_mark: handle.ufrag_mark(), rtp })
    }

    /// The call's worker, or of those that are least late the one that has least to do.
    fn worker_for(&self, call: CallId) -> Result<usize, LeaseRefusal> {
        if let Some(lease) = self.leases.get(&call) {
            return Ok(lease.worker);
        }
        let running = self.workers.iter().enumerate().filter(|(_, worker)| worker.is_running());
        let (worker, handle) = running
            .min_by_key(|(_, worker)| (worker.is_busy(), worker.effort(), worker.calls()))
            .ok_or(LeaseRefusal::NoWorker)?;
        if handle.calls() >= self.max_calls { Err(LeaseRefusal::NoWorker) } else { Ok(worker) }
    }

    fn add_pair(&mut self, now: Instant, call: CallId, worker: usize, slot: RtpSlot) -> Result<u16, LeaseRefusal> {
        self.release_slot(now, call, slot); // one that was not given back
        if slot.0 >= RtpSlot::LIMIT {
            return Err(LeaseRefusal::NoPort);
        }
        let pair = self.ports.lease(now).map_err(|error| {
            tracing::error!(%error, "no RTP port");
            LeaseRefusal::NoPort
        })?;
        let port = pair.port;
        let lease = self.leases.entry(call).or_insert_with(|| LeasedMedia::on(worker));
        lease.ports.push((slot, port));
        match &mut lease.pairs {
            Some(pairs) => pairs.push((slot, pair)),
            None => {
                let taken = self.workers.get(worker).is_some_and(|worker| worker.add_pair(call.0, slot, pair).is_ok());
                if !taken {
                    self.release_slot(now, call, slot);
                    return Err(LeaseRefusal::NoWorker);
                }
            }
        }
        Ok(port)
    }

    /// Carries out a command; `false`: the worker cannot take it.
    pub(super) fn command(&mut self, rng: &mut impl Rng, call: CallId, command: MediaCommand) -> bool {
        let Some(lease) = self.leases.get_mut(&call) else { return false };
        let Some(worker) = self.workers.get(lease.worker) else { return false };
        match (lease.pairs.take(), command) {
            (Some(pairs), MediaCommand::Start(plan)) => {
                let mut seed = [0; 32];
                rng.fill_bytes(&mut seed);
                worker.open(call.0, pairs, plan, seed).is_ok()
            }
            // Not started: nothing to change, and the sockets end with `pairs`.
            (Some(_), MediaCommand::Stop) => true,
            (pairs, command) => {
                lease.pairs = pairs;
                worker.command(call.0, command).is_ok()
            }
        }
    }

    /// One pair of ports is not needed any more: its port rests and is free again.
    pub(super) fn release_slot(&mut self, now: Instant, call: CallId, slot: RtpSlot) {
        let Some(lease) = self.leases.get_mut(&call) else { return };
        let Some(index) = lease.ports.iter().position(|(leased, _)| *leased == slot) else { return };
        let (_, port) = lease.ports.remove(index);
        match (&mut lease.pairs, self.workers.get(lease.worker)) {
            (Some(pairs), _) => pairs.retain(|(waiting, _)| *waiting != slot),
            (None, Some(worker)) => {
                // A worker that takes nothing closes the sockets at the call's end; the port is passed over until then.
                let _ = worker.remove_pair(call.0, slot);
            }
            (None, None) => {}
        }
        self.ports.release(now, port);
    }

    /// The call is over: its ports rest and are free again.
    pub(super) fn release(&mut self, now: Instant, call: CallId) {
        if let Some(lease) = self.leases.remove(&call) {
            lease.ports.into_iter().for_each(|(_, port)| self.ports.release(now, port));
        }
    }

    /// Ends the threads.
    pub(super) fn stop(self) {
        for worker in self.workers {
            worker.stop();
        }
    }

    /// Candidates for the browser: as advertised, else the bound address, else this machine's own.
    fn candidates(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        let ips = if !self.advertise.is_empty() {
            self.advertise.clone()
        } else if !bound.ip().is_unspecified() {
            vec![bound.ip()]
        } else {
            let loopback: IpAddr =
                if bound.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            let own = net::interface_addresses().into_iter().filter(|ip| bound.is_ipv6() || ip.is_ipv4());
            let mut ips: Vec<IpAddr> = own.collect();
            if self.local_only && !ips.contains(&loopback) {
                // Last: a browser checks from its interface's address first, and our answer to that comes from there too.
                ips.push(loopback);
            }
            ips
        };
        ips.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
    }

    /// The host of our `c=` line towards a trunk: as configured, as bound, or the address by which it is reached; a trunk
    /// outside of private networks is told the advertised one, as browsers are. `None`: our sockets are of the other family.
    fn rtp_host(&self, trunk: SocketAddr) -> Option<IpAddr> {
        let trunk = net::canonical(trunk);
        let both_families = self.rtp_address.is_unspecified() && self.rtp_address.is_ipv6();
        if trunk.is_ipv4() != self.rtp_address.is_ipv4() && !both_families {
            return None;
        }
        let same_family = |ip: &&IpAddr| ip.is_ipv4() == trunk.is_ipv4();
        if let Some(ip) = self.rtp_advertise.iter().find(same_family) {
            return Some(*ip);
        }
        if !self.rtp_address.is_unspecified() {
            return Some(self.rtp_address);
        }
        let advertised = self.advertise.iter().find(same_family).copied().filter(|_| !is_private(trunk.ip()));
        advertised.or_else(|| net::source_address(trunk))
    }
}

/// Loopback, link-local and private networks (RFC 1918, RFC 4193): an address of ours that only the outside can reach is
/// of no use there.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use std::time::Duration;

    use super::*;

    fn worker(name: &str, report: impl Fn(u64, MediaReport) + Send + 'static) -> WorkerHandle {
        let seat = Seat::alone("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = WorkerConfig { max_calls: 4, local_only: false, cpu: None, name: name.into() };
        WorkerHandle::spawn(seat, config, Means::default(), Box::new(report)).unwrap()
    }

    #[test]
    fn a_worker_whose_thread_has_ended_gets_no_call() {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let dead = worker("media-dead", move |_, _| {
            let _held = &tell;
            panic!("on purpose");
        });
        // The answer to the Stop of a call that is not open is a report, which panics.
        dead.command(1, MediaCommand::Stop).unwrap();
        assert!(told.recv_timeout(Duration::from_secs(10)).is_err());
        let limit = Instant::now() + Duration::from_secs(10);
        while dead.is_running() && Instant::now() < limit {
            std::thread::yield_now();
        }
        let mut pool = pool(vec![dead, worker("media-live", |_, _| {})], 4);
        let trunk = SocketAddr::from((Ipv4Addr::LOCALHOST, 5_060));
        let lease = pool.lease(Instant::now(), CallId(1), RtpSlot(0), &[trunk], true).unwrap();
        assert_eq!(lease.candidates, [pool.workers[1].browser_address()]);
        pool.stop();
    }

    fn pool(workers: Vec<WorkerHandle>, pairs: u16) -> MediaPool {
        MediaPool {
            workers,
            ports: PortPool::new(Ipv4Addr::LOCALHOST.into(), net::test_ports(pairs), QUARANTINE),
            leases: HashMap::new(),
            advertise: Vec::new(),
            rtp_advertise: None,
            rtp_address: Ipv4Addr::LOCALHOST.into(),
            max_calls: 4,
            local_only: false,
            lost: Arc::default(),
        }
    }

    #[test]
    fn a_new_call_goes_where_it_disturbs_least_and_is_never_without_a_worker() {
        let now = Instant::now();
        let mut pool = pool(["media-one", "media-two"].map(|name| worker(name, |_, _| {})).into(), 4);
        let peers = ["127.0.0.1:5060".parse().unwrap()];
        let table = [
            ([(Effort::Full, false), (Effort::Full, true)], 0, false),
            ([(Effort::Full, true), (Effort::Least, false)], 1, false),
            ([(Effort::Less, false), (Effort::Full, false)], 1, false),
            ([(Effort::Least, true), (Effort::Less, true)], 1, true),
        ];
        for (call, (standings, goes_to, busy)) in (1..).zip(table) {
            for (worker, (effort, busy)) in pool.workers.iter().zip(standings) {
                worker.seem(effort, busy);
            }
            assert_eq!(pool.is_busy(), busy);
            assert!(pool.lease(now, CallId(call), RtpSlot(0), &peers, false).is_ok());
            assert_eq!(pool.leases[&CallId(call)].worker, goes_to, "{standings:?}");
        }
        // One that stands stays where it is.
        assert!(pool.lease(now, CallId(1), RtpSlot(1), &[], true).is_ok());
        assert_eq!(pool.leases[&CallId(1)].worker, 0);
        pool.stop();
    }

    #[test]
    fn all_slots_of_a_call_lie_on_one_worker_and_come_back() {
        let now = Instant::now();
        let peers = ["127.0.0.1:5060", "[::1]:5060", "127.0.0.2:5060"].map(|peer| peer.parse().unwrap());
        let mut pool = pool(vec![worker("media-one", |_, _| {}), worker("media-two", |_, _| {})], 3);
        let first = pool.lease(now, CallId(1), RtpSlot(0), &peers, true).unwrap();
        // Told to each peer; one whose family our media does not have is told nothing.
        let told: Vec<bool> = first.rtp.iter().map(Option::is_some).collect();
        assert_eq!((told, first.candidates.len()), (vec![true, false, true], 1));
        let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::from_seed([1; 32]);
        assert!(pool.command(&mut rng, CallId(1), MediaCommand::Start(crate::sdp::MediaPlan::default())));
        // After the start the second pair goes to the same worker, although the other has nothing to do.
        let second = pool.lease(now, CallId(1), RtpSlot(1), &peers[..1], false).unwrap();
        assert!(second.candidates.is_empty() && second.rtp != first.rtp);
        let browser_only = pool.lease(now, CallId(1), RtpSlot(2), &[], true).unwrap();
        assert_eq!((browser_only.rtp, browser_only.candidates), (vec![], first.candidates));
        assert_eq!((pool.ports.leased(), pool.leases[&CallId(1)].worker), (2, 0));
        pool.release_slot(now, CallId(1), RtpSlot(0));
        pool.release_slot(now, CallId(1), RtpSlot(0));
        assert_eq!(pool.ports.leased(), 1);
        for slot in [RtpSlot::LIMIT, 255] {
            assert_eq!(pool.lease(now, CallId(1), RtpSlot(slot), &peers, false), Err(LeaseRefusal::NoPort));
        }
        assert_eq!(pool.lease(now, CallId(2), RtpSlot(0), &peers[1..2], true), Err(LeaseRefusal::AddressFamily));
        pool.release(now, CallId(1));
        pool.release(now, CallId(1));
        assert_eq!((pool.ports.leased(), pool.leases.len()), (0, 0));
        pool.stop();
    }
}
