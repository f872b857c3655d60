#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::sip::SessionId;

/// 2027-01-15, 08:00 UTC.
const EPOCH: u64 = 1_800_000_000_000;
const UK: &str = "+442079460000";

/// A clock that only moves when it is told to.
#[derive(Clone, Copy)]
struct Clock(Now);

impl Clock {
    fn new() -> Clock {
        Clock(Now { instant: Instant::now(), unix_ms: EPOCH })
    }

    fn pass(&mut self, ms: u64) {
        self.0.instant += Duration::from_millis(ms);
        self.0.unix_ms += ms;
    }

    /// To the next midnight of UTC.
    fn sleep(&mut self) {
        self.pass(DAY_MS - self.0.unix_ms % DAY_MS);
    }
}

fn alice() -> Payer {
    Payer { user: Some("alice".into()), class: Some("staff".into()), token: Some(token()), address: None }
}

/// It runs out after three days.
fn token() -> TokenId {
    TokenId { id: "t1".into(), once: false, expires: EPOCH / 1000 + 3 * 86_400 }
}

fn each_user(user: Quota) -> Ledger {
    Ledger::new(Quotas { user, ..Quotas::default() })
}

/// Takes a call and begins and answers it.
fn call(ledger: &mut Ledger, clock: Clock, session: u64) -> Result<(), Tripped> {
    ledger.take(clock.0, &alice(), UK, false)?;
    ledger.began(SessionId(session), &alice(), "one");
    ledger.answered(clock.0, SessionId(session));
    Ok(())
}

fn limit_of(result: Result<(), Tripped>) -> Option<Limit> {
    result.err().map(|tripped| tripped.limit)
}

/// Every session may have a token of its own: what they have called is not kept for a month after them.
#[test]
fn an_account_of_a_token_ends_with_the_token() {
    let quota = Quota { new_countries_per_day: Some(1), ..Quota::default() };
    let quotas = Quotas { token: quota, ..Quotas::default() };
    let (mut ledger, mut clock) = (Ledger::new(quotas.clone()), Clock::new());
    ledger.take(clock.0, &alice(), UK, false).unwrap();
    let rows = ledger.take_changes(clock.0);
    assert_eq!(
        rows.iter().map(|row| (row.key.as_str(), row.until)).collect::<Vec<_>>(),
        [("token:t1", token().expires)]
    );
    clock.pass(2 * DAY_MS);
    let mut after = Ledger::new(quotas.clone());
    after.restore(clock.0, rows.clone());
    assert_eq!(after.fullest(clock.0).accounts, []);
    after.take(clock.0, &alice(), UK, false).unwrap();
    assert_eq!(
        limit_of(after.take(clock.0, &alice(), "+33123456789", false)),
        None,
        "yesterday's country is none of today's"
    );
    assert_eq!(limit_of(after.take(clock.0, &alice(), "+34123456789", false)), Some(Limit::NewCountriesPerDay));
    assert_eq!(after.take_changes(clock.0).first().map(|row| row.until), Some(token().expires));
    clock.pass(DAY_MS);
    let mut last = Ledger::new(quotas);
    last.restore(clock.0, rows);
    assert!(last.fullest(clock.0).accounts.is_empty());
}

/// An issuer that renews a session's token under one name: what was used of the day stays used.
#[test]
fn a_renewed_token_of_the_same_name_begins_no_new_day() {
    let quotas = Quotas { token: Quota { minutes_per_day: Some(1), ..Quota::default() }, ..Quotas::default() };
    let (mut ledger, mut clock) = (Ledger::new(quotas.clone()), Clock::new());
    let renewed = |clock: Clock| {
        let token = TokenId { expires: clock.0.unix_ms / 1000 + 300, ..token() };
        Payer { token: Some(token), ..Payer::default() }
    };
    ledger.take(clock.0, &renewed(clock), UK, false).unwrap();
    ledger.began(SessionId(1), &renewed(clock), "one");
    ledger.answered(clock.0, SessionId(1));
    clock.pass(61_000);
    ledger.closed(clock.0, SessionId(1));
    let rows = ledger.take_changes(clock.0);
    clock.pass(600_000);
    let mut after = Ledger::new(quotas);
    after.restore(clock.0, rows);
    assert_eq!(limit_of(after.take(clock.0, &renewed(clock), UK, false)), Some(Limit::MinutesPerDay));
    clock.sleep();
    assert_eq!(limit_of(after.take(clock.0, &renewed(clock), UK, false)), None);
}

