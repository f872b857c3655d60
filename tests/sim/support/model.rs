//! Every order in which the things of one call can happen, one after another: a small model checker.
//!
//! A run is a list of [`Choice`]s: which packet arrives next, which one is lost, who does what, when the next timer fires.
//! The explorer goes through all of them depth first. A switch cannot be copied, so a branch is reached by playing its
//! choices again from the start.
//!
//! Two runs that differ only in the order of what happens at *different* places at one moment lead to the same state, and
//! what follows is explored once: the state of a place (the gateway, the trunk) is what came to it and when, in order, as
//! both are deterministic; the state of all is that of the places, the clock, what was lost or copied, and what is left to
//! be done. That is known before a choice is tried, so what is known already costs nothing. All orders are covered, and
//! [`Tally::orders`] counts them all.
//!
//! A packet that is sent again while it is still under way is one packet; that one comes twice is [`Act::copies`].

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use ringback::call::SocketId;
use ringback::sdp::Direction;
use ringback::signal::ServerMessage;
use ringback::sip::{SessionId, UaError};
use serde_json::json;

use super::browser::call;
use super::peer::{Habit, Peer};
use super::world::{Fate, GATEWAY, ONE, World, address};

/// What somebody can do, once in a run, at any time at which it is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    BrowserHangsUp,
    BrowserHolds,
    BrowserResumes,
    BrowserAccepts,
    BrowserRejects,
    TrunkRings,
    /// 183 with a description.
    TrunkEarly,
    TrunkAnswers,
    TrunkRefuses,
    /// CANCEL, BYE or a refusal: what suits its state.
    TrunkHangsUp,
    /// An offer: a re-INVITE, or an UPDATE where the call is not answered.
    TrunkHolds,
    /// The same.
    TrunkResumes,
}

impl Deed {
    fn is_browsers(self) -> bool {
        use Deed::{BrowserAccepts, BrowserHangsUp, BrowserHolds, BrowserRejects, BrowserResumes};
        matches!(self, BrowserHangsUp | BrowserHolds | BrowserResumes | BrowserAccepts | BrowserRejects)
    }
}

/// How far the call has come, over a good network, before all orders are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The INVITE is under way.
    Dialled,
    /// The called side rings.
    Ringing,
    /// The called trunk has sent a 183 with a description, and got the PRACK.
    Early,
    /// The ACK has arrived.
    Talking,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// The trunk calls; otherwise the browser does.
    pub inbound: bool,
    pub from: From,
    pub deeds: &'static [Deed],
    /// How many packets may be lost.
    pub losses: u8,
    /// How many packets may arrive twice.
    pub copies: u8,
    /// How often the next timer may fire although something else could happen first.
    pub ticks: u8,
}

/// What was explored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Different states.
    pub states: usize,
    /// Orders in which things happened, from the first INVITE to the last.
    pub orders: u128,
    /// Ends that were checked: runs after which nothing can happen any more, or nobody does anything more.
    pub ends: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Deliver(usize),
    /// It arrives, and its copy stays under way.
    Copy(usize),
    Lose(usize),
    Deed(usize),
    Tick,
    /// Nobody does anything more.
    Rest,
}

/// The state of all, as far as it decides what can follow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Print {
    /// What has come to the gateway and its browser, and to the trunk.
    gateway: u64,
    trunk: u64,
    time: u64,
    /// What the network has done: a sum, as it does not matter in which order it did.
    lost: u64,
    copied: u64,
    done: Vec<bool>,
    losses: u8,
    copies: u8,
    ticks: u8,
}

/// One run.
struct Play {
    world: World,
    alice: SocketId,
    print: Print,
}

fn chain(before: u64, what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (before, what).hash(&mut hasher);
    hasher.finish()
}

impl Play {
    /// The call has come as far as the act says.
    fn begin(act: &Act) -> Play {
        let mut world = World::new();
        (world.lease_after, world.stop_after) = (Some(0), Some(0));
        let alice = world.browser(1, "alice");
        world.network = Box::new(|_, _| Fate::Hold);
        if act.inbound {
            world.trunk_calls("+442079460100", true);
        } else {
            world.say(alice, &call("c1", "600"));
        }
        world.settle();
        let print = Print {
            gateway: 0,
            trunk: 0,
            time: world.elapsed_ms(),
            lost: 0,
            copied: 0,
            done: vec![false; act.deeds.len()],
            losses: act.losses,
            copies: act.copies,
            ticks: act.ticks,
        };
        let mut play = Play { world, alice, print };
        let steps: &[Deed] = match (act.from, act.inbound) {
            (From::Dialled, _) => return play,
            (From::Ringing | From::Early, true) => &[],
            (From::Early, false) => &[Deed::TrunkEarly],
            (From::Ringing, false) => &[Deed::TrunkRings],
            (From::Talking, true) => &[Deed::BrowserAccepts],
            (From::Talking, false) => &[Deed::TrunkRings, Deed::TrunkAnswers],
        };
        play.arrive();
        for deed in steps {
            assert!(play.act(*deed), "{deed:?}");
            play.arrive();
        }
        play
    }

