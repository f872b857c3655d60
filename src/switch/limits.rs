//! The limits against fraud, as the switch sees them: what is due, who is told, what outlives a restart.

use std::collections::BTreeMap;

use super::timers::Owner;
use super::{CallId, Notice, Now, Row, Switch};
use crate::call::Event;
use crate::call::limits::{Account, Tripped};
use crate::sip::Shown;

impl Switch {
    /// Takes what a gateway before this one has written down of the limits: before the first call.
    pub fn restore_limits(&mut self, now: Now, rows: Vec<Row>) {
        self.ledger.restore(now, rows);
    }

    /// Whether there is anything for [`Switch::take_limit_changes`].
    pub fn has_limit_changes(&self) -> bool {
        self.ledger.has_changes()
    }

    /// What the next start shall know of the limits and has changed since the last time, the newest of everything.
    pub fn take_limit_changes(&mut self, now: Now) -> Vec<Row> {
        self.ledger.take_changes(now)
    }

    /// Minutes are used up, or are to be written down.
    pub(super) fn limits_due(&mut self, now: Now) {
        let over = self.ledger.tick(now).into_iter();
        // One end is enough for a call, whatever it has used up.
        let mut calls: BTreeMap<CallId, Tripped> =
            over.filter_map(|(session, tripped)| Some((*self.owners.get(&session)?, tripped))).collect();
        // A call that was transferred to an emergency number is cut off by nothing.
        calls.retain(|call, _| self.calls.get(call).is_none_or(|call| !call.is_emergency()));
        let first = calls.keys().next().copied();
        self.tell_limits(now, first);
        for (call, tripped) in calls {
            self.call_event(now, call, Event::End(tripped.end()));
        }
    }

    /// Tells of limits that have tripped, at a call's wish where it is known, and when they are to be looked at.
    pub(super) fn tell_limits(&mut self, now: Now, call: Option<CallId>) {
        for Tripped { account, limit, most, until } in self.ledger.take_alarms(now) {
            let (scope, name, limit) = (account.scope(), account.name().to_owned(), limit.name());
            let call = call.map(|call| call.to_string());
            // Users may be known by their numbers.
            let plain = self.settings.plain_numbers || !matches!(account, Account::User(_));
            tracing::warn!(scope, name = %Shown::new(&name, plain), limit, most, call, "a limit trips");
            let (scope, limit) = (scope.to_owned(), limit.to_owned());
            self.notice(Notice::LimitTripped { scope, name, limit, most, until, call });
        }
        self.timers.set(Owner::Limits, self.ledger.deadline());
    }
}