/// His class's, over a restart and a reload.
#[test]
fn a_user_is_told_by_the_limits_of_his_class() {
    let quotas = |most: u32| {
        let user = Some(Quota { calls_per_minute: Some(most), ..Quota::default() });
        let staff = ClassQuota { user, ..ClassQuota::default() };
        Quotas { classes: [("staff".to_owned(), staff)].into(), ..Quotas::default() }
    };
    let (mut ledger, clock) = (Ledger::new(quotas(7)), Clock::new());
    ledger.take(clock.0, &alice(), UK, false).unwrap();
    let rows = ledger.take_changes(clock.0);
    let most = |ledger: &Ledger| ledger.fullest(clock.0).accounts[0].limits[0].most;
    assert_eq!(most(&ledger), 7);
    ledger.reload(quotas(9));
    assert_eq!(most(&ledger), 9);
    let mut after = Ledger::new(quotas(7));
    after.restore(clock.0, rows);
    assert_eq!(most(&after), 7);
}

#[test]
fn how_much_is_used_is_told_of_those_who_use_anything_and_the_fullest_comes_first() {
    let user = Quota { calls: Some(4), calls_per_minute: Some(10), ..Quota::default() };
    let gateway = Quota { minutes_per_day: Some(60), ..Quota::default() };
    let (mut ledger, mut clock) = (Ledger::new(Quotas { user, gateway, ..Quotas::default() }), Clock::new());
    let names = |ledger: &Ledger, clock: Clock| -> Vec<(String, Vec<(u32, u32)>)> {
        let told = ledger.fullest(clock.0).accounts.into_iter();
        told.map(|it| (it.name, it.limits.iter().map(|limit| (limit.used, limit.most)).collect())).collect()
    };
    assert_eq!(names(&ledger, clock), [(String::new(), vec![(0, 60)])]);
    let bob = Payer { user: Some("bob".into()), ..Payer::default() };
    ledger.take(clock.0, &bob, UK, false).unwrap();
    call(&mut ledger, clock, 1).unwrap();
    call(&mut ledger, clock, 2).unwrap();
    clock.pass(90_000);
    ledger.take(clock.0, &bob, UK, false).unwrap();
    let told = names(&ledger, clock);
    assert_eq!(
        told,
        [
            (String::new(), vec![(3, 60)]),
            ("alice".into(), vec![(2, 4), (0, 10)]),
            ("bob".into(), vec![(0, 4), (1, 10)]),
        ]
    );
    assert!(
        ledger.status(clock.0).accounts.iter().all(|it| it.scope == "gateway")
            && ledger.status(clock.0).tripped.is_empty()
    );
    call(&mut ledger, clock, 3).unwrap();
    call(&mut ledger, clock, 4).unwrap();
    for session in 5..8 {
        assert!(call(&mut ledger, clock, session).is_err());
    }
    ledger.take_alarms(clock.0);
    let tripped = ledger.status(clock.0).tripped;
    assert_eq!(
        tripped.iter().map(|it| (it.scope.as_str(), it.limit.as_str(), it.times)).collect::<Vec<_>>(),
        [("user", "calls", 3)]
    );
    // What was only asked about is not counted.
    assert!(ledger.check(clock.0, &alice(), UK).is_err());
    ledger.hush();
    ledger.take_alarms(clock.0);
    assert_eq!(ledger.status(clock.0).tripped, tripped);
}