    /// Everything under way arrives.
    fn arrive(&mut self) {
        while !self.world.held.is_empty() {
            let held = self.world.held.remove(0);
            self.world.deliver(held);
            self.world.settle();
        }
    }

    fn act(&mut self, deed: Deed) -> bool {
        let well = if deed.is_browsers() { self.browser_acts(deed) } else { self.trunk_acts(deed) };
        self.world.settle();
        well
    }

    /// The browser's name of the call, while it has one.
    fn name(&self) -> Option<&str> {
        let heard = &self.world.pages[&self.alice].heard;
        let call = heard.iter().rev().find_map(ServerMessage::call)?;
        let over =
            heard.iter().any(|message| matches!(message, ServerMessage::Ended { call: ended, .. } if ended == call));
        (!over).then_some(call)
    }

    fn browser_talks(&self) -> bool {
        let heard = &self.world.pages[&self.alice].heard;
        self.name().is_some() && heard.iter().any(|message| matches!(message, ServerMessage::Answered { .. }))
    }

    fn session(&self) -> Option<SessionId> {
        self.world.peers[&address(ONE)].sessions.keys().next().copied()
    }

    fn was_done(&self, act: &Act, deed: Deed) -> bool {
        act.deeds.iter().zip(&self.print.done).any(|(other, done)| *other == deed && *done)
    }

    /// Whether it makes sense now; what the trunk's user agent does not take shows when it is tried.
    fn is_possible(&self, act: &Act, deed: Deed) -> bool {
        match deed {
            Deed::BrowserHangsUp => self.name().is_some(),
            Deed::BrowserAccepts | Deed::BrowserRejects => self.name().is_some() && !self.browser_talks(),
            Deed::BrowserHolds => self.browser_talks(),
            Deed::BrowserResumes => self.browser_talks() && self.was_done(act, Deed::BrowserHolds),
            Deed::TrunkResumes => self.was_done(act, Deed::TrunkHolds),
            _ => self.session().is_some(),
        }
    }

    /// What can happen next; nothing when the run is over.
    fn choices(&self, act: &Act) -> Vec<Choice> {
        let mut choices = Vec::new();
        let held = &self.world.held;
        for at in 0..held.len() {
            choices.push(Choice::Deliver(at));
            if self.print.losses > 0 {
                choices.push(Choice::Lose(at));
            }
            if self.print.copies > 0 {
                choices.push(Choice::Copy(at));
            }
        }
        for (at, deed) in act.deeds.iter().enumerate() {
            if !self.print.done[at] && self.is_possible(act, *deed) {
                choices.push(Choice::Deed(at));
            }
        }
        if self.print.ticks > 0 && (!choices.is_empty() || !held.is_empty()) {
            choices.push(Choice::Tick);
        }
        if held.is_empty() {
            choices.push(Choice::Rest);
        }
        choices
    }

    /// The state after a choice. A choice that cannot be taken leads nowhere.
    fn after(&self, act: &Act, choice: Choice) -> Print {
        let mut print = self.print.clone();
        let (held, time) = (&self.world.held, print.time);
        match choice {
            Choice::Deliver(at) | Choice::Copy(at) => {
                let to_gateway = held[at].to == address(GATEWAY);
                let place = if to_gateway { &mut print.gateway } else { &mut print.trunk };
                *place = chain(*place, (time, &held[at].bytes));
                if let Choice::Copy(_) = choice {
                    print.copies -= 1;
                    print.copied = print.copied.wrapping_add(chain(0, &held[at]));
                }
            }
            Choice::Lose(at) => {
                print.losses -= 1;
                print.lost = print.lost.wrapping_add(chain(0, &held[at]));
            }
            Choice::Deed(at) => {
                print.done[at] = true;
                let place = if act.deeds[at].is_browsers() { &mut print.gateway } else { &mut print.trunk };
                *place = chain(*place, (time, act.deeds[at]));
            }
            Choice::Tick => {
                print.ticks -= 1;
                print.time = self.world.next_ms().unwrap_or(time);
                print.gateway = chain(print.gateway, print.time);
                print.trunk = chain(print.trunk, print.time);
            }
            Choice::Rest => {}
        }
        print
    }

    /// Lets it happen; `false` when it cannot.
    fn take(&mut self, act: &Act, choice: Choice) -> bool {
        let after = self.after(act, choice);
        let well = match choice {
            Choice::Deliver(at) => {
                let held = self.world.held.remove(at);
                self.world.deliver(held);
                true
            }
            Choice::Copy(at) => {
                let held = self.world.held[at].clone();
                self.world.deliver(held);
                true
            }
            Choice::Lose(at) => {
                self.world.held.remove(at);
                true
            }
            Choice::Tick => after.time > self.print.time && self.world.step(),
            Choice::Deed(at) => self.act(act.deeds[at]),
            Choice::Rest => true,
        };
        self.world.settle();
        self.print = after;
        well
    }

