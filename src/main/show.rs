//! Calls for people's eyes.

use serde_json::Value;

/// A table, one call a line.
pub fn calls(answer: &Value) -> String {
    let calls = answer["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let header = ["CALL", "STATE", "FROM", "TO", "SINCE"].map(str::to_owned);
    let rows: Vec<[String; 5]> = [header].into_iter().chain(calls.iter().map(row)).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
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
    let seconds = crate::unix_now().saturating_sub(at / 1000);
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
}