#[test]
fn without_limits_nothing_is_counted_and_nothing_kept() {
    let (mut ledger, clock) = (Ledger::default(), Clock::new());
    for session in 0..100 {
        call(&mut ledger, clock, session).unwrap();
    }
    assert!(!ledger.has_changes() && ledger.deadline().is_none() && !ledger.measures(&alice(), "one"));
}

#[test]
fn calls_at_once_are_free_again_when_one_has_closed() {
    let (mut ledger, clock) = (each_user(Quota { calls: Some(2), ..Quota::default() }), Clock::new());
    call(&mut ledger, clock, 1).unwrap();
    call(&mut ledger, clock, 2).unwrap();
    let tripped = call(&mut ledger, clock, 3).unwrap_err();
    assert_eq!((tripped.limit, tripped.most, tripped.until), (Limit::Calls, 2, None));
    assert_eq!(tripped.account, Account::User("alice".into()));
    let cause = tripped.cause(clock.0);
    assert_eq!((cause.word, cause.sip, cause.retry_after), ("limit-reached", Some(503), Some(5)));
    // What goes on with a call that was counted is none more.
    assert!(ledger.take(clock.0, &alice(), UK, true).is_ok());
    let bob = Payer { user: Some("bob".into()), ..Payer::default() };
    assert!(ledger.take(clock.0, &bob, UK, false).is_ok(), "each user has his own");
    ledger.closed(clock.0, SessionId(1));
    ledger.closed(clock.0, SessionId(1));
    assert!(call(&mut ledger, clock, 4).is_ok());
    assert_eq!(limit_of(call(&mut ledger, clock, 5)), Some(Limit::Calls));
}

#[test]
fn calls_a_minute_are_counted_in_any_sixty_seconds() {
    let (mut ledger, mut clock) = (each_user(Quota { calls_per_minute: Some(2), ..Quota::default() }), Clock::new());
    call(&mut ledger, clock, 1).unwrap();
    clock.pass(50_000);
    call(&mut ledger, clock, 2).unwrap();
    clock.pass(5_000);
    let tripped = call(&mut ledger, clock, 3).unwrap_err();
    assert_eq!((tripped.limit, tripped.until), (Limit::CallsPerMinute, Some(EPOCH + 60_000)));
    assert_eq!(tripped.cause(clock.0).retry_after, Some(5));
    clock.pass(4_999);
    assert!(call(&mut ledger, clock, 3).is_err(), "a millisecond early");
    clock.pass(1);
    call(&mut ledger, clock, 3).unwrap();
    assert!(call(&mut ledger, clock, 4).is_err());
}

#[test]
fn minutes_of_all_calls_together_end_them_when_they_are_used_up_and_begin_anew_at_midnight() {
    let (mut ledger, mut clock) = (each_user(Quota { minutes_per_day: Some(10), ..Quota::default() }), Clock::new());
    call(&mut ledger, clock, 1).unwrap();
    call(&mut ledger, clock, 2).unwrap();
    ledger.take(clock.0, &alice(), UK, false).unwrap();
    ledger.began(SessionId(3), &alice(), "one"); // rings, and costs nothing
    let mut over = Vec::new();
    while over.is_empty() {
        let due = ledger.deadline().unwrap();
        clock.pass(u64::try_from((due - clock.0.instant).as_millis()).unwrap());
        over = ledger.tick(clock.0);
    }
    assert_eq!(clock.0.unix_ms - EPOCH, 5 * 60_000, "two calls use ten minutes in five");
    assert_eq!(over.iter().map(|(session, _)| session.0).collect::<Vec<_>>(), [1, 2]);
    let cause = over[0].1.end();
    assert_eq!((cause.word, cause.sip), ("limit-reached", None));
    ledger.closed(clock.0, SessionId(1));
    ledger.closed(clock.0, SessionId(2));
    let tripped = call(&mut ledger, clock, 4).unwrap_err();
    assert_eq!((tripped.limit, tripped.until), (Limit::MinutesPerDay, Some((day(EPOCH) + 1) * DAY_MS)));
    assert_eq!(tripped.cause(clock.0).sip, Some(403));
    // The one that rang is answered in the end: it ends at once.
    ledger.answered(clock.0, SessionId(3));
    assert_eq!(ledger.tick(clock.0).len(), 1);
    ledger.closed(clock.0, SessionId(3));
    clock.sleep();
    assert!(call(&mut ledger, clock, 4).is_ok());
}

