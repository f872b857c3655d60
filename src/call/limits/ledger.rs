//! The ledger: what every account has used, and whether it may use more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::account::Book;
use super::sight::Trips;
use super::{Account, ClassQuota, Limit, Now, Payer, Quota, Quotas, Tripped};
use crate::sip::SessionId;

/// Accounts that are kept; more are refused.
const MOST_ACCOUNTS: usize = 1_000_000;
/// With fewer, none is looked for that could be forgotten.
const FEW_ACCOUNTS: usize = 1024;
/// Used tokens that are kept; where there are more, no one-time token is taken.
const MOST_USED: usize = 1_000_000;
/// Alarms that wait for the switch: between two events there are no more in practice.
const MOST_ALARMS: usize = 16;
/// One limit of one account is told of once in so long.
const ALARM_EVERY: Duration = Duration::from_secs(60);
/// Limits that have been told of lately and are remembered for that; beyond it some are told of more often.
const MOST_TOLD: usize = 4096;
/// What a row of a used token begins with.
const USED: &str = "used:";

/// What outlives a restart: one account, or one used token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub key: String,
    /// What is known of it, JSON; empty for a token.
    pub state: String,
    /// Until when it counts, Unix seconds.
    pub until: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) quotas: Quotas,
    pub(super) books: BTreeMap<Account, Book>,
    /// The sessions that go out by trunks.
    sessions: BTreeMap<SessionId, Running>,
    /// When an account is to be looked at.
    queue: BTreeSet<(Instant, Account)>,
    /// Tokens that were good for one call, and when they would have run out, Unix seconds.
    used: BTreeMap<String, u64>,
    /// The same in the order in which they run out.
    used_until: BTreeSet<(u64, String)>,
    /// What is to be written down.
    changed: BTreeSet<Account>,
    newly_used: BTreeSet<String>,
    alarms: Vec<Tripped>,
    /// How often what has tripped.
    pub(super) trips: Trips,
    told: BTreeMap<(Account, Limit), Instant>,
    /// When accounts of which nothing counts were looked for last, and with how many that is done again.
    swept: Option<Instant>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Running {
    accounts: Vec<Account>,
    answered: bool,
}

impl Ledger {
    /// A ledger in which nobody has used anything.
    pub fn new(quotas: Quotas) -> Ledger {
        Ledger { quotas, ..Ledger::default() }
    }

    /// These are the limits from the next call on.
    pub fn reload(&mut self, quotas: Quotas) {
        self.quotas = quotas;
    }

    /// Takes what a process before this one has written down; what cannot be read, or counts no more, is left out.
    pub fn restore(&mut self, now: Now, rows: Vec<Row>) {
        for Row { key, state, until } in rows.into_iter().filter(|row| row.until > now.unix_ms / 1000) {
            if let Some(token) = key.strip_prefix(USED) {
                self.used_until.insert((until, token.to_owned()));
                self.used.insert(token.to_owned(), until);
            } else if let (Some(account), Ok(book)) = (Account::read(&key), serde_json::from_str(&state)) {
                self.books.insert(account, book);
            } else {
                tracing::warn!(key, "what stands in the store of the limits cannot be read");
            }
        }
    }

    /// What has changed since the last time, the newest of everything.
    pub fn take_changes(&mut self, now: Now) -> Vec<Row> {
        let changed = std::mem::take(&mut self.changed).into_iter().filter_map(|account| {
            let book = self.books.get_mut(&account)?;
            book.settle(now);
            let state = serde_json::to_string(book).ok()?;
            Some(Row { key: account.to_string(), state, until: book.until(now) })
        });
        let mut rows: Vec<Row> = changed.collect();
        rows.extend(std::mem::take(&mut self.newly_used).into_iter().filter_map(|token| {
            let until = self.used.get(&token).copied()?;
            Some(Row { key: format!("{USED}{token}"), state: String::new(), until })
        }));
        rows
    }

