//! `[limits]`, the part against fraud: how much may be called out by trunks.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;

use super::{Config, ConfigError, Problem, Reader, raw};
use crate::dialplan::Plan;
use crate::switch::{ClassQuota, Quota, Quotas};

/// The largest number that any of the limits takes.
const MOST: usize = 10_000_000;
/// The most calls a minute: each is remembered for a minute.
const MOST_A_MINUTE: usize = 10_000;

impl Reader<'_> {
    /// All limits against fraud. A class that the plan does not know, or a trunk that is none, is misspelt.
    pub(super) fn quotas(&self, raw: &raw::Limits, plan: &Plan, trunks: &[String]) -> Result<Quotas, ConfigError> {
        let of = |quota: &Option<raw::Quota>| quota.as_ref().map(|quota| self.quota(quota)).transpose();
        let mut classes = BTreeMap::new();
        for (name, section) in &raw.class {
            if !plan.has_class(name) {
                return Err(self.unknown(section, "[limits.class]", name, "the classes of the dial plan"));
            }
            let raw::ClassQuota {
                user,
                address,
                calls,
                calls_per_minute,
                minutes_per_day,
                longest_call,
                new_countries_per_day,
            } = section.get_ref().clone();
            let all = raw::Quota { calls, calls_per_minute, minutes_per_day, longest_call, new_countries_per_day };
            let (all, address) = (self.quota(&all)?, of(&address)?.unwrap_or_default());
            classes.insert(name.clone(), ClassQuota { all, user: of(&user)?, address });
        }
        let mut by_trunk = BTreeMap::new();
        for (name, section) in &raw.trunk {
            if !trunks.contains(name) {
                return Err(self.unknown(section, "[limits.trunk]", name, "the names of trunks"));
            }
            by_trunk.insert(name.clone(), self.quota(section.get_ref())?);
        }
        Ok(Quotas {
            gateway: of(&raw.gateway)?.unwrap_or_default(),
            user: of(&raw.user)?.unwrap_or_default(),
            token: of(&raw.token)?.unwrap_or_default(),
            classes,
            trunks: by_trunk,
        })
    }

    fn unknown<T>(&self, at: &Spanned<T>, key: &'static str, value: &str, takes: &'static str) -> ConfigError {
        self.error(at, Problem::Word { key, value: value.to_owned(), takes: takes.into() })
    }

    fn quota(&self, raw: &raw::Quota) -> Result<Quota, ConfigError> {
        let many = |key, value: &Option<Spanned<usize>>, most, takes| match value {
            None => Ok(None),
            some => self.number(key, some, 0, 1..=most, takes).map(|number| u32::try_from(number).ok()),
        };
        let seconds = many("longest_call", &raw.longest_call, MOST, "1 to 10000000 seconds")?;
        Ok(Quota {
            calls: many("calls", &raw.calls, MOST, "1 to 10000000")?,
            calls_per_minute: many("calls_per_minute", &raw.calls_per_minute, MOST_A_MINUTE, "1 to 10000")?,
            minutes_per_day: many("minutes_per_day", &raw.minutes_per_day, MOST, "1 to 10000000")?,
            longest_call: seconds.map(|seconds| Duration::from_secs(u64::from(seconds))),
            new_countries_per_day: many("new_countries_per_day", &raw.new_countries_per_day, 300, "1 to 300")?,
        })
    }
}

/// A limit against fraud that is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlimited {
    /// The section to set.
    pub section: &'static str,
    /// What may happen without it.
    pub why: &'static str,
}

impl Config {
    /// The limits against fraud without which a stolen password costs as much as the trunks carry; none where there is no
    /// trunk. A section counts as set where others do the same: those of classes or tokens for users, those of all trunks
    /// for the gateway.
    pub fn unlimited(&self) -> Vec<Unlimited> {
        let Quotas { gateway, user, token, classes, trunks } = &self.quotas;
        let of_users = || classes.values().any(|class| class.user.is_some_and(|user| user.is_any()));
        let is_limited = |name: &String| trunks.get(name).is_some_and(Quota::is_any);
        let of_all_trunks = || self.trunks.iter().all(|trunk| is_limited(&trunk.trunk.name));
        let found = [
            (
                user.is_any() || token.is_any() || of_users(),
                Unlimited { section: "[limits.user]", why: "one stolen password or token calls without end" },
            ),
            (
                gateway.is_any() || of_all_trunks(),
                Unlimited { section: "[limits.gateway]", why: "a fraud by many users is bounded by the trunks alone" },
            ),
            (self.store.is_some(), Unlimited { section: "[store]", why: "a restart forgets what was called today" }),
        ];
        let has_trunks = !self.trunks.is_empty();
        found.into_iter().filter_map(|(is_set, what)| (has_trunks && !is_set).then_some(what)).collect()
    }
}