/// A call over midnight counts for each day what belongs to it.
#[test]
fn a_call_over_midnight_uses_minutes_of_both_days() {
    let (mut ledger, mut clock) = (each_user(Quota { minutes_per_day: Some(10), ..Quota::default() }), Clock::new());
    clock.sleep();
    clock.pass(DAY_MS - 6 * 60_000);
    call(&mut ledger, clock, 1).unwrap();
    let began = clock.0.unix_ms;
    while ledger.tick(clock.0).is_empty() {
        let due = ledger.deadline().unwrap();
        clock.pass(u64::try_from((due - clock.0.instant).as_millis()).unwrap());
    }
    let talked = clock.0.unix_ms - began;
    assert!(talked.abs_diff(16 * 60_000) <= 10_000, "six before midnight, ten after: {talked}");
}

#[test]
fn new_countries_are_those_not_called_for_a_month() {
    let quota = Quota { new_countries_per_day: Some(1), ..Quota::default() };
    let (mut ledger, mut clock) = (each_user(quota), Clock::new());
    let mut dial = |clock: Clock, number: &str| ledger.take(clock.0, &alice(), number, false);
    dial(clock, UK).unwrap();
    dial(clock, "+441632960000").unwrap();
    dial(clock, "600").unwrap();
    let tripped = dial(clock, "+252612345678").unwrap_err();
    assert_eq!((tripped.limit, tripped.until), (Limit::NewCountriesPerDay, Some((day(EPOCH) + 1) * DAY_MS)));
    clock.sleep();
    dial(clock, "+33123456789").unwrap();
    assert!(dial(clock, "+252612345678").is_err());
    assert!(dial(clock, UK).is_ok(), "known since yesterday");
    clock.pass(31 * DAY_MS);
    dial(clock, "+252612345678").unwrap();
    assert!(dial(clock, UK).is_err(), "forgotten after thirty days");
}

/// Whatever their tokens and names: those of a class behind one address are one; of IPv6 that is a network.
#[test]
fn users_of_a_class_are_counted_by_their_address() {
    let one = Quota { calls: Some(1), ..Quota::default() };
    let visitors = ClassQuota { address: one, ..ClassQuota::default() };
    let classes = [("visitor".into(), visitors), ("staff".into(), ClassQuota::default())].into();
    let (mut ledger, clock) = (Ledger::new(Quotas { classes, ..Quotas::default() }), Clock::new());
    let mut next = 0;
    let mut dial = |user: &str, class: &str, address: Option<&str>| {
        let address = address.map(|address| subscriber(address.parse().unwrap()));
        let payer = Payer { user: Some(user.into()), class: Some(class.into()), address, ..Payer::default() };
        next += 1;
        ledger.take(clock.0, &payer, UK, false).map_err(|tripped| tripped.account.to_string())?;
        ledger.began(SessionId(next), &payer, "one");
        Ok::<(), String>(())
    };
    for (address, whose) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.2", "192.0.2.2"),
        ("2001:db8:1:2::3", "2001:db8:1:2::"),
        ("2001:db8:1:3::3", "2001:db8:1:3::"),
    ] {
        assert_eq!(dial("a", "visitor", Some(address)), Ok(()));
        assert_eq!(dial("b", "visitor", Some(address)), Err(format!("address:visitor {whose}")));
    }
    assert!(dial("c", "visitor", Some("192.0.2.2")).is_err(), "an IPv4 address in IPv6 is itself");
    assert!(dial("d", "visitor", Some("2001:db8:1:2:9::")).is_err(), "the rest of it is the subscriber's to choose");
    for (class, address) in [("visitor", None), ("staff", Some("192.0.2.1"))] {
        assert_eq!((dial("e", class, address), dial("f", class, address)), (Ok(()), Ok(())));
    }
    let told = ledger.fullest(clock.0).accounts;
    assert_eq!((told.len(), told[0].scope.as_str(), told[0].limits[0].used), (4, "address", 1), "{told:?}");
}

