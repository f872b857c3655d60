//! Browsers that speak SIP and whose WebSockets are lost: a call outlives one, and goes on over the next that the same
//! browser opens.
//!
//! A second tab of a page may name the same `+sip.instance` as the first, and take its registration over: what it does not
//! take is the first one's calls, as long as that one's WebSocket stands.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sip::Flow;
use crate::sip::registrar::Binding;

/// How long a browser that has lost its WebSocket is remembered: its calls stand for as long as their sound comes.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(300);
/// How many are, of each kind; then the user with the most has one fewer.
const MOST: usize = 1024;

/// A registration that is its browser's no more, and whose it was.
#[derive(Debug)]
struct Former {
    user: String,
    binding: Binding,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// Their WebSockets are gone; until when they are remembered.
    gone: VecDeque<(Instant, Former)>,
    /// Their WebSockets stand, and others have their registrations.
    overtaken: VecDeque<Former>,
}

impl Absent {
    /// A browser's WebSocket is gone.
    pub fn lost(&mut self, now: Instant, user: String, binding: Binding) {
        self.gone.retain(|(until, _)| *until > now);
        if self.gone.len() >= MOST {
            let at = most_of_one(self.gone.iter().map(|(_, former)| former.user.as_str()));
            self.gone.remove(at);
        }
        self.gone.push_back((now + COMES_BACK_WITHIN, Former { user, binding }));
    }

    /// A browser has come by another WebSocket while that of `binding` stands.
    pub fn overtaken(&mut self, user: &str, binding: Binding) {
        let known = |former: &Former| former.binding.flow == binding.flow && former.user == user;
        if self.overtaken.iter().any(known) {
            return;
        }
        if self.overtaken.len() >= MOST {
            let at = most_of_one(self.overtaken.iter().map(|former| former.user.as_str()));
            self.overtaken.remove(at);
        }
        self.overtaken.push_back(Former { user: user.to_owned(), binding });
    }

    /// A WebSocket is gone: whose registrations others had taken over there.
    pub fn closed(&mut self, flow: Flow) -> Vec<(String, Binding)> {
        let gone = std::mem::take(&mut self.overtaken).into_iter();
        let (closed, stand): (VecDeque<_>, VecDeque<_>) = gone.partition(|former| former.binding.flow == flow);
        self.overtaken = stand;
        closed.into_iter().map(|former| (former.user, former.binding)).collect()
    }

    /// A user's browser has registered: the WebSockets that it had before, of those that are gone.
    pub fn back(&mut self, now: Instant, user: &str, is_here: impl Fn(&Binding) -> bool) -> Vec<Flow> {
        let mut from = Vec::new();
        self.gone.retain(|(until, former)| {
            let back = former.user == user && is_here(&former.binding);
            if back {
                from.push(former.binding.flow);
            }
            !back && *until > now
        });
        from
    }
}

/// Where the first of those of the user stands who has the most: nobody else has to give way for him.
fn most_of_one<'a>(users: impl Iterator<Item = &'a str> + Clone) -> usize {
    let mut sorted: Vec<&str> = users.clone().collect();
    sorted.sort_unstable();
    let greedy = sorted.chunk_by(|one, other| one == other).max_by_key(|chunk| chunk.len()).and_then(<[&str]>::first);
    users.clone().position(|user| Some(&user) == greedy).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_with_the_most_has_one_fewer_and_nobody_else_has() {
        assert_eq!(most_of_one(["a", "b", "c", "b", "a", "b"].into_iter()), 1);
        assert_eq!(most_of_one(["a"].into_iter()), 0);
        assert_eq!(most_of_one(std::iter::empty()), 0);
        let crowd = || std::iter::once("victim").chain(std::iter::repeat_n("guest", MOST - 1));
        assert_eq!(most_of_one(crowd()), 1);
    }
}
