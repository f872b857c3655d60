//! Deadlines by owner: each has at most one, the earliest is known at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::call::trunks::TrunkId;
use crate::call::{CallId, SocketId};

/// Whose deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// A socket's hello or token.
    Socket(SocketId),
    /// A call's own.
    Call(CallId),
    /// A trunk's keeper.
    Trunk(TrunkId),
    /// The limits against fraud.
    Limits,
    /// The credentials of TURN.
    Turn,
}

/// The deadlines of everything but the user agent, which keeps its own.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Instant, Owner)>,
    by_owner: BTreeMap<Owner, Instant>,
}

impl Timers {
    /// Sets, moves or (with `None`) takes away an owner's deadline.
    pub fn set(&mut self, owner: Owner, deadline: Option<Instant>) {
        if let Some(old) = self.by_owner.remove(&owner) {
            self.queue.remove(&(old, owner));
        }
        if let Some(deadline) = deadline {
            self.by_owner.insert(owner, deadline);
            self.queue.insert((deadline, owner));
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes an owner whose deadline has come.
    pub fn due(&mut self, now: Instant) -> Option<Owner> {
        let (_, owner) = *self.queue.first().filter(|(at, _)| *at <= now)?;
        self.set(owner, None);
        Some(owner)
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }
}