#[test]
fn the_narrowest_account_refuses_and_classes_have_limits_of_their_own_for_each_user() {
    let one = |calls| Quota { calls: Some(calls), ..Quota::default() };
    let staff = ClassQuota { all: one(3), user: Some(one(2)), ..ClassQuota::default() };
    let quotas = Quotas {
        gateway: one(4),
        user: one(1),
        token: one(9),
        classes: [("staff".into(), staff)].into(),
        trunks: [("one".into(), one(5))].into(),
    };
    let (mut ledger, clock) = (Ledger::new(quotas), Clock::new());
    let mut next = 0;
    let mut dial = |user: &str, class: Option<&str>| {
        let payer = Payer { user: Some(user.into()), class: class.map(str::to_owned), ..Payer::default() };
        ledger.take(clock.0, &payer, UK, false)?;
        ledger.take_trunk(clock.0, "one", UK, false)?;
        next += 1;
        ledger.began(SessionId(next), &payer, "one");
        Ok::<(), Tripped>(())
    };
    let whose = |result: Result<(), Tripped>| result.err().map(|tripped| tripped.account.to_string());
    assert_eq!(whose(dial("carol", None)), None);
    assert_eq!(whose(dial("carol", None)), Some("user:carol".into()));
    assert_eq!(whose(dial("alice", Some("staff"))), None);
    assert_eq!(whose(dial("alice", Some("staff"))), None);
    assert_eq!(whose(dial("alice", Some("staff"))), Some("user:alice".into()));
    assert_eq!(whose(dial("bob", Some("staff"))), None);
    assert_eq!(whose(dial("bob", Some("staff"))), Some("class:staff".into()));
    assert_eq!(whose(dial("dave", Some("other"))), Some("gateway:".into()));
    // A call that a trunk of ours makes again has no user: the gateway's and the trunk's limits hold.
    assert_eq!(whose(ledger.take(clock.0, &Payer::default(), UK, false)), Some("gateway:".into()));
    assert!(ledger.take_trunk(clock.0, "one", UK, false).is_ok());
    ledger.began(SessionId(99), &Payer::default(), "one");
    assert_eq!(whose(ledger.take_trunk(clock.0, "one", UK, false)), Some("trunk:one".into()));
    assert!(ledger.take_trunk(clock.0, "two", UK, false).is_ok());
}

#[test]
fn the_longest_call_is_the_shortest_of_all_that_hold() {
    let long = |seconds| Quota { longest_call: Some(Duration::from_secs(seconds)), ..Quota::default() };
    let trunks = [("one".to_owned(), long(5))].into();
    let ledger = Ledger::new(Quotas { gateway: long(60), user: long(30), trunks, ..Quotas::default() });
    assert_eq!(ledger.longest(&alice()), Some(Duration::from_secs(30)));
    assert_eq!(ledger.longest(&Payer::default()), Some(Duration::from_secs(60)));
    assert_eq!((ledger.longest_by("one"), ledger.longest_by("two")), (Some(Duration::from_secs(5)), None));
}

