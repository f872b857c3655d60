//! The calls of WHIP by their addresses, those that ended lately among them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::problem::Problem;
use super::session::Handle;
use super::state::Course;

/// How long it is remembered why a call ended.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How many ended calls are remembered; those that stand are bounded by their places among the sockets.
const MOST_ENDED: usize = 1024;

/// All of them.
#[derive(Default)]
pub(in crate::gateway) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    calls: HashMap<String, Handle>,
    /// Those that ended, oldest first.
    ended: VecDeque<(Instant, String)>,
}

impl Inner {
    fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.ended.front() {
            if self.ended.len() <= MOST_ENDED && now.duration_since(*at) < REMEMBERED {
                return;
            }
            if let Some((_, id)) = self.ended.pop_front() {
                self.calls.remove(&id);
            }
        }
    }
}

impl Registry {
    fn with<T>(&self, now: Instant, act: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.forget(now);
        act(&mut inner)
    }

    /// A call stands under `id` from now on.
    pub(super) fn add(&self, now: Instant, id: String, handle: Handle) {
        self.with(now, |inner| inner.calls.insert(id, handle));
    }

    /// A call is over: for some time its address tells so.
    pub(super) fn over(&self, now: Instant, id: String) {
        self.with(now, |inner| inner.ended.push_back((now, id)));
    }

    /// The call of this id.
    ///
    /// # Errors
    /// 404, or 410 once it is over.
    pub(super) fn get(&self, now: Instant, id: &str) -> Result<Handle, Problem> {
        let handle = self.with(now, |inner| inner.calls.get(id).cloned()).ok_or_else(Problem::unknown)?;
        let state = handle.state.borrow().clone();
        match state.ended {
            Some(ended) if state.state == Course::Ended => Err(Problem::gone(ended)),
            _ => Ok(handle),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, watch};
    use tokio_util::sync::CancellationToken;

    use super::super::state::{CallState, Ended};
    use super::*;

    #[test]
    fn a_call_that_is_over_is_gone_and_later_unknown() {
        let (registry, now) = (Registry::default(), Instant::now());
        let (state, watched) = watch::channel(CallState::new("1".into()));
        let handle = Handle { wishes: mpsc::channel(1).0, hangup: CancellationToken::new(), state: watched };
        let status = |at| registry.get(at, "a").map(drop).map_err(|problem| problem.status.as_u16());
        assert_eq!(status(now), Err(404));
        registry.add(now, "a".into(), handle);
        assert_eq!(status(now + 2 * REMEMBERED), Ok(()));
        state.send_modify(|state| state.end(Ended::by_shutdown()));
        assert_eq!(status(now), Err(410));
        registry.over(now, "a".into());
        assert_eq!(status(now + REMEMBERED - Duration::from_secs(1)), Err(410));
        assert_eq!(status(now + REMEMBERED), Err(404));
    }

    #[test]
    fn of_calls_that_are_over_so_many_are_remembered() {
        let (registry, now) = (Registry::default(), Instant::now());
        for number in 0..=MOST_ENDED {
            let (_, watched) = watch::channel(CallState::new("1".into()));
            let handle = Handle { wishes: mpsc::channel(1).0, hangup: CancellationToken::new(), state: watched };
            registry.add(now, number.to_string(), handle);
            registry.over(now, number.to_string());
        }
        assert!(registry.get(now, "0").is_err() && registry.get(now, "1").is_ok());
    }
}
