//! The limits as an operator sees them: how much of each is used now, and how often each has tripped.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::account::Book;
use super::{Account, Ledger, Limit, Now, Quota};

/// Accounts that are looked at for [`Ledger::fullest`].
const MOST_LOOKED_AT: usize = 100_000;
/// Users and tokens that are told of.
const MOST_TOLD: usize = 1000;

/// One limit of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LimitUse {
    /// Which, by its key in the configuration: `calls`, `calls_per_minute`, `minutes_per_day` or `new_countries_per_day`.
    pub limit: String,
    /// How much of it is used now.
    pub used: u32,
    /// How much is allowed.
    pub most: u32,
}

/// An account that has limits, and what is used of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AccountUse {
    /// Whose: `gateway`, `class`, `trunk`, `address`, `user` or `token`.
    pub scope: String,
    /// The name of the class, trunk or user; of an address its class, a blank, and itself; of a token its `jti`, or else its
    /// digest. Empty for the gateway.
    pub name: String,
    /// Its limits.
    pub limits: Vec<LimitUse>,
}

/// How often a kind of limit has tripped since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LimitTrips {
    /// Whose: as in [`AccountUse`].
    pub scope: String,
    /// Which limit, by its key; `accounts` where more users and tokens call than can be kept count of.
    pub limit: String,
    /// Calls that it has refused or ended.
    pub times: u64,
}

/// The limits against fraud of the gateway, its classes and its trunks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LimitsStatus {
    /// Those that are configured, and how much of them is used.
    pub accounts: Vec<AccountUse>,
    /// What has tripped since the start, users' and tokens' limits among them.
    pub tripped: Vec<LimitTrips>,
}

/// Counts what trips, by scope and limit: both are words of a fixed list.
#[derive(Debug, Default)]
pub(super) struct Trips(BTreeMap<(&'static str, Limit), u64>);

impl Trips {
    /// One call more.
    pub fn count(&mut self, account: &Account, limit: Limit) {
        let times = self.0.entry((account.scope(), limit)).or_default();
        *times = times.saturating_add(1);
    }

    fn list(&self) -> Vec<LimitTrips> {
        let told = |(&(scope, limit), &times): (&(&str, Limit), &u64)| LimitTrips {
            scope: scope.to_owned(),
            limit: limit.name().to_owned(),
            times,
        };
        self.0.iter().map(told).collect()
    }
}

impl AccountUse {
    fn of(account: &Account, limits: Vec<LimitUse>) -> AccountUse {
        AccountUse { scope: account.scope().to_owned(), name: account.name().to_owned(), limits }
    }

    /// How full its fullest limit is, permille.
    fn fullness(&self) -> u64 {
        let full = |limit: &LimitUse| u64::from(limit.used) * 1000 / u64::from(limit.most.max(1));
        self.limits.iter().map(full).max().unwrap_or(0)
    }
}

impl Ledger {
    /// The limits of the gateway, of classes and of trunks: as many as are configured.
    pub fn status(&self, now: Now) -> LimitsStatus {
        let quotas = &self.quotas;
        let gateway = [(Account::Gateway, &quotas.gateway)];
        let classes = quotas.classes.iter().map(|(name, quota)| (Account::Class(name.clone()), &quota.all));
        let trunks = quotas.trunks.iter().map(|(name, quota)| (Account::Trunk(name.clone()), quota));
        let all = gateway.into_iter().chain(classes).chain(trunks).filter(|(_, quota)| quota.is_any());
        let idle = Book::default();
        let accounts = all.map(|(account, quota)| {
            let book = self.books.get(&account).unwrap_or(&idle);
            AccountUse::of(&account, book.uses(now, quota))
        });
        LimitsStatus { accounts: accounts.collect(), tripped: self.trips.list() }
    }

    /// The same, with the users, addresses and tokens that use anything of theirs now, the fullest first: a thousand at most,
    /// of the first 100,000 accounts.
    pub fn fullest(&self, now: Now) -> LimitsStatus {
        let mut status = self.status(now);
        let quota = |account: &Account, book: &Book| -> Option<Quota> {
            match account {
                Account::User(_) => {
                    let class = book.class.as_ref().and_then(|name| self.quotas.classes.get(name));
                    Some(class.and_then(|class| class.user).unwrap_or(self.quotas.user))
                }
                Account::Address(name) => {
                    let (class, _) = name.rsplit_once(' ')?;
                    Some(self.quotas.classes.get(class)?.address)
                }
                Account::Token(_) => Some(self.quotas.token),
                Account::Gateway | Account::Class(_) | Account::Trunk(_) => None,
            }
        };
        let each = self.books.iter().take(MOST_LOOKED_AT).filter_map(|(account, book)| {
            let told = AccountUse::of(account, book.uses(now, &quota(account, book)?));
            told.limits.iter().any(|limit| limit.used > 0).then_some(told)
        });
        let mut people: Vec<AccountUse> = each.collect();
        people.sort_by_key(|account| std::cmp::Reverse(account.fullness()));
        people.truncate(MOST_TOLD);
        status.accounts.extend(people);
        status
    }
}