#[test]
fn a_token_for_one_call_is_used_once_and_that_outlives_a_restart_until_it_runs_out() {
    let (mut ledger, clock) = (Ledger::default(), Clock::new());
    let expires = EPOCH / 1000 + 60;
    assert!(!ledger.is_used("t1") && ledger.use_up(clock.0, "t1", expires));
    assert!(ledger.is_used("t1") && !ledger.use_up(clock.0, "t1", expires));
    let rows = ledger.take_changes(clock.0);
    assert_eq!(rows, [Row { key: "used:t1".into(), state: String::new(), until: expires }]);
    let mut later = Ledger::default();
    later.restore(clock.0, rows);
    assert!(!later.use_up(clock.0, "t1", expires));
    let mut over = clock;
    over.pass(60_000);
    assert!(later.use_up(over.0, "t2", expires + 60) && !later.is_used("t1"), "what has run out is forgotten");
    assert!(!later.use_up(over.0, "t1", expires), "and good for nothing");
}

#[test]
fn an_alarm_is_told_once_a_minute_and_not_for_a_question() {
    let (mut ledger, mut clock) = (each_user(Quota { calls_per_minute: Some(1), ..Quota::default() }), Clock::new());
    call(&mut ledger, clock, 1).unwrap();
    assert!(ledger.check(clock.0, &alice(), UK).is_err());
    ledger.hush();
    assert!(ledger.take_alarms(clock.0).is_empty());
    for _ in 0..100 {
        assert!(call(&mut ledger, clock, 2).is_err());
    }
    assert_eq!(ledger.take_alarms(clock.0).len(), 1);
    clock.pass(59_000);
    assert!(call(&mut ledger, clock, 2).is_err() && ledger.take_alarms(clock.0).is_empty());
    clock.pass(1_000);
    call(&mut ledger, clock, 2).unwrap();
    assert!(call(&mut ledger, clock, 3).is_err());
    assert_eq!(ledger.take_alarms(clock.0).len(), 1);
}

#[test]
fn what_cannot_be_read_of_a_store_is_left_out() {
    let (mut ledger, clock) = (each_user(Quota { calls_per_minute: Some(1), ..Quota::default() }), Clock::new());
    let row = |key: &str, state: &str| Row { key: key.into(), state: state.into(), until: u64::MAX };
    let wrong = [("user:alice", "{"), ("user:alice", "[1]"), ("", "{}"), ("planet:mars", "{}"), ("user", "{}")];
    ledger.restore(clock.0, wrong.map(|(key, state)| row(key, state)).to_vec());
    assert!(call(&mut ledger, clock, 1).is_ok());
}

/// A day of random calls, with restarts in between.
#[derive(Clone, Debug)]
enum Step {
    Call {
        country: usize,
        answer: bool,
    },
    Close(usize),
    Pass(u64),
    /// The process is killed after everything was written down, and another one begins: its calls are over.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4usize, any::<bool>()).prop_map(|(country, answer)| Step::Call { country, answer }),
        3 => (0..8usize).prop_map(Step::Close),
        4 => prop_oneof![0..2_000u64, 1_000..90_000u64, 0..20_000_000u64].prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

const COUNTRIES: [&str; 4] = ["+4420", "+3312", "+252", "+1876"];

/// What a second look at the same day says: kept as it happened, without any thrift.
#[derive(Default)]
struct Witness {
    /// When, to which country.
    begun: Vec<(u64, usize)>,
    /// From when to when somebody talked.
    talked: Vec<(u64, Option<u64>)>,
    open: Vec<(u64, Option<usize>)>,
}

impl Witness {
    fn talked_on(&self, the_day: u64, now: u64) -> u64 {
        let (from, to) = (the_day * DAY_MS, (the_day + 1) * DAY_MS);
        self.talked.iter().map(|(a, b)| b.unwrap_or(now).min(to).saturating_sub((*a).max(from))).sum()
    }

