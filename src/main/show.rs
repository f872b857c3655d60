//! The gateway's answers for people's eyes.

use ringback::config::Config;
use ringback::gateway::doctor::{Report, Verdict};
use serde_json::{Value, json};

/// A table, one call a line.
pub fn calls(answer: &Value) -> String {
    let calls = answer["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    table(["CALL", "STATE", "FROM", "TO", "SINCE"], calls.iter().map(row))
}

/// Columns as wide as what stands in them.
fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = [header.map(str::to_owned)].into_iter().chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// A table, one limit a line, and what has tripped.
pub fn limits(answer: &Value) -> String {
    let accounts = answer["accounts"].as_array().into_iter().flatten();
    let used = accounts.flat_map(|account| {
        let limits = account["limits"].as_array().into_iter().flatten();
        limits.map(move |limit| {
            let name = account["name"].as_str().filter(|name| !name.is_empty()).unwrap_or("-");
            let (used, most) = (limit["used"].to_string(), limit["most"].to_string());
            [text(&account["scope"]), name.to_owned(), text(&limit["limit"]), used, most]
        })
    });
    let tripped = answer["tripped"].as_array().into_iter().flatten();
    let tripped = tripped.map(|trips| [text(&trips["scope"]), text(&trips["limit"]), trips["times"].to_string()]);
    let used = table(["SCOPE", "NAME", "LIMIT", "USED", "OF"], used);
    match answer["tripped"].as_array().is_none_or(Vec::is_empty) {
        true => used,
        false => format!("{used}\n{}", table(["SCOPE", "LIMIT", "TRIPPED"], tripped)),
    }
}

/// What became of a reload.
pub fn reloaded(answer: &Value) -> String {
    let late = answer["needs_restart"].as_array().into_iter().flatten();
    let late = late.map(|key| format!("taken at the next start only: {}\n", key.as_str().unwrap_or_default()));
    late.chain(["reloaded\n".to_owned()]).collect()
}

/// A table, one trunk a line.
pub fn trunks(answer: &Value) -> String {
    let trunks = answer["trunks"].as_array().into_iter().flatten();
    let header = ["TRUNK", "STATE", "FOR", "CALLS", "REFUSED", "REGISTRATION", "RTT", "LAST FAILURE"];
    table(header, trunks.map(trunk))
}

fn trunk(trunk: &Value) -> [String; 8] {
    let targets = trunk["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rtt = targets.iter().filter_map(|target| target["rtt_ms"].as_u64()).min();
    [
        text(&trunk["name"]),
        match () {
            () if targets.is_empty() => "not found",
            () if trunk["up"] != true => "down",
            () if trunk["registration"]["state"].as_str().is_some_and(|state| state != "registered") => "unregistered",
            () => "up",
        }
        .to_owned(),
        trunk["for_seconds"].as_u64().map_or_else(|| "-".to_owned(), lasts),
        trunk["calls"].to_string(),
        trunk["refused"].to_string(),
        registration(&trunk["registration"]),
        rtt.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
        failure(&trunk["last_failure"]),
    ]
}

fn registration(registration: &Value) -> String {
    let again = || registration["again_in_seconds"].as_u64().map(lasts).unwrap_or_default();
    match registration["state"].as_str() {
        None => "-".to_owned(),
        Some("refused") => format!("refused {}, again in {}", registration["status"], again()),
        Some("unreachable") => format!("no answer, again in {}", again()),
        Some(state) => state.to_owned(),
    }
}

fn failure(failure: &Value) -> String {
    let Some(what) = failure["what"].as_str() else { return "-".to_owned() };
    let sip = failure["sip"].as_u64().map(|status| format!(" {status}")).unwrap_or_default();
    let ago = failure["seconds_ago"].as_u64().map(lasts).unwrap_or_default();
    let what = match what {
        "name" => "name not found",
        "options" => "no answer to OPTIONS",
        "call" => "a call found nobody",
        "registration" => "registration",
        other => other,
    };
    format!("{what}{sip}, {ago} ago")
}

/// A table, one session or phone a line.
pub fn users(answer: &Value) -> String {
    let users = answer["users"].as_array().into_iter().flatten();
    table(["USER", "DOOR", "FROM", "STATE", "CALLS"], users.flat_map(places))
}

/// Where a user is: the calls stand in the first line.
fn places(user: &Value) -> Vec<[String; 5]> {
    let sessions = user["sessions"].as_array().into_iter().flatten().map(|session| {
        let state = if session["connected"] == true { "signed in" } else { "may come back" };
        (text(&session["door"]), text(&session["peer"]), state.to_owned())
    });
    let phones = user["phones"].as_array().into_iter().flatten().map(|phone| {
        let ends = phone["ends_in_seconds"].as_u64().map(lasts).unwrap_or_default();
        let from = format!("{} {}", text(&phone["transport"]), text(&phone["address"]));
        (text(&phone["door"]), from, format!("registered for {ends}"))
    });
    let line = |(at, (door, from, state))| {
        let calls = if at == 0 { user["calls"].to_string() } else { String::new() };
        [text(&user["user"]), door, from, state, calls]
    };
    sessions.chain(phones).enumerate().map(line).collect()
}

/// What the doctor has found, a finding a line, with what to change under it.
pub fn report(report: &Report) -> String {
    let word = |verdict: Verdict| match verdict {
        Verdict::Ok => "OK",
        Verdict::Untested => "?",
        Verdict::Warn => "WARN",
        Verdict::Fail => "FAIL",
    };
    let line = |finding: &ringback::gateway::doctor::Finding| {
        let remedy = finding.remedy.as_ref().map(|remedy| format!("      -> {remedy}\n")).unwrap_or_default();
        format!("{:4}  {}: {}\n{remedy}", word(finding.verdict), finding.subject, finding.text)
    };
    let count = |verdict: Verdict| {
        let many = report.findings.iter().filter(|finding| finding.verdict == verdict).count();
        (many > 0).then(|| format!("{many} {}", word(verdict)))
    };
    let counts = [Verdict::Fail, Verdict::Warn, Verdict::Untested, Verdict::Ok].into_iter().filter_map(count);
    let sum = format!("{}\n", counts.collect::<Vec<_>>().join(", "));
    report.findings.iter().map(line).chain([sum]).collect()
}

/// `check` for programs: the configuration, or what is wrong with it.
pub fn checked(name: &str, config: Option<&Config>, error: Option<String>) -> Value {
    let Some(config) = config else { return json!({"good": false, "configuration": name, "error": error}) };
    let trunks = config.trunks.iter().map(|trunk| {
        let address = trunk.trunk.dns.as_ref().map(ToString::to_string);
        let profile = trunk.profile.as_ref().map(|profile| &profile.name);
        json!({
            "name": trunk.trunk.name, "address": address, "profile": profile,
            "registers": trunk.trunk.register.is_some(), "about": trunk.to_string(),
        })
    });
    json!({
        "good": true,
        "configuration": name,
        "trunks": trunks.collect::<Vec<_>>(),
        "phone_users": config.phones.as_ref().map(|phones| phones.registrar.users.len()),
        "plan": config.plan.summary().to_string(),
        "unlimited": config.unlimited().iter().map(|limit| limit.section).collect::<Vec<_>>(),
    })
}

fn row(call: &Value) -> [String; 5] {
    let from = [&call["user"], &call["from"]].into_iter().filter_map(Value::as_str).find(|text| !text.is_empty());
    let outbound = call["direction"] == "outbound";
    let from = if outbound { from } else { call["from"].as_str() };
    let since = call["answer"].as_u64().or(call["start"].as_u64());
    [
        text(&call["call"]),
        text(&call["state"]),
        from.unwrap_or("-").to_owned(),
        text(&call["dialled"]),
        since.map_or_else(|| "-".to_owned(), ago),
    ]
}

/// One call, a fact a line.
pub fn call(call: &Value) -> String {
    let mut out = String::new();
    let mut say = |name: &str, value: String| out.push_str(&format!("{name:<10} {value}\n"));
    for name in ["call", "state", "direction", "user", "dialled", "number", "from", "rule"] {
        if call[name].as_str().is_some_and(|text| !text.is_empty()) {
            say(name, text(&call[name]));
        }
    }
    for (name, key) in [("begun", "start"), ("rang", "ringing"), ("answered", "answer")] {
        if let Some(at) = call[key].as_u64() {
            say(name, ago(at));
        }
    }
    for name in ["a", "b"].into_iter().filter(|name| call[name].is_object()) {
        say(name, leg(&call[name]));
    }
    for transfer in call["transfers"].as_array().into_iter().flatten() {
        say(
            "transfer",
            format!("to {} by {}: {}", text(&transfer["to"]), text(&transfer["by"]), text(&transfer["result"])),
        );
    }
    for missing in call["no_audio"].as_array().into_iter().flatten() {
        say(
            "no audio",
            format!("from {} on leg {}: {}", text(&missing["from"]), text(&missing["leg"]), text(&missing["cause"])),
        );
    }
    out
}

fn leg(leg: &Value) -> String {
    let whose = leg["trunk"].as_str().or(leg["user"].as_str()).unwrap_or("-");
    let mut said = format!("{} {whose}, {}", text(&leg["kind"]), text(&leg["label"]));
    if let Some(codec) = leg["codec"].as_str() {
        said += &format!(", {codec}");
    }
    let quality = &leg["quality"];
    if let Some(mos) = quality["mos_heard"].as_f64() {
        said += &format!(", hears MOS {mos:.2} after {} ms", quality["delay_ms"]);
    }
    if let Some(loss) = quality["inbound"]["loss_pct"].as_f64() {
        said += &format!(", loses {loss:.1} %, jitter {} ms", quality["inbound"]["jitter_ms"]);
    }
    if leg["holds"] == true {
        said += ", holds the other";
    }
    if let Some(cause) = leg["no_audio"]["cause"].as_str() {
        said += &format!(", NO AUDIO from it: {cause}");
    }
    said
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// How long ago a moment was, from Unix milliseconds.
fn ago(at: u64) -> String {
    lasts(crate::unix_now().saturating_sub(at / 1000))
}

/// A time, from seconds.
fn lasts(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_are_shown_in_columns_and_one_with_its_legs() {
        let now = crate::unix_now() * 1000;
        let one = json!({
            "call": "00c5f0a1b2d3e4f5", "state": "answered", "direction": "outbound", "user": "alice", "dialled": "600",
            "number": "600", "start": now - 65_000, "answer": now - 62_000,
            "b": { "kind": "trunk", "trunk": "carrier", "label": "600", "codec": "PCMU", "holds": false,
                   "no_audio": { "cause": "no-rtp" } },
        });
        let table = calls(&json!({ "calls": [one] }));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "CALL              STATE     FROM   TO   SINCE");
        assert!(lines[1].starts_with("00c5f0a1b2d3e4f5  answered  alice  600  1:0"), "{table}");
        let shown = call(&one);
        assert!(shown.contains("b          trunk carrier, 600, PCMU, NO AUDIO from it: no-rtp\n"), "{shown}");
        assert_eq!(calls(&json!({ "calls": [] })).lines().count(), 1);
    }

    #[test]
    fn trunks_and_users_are_shown_in_columns() {
        let target = |rtt: u64| json!({ "address": "192.0.2.9:5060", "transport": "udp", "up": true, "rtt_ms": rtt });
        let good = json!({ "name": "carrier", "up": true, "calls": 2, "refused": 0, "targets": [target(31), target(12)],
            "registration": { "state": "registered", "ends_in_seconds": 55 } });
        let bad = json!({ "name": "pbx", "up": true, "calls": 0, "refused": 7, "for_seconds": 3_700, "targets": [target(1)],
            "registration": { "state": "refused", "status": 403, "again_in_seconds": 90 },
            "last_failure": { "what": "registration", "sip": 403, "seconds_ago": 30 } });
        let lost = json!({ "name": "gone", "up": true, "calls": 0, "refused": 0, "targets": [], "registration": null,
            "last_failure": { "what": "name", "seconds_ago": 1 } });
        let table = trunks(&json!({ "trunks": [good, bad, lost] }));
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
        let cells = |at: usize| lines[at].iter().copied().filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
        assert_eq!(cells(1), ["carrier", "up", "-", "2", "0", "registered", "12 ms", "-"]);
        let refused = "refused 403, again in 1:30";
        assert_eq!(
            cells(2),
            ["pbx", "unregistered", "1:01:40", "0", "7", refused, "1 ms", "registration 403, 30 s ago"]
        );
        assert_eq!(cells(3), ["gone", "not found", "-", "0", "0", "-", "-", "name not found, 1 s ago"]);

        let session = json!({ "door": "browser", "peer": "192.0.2.7:51000", "connected": true, "calls": 1 });
        let phone = json!({ "door": "sip", "address": "192.0.2.8:5060", "transport": "udp", "ends_in_seconds": 50 });
        let table =
            users(&json!({ "users": [{ "user": "alice", "calls": 1, "sessions": [session], "phones": [phone] }] }));
        assert_eq!(
            table,
            "USER   DOOR     FROM                STATE                CALLS\n\
             alice  browser  192.0.2.7:51000     signed in            1\n\
             alice  sip      udp 192.0.2.8:5060  registered for 50 s\n"
        );
    }
}
