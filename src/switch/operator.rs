//! Call control from outside: what an operator or an application of his asks for, and what it is told.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Canary, LimitsStatus, Now, Output, Switch};
use crate::call::{
    Act, Call, CallId, CallView, Cause, Context, End, FetchRequest, Notice, Origin, Origination, Refusal, Rights,
    Special,
};
use crate::signal::{valid_destination, valid_digits, valid_user};

/// What a digit lasts when nothing is said, milliseconds.
const DIGIT_MS: u16 = 100;
/// The shortest and the longest digit, milliseconds.
const DIGIT_RANGE: std::ops::RangeInclusive<u16> = 40..=1000;
/// The longest name that a user's devices show, in characters.
const LONGEST_NAME: usize = 64;
/// The longest time that a user's devices ring, seconds.
const LONGEST_RING: u32 = 600;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Have a user call a number.
    Originate(Originate),
    /// Try a trunk by a call.
    Canary(Canary),
    /// Every call that stands.
    List,
    /// One call.
    Inspect(CallId),
    /// The limits against fraud, with the users and tokens that use most of theirs.
    Limits,
    /// End a call.
    Hangup(CallId),
    /// Play digits in an answered call.
    Digits(CallId, Digits),
    /// Put a party of an answered call on hold, or take it back.
    Hold(CallId, Hold),
    /// Connect a party of an answered call with somebody else.
    Transfer(CallId, Transfer),
}

/// A call for a user: his own browsers and phones ring, and whoever answers there is connected with the number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Originate {
    /// Whose call it is: he must have a browser or a phone here. Rights and limits are his.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._+:@*#~-]{1,64}$"))]
    pub user: String,
    /// What is dialled; the dial plan makes a destination of it.
    #[schemars(length(min = 1, max = 128))]
    pub to: String,
    /// Another caller id than the user's own, as the dial plan allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._+:@*#~-]{1,64}$"))]
    pub from: Option<String>,
    /// What the user's devices show beside the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub name: Option<String>,
    /// How long the user's devices ring, seconds; as the gateway is configured unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 600))]
    pub ring_for: Option<u32>,
}

/// Digits to play.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Digits {
    /// `0-9 * # A-D`, in order.
    #[schemars(regex(pattern = r"^[0-9*#A-D]{1,64}$"))]
    pub digits: String,
    /// How long each lasts, milliseconds; 100 unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 40, max = 1000))]
    pub ms: Option<u16>,
    /// Who hears them; the other side than the user's unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<End>,
}

/// A hold, or its end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// `true` to hold.
    pub on: bool,
    /// Who holds the other; the user unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<End>,
}

/// A transfer: to a number, or to the other side of another call. Exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["to"] }, { "required": ["with"] }]))]
pub struct Transfer {
    /// Whom to call; the dial plan makes a destination of it, with the rights of the user whose call it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub to: Option<String>,
    /// The id of the other call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
    pub with: Option<String>,
    /// Who leaves the call; the user unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<End>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The call that it is about, as it stands now.
    Call(Box<CallView>),
    /// All of them, the oldest first.
    Calls(Vec<CallView>),
    /// The limits.
    Limits(Box<LimitsStatus>),
    /// It is done, and nothing is left of the call.
    Gone,
    /// It is not done.
    Refused(Denial),
}

/// Why a command is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// For a program.
    pub why: Why,
    /// For a person.
    pub text: String,
    /// The call's cause, where one refused it.
    pub cause: Option<String>,
    /// The SIP status that stands for that.
    pub sip: Option<u16>,
}

/// Why a command is not carried out, for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A value against its rule.
    BadRequest,
    /// There is no such call, or no longer.
    UnknownCall,
    /// The call is in no state for it.
    WrongState,
    /// The dial plan, a limit or a party has refused the call.
    CallRefused,
}

impl Denial {
    pub(super) fn new(why: Why, text: &str) -> Denial {
        Denial { why, text: text.to_owned(), cause: None, sip: None }
    }

    fn of_cause(cause: &Cause) -> Denial {
        Denial { why: Why::CallRefused, text: cause.reason.clone(), cause: Some(cause.word.to_owned()), sip: cause.sip }
    }
}

impl Switch {
    /// Carries a command out; what it comes to is said at once.
    pub(super) fn command(&mut self, now: Now, number: u64, command: Command) {
        let reply = match self.carry(now, command) {
            Ok(reply) => reply,
            Err(denial) => Reply::Refused(denial),
        };
        self.output.push_back(Output::Reply { number, reply: Box::new(reply) });
    }