    fn new_countries(&self, the_day: u64) -> usize {
        let on = |at: u64| day(at);
        (0..COUNTRIES.len())
            .filter(|country| {
                let calls: Vec<u64> = self.begun.iter().filter(|(_, c)| c == country).map(|(at, _)| on(*at)).collect();
                let first_today = calls.contains(&the_day);
                first_today && !calls.iter().any(|before| *before < the_day && the_day - before <= 30)
            })
            .count()
    }

    fn close(&mut self, at: usize, now: u64) -> u64 {
        let (session, talk) = self.open.remove(at);
        if let Some(talk) = talk {
            self.talked[talk].1 = Some(now);
        }
        session
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: no limit is ever exceeded, and what was refused would have exceeded one.
    #[test]
    fn no_limit_is_ever_exceeded_and_none_refuses_too_early(steps in prop::collection::vec(step(), 1..120)) {
        let quota = Quota {
            calls: Some(3),
            calls_per_minute: Some(4),
            minutes_per_day: Some(30),
            longest_call: None,
            new_countries_per_day: Some(2),
        };
        let (mut ledger, mut clock, mut seen, mut next) = (each_user(quota), Clock::new(), Witness::default(), 0);
        let mut store = BTreeMap::new();
        for step in steps {
            match step {
                Step::Call { country, answer } => {
                    let now = clock.0.unix_ms;
                    let number = format!("{}55512345", COUNTRIES[country]);
                    let in_minute = seen.begun.iter().filter(|(at, _)| now - at < 60_000).count();
                    let today = day(now);
                    let mut with = Witness { begun: seen.begun.clone(), ..Witness::default() };
                    with.begun.push((now, country));
                    let fits = seen.open.len() < 3
                        && in_minute < 4
                        && seen.talked_on(today, now) < 30 * 60_000
                        && with.new_countries(today) <= 2;
                    let taken = ledger.take(clock.0, &alice(), &number, false);
                    prop_assert_eq!(taken.is_ok(), fits, "{:?} at {}", taken, now - EPOCH);
                    if fits {
                        next += 1;
                        seen.begun.push((now, country));
                        ledger.began(SessionId(next), &alice(), "one");
                        let talk = answer.then(|| {
                            ledger.answered(clock.0, SessionId(next));
                            seen.talked.push((now, None));
                            seen.talked.len() - 1
                        });
                        seen.open.push((next, talk));
                    }
                }
                Step::Close(at) if at < seen.open.len() => {
                    let session = seen.close(at, clock.0.unix_ms);
                    ledger.closed(clock.0, SessionId(session));
                }
                Step::Close(_) => {}
                Step::Pass(ms) => {
                    let until = clock.0.instant + Duration::from_millis(ms);
                    while let Some(due) = ledger.deadline().filter(|due| *due <= until) {
                        clock.pass(u64::try_from((due - clock.0.instant).as_millis()).unwrap());
                        for (session, _) in ledger.tick(clock.0) {
                            let at = seen.open.iter().position(|(open, _)| *open == session.0).unwrap();
                            seen.close(at, clock.0.unix_ms);
                            ledger.closed(clock.0, session);
                        }
                    }
                    clock.pass(u64::try_from((until - clock.0.instant).as_millis()).unwrap());
                    let used = seen.talked_on(day(clock.0.unix_ms), clock.0.unix_ms);
                    // Three calls at once end at a whole millisecond of each.
                    prop_assert!(used < 30 * 60_000 + 3, "{used}");
                }
                Step::Restart => {
                    while !seen.open.is_empty() {
                        let session = seen.close(0, clock.0.unix_ms);
                        ledger.closed(clock.0, SessionId(session));
                    }
                    store.extend(ledger.take_changes(clock.0).into_iter().map(|row| (row.key.clone(), row)));
                    let mut after = each_user(quota);
                    after.restore(clock.0, store.values().cloned().collect());
                    ledger = after;
                }
            }
        }
    }
}