    fn browser_acts(&mut self, deed: Deed) -> bool {
        let Some(name) = self.name().map(str::to_owned) else { return false };
        let errors = self.world.page(self.alice).errors();
        match deed {
            Deed::BrowserAccepts => self.world.accept(self.alice),
            Deed::BrowserRejects => {
                self.world.say(self.alice, &json!({"type": "reject", "call": name, "code": 486}).to_string());
            }
            Deed::BrowserHolds | Deed::BrowserResumes => {
                let on = deed == Deed::BrowserHolds;
                self.world.say(self.alice, &json!({"type": "hold", "call": name, "on": on}).to_string());
            }
            _ => self.world.tell(self.alice, "hangup", &name),
        }
        self.world.page(self.alice).errors() == errors
    }

    fn trunk_acts(&mut self, deed: Deed) -> bool {
        let Some(session) = self.session() else { return false };
        self.world.with_peer(ONE, |peer, now| {
            let reoffer = |peer: &mut Peer, direction| {
                let offer = peer.offer(direction);
                peer.ua.reoffer(now, session, offer)
            };
            let description = peer.description(session);
            let result: Result<(), UaError> = match deed {
                Deed::TrunkRings => peer.ua.ring(now, session, 180, None),
                Deed::TrunkEarly => peer.ua.ring(now, session, 183, Some(description)),
                Deed::TrunkAnswers => peer.ua.accept(now, session, description),
                Deed::TrunkRefuses => peer.ua.reject(now, session, 486, "", &[]),
                Deed::TrunkHolds => reoffer(peer, Direction::SendOnly),
                Deed::TrunkResumes => reoffer(peer, Direction::SendRecv),
                _ => {
                    peer.act(now, Habit::Bye(session));
                    Ok(())
                }
            };
            result.is_ok()
        })
    }

    /// The network is a good one from now on; whoever is left over hangs up after a while. Then nothing may be left, and
    /// everybody must have been told of one end with one cause.
    fn end(mut self) {
        self.world.network = Box::new(|_, _| Fate::Arrive);
        for held in std::mem::take(&mut self.world.held) {
            self.world.deliver(held);
        }
        self.world.run(150_000);
        if self.name().is_some() {
            self.world.close(self.alice);
        }
        self.world.finish();
        let story = self.world.story();
        assert!(self.world.cdrs.len() <= 1, "{:?}\n{story}", self.world.cdrs);
        let told = self.world.page(self.alice).heard.iter().find_map(|message| match message {
            ServerMessage::Ended { cause, .. } => Some(cause.clone()),
            _ => None,
        });
        if let Some(told) = told {
            assert_eq!(told, self.world.cdr().cause, "the browser and the record\n{story}");
        }
    }
}

/// More states than this take too long to go through: a millisecond for each without optimisation.
const MOST: usize = if cfg!(debug_assertions) { 6_000 } else { 100_000 };

/// Goes through all runs of an [`Act`].
struct Explorer {
    act: Act,
    /// By state: how many orders follow.
    known: HashMap<Print, u128>,
    path: Vec<Choice>,
    tally: Tally,
}

impl Explorer {
    /// The state after the present path.
    fn replay(&self) -> Play {
        let mut play = Play::begin(&self.act);
        for choice in &self.path {
            play.take(&self.act, *choice);
        }
        play
    }

    /// How many orders follow this state, which is a new one.
    fn explore(&mut self, play: Play) -> u128 {
        self.tally.states += 1;
        assert!(self.tally.states <= MOST, "{:?} is too long", self.act);
        let (print, mut orders) = (play.print.clone(), 0);
        let next: Vec<(Choice, Print)> =
            play.choices(&self.act).into_iter().map(|choice| (choice, play.after(&self.act, choice))).collect();
        let mut here = Some(play);
        for (choice, after) in next {
            if let (Some(known), true) = (self.known.get(&after), choice != Choice::Rest) {
                orders += *known;
                continue;
            }
            // The first branch goes on from here; the others play the way to here again.
            let mut play = here.take().unwrap_or_else(|| self.replay());
            self.path.push(choice);
            let follow = if choice == Choice::Rest {
                self.tally.ends += 1;
                play.end();
                1
            } else if play.take(&self.act, choice) {
                self.explore(play)
            } else {
                self.known.insert(after, 0);
                0
            };
            orders += follow;
            self.path.pop();
        }
        self.known.insert(print, orders);
        orders
    }
}

impl Drop for Explorer {
    /// A run that fails is shown.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}: after {:?}", self.act, self.path);
        }
    }
}

/// Explores all of it.
pub fn explore(act: Act) -> Tally {
    let mut explorer = Explorer { act, known: HashMap::new(), path: Vec::new(), tally: Tally::default() };
    let orders = explorer.explore(Play::begin(&act));
    let tally = Tally { orders, ..explorer.tally };
    println!("{act:?}: {tally:?}");
    tally
}
