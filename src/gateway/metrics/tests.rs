#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::snapshot::{HookUse, QueueUse, Snapshot};
use super::{Calls, Metrics};
use crate::call::trunks::TrunkState;
use crate::gateway::pool::{PoolUse, WorkerUse};
use crate::media::Effort;
use crate::switch::{
    AccountUse, Cdr, CdrStatus, LimitTrips, LimitUse, LimitsStatus, Notice, RegistrarStatus, RegistrationStatus,
    SoundStatus, Status, StoreStatus, SwitchStats, TrunkStatus,
};
use crate::worker::{Lateness, WorkerCounters};

/// A call of a browser with a trunk, as the shell gets it.
fn cdr(trunks: &Value) -> Cdr {
    let leg = |more: Value| {
        let mut leg = json!({
            "packets_in": 990, "packets_out": 1000, "bytes_in": 1, "bytes_out": 1, "lost": 10, "repaired": 4, "jitter_ms": 7,
            "concealed_ms": 200, "rejected": 0, "first_audio_ms": 30,
            "mos_sent": {"mean": 4.2, "worst": 3.0}, "mos_heard": {"mean": 4.1, "worst": 3.0},
            "buffer_ms": 30,
        });
        leg.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        leg
    };
    let cdr = json!({
        "call": "00c5f0a1b2d3e4f5", "direction": "outbound", "user": "canary-user", "dialled": "+442079460123",
        "number": "+442079460123", "sent": null, "from": "+442079460100", "rule": "r", "trunks": trunks,
        "start": 1_000, "ringing": 3_000, "answer": 5_000, "end": 25_000, "cause": "normal", "by": "browser", "sip": null,
        "q850": 16, "text": "canary-text", "codecs": {"a": "opus", "b": "PCMU"}, "parties": {"a": "browser", "b": "trunk"},
        "media": {"a": leg(json!({"ice_ms": 40, "dtls_ms": 90})), "b": leg(json!({}))},
    });
    serde_json::from_value(cdr).unwrap()
}

fn snapshot() -> Snapshot {
    let trunk = |name: &str, registration| TrunkStatus {
        state: TrunkState {
            name: name.into(),
            up: true,
            calls: 2,
            refused: 3,
            for_seconds: None,
            last_failure: None,
            targets: vec![],
        },
        registration,
    };
    let counters = WorkerCounters { unroutable: 1, handed_over: 3, not_handed_over: 4, unsent: 2, panics: 0 };
    let mut lateness = Lateness { sum: std::time::Duration::from_millis(60), ..Lateness::default() };
    (lateness.counts[0], lateness.counts[9]) = (5, 1);
    let hook = |waiting| HookUse { server: "https://crm.example".into(), waiting, lost: 1, given_up: 2 };
    Snapshot {
        status: Status {
            limits: LimitsStatus {
                accounts: vec![AccountUse {
                    scope: "trunk".into(),
                    name: "carrier".into(),
                    limits: vec![LimitUse { limit: "minutes_per_day".into(), used: 30, most: 600 }],
                }],
                tripped: vec![LimitTrips { scope: "user".into(), limit: "calls".into(), times: 3 }],
            },
            cdr: vec![CdrStatus { sink: "sqlite".into(), waiting: 3, room: 100, lost: 2, ..CdrStatus::default() }],
            store: Some(StoreStatus { failing_since: Some(1), error: Some("full".into()) }),
            journal: Some(StoreStatus::default()),
            draining: false,
            sockets: 3,
            calls: 2,
            established: 1,
            sound: SoundStatus { measured: 1, mos_mean: Some(4.2), mos_worst: Some(4.0), without_audio: 0 },
            dropped_sip: 9,
            trunks: vec![
                trunk("carrier", Some(RegistrationStatus::Registered { ends_in_seconds: 9 })),
                trunk("quo\"ted\\\n", Some(RegistrationStatus::Trying)),
                trunk("plain", None),
            ],
            registrar: Some(RegistrarStatus {
                users: 1,
                bindings: 2,
                challenged: 3,
                authenticated: 4,
                failed: 5,
                slowed: 6,
                throttled: 7,
            }),
        },
        stats: SwitchStats { refused_busy: 4, ..SwitchStats::default() },
        most_calls: 1000,
        most_sockets: 10_000,
        pool: PoolUse {
            workers: vec![WorkerUse {
                running: true,
                calls: 2,
                waiting: 0,
                counters,
                lateness,
                effort: Effort::Less,
                busy: true,
            }],
            ports_leased: 2,
            ports_resting: 1,
            ports_free: 97,
            lost_reports: 0,
        },
        queues: vec![QueueUse { name: "sip", waiting: 1, room: 4096 }],
        sip_lost: 8,
        hooks: vec![hook(3), hook(4)],
        certificates: vec![("http".into(), std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_900_000_000))],
        otlp: Some(crate::gateway::otlp::OtlpUse { waiting: 1, sent: 2, dropped: 3 }),
    }
}

