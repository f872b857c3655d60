//! What the called party sees: `[caller_id]`, of the plan, of a class and of a rule, and the pools of numbers.

use std::collections::BTreeMap;

use super::decision::Caller;
use super::number::Numbering;
use super::rules::{ANONYMOUS, Matcher};

/// How much two numbers of one area have in common at least: `+1415`, `+4420`.
const SAME_AREA: usize = 5;

/// `[caller_id]`, or the own `caller_id` of a class or a rule, whose keys go before the plan's.
#[derive(Debug, Clone, Default)]
pub(super) struct CallerIdKeys {
    pub present: Option<Present>,
    pub fallback: Option<String>,
    pub allowed: Option<Vec<Matcher>>,
}

/// What is shown as the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Present {
    User,
    Anonymous,
    Number(String),
    /// A number of a pool.
    Pool(String),
}

/// `[caller_id.pool.NAME]`: numbers that a group of users shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pool {
    pub numbers: Vec<String>,
    /// Numbers of the called number's area go before the others.
    pub same_area: bool,
    /// The same number for the same user, instead of for the same called number.
    pub by_user: bool,
}

impl Pool {
    /// The number for a call: the same one for the same called number (or user), now and after a restart.
    fn choose(&self, caller: &str, called: &str) -> Option<&String> {
        let common = |number: &&String| number.bytes().zip(called.bytes()).take_while(|(a, b)| a == b).count();
        let near: Vec<&String> =
            self.numbers.iter().filter(|number| self.same_area && common(number) >= SAME_AREA).collect();
        let numbers = if near.is_empty() { self.numbers.iter().collect() } else { near };
        let many = u64::try_from(numbers.len()).ok().filter(|many| *many > 0)?;
        let at = spread(if self.by_user { caller } else { called }) % many;
        numbers.get(usize::try_from(at).ok()?).copied()
    }
}

/// A number for a text that stays the same over versions (FNV-1a with a last mixing).
fn spread(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32
}

/// Who calls whom, for the choice.
pub(super) struct Shown<'a> {
    pub caller: &'a Caller,
    pub called: &'a str,
    pub numbering: &'a Numbering,
    pub pools: &'a BTreeMap<String, Pool>,
}

impl CallerIdKeys {
    /// The keys, with those of `general` where a key is missing.
    pub fn or(&self, general: &CallerIdKeys) -> CallerIdKeys {
        CallerIdKeys {
            present: self.present.clone().or_else(|| general.present.clone()),
            fallback: self.fallback.clone().or_else(|| general.fallback.clone()),
            allowed: self.allowed.clone().or_else(|| general.allowed.clone()),
        }
    }

    /// What is shown for a caller, and why; or why the call is refused.
    pub fn choose(&self, shown: &Shown<'_>) -> Result<(Option<String>, String), String> {
        match self.present.as_ref().unwrap_or(&Present::User) {
            Present::Anonymous => Ok((Some(ANONYMOUS.to_owned()), "the plan shows no number".to_owned())),
            Present::Number(number) => Ok((Some(number.clone()), format!("the plan shows {number}"))),
            Present::Pool(name) => {
                let number = shown.pools.get(name).and_then(|pool| pool.choose(&shown.caller.user, shown.called));
                let number = number.ok_or_else(|| format!("The pool {name:?} has no number"))?;
                Ok((Some(number.clone()), format!("pool {name:?} shows {number}")))
            }
            Present::User => self.choose_own(shown.caller, shown.numbering),
        }
    }

    fn choose_own(&self, caller: &Caller, numbering: &Numbering) -> Result<(Option<String>, String), String> {
        let Some(wanted) = caller.asked.as_deref().or(caller.caller_id.as_deref()) else {
            return Ok(self.without_number(caller));
        };
        if wanted == ANONYMOUS {
            return Ok((Some(ANONYMOUS.to_owned()), format!("{} wants no number shown", caller.user)));
        }
        let number =
            numbering.normalise(wanted).map_err(|_| format!("{wanted:?} is no number that could be shown"))?.text;
        let own = caller.caller_id.as_deref().and_then(|own| numbering.normalise(own).ok());
        let is_own = own.is_some_and(|own| own.text == number);
        match &self.allowed {
            None if !is_own => Err(format!("{number} is not the number of {}", caller.user)),
            Some(allowed) if !allowed.iter().any(|matcher| matcher.matches(&number)) => {
                Err(format!("{number} may not be shown as the caller"))
            }
            _ if is_own => Ok((Some(number.clone()), format!("{number}, the number of {}, is shown", caller.user))),
            _ => Ok((Some(number.clone()), format!("{number}, which {} asks for, is shown", caller.user))),
        }
    }

    /// What is shown for a caller who has no number.
    pub fn without_number(&self, caller: &Caller) -> (Option<String>, String) {
        match &self.fallback {
            Some(number) => (Some(number.clone()), format!("{} has no number: {number} is shown", caller.user)),
            None => (None, format!("{} has no number: his name is shown", caller.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pool_keeps_to_its_number_and_shares_the_load() {
        let numbers: Vec<String> = ["+14155550101", "+14155550102", "+12125550103"].map(str::to_owned).to_vec();
        let pool = Pool { numbers: numbers.clone(), ..Pool::default() };
        let called: Vec<String> = (0..3000).map(|n| format!("+1303555{n:04}")).collect();
        for number in &numbers {
            let share = called.iter().filter(|called| pool.choose("x", called) == Some(number)).count();
            assert!((850..1150).contains(&share), "{number}: {share} of 3000");
        }
        assert_eq!(pool.choose("x", "+13035550100"), pool.choose("y", "+13035550100"));
        let near = Pool { same_area: true, ..pool.clone() };
        assert_eq!(near.choose("x", "+12125559999").unwrap(), "+12125550103");
        assert!(near.choose("x", "+14155559999").unwrap().starts_with("+1415"));
        assert!(near.choose("x", "+13035550100").is_some(), "no number of that area: any");
        let own = Pool { by_user: true, ..pool };
        assert!(called.iter().all(|called| own.choose("alice", called) == own.choose("alice", "+1")));
        assert_eq!(Pool::default().choose("x", "+1"), None);
    }
}
