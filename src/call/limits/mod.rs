//! Limits against fraud: how much may be called out by trunks, where it costs money, by each user, token and class, by each
//! trunk and in all.
//!
//! The [`Ledger`] decides, and is told of each session that goes out by a trunk: when it begins, is answered and is over. It
//! knows no clock and no disk; what is to outlive a restart it gives as [`Row`]s. Calls to emergency numbers never come here.

mod account;
mod country;
mod ledger;
mod sight;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::{Cause, Now, Origin, Rights, Special};
use crate::dialplan::Plan;

pub use ledger::{Ledger, Row};
pub use sight::{AccountUse, LimitTrips, LimitUse, LimitsStatus};

/// Milliseconds in a day of UTC.
const DAY_MS: u64 = 86_400_000;

/// How much may be called out; `None`: no limit of this kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Calls at once, from the INVITE to the end.
    pub calls: Option<u32>,
    /// Calls begun in any 60 seconds.
    pub calls_per_minute: Option<u32>,
    /// Minutes talked in a day of UTC, of all calls together. Calls that stand end when they are used up.
    pub minutes_per_day: Option<u32>,
    /// The longest call.
    pub longest_call: Option<Duration>,
    /// Countries called in a day of UTC that were not called in the 30 days before.
    pub new_countries_per_day: Option<u32>,
}

impl Quota {
    /// Whether it limits anything.
    pub fn is_any(&self) -> bool {
        *self != Quota::default()
    }
}

/// The limits of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassQuota {
    /// Of all its users together.
    pub all: Quota,
    /// Of each of its users, in place of that for any user.
    pub user: Option<Quota>,
    /// Of all its users who call from one address.
    pub address: Quota,
}

/// All limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Of everybody together.
    pub gateway: Quota,
    /// Of each user.
    pub user: Quota,
    /// Of each token.
    pub token: Quota,
    /// Of classes, by their names.
    pub classes: BTreeMap<String, ClassQuota>,
    /// Of trunks, by their names.
    pub trunks: BTreeMap<String, Quota>,
}

/// Who has a limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Everybody together.
    Gateway,
    /// The users of a class together.
    Class(String),
    /// The users of a class who call from one address: the class, a blank, and the address.
    Address(String),
    /// A user.
    User(String),
    /// A token, by its `jti` or else its digest.
    Token(String),
    /// A trunk.
    Trunk(String),
}

impl Account {
    /// What it is: `gateway`, `class`, `address`, `user`, `token` or `trunk`.
    pub fn scope(&self) -> &'static str {
        match self {
            Account::Gateway => "gateway",
            Account::Class(_) => "class",
            Account::Address(_) => "address",
            Account::User(_) => "user",
            Account::Token(_) => "token",
            Account::Trunk(_) => "trunk",
        }
    }

    /// Its name; empty for the gateway.
    pub fn name(&self) -> &str {
        match self {
            Account::Gateway => "",
            Account::Class(name)
            | Account::Address(name)
            | Account::User(name)
            | Account::Token(name)
            | Account::Trunk(name) => name,
        }
    }

    /// As [`Display`](fmt::Display) writes it.
    fn read(text: &str) -> Option<Account> {
        let (scope, name) = text.split_once(':')?;
        let name = name.to_owned();
        match scope {
            "gateway" => Some(Account::Gateway),
            "class" => Some(Account::Class(name)),
            "address" => Some(Account::Address(name)),
            "user" => Some(Account::User(name)),
            "token" => Some(Account::Token(name)),
            "trunk" => Some(Account::Trunk(name)),
            _ => None,
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scope(), self.name())
    }
}

/// On whose account a call goes; nobody's where a trunk's own call is sent out again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payer {
    /// The user.
    pub user: Option<String>,
    /// His class.
    pub class: Option<String>,
    /// His token.
    pub token: Option<TokenId>,
    /// His address; of IPv6 the first 64 bits, which are one subscriber's.
    pub address: Option<IpAddr>,
}

impl Payer {
    /// On the account of whoever has these rights.
    pub fn of(plan: &Plan, rights: Option<&Rights>) -> Payer {
        let Some(rights) = rights else { return Payer::default() };
        Payer {
            user: Some(rights.caller.user.clone()),
            class: plan.class_name(&rights.caller).map(str::to_owned),
            token: rights.token.clone(),
            address: rights.address.map(subscriber),
        }
    }
}

/// The address by which a subscriber is known who may choose the rest of it.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        address => address,
    }
}

/// What a token is to the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenId {
    /// Its `jti`, or else its digest.
    pub id: String,
    /// Whether it is good for one call.
    pub once: bool,
    /// When it runs out, Unix seconds.
    pub expires: u64,
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Calls at once.
    Calls,
    /// Calls a minute.
    CallsPerMinute,
    /// Minutes a day.
    MinutesPerDay,
    /// New countries a day.
    NewCountriesPerDay,
    /// How many accounts are kept at all.
    Accounts,
}

impl Limit {
    /// Its key in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Calls => "calls",
            Limit::CallsPerMinute => "calls_per_minute",
            Limit::MinutesPerDay => "minutes_per_day",
            Limit::NewCountriesPerDay => "new_countries_per_day",
            Limit::Accounts => "accounts",
        }
    }
}

/// A limit that a call would break, or has used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// Whose.
    pub account: Account,
    /// Which.
    pub limit: Limit,
    /// How much is allowed.
    pub most: u32,
    /// When there is room again, Unix milliseconds; `None`: when another call ends.
    pub until: Option<u64>,
}

impl Tripped {
    /// The cause of a call that is not begun for it: 503 with Retry-After where there will soon be room, else 403.
    pub fn cause(&self, now: Now) -> Cause {
        let whose = match self.account {
            Account::User(_) => format!("{} for you", self.most),
            Account::Token(_) => format!("{} for this token", self.most),
            Account::Address(_) => format!("{} for your address", self.most),
            Account::Class(_) | Account::Trunk(_) | Account::Gateway => "of the gateway's".to_owned(),
        };
        let wait = self.until.map(|until| until.saturating_sub(now.unix_ms).div_ceil(1000));
        let seconds = u32::try_from(wait.unwrap_or(5).max(1)).unwrap_or(u32::MAX);
        let (special, words) = match self.limit {
            Limit::Calls => (Special::LimitForNow, format!("As many calls stand as may be ({whose}): end one first")),
            Limit::CallsPerMinute => {
                (Special::LimitForNow, format!("Too many calls a minute ({whose}): try again in {seconds} s"))
            }
            Limit::MinutesPerDay => {
                (Special::LimitForToday, format!("The minutes of this day are used up ({whose}): more from 00:00 UTC"))
            }
            Limit::NewCountriesPerDay => {
                (Special::LimitForToday, format!("No further country today ({whose}): again from 00:00 UTC"))
            }
            Limit::Accounts => (Special::LimitForNow, "Too many different users and tokens today".to_owned()),
        };
        let retry_after = (special == Special::LimitForNow).then_some(seconds);
        Cause { retry_after, ..Cause::special(Origin::Gateway, special).in_words(&words) }
    }

    /// The cause of a call that stood, and ends for it.
    pub fn end(&self) -> Cause {
        Cause::special(Origin::Gateway, Special::MinutesUsedUp)
    }
}

/// The day of UTC, counted from 1970-01-01.
fn day(unix_ms: u64) -> u64 {
    unix_ms / DAY_MS
}