/// All that there is.
fn text() -> String {
    let (metrics, mut calls) = Metrics::new(1_795_253_413_000);
    happen(&mut calls);
    metrics.text(&snapshot()).unwrap()
}

fn happen(calls: &mut Calls) {
    let call = || "00c5f0a1b2d3e4f5".to_owned();
    let direction = crate::switch::Direction::Outbound;
    for notice in [
        Notice::Started { call: call(), direction, user: "canary-user".into(), dialled: "600".into(), from: None },
        Notice::Feedback { call: call(), user: "canary-user".into(), score: 2, issue: Some("canary-issue".into()) },
        Notice::Registration { trunk: "carrier".into(), registered: false, sip: Some(403) },
        Notice::Registration { trunk: "carrier".into(), registered: true, sip: None },
    ] {
        calls.event(&notice);
    }
    let tried = |trunk: &str, result: &str| json!({"trunk": trunk, "result": result});
    // An operator's test of a trunk is no call of anybody's.
    let mut test = cdr(&json!([tried("carrier", "answered")]));
    test.user = crate::call::canary::CANARY.into();
    calls.ended(&test);
    calls.ended(&cdr(&json!([tried("cheap", "503"), tried("cheap", "down"), tried("carrier", "answered")])));
}

fn value<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

#[test]
fn a_call_goes_into_the_series_of_its_trunk_cause_and_kinds_of_legs() {
    let text = text();
    for (series, wanted) in [
        ("ringback_calls_ended_total{direction=\"outbound\",trunk=\"carrier\",cause=\"normal\",by=\"browser\"}", "1"),
        ("ringback_trunk_attempts_total{trunk=\"cheap\",result=\"congestion\"}", "1"),
        ("ringback_trunk_attempts_total{trunk=\"cheap\",result=\"down\"}", "1"),
        ("ringback_trunk_attempts_total{trunk=\"carrier\",result=\"answered\"}", "1"),
        ("ringback_call_ringing_seconds_sum{direction=\"outbound\",trunk=\"carrier\"}", "2.0"),
        ("ringback_call_talking_seconds_sum{direction=\"outbound\"}", "20.0"),
        ("ringback_leg_ice_seconds_sum{kind=\"browser\"}", "0.04"),
        ("ringback_leg_dtls_seconds_sum{kind=\"browser\"}", "0.09"),
        ("ringback_leg_first_audio_seconds_count{kind=\"trunk\"}", "1"),
        ("ringback_leg_loss_ratio_sum{kind=\"trunk\"}", "0.01"),
        ("ringback_leg_packets_repaired_total{kind=\"trunk\"}", "4"),
        ("ringback_leg_jitter_seconds_sum{kind=\"trunk\"}", "0.007"),
        ("ringback_leg_buffer_seconds_sum{kind=\"trunk\"}", "0.03"),
        ("ringback_leg_concealed_ratio_sum{kind=\"trunk\"}", "0.01"),
        ("ringback_leg_mos_count{kind=\"browser\",way=\"heard\"}", "1"),
        ("ringback_registrations_refused_total{trunk=\"carrier\"}", "1"),
        ("ringback_feedback_total{score=\"2\"}", "1"),
        ("ringback_no_audio_total{cause=\"no-ice\",fault=\"yes\"}", "0"),
        ("ringback_no_audio_total{cause=\"held\",fault=\"no\"}", "0"),
        ("ringback_events_total{event=\"trunk.down\"}", "0"),
        ("ringback_events_total{event=\"trunk.registration\"}", "2"),
        ("ringback_trunk_tests_total{trunk=\"carrier\",result=\"answered\"}", "1"),
        ("ringback_limit_used{scope=\"trunk\",name=\"carrier\",limit=\"minutes_per_day\"}", "30.0"),
        ("ringback_limit_most{scope=\"trunk\",name=\"carrier\",limit=\"minutes_per_day\"}", "600.0"),
        ("ringback_limits_tripped_total{scope=\"user\",limit=\"calls\"}", "3"),
        ("ringback_limits_tripped_total{scope=\"token\",limit=\"new_countries_per_day\"}", "0"),
        // Up, but without an address.
        ("ringback_trunk_up{trunk=\"carrier\"}", "0.0"),
        ("ringback_trunk_registered{trunk=\"carrier\"}", "1.0"),
        ("ringback_trunk_registered{trunk=\"plain\"}", ""),
        ("ringback_trunk_calls{trunk=\"quo\\\"ted\\\\\\n\"}", "2.0"),
        ("ringback_worker_lateness_seconds_bucket{le=\"0.5\",worker=\"0\"}", "5"),
        ("ringback_worker_lateness_seconds_bucket{le=\"+Inf\",worker=\"0\"}", "6"),
        ("ringback_worker_lateness_seconds_count{worker=\"0\"}", "6"),
        ("ringback_worker_effort{worker=\"0\"}", "1.0"),
        ("ringback_worker_busy{worker=\"0\"}", "1.0"),
        ("ringback_calls_refused_busy_total", "4"),
        ("ringback_cdr_waiting{place=\"sqlite\"}", "3.0"),
        ("ringback_cdr_limit{place=\"sqlite\"}", "100.0"),
        ("ringback_cdr_oldest_seconds{place=\"sqlite\"}", "0.0"),
        ("ringback_cdr_lost_total{place=\"sqlite\"}", "2"),
        ("ringback_store_failing", "1.0"),
        ("ringback_journal_failing", "0.0"),
        ("ringback_sip_dropped_total{reason=\"stranger\"}", "9"),
        ("ringback_sip_dropped_total{reason=\"queue-full\"}", "8"),
        ("ringback_certificate_expires_timestamp_seconds{of=\"http\"}", "1900000000.0"),
        ("ringback_otlp_traces_total{result=\"dropped\"}", "3"),
        // Two hooks of one server are one series.
        ("ringback_webhook_waiting{server=\"https://crm.example\"}", "7.0"),
        ("ringback_webhook_given_up_total{server=\"https://crm.example\"}", "4"),
    ] {
        assert_eq!(value(&text, series).unwrap_or_default(), wanted, "{series} in\n{text}");
    }
    for told in ["canary", "00c5f0a1b2d3e4f5", "44207946"] {
        assert!(!text.contains(told), "{told} in\n{text}");
    }
    let series: Vec<&str> = text.lines().filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series)).collect();
    let single: BTreeSet<&str> = series.iter().copied().collect();
    assert_eq!(series.len(), single.len(), "a series comes twice");
}

