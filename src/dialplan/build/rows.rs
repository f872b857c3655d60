//! `[[test]]` rows.

use super::{Draft, Place};
use crate::dialplan::decision::Caller;
use crate::dialplan::reader::{Reader, Section};
use crate::dialplan::rows::{Ask, Expect, TestRow};

impl Draft<'_> {
    pub(super) fn test_row(&mut self, reader: &mut Reader<'_>, section: Section<'_>) {
        let known =
            ["user", "dial", "class", "caller_id", "destinations", "call_in", "did", "from", "at", "answer", "expect"];
        reader.check_keys(section, "[[test]]", &known, &[]);
        let user = reader.string(section, "user");
        let dial = reader.string(section, "dial");
        let trunk = reader.string(section, "call_in");
        let did = reader.string(section, "did");
        let ask = match (user, dial, trunk, did) {
            (Some(user), Some(dial), None, None) => {
                let destinations = Reader::has(section, "destinations")
                    .then(|| reader.strings(section, "destinations").into_iter().map(|text| text.value).collect());
                let caller = Caller {
                    user: user.value,
                    class: reader.string(section, "class").map(|class| class.value),
                    caller_id: reader.string(section, "caller_id").map(|id| id.value),
                    asked: None,
                    destinations,
                };
                Ask::Out { caller, dial: dial.value }
            }
            (None, None, Some(trunk), Some(did)) => {
                self.check_trunk(reader, &trunk);
                let from = reader.string(section, "from").map_or_else(Ask::nobody, |from| from.value);
                Ask::In { trunk: trunk.value, did: did.value, from }
            }
            _ => {
                reader.error(section.at, "a test has `user` and `dial`, or `call_in` (a trunk) and `did`");
                return;
            }
        };
        let at = reader.string(section, "at").map(|at| at.value);
        let answer = reader.string(section, "answer").map(|answer| answer.value);
        match reader.section(section, "expect") {
            Some(keys) => {
                let expect = expectation(reader, keys);
                let Place { file, line } = self.place(reader, section.at);
                self.tests.push(TestRow { file, line, ask, at, answer, expect });
            }
            None if Reader::has(section, "expect") => {}
            None => reader.error(section.at, "a test needs `expect` with at least one key"),
        }
    }
}

fn expectation(reader: &mut Reader<'_>, section: Section<'_>) -> Expect {
    let known = [
        "rule",
        "to",
        "from",
        "trunks",
        "failover",
        "target_user",
        "target_users",
        "turns",
        "longest_call",
        "emergency",
        "ask",
        "refused",
        "reason",
        "then",
    ];
    reader.check_keys(section, "`expect`", &known, &[]);
    if !known.iter().any(|key| Reader::has(section, key)) {
        reader.error(section.at, "a test needs `expect` with at least one key");
    }
    let longest_call = match reader.string(section, "longest_call") {
        Some(text) if text.value == "none" => Some(text.value),
        Some(_) => reader.duration(section, "longest_call").map(|longest| format!("{}s", longest.as_secs())),
        None => None,
    };
    let emergency = reader.boolean(section, "emergency");
    let then = reader.section(section, "then").map(|then| Box::new(expectation(reader, then)));
    let refused = reader.integer(section, "refused", 400..=699).and_then(|code| u16::try_from(code).ok());
    let mut string = |key: &str| reader.string(section, key).map(|text| text.value);
    let (rule, to, from, reason, ask) = (string("rule"), string("to"), string("from"), string("reason"), string("ask"));
    let mut list = |key: &str| {
        Reader::has(section, key).then(|| reader.strings(section, key).into_iter().map(|text| text.value).collect())
    };
    Expect {
        rule,
        to,
        from,
        trunks: list("trunks"),
        failover: list("failover"),
        target_users: list("target_users").or_else(|| list("target_user")),
        turns: list("turns"),
        longest_call,
        emergency,
        ask,
        refused,
        reason,
        then,
    }
}
