#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::dialplan::{Caller, Decision, TrunkChoice, Turn};

const DEMO: &str = include_str!("../../../dialplans/demo.toml");
const UK_OFFICE: &str = include_str!("../../../dialplans/uk-office.toml");
const US_CALLCENTRE: &str = include_str!("../../../dialplans/us-callcentre.toml");
const CLICK_TO_CALL: &str = include_str!("../../../dialplans/click-to-call.toml");
const GUIDE: &str = include_str!("../../../docs/dial-plans.md");

fn trunks() -> Vec<String> {
    ["carrier-a", "carrier-b", "testphone", "carrier-west", "carrier-east", "carrier-spare", "pbx"]
        .map(str::to_owned)
        .to_vec()
}

/// The tables that the plans of these tests and of the guide may name.
fn table(name: &str) -> io::Result<String> {
    match name {
        "canada.csv" => Ok(include_str!("../../../dialplans/canada.csv").to_owned()),
        "rates.csv" => Ok(include_str!("../../../dialplans/rates.csv").to_owned()),
        "bad.csv" => Ok("prefix,trunk,price\n+44,carrier-x,1\n".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn load(text: &str) -> Result<Plan, Vec<String>> {
    load_all(&[("plan.toml", text)])
}

fn load_all(files: &[(&str, &str)]) -> Result<Plan, Vec<String>> {
    let files: Vec<PlanFile> =
        files.iter().map(|(name, text)| PlanFile { name: (*name).into(), text: (*text).into() }).collect();
    Plan::load_with(&files, &trunks(), &mut |_, name| table(name))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn alice() -> Caller {
    Caller { user: "alice".into(), ..Caller::default() }
}

fn alice_of(class: &str) -> Caller {
    Caller { class: Some(class.into()), ..alice() }
}

/// What a plan says when `alice` dials.
fn dial(plan: &Plan, dialled: &str) -> Decision {
    plan.route_out(&alice(), dialled, 0).decision
}

#[test]
fn the_plans_we_ship_are_good() {
    for text in [DEMO, UK_OFFICE, US_CALLCENTRE, CLICK_TO_CALL] {
        load(text).map_err(|errors| panic!("{}", errors.join("\n"))).unwrap();
    }
}

#[test]
fn the_demo_plan_calls_the_test_phone_and_says_why_it_calls_nothing_else() {
    let plan = load(DEMO).unwrap();
    let Decision::Dial { to, from, tiers, ring_for, longest, .. } = dial(&plan, "600") else { panic!() };
    assert_eq!((to.as_str(), from, ring_for, longest), ("600", None, None, None));
    assert_eq!(tiers, [[TrunkChoice { trunk: "testphone".into(), weight: 1 }]]);
    let Decision::Refuse { code: 403, reason, .. } = dial(&plan, "+442079460999") else { panic!() };
    assert!(reason.contains("600 to 606"), "{reason}");
    let Decision::Ring { turns, .. } = plan.route_in("testphone", "bob", "606", 0).decision else { panic!() };
    assert_eq!(turns, [Turn { users: vec!["bob".into()], ring_for: Duration::from_secs(60) }]);
}

#[test]
fn a_rule_of_out_may_ring_a_user() {
    let plan = load(
        "[numbering]\nshort = ['2XX']\n[caller_id]\nfallback = '+442079460100'\n\
         [[out]]\nname = 'desk'\nregex = '2(\\d\\d)'\nuser = 'desk-{1}'\nring_for = '20s'\n\
         [[out]]\nname = 'bob'\nnumber = 'bob'\nuser = 'bob'\n\
         [[test]]\nuser = 'alice'\ndial = '217'\nexpect = { target_user = 'desk-17', to = '217', from = '+442079460100' }\n",
    )
    .unwrap();
    for (dialled, user, seconds) in [("217", "desk-17", 20), ("bob", "bob", 60)] {
        let Decision::Ring { turns, .. } = dial(&plan, dialled) else { panic!() };
        assert_eq!(turns, [Turn { users: vec![user.to_owned()], ring_for: Duration::from_secs(seconds) }]);
    }
}

#[test]
fn a_decision_is_explained_in_words() {
    let plan = load(UK_OFFICE).unwrap();
    let caller = Caller { class: Some("manager".into()), caller_id: Some("+442079460142".into()), ..alice() };
    let friday = plan.moment("2026-11-20 10:00").unwrap();
    let routed = plan.route_out(&caller, "0033 1 70 18 99 00", friday);
    let steps: Vec<String> = routed.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "alice dials \"0033 1 70 18 99 00\"",
            "+33170189900: an international number (prefix 00)",
            "no match: emergency, inside, health and police, isle of man, premium, freephone, uk",
            "schedule \"office\" is open at Fri 2026-11-20 10:00 Europe/London",
            "rule \"europe\" matches (prefix +33)",
            "class \"manager\" allows it",
            "+442079460142, the number of alice, is shown",
            "tier 1: carrier-b",
        ]
    );
    assert_eq!(routed.decision.to_string(), "dial +33170189900 by carrier-b, shown as +442079460142 (rule \"europe\")");
    let json = serde_json::to_value(&routed).unwrap();
    assert_eq!(json["decision"]["decision"], "dial");
    assert_eq!(json["decision"]["longest"], 1_800);
    assert_eq!(json["decision"]["ring_for"], serde_json::Value::Null);
    assert_eq!(json["steps"][0], "alice dials \"0033 1 70 18 99 00\"");
    assert_eq!(
        dial(&plan, "0909 8790000").to_string(),
        "refuse with 403: Premium numbers are barred (rule \"premium\")"
    );
    assert_eq!(
        plan.route_in("carrier-a", "+442079460100", "x", friday).decision.to_string(),
        "ring alice, bob for 25 s (rule \"main number\"); nobody takes it: dial +447700900123 by carrier-a|carrier-b, \
         shown as +442079460100 (rule \"uk\")"
    );
}

#[test]
fn the_first_rule_that_matches_decides() {
    let plan = load(
        "[[out]]\nname = 'a'\nnumber = '+441234'\ntiers = [['carrier-a']]\n[[out]]\nname = 'b'\npattern = '+44NX.'\ntiers = [['carrier-a']]\n\
         [[out]]\nname = 'c'\nregex = '\\+44(?<rest>1+)'\nto = '9{rest}*{0}*{digits}'\ntiers = [['carrier-b', {trunk = 'carrier-a', weight = 9}]]\n\
         [[out]]\nname = 'd'\nnumber = 'hotline'\nto = '+493090000'\ntiers = [['carrier-b']]\n[[out]]\nname = 'e'\nprefix = '+'\nreject = {code = 500}\n",
    )
    .unwrap();
    let rule = |dialled| dial(&plan, dialled).rule().map(str::to_owned);
    assert_eq!(rule("+441234"), Some("a".into()));
    assert_eq!(rule("+442345"), Some("b".into()));
    assert_eq!(rule("+44111"), Some("c".into()));
    assert_eq!(rule("+33123456"), Some("e".into()));
    assert_eq!(rule("hotline"), Some("d".into()));
    assert_eq!(rule("112"), None);
    let Decision::Dial { to, .. } = dial(&plan, "hotline") else { panic!() };
    assert_eq!(to, "+493090000");
}

#[test]
fn a_regex_fills_its_groups() {
    let plan = load(
        "[[out]]\nname = 'c'\nregex = '\\+44(?<rest>1+)'\nto = '9{rest}*{1}*{digits}#{number}'\ntiers = [['carrier-a']]\n",
    )
    .unwrap();
    let Decision::Dial { to, .. } = dial(&plan, "+44111") else { panic!() };
    assert_eq!(to, "9111*111*44111#+44111");
    assert!(matches!(dial(&plan, "+441112"), Decision::Refuse { rule: None, code: 403, .. }), "the whole number");
}

#[test]
fn limits_and_ringing_times_come_from_the_rule_or_the_plan() {
    let plan = load(
        "[limits]\nlongest_call = '2h'\n[[out]]\nname = 'a'\nnumber = '1'\ntiers = [['carrier-a']]\n\
         [[out]]\nname = 'b'\nnumber = '2'\ntiers = [['carrier-a']]\nlongest_call = '5m'\nring_for = '30s'\n\
         [[out]]\nname = 'c'\nnumber = '3'\ntiers = [['carrier-a']]\nlimits = 'none'\n",
    )
    .unwrap();
    for (dialled, expected) in [("1", (None, Some(7_200))), ("2", (Some(30), Some(300))), ("3", (None, None))] {
        let Decision::Dial { ring_for, longest, .. } = dial(&plan, dialled) else { panic!() };
        assert_eq!((ring_for.map(|t| t.as_secs()), longest.map(|t| t.as_secs())), expected, "{dialled}");
    }
}

#[test]
fn caller_ids_follow_the_plan() {
    let rule = "[[out]]\nname = 'a'\nprefix = '+'\ntiers = [['carrier-a']]\n";
    let with = |head: &str, own: Option<&str>| {
        let plan = load(&format!("{head}\n{rule}")).unwrap();
        let caller = Caller { caller_id: own.map(str::to_owned), ..alice() };
        match plan.route_out(&caller, "+33123456", 0).decision {
            Decision::Dial { from, .. } => Ok(from),
            Decision::Refuse { code, .. } => Err(code),
            other => panic!("{other}"),
        }
    };
    let ok = |text: &str| Ok(Some(text.to_owned()));
    let strict = "[numbering]\ncountry = '44'\nnational = '0'\n[caller_id]\nfallback = '+44100000'\nallowed = ['+441000XX', 'alice']";
    assert_eq!(with("", None), Ok(None));
    assert_eq!(with("", Some("+441")), Err(403), "too short to be a number");
    assert_eq!(with("", Some("+44123456")), ok("+44123456"));
    assert_eq!(with(strict, None), ok("+44100000"));
    assert_eq!(with(strict, Some("+44100042")), ok("+44100042"));
    assert_eq!(with(strict, Some("0100042")), ok("+44100042"));
    assert_eq!(with(strict, Some("alice")), ok("alice"));
    assert_eq!(with(strict, Some("+44200000")), Err(403));
    assert_eq!(with(strict, Some("anonymous")), ok("anonymous"));
    assert_eq!(with("[caller_id]\npresent = 'anonymous'", Some("+44123456")), ok("anonymous"));
    assert_eq!(with("[caller_id]\npresent = '+44999999'", Some("+44123456")), ok("+44999999"));
}

#[test]
fn another_caller_id_than_ones_own_needs_a_list_that_allows_it() {
    let rule = "[[out]]\nname = 'a'\nprefix = '+'\ntiers = [['carrier-a']]\n";
    let asks = |head: &str, own: Option<&str>, asked: &str| {
        let plan = load(&format!("[numbering]\ncountry = '44'\nnational = '0'\n{head}\n{rule}")).unwrap();
        let caller = Caller { caller_id: own.map(str::to_owned), asked: Some(asked.to_owned()), ..alice() };
        match plan.route_out(&caller, "+33123456", 0).decision {
            Decision::Dial { from, .. } => from,
            Decision::Refuse { caller_id, .. } => {
                assert!(caller_id);
                None
            }
            other => panic!("{other}"),
        }
    };
    let shown = |text: &str| Some(text.to_owned());
    let (free, listed) = ("", "[caller_id]\nallowed = ['+441000XX']");
    assert_eq!(asks(free, Some("+44123456"), "0123456"), shown("+44123456"), "his own, written otherwise");
    assert_eq!(asks(free, Some("+44123456"), "+44100042"), None);
    assert_eq!(asks(free, None, "+44100042"), None);
    assert_eq!(asks(listed, Some("+44100001"), "+44100042"), shown("+44100042"));
    assert_eq!(asks(listed, None, "+44100042"), shown("+44100042"));
    assert_eq!(asks(listed, Some("+44123456"), "+44123456"), None);
    for head in [free, listed] {
        assert_eq!(asks(head, Some("+44100001"), "anonymous"), shown("anonymous"));
    }
    assert_eq!(asks("[caller_id]\npresent = '+44999999'", None, "+44100042"), shown("+44999999"), "the plan's word");
}

#[test]
fn classes_and_tokens_narrow_what_a_plan_allows() {
    let text = "[class.staff]\nallow = 'uk'\n[class.boss]\nallow = '*'\n[[out]]\nname = 'uk'\nprefix = '+44'\ntiers = [['carrier-a']]\n\
                [[out]]\nname = 'world'\nprefix = '+'\ntiers = [['carrier-a']]\n";
    let plan = load(text).unwrap();
    let code = |class: Option<&str>, destinations: Option<&[&str]>, dialled| {
        let caller = Caller {
            class: class.map(str::to_owned),
            destinations: destinations.map(|list| list.iter().map(|&text| text.to_owned()).collect()),
            ..alice()
        };
        match plan.route_out(&caller, dialled, 0).decision {
            Decision::Refuse { code, rule, .. } => Some((code, rule)),
            _ => None,
        }
    };
    let refused = |rule: &str| Some((403, Some(rule.to_owned())));
    assert_eq!(code(Some("staff"), None, "+44123456"), None);
    assert_eq!(code(Some("staff"), None, "+33123456"), refused("world"));
    assert_eq!(code(Some("boss"), None, "+33123456"), None);
    assert_eq!(code(Some("guest"), None, "+44123456"), refused("uk"));
    assert_eq!(code(None, None, "+44123456"), refused("uk"), "no class and no default_class");
    assert_eq!(code(Some("boss"), Some(&["+44*", "+33123456"]), "+33123456"), None);
    assert_eq!(code(Some("boss"), Some(&["+44*", "+33123456"]), "+331234567"), refused("world"));
    assert_eq!(code(Some("boss"), Some(&[]), "+44123456"), refused("uk"));
    assert_eq!(code(Some("boss"), Some(&["*"]), "+44123456"), None);
}

#[test]
fn several_files_are_one_plan() {
    let rule = "[[out]]\nname = 'a'\nprefix = '+44'\ntiers = [['carrier-a']]\n";
    let plan = load_all(&[("1.toml", "[plan]\nname = 'x'\n"), ("2.toml", rule)]).unwrap();
    assert_eq!(dial(&plan, "+44123456").rule(), Some("a"));
    assert_eq!(
        load_all(&[("1.toml", "[plan]\n"), ("2.toml", "\n[plan]\n")]).unwrap_err(),
        ["2.toml:2: [plan] stands in 1.toml already; all files are one plan"]
    );
    assert_eq!(
        load_all(&[("1.toml", rule), ("2.toml", &format!("\n{rule}"))]).unwrap_err()[0],
        "2.toml:3: two rules have the name `a`"
    );
    assert_eq!(load_all(&[]).unwrap_err(), ["dial plan: there is no dial plan file"]);
}

#[test]
fn a_failing_test_says_what_came_and_why() {
    let text = "[[out]]\nname = 'a'\nprefix = '+44'\ntiers = [['carrier-a']]\n\n[[test]]\nuser = 'x'\ndial = '+44 123 456'\n\
                expect = { rule = 'b', trunks = ['carrier-b'], to = '+44123456' }\n[[test]]\nuser = 'x'\ndial = '+33123456'\nexpect = { rule = 'a' }\n";
    assert_eq!(
        load(text).unwrap_err(),
        [
            "plan.toml:6: test failed: expected rule = b, expected trunks = [\"carrier-b\"]; came: dial +44123456 by carrier-a (rule \"a\") \
             [x dials \"+44 123 456\"; +44123456: an international number (prefix +); rule \"a\" matches (prefix +44); \
             x has no number: his name is shown; tier 1: carrier-a]",
            "plan.toml:10: test failed: expected rule = a; came: refuse with 403: No rule of the dial plan allows +33123456 \
             [x dials \"+33123456\"; +33123456: an international number (prefix +); refused: No rule of the dial plan allows +33123456]",
        ]
    );
}

/// Each mistake with the line and a part of the text that must be told.
#[test]
fn each_mistake_is_told_with_its_line() {
    let out = |rest: &str| format!("[[out]]\nname = 'a'\nnumber = '1'\n{rest}");
    let table: &[(String, &str)] = &[
        ("x = ".into(), "plan.toml:1: not TOML"),
        ("[plan]\nname = 'x'\nname = 'y'\n".into(), "plan.toml:3: not TOML: duplicate key"),
        ("\n\n[paln]\n".into(), "plan.toml:3: unknown key `paln` in a dial plan"),
        ("[plan]\ndefault = 'allow'\n".into(), "plan.toml:2: `default` can only be \"deny\""),
        ("[plan]\nname = 7\n".into(), "plan.toml:2: `name` is a text"),
        ("plan = 3\n".into(), "plan.toml:1: `plan` is a table"),
        ("[plan]\ndefault_class = 'x'\n".into(), "plan.toml:2: `default_class` names `x`, and there is no [class.x]"),
        ("[class.x]\nallow = ['y']\n".into(), "plan.toml:2: `allow` names `y`, and no [[out]] rule has that name"),
        ("[class.x]\ntransfer = 1\n".into(), "plan.toml:2: `transfer` is true or false"),
        ("[class.x]\nlimits = {}\n".into(), "plan.toml:2: `limits` in [class.x] is not supported yet"),
        ("[limits]\ncalls_at_once = 2\n".into(), "plan.toml:2: `calls_at_once` in [limits] is not supported yet"),
        ("[limits]\nlongest_call = '2d'\n".into(), "plan.toml:2: `longest_call` is a length of time"),
        ("[numbering]\ncountry = '+44'\n".into(), "plan.toml:2: `country` is at most 3 digits"),
        ("[numbering]\nnational = '0'\n".into(), "plan.toml:1: `national` needs `country`"),
        ("[numbering]\nshort = '1xx'\n".into(), "plan.toml:2: \"1xx\" is no pattern"),
        ("[numbering]\nemergency = ['SOS']\n".into(), "plan.toml:2: `emergency` has numbers"),
        ("[numbering]\ninternational = [\n'00',\n7]\n".into(), "plan.toml:4: `international` is a list of texts"),
        ("[caller_id]\npresent = 'pool:x'\n".into(), "plan.toml:2: there is no [caller_id.pool.x]"),
        ("[caller_id]\npresent = 'me'\n".into(), "plan.toml:2: `present` is \"user\""),
        ("[caller_id.pool.x]\nnumbers = ['alice']\n".into(), "plan.toml:2: \"alice\" is no number"),
        ("[caller_id.pool.x]\n".into(), "the pool `x` needs `numbers`"),
        ("[caller_id.pool.x]\nnumbers = ['+1']\nmatch = 'country'\n".into(), "plan.toml:3: `match` is one of any, area"),
        ("[[schedule]]\nname = 'x'\n".into(), "plan.toml:1: the schedule `x` needs `zone` and `open`"),
        ("[[schedule]]\nname = 'x'\nzone = 'Mars'\nopen = 'Mon'\n".into(), "plan.toml:3: there is no time zone \"Mars\""),
        ("[[schedule]]\nname = 'x'\nzone = 'UTC'\nopen = 'Mon'\n".into(), "plan.toml:4: \"Mon\" is not like"),
        ("[[schedule]]\nname = 'x'\nzone = 'UTC'\nopen = []\nclosed = '25.12.'\n".into(), "plan.toml:5: \"25.12.\" is no day"),
        (out("tiers = [['carrier-a']]\nwhen = 'office'\n"), "plan.toml:5: there is no [[schedule]] with the name `office`"),
        (out("tiers = [['carrier-a']]\nfailover = { on = ['3xx'] }\n"), "plan.toml:5: \"3xx\" is none of"),
        (out("tiers = [['carrier-a']]\nthen = { number = '1' }\n"), "plan.toml:1: `then` means nothing without `user` or `ring`"),
        (out("tiers = [['carrier-a']]\nask = { url = 'pbx' }\n"), "plan.toml:5: \"pbx\" is no URL"),
        (out("tiers = [['carrier-a']]\nask = { url = 'http://x', within = '1m' }\n"), "plan.toml:5: `within` is a length of time"),
        (out("tiers = [['carrier-a']]\nask = { url = 'http://x', otherwise = 'x' }\n"), "plan.toml:5: `otherwise` is \"refuse\""),
        (out("least_cost = 'none.csv'\n"), "plan.toml:4: \"none.csv\" cannot be read"),
        (out("least_cost = 'bad.csv'\n"), "bad.csv:2: there is no trunk `carrier-x`"),
        (out("least_cost = { file = 'rates.csv', at_most = 'x' }\n"), "plan.toml:4: \"x\" is no price"),
        (out("ring = { group = 'x' }\n"), "plan.toml:4: there is no [group.x]"),
        ("[group.x]\n".into(), "the group `x` needs `users`"),
        ("[class.x]\ndeny = ['y']\n".into(), "plan.toml:2: `deny` names `y`, and no [[out]] rule has that name"),
        ("[class.x]\nnumbering = 'y'\n".into(), "plan.toml:2: there is no [numbering.y]"),
        ("[numbering]\nemergency = ['112']\n".into(), "plan.toml:1: nobody is called for the emergency number 112"),
        ("[numbering]\ncountry = 'GB'\n".into(), "plan.toml:1: nobody is called for the emergency number 112"),
        ("[numbering]\ncountry = 'XX'\n".into(), "plan.toml:2: `country` is at most 3 digits, or one of AT"),
        (
            "[numbering]\nemergency = '112'\n[[out]]\nname = 'a'\nnumber = '112'\nreject = { code = 403 }\n".into(),
            "plan.toml:4: rule `a` is for the emergency number 112",
        ),
        (
            "[numbering]\nemergency = '112'\n[[schedule]]\nname = 's'\nzone = 'UTC'\nopen = []\n[[out]]\nname = 'a'\nnumber = '112'\nwhen = 's'\ntiers = [['carrier-a']]\n".into(),
            "plan.toml:8: rule `a` is for the emergency number 112",
        ),
        ("[caller_id]\nsticky = 'x'\n".into(), "plan.toml:2: `sticky` in [caller_id] is not supported yet"),
        ("out = 3\n".into(), "plan.toml:1: `out` is a list of tables"),
        ("[out]\nname = 'a'\n".into(), "`out` is a list of tables"),
        ("[[out]]\nnumber = '1'\n".into(), "plan.toml:1: [[out]] needs a `name`"),
        ("[[out]]\nname = 'a'\ntiers = [['carrier-a']]\n".into(), "plan.toml:1: a rule has exactly one of `number`"),
        (out(""), "plan.toml:1: rule `a` needs exactly one of `tiers`, `least_cost`, `user`, `ring` and `reject`"),
        (out("tiers = [['carrier-a']]\nreject = { code = 403 }\n"), "needs exactly one of `tiers`, `least_cost`"),
        (out("prefix = '2'\n"), "exactly one of `number`"),
        (out("tiers = ['carrier-a']\n"), "plan.toml:4: `tiers` is a list of lists"),
        (out("tiers = []\n"), "plan.toml:4: `tiers` has an empty list"),
        (out("tiers = [[\n'carrier-x']]\n"), "plan.toml:5: there is no trunk `carrier-x`; the configuration has: carrier-a"),
        (out("tiers = [[{ trunk = 'carrier-a', weight = 0 }]]\n"), "plan.toml:4: `weight` is a whole number, 1 to 1000"),
        (out("tiers = [[{ weight = 1 }]]\n"), "plan.toml:4: a trunk of a tier is a name or"),
        (out("user = 'x'\ntiers = [['carrier-a']]\n"), "needs exactly one of `tiers`, `least_cost`"),
        (out("user = 'x'\nto = '1'\n"), "plan.toml:1: `to` means nothing beside `user` (rule `a`)"),
        (out("user = '{1}'\n"), "plan.toml:4: {1} means nothing here"),
        (out("tiers = [['carrier-a']]\nlimits = 'few'\n"), "plan.toml:5: `limits` of a rule can only be \"none\""),
        (out("tiers = [['carrier-a']]\nto = '{1}'\n"), "plan.toml:5: {1} means nothing here"),
        (out("tiers = [['carrier-a']]\nto = '1 2'\n"), "plan.toml:5: \"1 2\" may have letters, digits"),
        (out("tiers = [['carrier-a']]\nto = '{number'\n"), "plan.toml:5: \"{number\": a { without its }"),
        (out("reject = { code = 200 }\n"), "plan.toml:4: `code` is a whole number, 400 to 699"),
        (out("reject = { reason = 'x' }\n"), "plan.toml:4: `reject` needs a `code`"),
        (out("reject = { code = 403, reason = \"a\\nb\" }\n"), "plan.toml:4: a `reason` has 1 to 120"),
        (out("reject = { code = 403, announce = 'x.wav' }\n"), "plan.toml:4: `announce` in `reject` is not supported yet"),
        (out("reject = { code = 403 }\nring_for = '5s'\n"), "`ring_for` means nothing beside `reject`"),
        ("[[out]]\nname = 'a'\nregex = '('\nreject = { code = 403 }\n".into(), "plan.toml:3: \"(\" is no regular expression"),
        ("[[out]]\nname = 'a'\nnumber = 'a b'\nreject = { code = 403 }\n".into(), "plan.toml:3: \"a b\" is neither a number"),
        ("[[out]]\nname = 'a'\nprefix = ''\nreject = { code = 403 }\n".into(), "plan.toml:3: \"\" is no prefix"),
        (
            "[numbering]\ncountry = '44'\nnational = '0'\n[[out]]\nname = 'a'\nnumber = '02079460000'\nreject = { code = 403 }\n".into(),
            "plan.toml:5: rule `a` waits for 02079460000, which becomes +442079460000",
        ),
        (
            "[[out]]\nname = 'a'\nprefix = '+4'\nreject = { code = 403 }\n[[out]]\nname = 'b'\npattern = ['+44X']\nreject = { code = 403 }\n".into(),
            "plan.toml:6: rule `b` can never match",
        ),
        ("[[in]]\nname = 'a'\nuser = 'x'\n".into(), "plan.toml:1: rule `a` needs `did`"),
        ("[[in]]\nname = 'a'\ndid = 'any'\n".into(), "plan.toml:1: rule `a` needs exactly one of `user`, `ring` and `reject`"),
        ("[[in]]\nname = 'a'\ndid = 'any'\nuser = '{1}'\n".into(), "plan.toml:4: {1} means nothing here"),
        ("[[in]]\nname = 'a'\ndid = 'any'\nring = { users = ['x'], how = 'longest-idle' }\n".into(), "plan.toml:4: `how` is \"all\""),
        ("[[in]]\nname = 'a'\ndid = 'any'\nring = {}\n".into(), "plan.toml:4: `ring` needs `users` or a `group`"),
        ("[[in]]\nname = 'a'\ndid = 'any'\nuser = 'x'\nthen = {}\n".into(), "plan.toml:5: `then` has exactly one of"),
        ("[[in]]\nname = 'a'\ndid = 'any'\nuser = 'x'\nthen = { number = '+441234567' }\n".into(), "plan.toml:5: `then` goes to +441234567, which the plan refuses: No rule"),
        (
            "[[in]]\nname = 'a'\ndid = 'any'\nuser = 'x'\nthen = [{ reject = { code = 480 } },\n{ users = 'x' }]\n".into(),
            "plan.toml:5: what comes after this `then` is never reached",
        ),
        ("[[in]]\nname = 'a'\ndid = 'any'\ntrunk = 'x'\nuser = 'x'\n".into(), "plan.toml:4: there is no trunk `x`"),
        ("[[in]]\nname = 'a'\ndid = 'any'\nreject = { code = 404 }\nthen = { users = 'x' }\n".into(), "`then` means nothing beside `reject`"),
        (
            "[[in]]\nname = 'a'\ndid = 'any'\nuser = 'x'\n[[in]]\nname = 'b'\ndid = '+441'\nuser = 'x'\n".into(),
            "plan.toml:6: rule `b` can never match",
        ),
        ("[[test]]\nuser = 'x'\nexpect = { rule = 'a' }\n".into(), "plan.toml:1: a test has `user` and `dial`"),
        ("[[test]]\nuser = 'x'\ndial = '1'\n".into(), "plan.toml:1: a test needs `expect`"),
        ("[[test]]\nuser = 'x'\ndial = '1'\nat = 'noon'\nexpect = { refused = 403 }\n".into(), "plan.toml:1: \"noon\" is no time"),
        ("[[test]]\nuser = 'x'\ndial = '1'\nexpect = { then = {} }\n".into(), "plan.toml:4: a test needs `expect` with"),
        ("[[test]]\ncall_in = 'x'\ndid = '1'\nexpect = { refused = 404 }\n".into(), "plan.toml:2: there is no trunk `x`"),
    ];
    let mut wrong = String::new();
    for (text, expected) in table {
        let errors = load(text).expect_err(text);
        if !errors.iter().any(|error| error.contains(expected)) {
            wrong += &format!("{text}\nexpected {expected}\ncame {errors:#?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Rules in order, each as `WHEN TRUNKS FROM`, `-` where it has none; the last one is reached or not.
#[test]
fn a_rule_that_others_leave_nothing_is_found_with_its_times_trunks_and_callers() {
    let table: &[(&[&str], bool)] = &[
        (&["- - -", "office - -"], false),
        (&["office - -", "- - -"], true),
        (&["office - -", "office - -"], false),
        (&["office - -", "not office - -"], true),
        (&["office - -", "not office - -", "- - -"], false),
        (&["office - -", "night - -", "- - -"], true),
        (&["office,night - -", "night - -"], false),
        (&["night - -", "office,night - -"], true),
        (&["- pbx -", "- - -"], true),
        (&["- - -", "- pbx -"], false),
        (&["- pbx -", "office pbx -"], false),
        (&["- carrier-a -", "- pbx -"], true),
        (&["- carrier-a,pbx -", "- pbx -"], false),
        (&["- carrier-a -", "- pbx -", "- carrier-a,pbx -"], false),
        (&["office pbx -", "not office pbx -", "- pbx -"], false),
        (&["office pbx -", "not office carrier-a -", "- pbx -"], true),
        (&["- - +44.", "- - -"], true),
        (&["- - +44.", "- - +442079460001"], false),
        (&["- - +442079460001", "- - +44."], true),
        (&["- - +1.,+44.", "- pbx +1."], false),
        (&["- pbx +44.", "- - +44."], true),
    ];
    let list = |names: &str| names.split(',').map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    for (rules, reached) in table {
        let mut text = String::new();
        for name in ["office", "night"] {
            text += &format!("[[schedule]]\nname = '{name}'\nzone = 'UTC'\nopen = ['daily 09:00-17:00']\n");
        }
        for (n, rule) in rules.iter().enumerate() {
            let mut words: Vec<&str> = rule.rsplitn(3, ' ').collect();
            words.reverse();
            text += &format!("[[in]]\nname = 'r{n}'\ndid = '+442079460000'\nuser = 'x'\n");
            for (key, names) in ["when", "trunk", "from"].into_iter().zip(words).filter(|(_, names)| *names != "-") {
                text += &format!("{key} = [{}]\n", list(names));
            }
        }
        let wrong = load(&text).err().unwrap_or_default();
        let found = wrong.iter().any(|error| error.contains(&format!("rule `r{}` can never match", rules.len() - 1)));
        assert_eq!((wrong.len(), found), (usize::from(!reached), !reached), "{rules:?} {wrong:#?}");
    }
}

#[test]
fn the_rule_of_an_emergency_number_is_reached_wherever_it_stands() {
    let out = |more: &str| format!("[[out]]\n{more}tiers = [['carrier-a']]\n");
    for before in [vec!["when = 'office'\n", "when = 'not office'\n"], vec![""]] {
        let mut text =
            "[numbering]\nemergency = '112'\n[[schedule]]\nname = 'office'\nzone = 'UTC'\nopen = []\n".to_owned();
        for (n, when) in before.iter().enumerate() {
            text += &out(&format!("name = 'r{n}'\npattern = '1XX'\n{when}"));
        }
        text += &out("name = 'emergency'\nnumber = '112'\n");
        load(&text).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let errors =
            load(&text.replace("number = '112'\n", "number = '113'\n").replace("emergency = '112'\n", "")).unwrap_err();
        assert!(errors[0].contains("rule `emergency` can never match"), "{errors:#?}");
    }
}

#[test]
fn all_mistakes_of_a_plan_are_told_at_once() {
    let errors = load("[plan]\nx = 1\n[[out]]\nname = 'a'\nnumber = '1'\ntiers = [['no']]\ny = 2\n").unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:#?}");
}

/// What the guide shows of `ringback route` is what the example plan says.
#[test]
fn the_guides_explanation_is_true() {
    let routed = load(UK_OFFICE).unwrap().route_out(&alice(), "020 7946 0999", 0);
    let steps: String = routed.steps.iter().map(|step| format!("      {step}\n")).collect();
    assert!(GUIDE.contains(&format!("{steps}    {}\n", routed.decision)), "{steps}    {}", routed.decision);
}

/// Every TOML example of the guide is a plan that loads, and those that shall fail do fail as they say.
#[test]
fn the_guides_examples_are_true() {
    let mut examples = 0;
    for block in GUIDE.split("```toml\n").skip(1) {
        let (text, _) = block.split_once("```").unwrap();
        examples += 1;
        match text.lines().next().and_then(|line| line.strip_prefix("# refused: ")) {
            None => drop(load(text).map_err(|errors| format!("{text}\n{errors:#?}")).unwrap()),
            Some(expected) => {
                let errors = load(text).expect_err(text);
                assert!(errors.iter().any(|error| error.contains(expected)), "{text}\n{errors:#?}");
            }
        }
    }
    assert!(examples >= 10, "{examples}");
}

mod odd_input {
    use super::*;
    use proptest::prelude::*;

    fn plans() -> &'static [Plan] {
        static PLANS: std::sync::OnceLock<Vec<Plan>> = std::sync::OnceLock::new();
        PLANS.get_or_init(|| {
            [DEMO, UK_OFFICE, US_CALLCENTRE, CLICK_TO_CALL].into_iter().map(|text| load(text).unwrap()).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

        #[test]
        fn nothing_that_is_dialled_makes_a_plan_panic(dialled in any::<String>(), did in "[+0-9a-zX().* -]{0,40}") {
            for plan in plans() {
                for dialled in [&dialled, &did] {
                    if let Decision::Dial { to, .. } = dial(plan, dialled) {
                        prop_assert!(!to.chars().any(char::is_control));
                    }
                    let _ = plan.route_in("testphone", dialled, dialled, 0);
                }
            }
        }

        #[test]
        fn a_normalised_number_is_itself(dialled in "[+*#0-9 ()./-]{0,24}|[a-z][a-z0-9._-]{0,8}|\\PC{0,12}", at in any::<i64>()) {
            for plan in plans() {
                let all = std::iter::once(&plan.numbering).chain(plan.numberings.values());
                for numbering in all {
                    if let Ok(once) = numbering.normalise(&dialled) {
                        let twice = numbering.normalise(&once.text);
                        prop_assert_eq!(twice.map(|number| number.text), Ok(once.text));
                    }
                }
                let _ = plan.route_out(&alice(), &dialled, at);
            }
        }

        #[test]
        fn no_answer_of_a_hook_makes_a_plan_panic(answer in "(\\{\"action\":\"(go-on|refuse|dial|ring)\"[ -~]{0,40}\\})|[ -~]{0,60}") {
            let plan = &plans()[3];
            let asked = plan.route_out(&alice_of("visitor"), "hotline", plan.moment("2026-11-20 12:00").unwrap()).decision;
            let is_question = matches!(asked, Decision::Ask { .. });
            prop_assert!(is_question);
            let (decision, _) = plan.answered(asked, Some(&answer));
            let still_asks = matches!(decision, Decision::Ask { .. });
            prop_assert!(!still_asks);
        }

        #[test]
        fn no_text_makes_the_reader_panic(which in 0..3_usize, at in any::<prop::sample::Index>(), cut in 0..40_usize, word in "[ -~\n]{0,8}") {
            let whole = [UK_OFFICE, US_CALLCENTRE, CLICK_TO_CALL][which];
            let (mut text, at) = (whole.to_owned(), at.index(whole.len()));
            text.replace_range(at..(at + cut).min(whole.len()), &word);
            let _ = load(&text);
        }

        #[test]
        fn no_text_at_all_makes_the_reader_panic(text in "\\PC{0,200}") {
            let _ = load(&text);
        }
    }
}

/// A number that takes calls nobody took is called by trunks alone: users have a `then` of their own, and so on without
/// end. The load tells it whatever the time, and the program never runs into it.
#[test]
fn a_then_that_leads_back_to_itself_is_refused() {
    let ring = |when: &str, then: &str| {
        format!(
            "[numbering]\ncountry = 'GB'\nextensions = '3XX'\nemergency = []\n\
             [[schedule]]\nname = 'office'\nzone = 'UTC'\nopen = ['Mon-Fri 09:00-17:00']\n\
             [[out]]\nname = 'inside'\nregex = '3(\\d\\d)'\nuser = 'desk-{{1}}'\nthen = {{ number = '{then}' }}\n{when}\
             [[out]]\nname = 'uk'\nprefix = '+44'\ntiers = [['carrier-a']]\n\
             [[out]]\nname = 'late'\nprefix = '3'\ntiers = [['carrier-a']]\n"
        )
    };
    for when in ["", "when = 'office'\n", "when = 'not office'\n"] {
        let errors = load(&ring(when, "300")).unwrap_err();
        assert!(errors[0].contains("300 is not called by trunks alone"), "{when}: {errors:?}");
        load(&ring(when, "+442079460999")).unwrap();
    }
    let emergency = "[numbering]\nemergency = '112'\n\
        [[out]]\nname = 'emergency'\nnumber = '112'\nuser = 'x'\nthen = { number = '112' }\n";
    assert!(load(emergency).is_err());
    // What is refused at one time and called at another may be a `then`; what is always refused may not.
    let barred = |when: &str| {
        ring("", "+442079460999").replace(
        "[[out]]\nname = 'uk'",
        &format!("[[out]]\nname = 'barred'\nprefix = '+4420'\n{when}reject = {{ code = 480, reason = 'Barred' }}\n[[out]]\nname = 'uk'"),
    )
    };
    load(&barred("when = 'office'\n")).unwrap();
    assert!(load(&barred("")).unwrap_err()[0].contains("Barred"));
}

/// A rule's own failover narrows no emergency call's: any refusal leads to the next trunk.
#[test]
fn an_emergency_call_fails_over_whatever_its_rule_says() {
    for own in ["", "failover = { after = '2s' }\n", "failover = { on = ['timeout'] }\n"] {
        let plan = load(&format!(
            "[numbering]\nemergency = '112'\n\
             [[out]]\nname = 'emergency'\nnumber = '112'\ntiers = [['carrier-a'], ['carrier-b']]\n{own}"
        ))
        .unwrap();
        let Decision::Dial { failover, .. } = dial(&plan, "112") else { panic!() };
        assert!(
            [404, 408, 486, 500, 503, 600, 603].iter().all(|status| failover.takes(*status)),
            "{own}: {failover:?}"
        );
        assert_eq!(failover.after.is_some(), own.contains("after"));
    }
}

/// Numbers that look domestic and are dear, in the plans we ship: each is barred, for whoever may call most.
#[test]
fn the_plans_we_ship_bar_what_is_dear() {
    let us = load(US_CALLCENTRE).unwrap();
    let at = us.moment("2026-11-20 10:00").unwrap();
    let ruled = |plan: &Plan, class: &str, dialled: &str, at| {
        let decision = plan.route_out(&alice_of(class), dialled, at).decision;
        (decision.rule().map(str::to_owned), matches!(decision, Decision::Refuse { .. }))
    };
    let islands = "242 246 264 268 284 345 441 473 649 658 664 721 758 767 784 809 829 849 868 869 876";
    for area in islands.split(' ') {
        for class in ["agent", "supervisor"] {
            assert_eq!(ruled(&us, class, &format!("{area} 555 0123"), at), (Some("islands".into()), true), "{area}");
        }
    }
    for dialled in ["900 234 5678", "415 976 0123", "416 976 0123", "876 976 0123"] {
        assert_eq!(ruled(&us, "supervisor", dialled, at), (Some("premium".into()), true), "{dialled}");
    }
    let canada = "226 257 263 354 367 368 382 428 468 474 548 579 581 584 639 672 683 742 753 782 825 873 879 942";
    for area in canada.split(' ') {
        assert_eq!(ruled(&us, "supervisor", &format!("{area} 555 0123"), at), (Some("canada".into()), false), "{area}");
    }
    for area in ["415", "340", "670", "671", "684", "787", "939"] {
        assert_eq!(ruled(&us, "agent", &format!("{area} 555 0123"), at), (Some("domestic".into()), false), "{area}");
    }
    let uk = load(UK_OFFICE).unwrap();
    for dialled in
        ["0843 557 0000", "0870 241 0000", "07623 000 000", "07699 000 000", "070 0000 0000", "0909 879 0000"]
    {
        assert_eq!(ruled(&uk, "manager", dialled, at), (Some("premium".into()), true), "{dialled}");
    }
    assert_eq!(ruled(&uk, "manager", "07624 123 456", at), (Some("isle of man".into()), false));
    for hidden in ["+44 0909 879 0000", "+44088216123456", "0044 0909 879 0000"] {
        assert_eq!(ruled(&uk, "manager", hidden, at), (None, true), "{hidden}");
    }
}