    fn carry(&mut self, now: Now, command: Command) -> Result<Reply, Denial> {
        match command {
            Command::List => Ok(Reply::Calls(self.list())),
            Command::Limits => Ok(Reply::Limits(Box::new(self.ledger.fullest(now)))),
            Command::Inspect(id) => self.inspect(id).ok_or_else(unknown_call),
            Command::Originate(wish) => self.originate(now, wish),
            Command::Canary(wish) => self.canary(now, wish),
            Command::Hangup(id) => {
                let cause =
                    Cause::special(Origin::Gateway, Special::Normal).in_words("The call was ended by an operator");
                self.operate(now, id, |call, cx| call.hang_up(cx, cause))
            }
            Command::Digits(id, Digits { digits, ms, to }) => {
                let ms = ms.unwrap_or(DIGIT_MS);
                if !valid_digits(&digits) || !DIGIT_RANGE.contains(&ms) {
                    return Err(bad("digits are 1 to 64 of 0-9 * # A-D, each of 40 to 1000 ms"));
                }
                self.act(now, id, Act::Digits { digits, ms, to })
            }
            Command::Hold(id, Hold { on, by }) => self.act(now, id, Act::Hold { on, by }),
            Command::Transfer(id, Transfer { to: Some(to), with: None, by }) => {
                if !valid_destination(&to) {
                    return Err(bad("this is no number that could be dialled"));
                }
                self.act(now, id, Act::Transfer { to, by })
            }
            Command::Transfer(id, Transfer { to: None, with: Some(with), by }) => {
                let with = with.parse().ok().filter(|with| self.calls.contains_key(with));
                let with = with.ok_or_else(unknown_call)?;
                if with == id {
                    return Err(bad("a call is not joined with itself"));
                }
                self.act(now, id, Act::Join { with, by })
            }
            Command::Transfer(..) => Err(bad("a transfer names a number (`to`) or a call (`with`), and not both")),
        }
    }

    fn list(&self) -> Vec<CallView> {
        let mut calls: Vec<CallView> = self.calls.values().filter_map(Call::view).collect();
        calls.sort_by(|one, other| (one.start, &one.call).cmp(&(other.start, &other.call)));
        calls
    }

    pub(super) fn inspect(&self, id: CallId) -> Option<Reply> {
        self.calls.get(&id)?.view().map(|view| Reply::Call(Box::new(view)))
    }

    fn originate(&mut self, now: Now, wish: Originate) -> Result<Reply, Denial> {
        let Originate { user, to, from, name, ring_for } = wish;
        if !valid_user(&user) || !valid_destination(&to) {
            return Err(bad("`user` or `to` is none"));
        }
        let named = name.as_deref().is_none_or(|name| (1..=LONGEST_NAME).contains(&name.chars().count()));
        let name_is_clean = name.as_deref().is_none_or(|name| !name.chars().any(char::is_control));
        if !named || !name_is_clean || ring_for.is_some_and(|seconds| !(1..=LONGEST_RING).contains(&seconds)) {
            return Err(bad("`name` has 1 to 64 characters, `ring_for` is 1 to 600 seconds"));
        }
        let rights = self.known_rights(now, &user);
        let emergency = self.settings.plan.is_emergency(&rights.caller, &to);
        let refused = self.refused_to_begin(emergency.then_some(user.as_str()));
        let ring_for = ring_for.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let id = self.new_call_id();
        self.note_emergency(id, emergency && refused.is_none(), user);
        self.begin(now, id, Origination::Fetch(FetchRequest { rights, to, from, name, ring_for, refused }));
        self.inspect(id).ok_or_else(|| self.why_refused(id))
    }

    /// What a user may, as far as it is known before a device of his answers: the rights of a session, or of his phones.
    fn known_rights(&self, now: Now, user: &str) -> Rights {
        let mut sessions = self.sessions.of(user).filter_map(|socket| self.sessions.get(socket)?.session.as_ref());
        let good = sessions.find(|session| !session.is_expired(now.unix_ms)).map(|session| session.call_rights(None));
        good.unwrap_or_else(|| self.phones.rights_at_best(user, now.instant))
    }

    /// Why a call that has just begun is over: its record says.
    pub(super) fn why_refused(&self, id: CallId) -> Denial {
        let id = id.to_string();
        let record = self.output.iter().rev().find_map(|output| match output {
            Output::Cdr(cdr) if cdr.call == id => Some(cdr.as_ref()),
            _ => None,
        });
        Denial {
            why: Why::CallRefused,
            text: record.map_or_else(|| "the call is refused".to_owned(), |cdr| cdr.text.clone()),
            cause: record.map(|cdr| cdr.cause.clone()),
            sip: record.and_then(|cdr| cdr.sip),
        }
    }

    fn act(&mut self, now: Now, id: CallId, act: Act) -> Result<Reply, Denial> {
        self.operate(now, id, |call, cx| call.act(cx, act))
    }

    fn operate(
        &mut self,
        now: Now,
        id: CallId,
        operation: impl FnOnce(&mut Call, &mut Context) -> Result<(), Refusal>,
    ) -> Result<Reply, Denial> {
        let done = self.with_context(now, |cx, calls| calls.get_mut(&id).map(|call| operation(call, cx)));
        self.carry_out(now, id);
        match done {
            None => Err(unknown_call()),
            Some(Err(Refusal::State(text))) => Err(Denial::new(Why::WrongState, text)),
            Some(Err(Refusal::Cause(cause))) => Err(Denial::of_cause(&cause)),
            Some(Ok(())) => Ok(self.inspect(id).unwrap_or(Reply::Gone)),
        }
    }

    /// Tells those who watch.
    pub(super) fn notice(&mut self, notice: Notice) {
        self.output.push_back(Output::Event(Box::new(notice)));
    }
}

fn unknown_call() -> Denial {
    Denial::new(Why::UnknownCall, "there is no such call, or no longer")
}

pub(super) fn bad(text: &str) -> Denial {
    Denial::new(Why::BadRequest, text)
}