#[test]
fn trunks_that_come_and_go_by_reloads_do_not_make_ever_more_series() {
    let (metrics, mut calls) = Metrics::new(0);
    for number in 0..1500 {
        calls.ended(&cdr(&json!([{"trunk": format!("t{number}"), "result": "answered"}])));
    }
    let text = metrics.text(&snapshot()).unwrap();
    let other = "ringback_trunk_attempts_total{trunk=\"other\",result=\"answered\"}";
    assert_eq!(value(&text, other), Some("500"));
}

/// Names of ours in a text, without what a histogram or a counter adds.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let ours = words.filter(|word| word.starts_with("ringback_") || word.starts_with("process_"));
    let base = |word: &str| {
        let ends = ["_bucket", "_count", "_sum", "_total", "_info"];
        ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
    };
    ours.map(base).collect()
}

#[test]
fn rules_dashboard_and_guide_name_metrics_that_there_are() {
    let text = text();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let there: BTreeSet<String> = types.map(str::to_owned).collect();
    let guide = include_str!("../../../docs/operations.md");
    for (what, text) in [
        ("rules", include_str!("../../../packaging/prometheus/ringback.rules.yml")),
        ("dashboard", include_str!("../../../packaging/prometheus/grafana-dashboard.json")),
        ("guide", guide),
    ] {
        let unknown: Vec<String> = named(text).into_iter().filter(|name| !there.contains(name)).collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?} of\n{there:?}");
    }
    // Each alert has a test and a section, and its runbook leads there.
    let tests = include_str!("../../../packaging/prometheus/ringback.tests.yml");
    let rules = include_str!("../../../packaging/prometheus/ringback.rules.yml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 19, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
        assert!(guide.contains(&format!("### {alert}\n")), "{alert} has no section");
        assert!(rules.contains(&format!("docs/operations.md#{}\n", alert.to_ascii_lowercase())), "{alert}");
    }
}
