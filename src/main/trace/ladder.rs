//! Messages as a ladder: a column for the gateway and each of its peers, an arrow a message.

use serde_json::Value;

/// Between two columns.
const WIDTH: usize = 32;
/// What stands before the first: the time.
const MARGIN: usize = 10;

/// The calls that are kept.
pub fn list(answer: &Value) -> String {
    let mut out = format!("{:<16}  {:<24}  {:>8}  STATE\n", "CALL", "BEGUN", "MESSAGES");
    for call in answer["calls"].as_array().into_iter().flatten() {
        let begun = time(call["begun"].as_u64().unwrap_or_default());
        let state = if call["over"] == true { "over" } else { "goes on" };
        let id = call["call"].as_str().unwrap_or_default();
        out += &format!("{id:<16}  {begun:<24}  {:>8}  {state}\n", call["messages"].as_u64().unwrap_or_default());
    }
    out
}

/// All that is kept of one call; with `full` each message stands whole below its arrow.
pub fn whole(answer: &Value, full: bool) -> String {
    let messages = answer["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut ladder = Ladder::default();
    for message in messages {
        ladder.column(message);
    }
    let first = messages.first().and_then(|message| message["at"].as_u64()).unwrap_or_default();
    let mut out = format!("call {} begun {}\n", answer["call"].as_str().unwrap_or_default(), time(first));
    for message in messages {
        if message["n"] == answer["left_out_before"] {
            out += &format!("{:MARGIN$}({} messages are not kept)\n", "", answer["left_out"]);
        }
        out += &ladder.line(message, full);
    }
    if answer["over"] != true {
        out += "the call goes on\n";
    }
    out
}

/// The columns there are so far.
#[derive(Default)]
pub struct Ladder {
    /// Name and peer; the gateway's has no peer.
    columns: Vec<(String, Option<String>)>,
    first: Option<u64>,
    /// How many columns the last head has had.
    headed: usize,
}

impl Ladder {
    /// The peer's column, which is made where there is none; the first one stands before the gateway's.
    fn column(&mut self, message: &Value) -> usize {
        let by = message["by"].as_str().unwrap_or_default();
        let peer = format!("{by} {}", message["remote"].as_str().unwrap_or("?"));
        if let Some(at) = self.columns.iter().position(|(_, known)| known.as_ref() == Some(&peer)) {
            return at;
        }
        self.columns.push((peer.clone(), Some(peer)));
        if self.columns.len() == 1 {
            self.columns.push(("ringback".to_owned(), None));
            return 0;
        }
        self.columns.len() - 1
    }

    /// One message; with a head where there is a new column.
    pub fn line(&mut self, message: &Value, full: bool) -> String {
        let peer = self.column(message);
        let gateway = 1;
        let at = message["at"].as_u64().unwrap_or_default();
        let first = *self.first.get_or_insert(at);
        let mut out = String::new();
        if self.headed < self.columns.len() {
            self.headed = self.columns.len();
            out += &self.head();
        }
        let (from, to) = if message["sent"] == true { (gateway, peer) } else { (peer, gateway) };
        let ms = at.saturating_sub(first) / 1000;
        let time = format!("{:>5}.{:03}", ms / 1000, ms % 1000);
        out += &format!("{time:<MARGIN$}{}\n", self.arrow(from, to, &label(message)));
        if full {
            let text = message["text"].as_str().unwrap_or_default();
            for line in shown_whole(text).lines() {
                out += &format!("{:MARGIN$}    {line}\n", "");
            }
            if let Some(cut) = message["cut"].as_u64() {
                out += &format!("{:MARGIN$}    ({cut} bytes are not kept)\n", "");
            }
        }
        out
    }

    fn head(&self) -> String {
        let names: String = self.columns.iter().map(|(name, _)| format!("{name:^WIDTH$}")).collect();
        format!("{:MARGIN$}{}\n", "", names.trim_end())
    }

    fn arrow(&self, from: usize, to: usize, label: &str) -> String {
        let middle = |column: usize| column * WIDTH + WIDTH / 2;
        let mut line = vec![' '; self.columns.len() * WIDTH];
        for column in 0..self.columns.len() {
            line[middle(column)] = '|';
        }
        let (left, right) = (middle(from.min(to)) + 1, middle(from.max(to)) - 1);
        line[left..=right].fill('-');
        let head = if from < to { right } else { left };
        line[head] = if from < to { '>' } else { '<' };
        let room = right - left - 3;
        let mut label: Vec<char> = label.chars().take(room).collect();
        label.insert(0, ' ');
        label.push(' ');
        let start = left + (right - left + 1 - label.len()) / 2;
        line[start..start + label.len()].copy_from_slice(&label);
        line.into_iter().collect::<String>().trim_end().to_owned()
    }
}

/// What a message is, in a few words.
fn label(message: &Value) -> String {
    let text = message["text"].as_str().unwrap_or_default();
    let label = match message["by"] == "browser" {
        true => browser_label(&serde_json::from_str(text).unwrap_or_default()),
        false => sip_label(text),
    };
    printable(&label)
}

fn browser_label(message: &Value) -> String {
    let field = |name: &str| match &message[name] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some((if *flag { "on" } else { "off" }).to_owned()),
        _ => None,
    };
    let told = ["to", "from", "on", "state", "cause", "sip", "code", "grade", "remote"].into_iter().filter_map(field);
    let words: Vec<String> = field("type").into_iter().chain(told).collect();
    words.join(" ")
}

