"""Writes the page docs/quality.md from the results of a bench and of real calls.

    report.py FOLDER MARGIN [PROFILE]

FOLDER has bench/results.json and live/results.json; either may be missing, which the page then says.
"""

import datetime
import json
import pathlib
import platform
import re
import subprocess
import sys
from importlib.metadata import version

import score

# Other systems, measured in November 2026 on 15 clips of the same five speakers: with other losses of the same sort, not
# in this run (../tests/quality/score.py has our bars from there).
OTHERS = [
    ("rtpengine 26.0.1 (no FEC, no concealment)", ["4.11", "3.23", "2.45", "2.46", "1.68"]),
    ("Asterisk 22.10.1 (its time line grows with each loss)", ["4.11", "3.41", "2.04", "1.56", "1.25"]),
    ("libopus 1.6.1 with FEC and plain concealment, ideal", ["4.08", "4.02", "3.94", "3.88", "3.73"]),
]
LOSSES = ["0", "1", "3", "5", "10"]
HEAD = """# How it sounds

Written by [`tests/quality/run`](../tests/quality/run), which fails below the bars less the margins named here; do not edit. With
`--full` it makes all rows with all speech and writes this page, without an argument a reduced set, and the page beside its
results.

PESQ is ITU-T P.862 narrowband (MOS-LQO), the mean over the clips: speech of five speakers, each clip 8 s, laid out by RTP
timestamp as the far end plays it. *up* is from the browser (Opus, 32 kbit/s, in-band FEC expecting 10 % loss) to the phone
(PCMU), *down* from the phone to the browser. Loss is on the browser's leg, in both directions, except in the *trunk* rows,
where it is between phone and gateway; *burst* has runs of mean length 2. *jitter-N* holds each packet up by N ms on
average, exponentially, in order; *stalls* stops all for up to 200 ms every few seconds; *reorder* has 5 % of the packets
overtaken by 30 to 60 ms; *worst* is bursts of 5 % with jitter, reordering and duplicates; *drift* is ten minutes of an end
whose clock runs 200 ppm fast or slow; *chromium* follows the gateway's answer (narrowband, 24 kbit/s) and its reports.
Delay is what the gateway adds to the path, Opus' own 6.5 ms and the wait for the next packet's redundancy included.
"""


def command(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, check=False, text=True).stdout.strip()


def results(path):
    file = path / "results.json"
    return json.loads(file.read_text()) if file.exists() else []


def package(name):
    found = re.search(rf'^name = "{name}"\nversion = "([^"]+)"', pathlib.Path("Cargo.lock").read_text(), re.MULTILINE)
    return found.group(1) if found else "?"


def by_row(found):
    return {result["row"]: result for result in found if not result["row"].startswith("ideal-")}


def comparison(bench, live):
    yield "| browser to phone, random loss | " + " | ".join(f"{loss} %" for loss in LOSSES) + " |"
    yield "|---|" + "---|" * len(LOSSES)
    for name, figures in OTHERS:
        yield f"| {name} | " + " | ".join(figures) + " |"
    yield "| the bar | " + " | ".join(f"{score.BARS['up-' + loss]:.2f}" for loss in LOSSES) + " |"
    for name, rows in (("Ringback, running program", live), ("Ringback, virtual time", bench)):
        if rows:
            cells = (score.number(rows.get("up-" + loss, {}).get("pesq"), ".2f") for loss in LOSSES)
            yield f"| **{name}** | " + " | ".join(cells) + " |"


def rows(bench, live):
    yield "| row | bar | running program | delay p50 / p99 | virtual time | delay p50 / p99 | timestamps wrong |"
    yield "|---|---|---|---|---|---|---|"
    for name in dict.fromkeys([*bench, *live]):
        bar = score.BARS.get(name)
        floor = score.FLOORS.get(name)
        cells = [name, f"{bar:.2f}" if bar else f"({floor:.2f})" if floor else ""]
        wrong = 0
        for found in (live, bench):
            result = found.get(name)
            if result is None:
                cells += ["", ""]
                continue
            wrong += result["timestamps_wrong"]
            spoilt = " (busy)" if score.is_spoilt(result) else ""
            delay = f"{score.number(result['delay_p50'], '.0f')} / {score.number(result['delay_p99'], '.0f')} ms"
            cells += [f"{result['pesq']:.3f}{spoilt}", delay]
        yield "| " + " | ".join([*cells, str(wrong)]) + " |"


def main():
    folder, margin = pathlib.Path(sys.argv[1]), sys.argv[2]
    bench, live = by_row(results(folder / "bench")), by_row(results(folder / "live"))
    clips = max((len(result["scores"]) for result in [*bench.values(), *live.values()]), default=0)
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    profile = sys.argv[3] if len(sys.argv) > 3 else "release"
    print(HEAD)
    print(
        f"{datetime.date.today()}, commit {command('git', 'rev-parse', '--short', 'HEAD')} ({profile} build), {clips} clips; opusic-sys"
        f" {package('opusic-sys')}, str0m {package('str0m')}, pesq {version('pesq')}, numpy {version('numpy')}, Linux"
        f" {platform.release()}, {cpu.group(1) if cpu else 'unknown processor'}.\n"
    )
    print("\n".join(comparison(bench, live)))
    print(
        "\nThe other systems' figures are of an earlier run on the same speakers and the same sort of loss, not of this one.\n"
        "\n## All rows\n\nIn brackets: no bar of the project's, but what must not be lost again."
        " *busy*: the machine held up more than 1 % of that call's packets, or one for more than 40 ms, twice: not judged.\n"
    )
    print("\n".join(rows(bench, live)))
    if not live:
        print("\nThe running program was not measured in this run.")
    print(
        f"\n## Noise\n\nThe virtual bench gives the same figures each time. Other losses of the same sort (three seeds, five clips) move a row by a\nstandard deviation of 0.03 to 0.12, bursts of 10 % by 0.19. A real call draws the same losses each time, but where they fall\nin a word depends on when the streams began."
        f" `tests/quality/run` takes\n{margin} off a bar for that, and more where much is lost: "
        + ", ".join(f"{spread} for *{kind.removeprefix('-')}*" for kind, spread in score.SPREAD.items())
        + ".\n"
        "\n## Exactness\n\n"
        "- G.711: all 65,536 samples of the ITU's reference are equal, both laws, both directions (`src/codec/g711.rs`).\n"
        "- Timestamps: each packet's goes with its number, and 500 packets go out in any 10 s, under every loss above.\n"
        "- No digit is heard in 43 minutes of speech at either rate (`tests/quality/talk_off.rs`)."
    )


main()