    /// Whether there is anything for [`Ledger::take_changes`].
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty() || !self.newly_used.is_empty()
    }

    /// Whether one more call to this number may be begun; nothing is counted.
    ///
    /// # Errors
    /// The limit that it would break: that of the narrowest account.
    pub fn check(&mut self, now: Now, payer: &Payer, number: &str) -> Result<(), Tripped> {
        let accounts = self.accounts(payer);
        self.judge(now, &accounts, number, false)
    }

    /// Begins a call to this number, if it may be. `again`: it goes on with one that was begun, to another number.
    ///
    /// # Errors
    /// As [`Ledger::check`].
    pub fn take(&mut self, now: Now, payer: &Payer, number: &str, again: bool) -> Result<(), Tripped> {
        let accounts = self.accounts(payer);
        self.judge_and_count(now, accounts, number, again)?;
        // A token that has run out is asked about no more: its account need not be kept for longer.
        if let Some(token) = &payer.token
            && let Some(book) = self.books.get_mut(&Account::Token(token.id.clone()))
        {
            book.ends = book.ends.max(Some(token.expires));
        }
        if let Some(user) = &payer.user
            && let Some(book) = self.books.get_mut(&Account::User(user.clone()))
        {
            book.class.clone_from(&payer.class);
        }
        Ok(())
    }

    /// The same of the trunk by which it would go.
    ///
    /// # Errors
    /// As [`Ledger::check`].
    pub fn take_trunk(&mut self, now: Now, trunk: &str, number: &str, again: bool) -> Result<(), Tripped> {
        let accounts = self.trunk_account(trunk).into_iter().collect();
        self.judge_and_count(now, accounts, number, again)
    }

    fn judge_and_count(
        &mut self,
        now: Now,
        accounts: Vec<(Account, Quota)>,
        number: &str,
        again: bool,
    ) -> Result<(), Tripped> {
        self.judge(now, &accounts, number, again)?;
        for (account, quota) in accounts {
            self.books.entry(account.clone()).or_default().count(now, &quota, number, again);
            self.changed.insert(account);
        }
        Ok(())
    }

    fn judge(&mut self, now: Now, accounts: &[(Account, Quota)], number: &str, again: bool) -> Result<(), Tripped> {
        for (account, quota) in accounts {
            let found = match self.books.contains_key(account) || self.has_room(now) {
                true => self.books.get(account).and_then(|book| book.judge(now, quota, number, again)),
                false => Some((Limit::Accounts, u32::try_from(MOST_ACCOUNTS).unwrap_or(u32::MAX), None)),
            };
            if let Some((limit, most, until)) = found {
                let tripped = Tripped { account: account.clone(), limit, most, until };
                self.alarm(tripped.clone());
                return Err(tripped);
            }
        }
        Ok(())
    }

    /// Whether one more account can be kept. Those of which nothing counts make room: looked for when there are twice as many
    /// as were left the last time, and once a minute at most.
    fn has_room(&mut self, now: Now) -> bool {
        let due = self.swept.is_none_or(|swept| now.instant >= swept + ALARM_EVERY);
        if self.books.len() >= self.sweep_at.max(FEW_ACCOUNTS) && due {
            self.swept = Some(now.instant);
            self.books.retain(|_, book| !book.is_idle(now));
            self.sweep_at = self.books.len().saturating_mul(2).min(MOST_ACCOUNTS);
        }
        self.books.len() < MOST_ACCOUNTS
    }

    /// The longest call on this account.
    pub fn longest(&self, payer: &Payer) -> Option<Duration> {
        self.accounts(payer).iter().filter_map(|(_, quota)| quota.longest_call).min()
    }

    /// The longest call by this trunk.
    pub fn longest_by(&self, trunk: &str) -> Option<Duration> {
        self.quotas.trunks.get(trunk).and_then(|quota| quota.longest_call)
    }

    /// Whether calls on this account by this trunk have to be measured: then we stay in between.
    pub fn measures(&self, payer: &Payer, trunk: &str) -> bool {
        !self.accounts(payer).is_empty() || self.trunk_account(trunk).is_some()
    }

    /// Whether this session counts on an account: the call stays with us then, and ends when that is used up.
    pub fn is_counted(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// A session goes out by a trunk, on an account: it counts until [`Ledger::closed`].
    pub fn began(&mut self, session: SessionId, payer: &Payer, trunk: &str) {
        let accounts = self.accounts(payer).into_iter().chain(self.trunk_account(trunk));
        let accounts: Vec<Account> = accounts.map(|(account, _)| account).collect();
        if accounts.is_empty() {
            return;
        }
        for account in &accounts {
            let book = self.books.entry(account.clone()).or_default();
            book.open = book.open.saturating_add(1);
        }
        self.sessions.insert(session, Running { accounts, answered: false });
    }

    /// It is answered: its time counts.
    pub fn answered(&mut self, now: Now, session: SessionId) {
        let Some(running) = self.sessions.get_mut(&session) else { return };
        if !std::mem::replace(&mut running.answered, true) {
            for account in running.accounts.clone() {
                self.settle(now, &account, |book| book.talk(now, true));
            }
        }
    }

    /// It is over, by our word or the peer's; what comes of it later is nothing new.
    pub fn closed(&mut self, now: Now, session: SessionId) {
        let Some(Running { accounts, answered }) = self.sessions.remove(&session) else { return };
        for account in accounts {
            self.settle(now, &account, |book| {
                book.open = book.open.saturating_sub(1);
                if answered {
                    book.talk(now, false);
                }
            });
        }
    }

    /// When [`Ledger::tick`] is wanted.
    pub fn deadline(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// What is due; gives the sessions that have to end, and why.
    pub fn tick(&mut self, now: Now) -> Vec<(SessionId, Tripped)> {
        let mut over = Vec::new();
        while let Some((_, account)) = self.queue.first().filter(|(at, _)| *at <= now.instant).cloned() {
            let mut used_up = None;
            self.settle(now, &account, |book| {
                book.settle(now);
                used_up = book.used_up(now);
            });
            let Some(most) = used_up else { continue };
            self.dequeue(&account);
            let until = Some((super::day(now.unix_ms) + 1).saturating_mul(super::DAY_MS));
            let tripped = Tripped { account: account.clone(), limit: Limit::MinutesPerDay, most, until };
            self.alarm(tripped.clone());
            let talks = |running: &Running| running.answered && running.accounts.contains(&account);
            let those = self.sessions.iter().filter(|(_, running)| talks(running));
            over.extend(those.map(|(session, _)| (*session, tripped.clone())));
        }
        over
    }

    /// Changes an account; it is written down, and looked at when that is wanted next.
    fn settle(&mut self, now: Now, account: &Account, change: impl FnOnce(&mut Book)) {
        let Some(book) = self.books.get_mut(account) else { return };
        change(book);
        let wants = book.wants(now);
        if let Some(before) = std::mem::replace(&mut book.due, wants) {
            self.queue.remove(&(before, account.clone()));
        }
        self.queue.extend(wants.map(|at| (at, account.clone())));
        self.changed.insert(account.clone());
    }

    fn dequeue(&mut self, account: &Account) {
        if let Some(before) = self.books.get_mut(account).and_then(|book| book.due.take()) {
            self.queue.remove(&(before, account.clone()));
        }
    }

    /// Whether a token that is good for one call has been used.
    pub fn is_used(&self, token: &str) -> bool {
        self.used.contains_key(token)
    }

    /// Uses a token that is good for one call and runs out at `expires`, Unix seconds; `false`: it was used, or cannot be
    /// remembered.
    pub fn use_up(&mut self, now: Now, token: &str, expires: u64) -> bool {
        let seconds = now.unix_ms / 1000;
        while let Some((until, old)) = self.used_until.first().filter(|(until, _)| *until <= seconds).cloned() {
            self.used.remove(&old);
            self.used_until.remove(&(until, old));
        }
        // What has run out may have been forgotten above: it is good for nothing.
        if expires <= seconds || self.used.contains_key(token) || self.used.len() >= MOST_USED {
            return false;
        }
        self.used.insert(token.to_owned(), expires);
        self.used_until.insert((expires, token.to_owned()));
        self.newly_used.insert(token.to_owned());
        true
    }

    fn alarm(&mut self, tripped: Tripped) {
        if self.alarms.len() < MOST_ALARMS {
            self.alarms.push(tripped);
        }
    }

    /// What would trip was only asked about: nobody is told.
    pub fn hush(&mut self) {
        self.alarms.clear();
    }

    /// The limits that have tripped and are to be told of: one of one account once a minute.
    pub fn take_alarms(&mut self, now: Now) -> Vec<Tripped> {
        let mut alarms = std::mem::take(&mut self.alarms);
        alarms.iter().for_each(|tripped| self.trips.count(&tripped.account, tripped.limit));
        alarms.retain(|tripped| {
            let key = (tripped.account.clone(), tripped.limit);
            let fresh = self.told.get(&key).is_none_or(|told| now.instant >= *told + ALARM_EVERY);
            if fresh {
                if self.told.len() >= MOST_TOLD {
                    self.told.retain(|_, told| now.instant < *told + ALARM_EVERY);
                }
                if self.told.len() < MOST_TOLD {
                    self.told.insert(key, now.instant);
                }
            }
            fresh
        });
        alarms
    }

    /// The accounts that a call is on and that have limits, the narrowest first.
    fn accounts(&self, payer: &Payer) -> Vec<(Account, Quota)> {
        let Quotas { gateway, user, token, classes, .. } = &self.quotas;
        let class = payer.class.as_ref().and_then(|name| Some((name, classes.get(name)?)));
        let of_class = class.map(|(name, ClassQuota { all, .. })| (Account::Class(name.clone()), *all));
        let address = class
            .zip(payer.address)
            .map(|((name, class), address)| (Account::Address(format!("{name} {address}")), class.address));
        let each = class.and_then(|(_, class)| class.user).unwrap_or(*user);
        let token = payer.token.as_ref().map(|of| (Account::Token(of.id.clone()), *token));
        let user = payer.user.clone().map(|name| (Account::User(name), each));
        let all = [token, user, address, of_class, Some((Account::Gateway, *gateway))];
        all.into_iter().flatten().filter(|(_, quota)| quota.is_any()).collect()
    }

    fn trunk_account(&self, trunk: &str) -> Option<(Account, Quota)> {
        let quota = self.quotas.trunks.get(trunk).filter(|quota| quota.is_any())?;
        Some((Account::Trunk(trunk.to_owned()), *quota))
    }
}