fn sip_label(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let mut words = first.split(' ');
    let label = match words.next() {
        Some("SIP/2.0") => {
            let cseq = text.lines().find_map(|line| line.strip_prefix("CSeq:")).unwrap_or_default();
            let method = cseq.split_ascii_whitespace().nth(1).unwrap_or_default();
            format!("{} ({method})", words.collect::<Vec<_>>().join(" "))
        }
        method => {
            let uri = words.next().unwrap_or_default();
            let user = uri.split_once(':').and_then(|(_, rest)| rest.split_once('@')).map_or("", |(user, _)| user);
            format!("{} {user}", method.unwrap_or_default()).trim_end().to_owned()
        }
    };
    match text.contains("\nv=0") {
        true => format!("{label}, SDP"),
        false => label,
    }
}

/// A message of the browser protocol a field a line, SIP as it is; nothing that would move the cursor.
fn shown_whole(text: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text) else { return printable(text) };
    let line = |(name, value): (String, Value)| match value {
        Value::String(text) if text.contains('\n') => format!("{name}:\n{}\n", printable(&text)),
        value => format!("{name}: {}\n", printable(&value.to_string())),
    };
    fields.into_iter().map(line).collect()
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

/// A moment, from Unix microseconds, in UTC (RFC 3339), as the log writes it.
fn time(at: u64) -> String {
    const DAY_MS: u64 = 86_400_000;
    let (days, ms) = (at / 1000 / DAY_MS, at / 1000 % DAY_MS);
    // Years that begin in March have their odd day last; 400 of them have 146,097 days, and the first here began in 0000.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * march + 2) / 5 + 1, if march < 10 { march + 3 } else { march - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sip(n: u64, sent: bool, remote: &str, text: &str) -> Value {
        json!({ "n": n, "at": 1_700_000_000_000_000u64 + n * 12_500, "sent": sent, "by": "udp",
                "local": "192.0.2.1:5060", "remote": remote, "text": text })
    }

    #[test]
    fn a_call_is_a_ladder() {
        let call = json!({ "type": "call", "call": "c", "to": "600", "sdp": "v=0\r\na=mid:0\r\n" }).to_string();
        let answer = json!({ "call": "00000000000000ff", "over": true, "left_out": 3, "left_out_before": 3, "messages": [
            { "n": 1, "at": 1_700_000_000_000_000u64, "sent": false, "by": "browser", "remote": "127.0.0.1:4000", "text": call },
            sip(2, true, "192.0.2.9:5060", "INVITE sip:600@192.0.2.9 SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\n"),
            sip(3, false, "192.0.2.9:5060", "SIP/2.0 486 Busy Here\r\nCSeq: 1 INVITE\r\n\r\n"),
        ]});
        let shown = whole(&answer, false);
        let expected = [
            "call 00000000000000ff begun 2023-11-14T22:13:20.000Z",
            "               browser 127.0.0.1:4000                 ringback                   udp 192.0.2.9:5060",
            "    0.000                 |---------- call 600 ---------->|                               |",
            "    0.025                 |                               |------- INVITE 600, SDP ------>|",
            "          (3 messages are not kept)",
            "    0.037                 |                               |<-- 486 Busy Here (INVITE) ----|",
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "\n{shown}");
        let full = whole(&answer, true);
        assert!(full.contains("              type: \"call\"\n") && full.contains("              a=mid:0\n"), "{full}");
        assert!(full.contains("              CSeq: 1 INVITE\n"), "{full}");
    }

    #[test]
    fn moments_are_written_in_utc() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (1_772_323_200, "2026-03-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(seconds * 1_000_000), written);
        }
    }

    #[test]
    fn what_a_peer_says_does_not_move_the_cursor() {
        let answer =
            json!({ "call": "x", "over": false, "messages": [sip(1, false, "192.0.2.9:5060", "\u{1b}[2J\u{7}")] });
        assert!(!whole(&answer, true).contains(['\u{1b}', '\u{7}']));
    }
}
