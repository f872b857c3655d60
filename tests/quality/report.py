"""Writes the page docs/quality.md from the results of a bench and of real calls.

    report.py FOLDER MARGIN [PROFILE]
    report.py --beside FOLDER PAGE

FOLDER has bench/results.json and live/results.json; either may be missing, which the page then says. With --beside only the
table of others beside ours is made, from FOLDER/rivals, and put in its place on PAGE.
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

# The best that can be made of what arrives, by the encoder's own library: November 2026, 15 clips of the same five speakers.
IDEAL = ("libopus 1.6.1 with FEC and plain concealment, ideal", ["4.08", "4.02", "3.94", "3.88", "3.73"])
LOSSES = ["0", "1", "3", "5", "10"]
HEAD = """# How it sounds

Written by [`tests/quality/run`](../tests/quality/run), which fails below the bars less the margins named here; do not edit. With
`--full` it makes all rows with all speech and writes this page, without an argument a reduced set, and the page beside its
results.

PESQ is ITU-T P.862 narrowband (MOS-LQO), the mean over the clips: speech of five speakers, each clip 8 s, laid out by RTP
timestamp as the far end plays it. *up* is from the browser (Opus, 32 kbit/s, in-band FEC expecting 10 % loss,
each packet together with the one before as Chromium sends them: RED, but for the *fec* rows, which are Firefox') to the phone
(PCMU), *down* from the phone to the browser. Loss is on the browser's leg, in both directions, except in the *trunk* rows,
where it is between phone and gateway; *burst* has runs of mean length 2. *jitter-N* holds each packet up by N ms on
average, exponentially, in order; *stalls* stops all for up to 200 ms every few seconds; *reorder* has 5 % of the packets
overtaken by 30 to 60 ms; *worst* is bursts of 5 % with jitter, reordering and duplicates; *drift* is ten minutes of an end
whose clock runs 200 ppm fast or slow; *chromium* follows the gateway's answer (narrowband, 24 kbit/s) and its reports.
Delay is what the gateway adds to the path, Opus' own 6.5 ms and the wait for the next packet's redundancy included.

The bars are for 32 kbit/s with FEC: the *fec* rows are that very case (Firefox, and whatever has no RED), and the rows with RED
are held to the same. The *chromium* rows are not the bars' case and have none: at 24 kbit/s Opus has less room for redundancy,
and *chromium-fec-burst-10* and *chromium-red-burst-10*, each with one of Chromium's two redundancies left out, are below what
32 kbit/s would have to reach (3.05). What Chromium sends in truth has both: *chromium-burst-10*.

The bar of the delay is {0} ms at the median and {1} ms at the 99th percentile, without loss. In virtual time *chromium-0* is held
to it both ways, which is a call as a browser makes it: nothing is lost, so it sends no FEC, and nothing waits for the next packet.
*up-0* has FEC all the same, so playout holds a packet until the next, which may repair the one before, is due: 20 ms more. It
is held to {2} ms and {3} ms, and *down-0* to the bar.
""".format(*score.BAR_MS, *score.DELAYS["up-0"])

# Ours and the others: the folder of each and its name in the table.
WAYS = {
    "live": "**Ringback**",
    "rtpengine": "rtpengine {rtpengine}",
    "asterisk": "Asterisk {asterisk}",
}
# The ways in which one of them may have been played (live.rs).
PLAYED = ["", "anew-", "queued-"]
# Less than this above its bar is near it; and what `run` takes off in virtual time.
NEAR = 0.05
BENCH_MARGIN = 0.02
BESIDE = re.compile(r"^## Beside others\n.*?(?=\n## )", re.MULTILINE | re.DOTALL)
ABOUT = """## Beside others

The same calls of the same {clips} clips in one run, through Ringback and through others in its place, as their Debian packages
and their own settings have them: the same packets lost, from the same page to the same phone.
Made {made}.

PESQ, and in brackets the delay that the gateway adds in ms (median; - where the sound fits nowhere). rtpengine and Asterisk
have no jitter buffer by themselves: they pass on what comes late as it comes, and the phone, which here waits for ever, has
that to bear. Ours is played by its timestamps. Others' leave the time with each lost packet (rtpengine's fall behind by it,
Asterisk's run ahead), so theirs is the best of three ways to play it: by the timestamps, by the timestamps with the place found
anew in the pause before each clip, and (up) packet after packet from a queue of 60 ms, which are not counted as delay.
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
    yield f"| {IDEAL[0]} | " + " | ".join(IDEAL[1]) + " |"
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


def near_bars(bench, live, margin):
    """What stands below its bar, or less than NEAR above it, each with what the judgement makes of it."""
    lines = []
    for way, found in (("running program", live), ("virtual time", bench)):
        for name, result in found.items():
            bar = score.BARS.get(name)
            if bar is None or score.is_spoilt(result) or result["pesq"] >= bar + NEAR:
                continue
            over = result["pesq"] - bar
            stands = f"{over:.3f} above" if over >= 0 else f"**{-over:.3f} below**"
            allowed = score.margin_of(result, BENCH_MARGIN if found is bench else margin)
            if over < 0:
                stands += f", within the {allowed:.2f} that are taken off" if -over <= allowed else ", which is a failure"
            lines.append(f"- *{name}*, {way}: {result['pesq']:.3f}, bar {bar:.2f}: {stands}")
    return "\n".join(lines) or "None."


def beside(folder):
    """The part of the page about others; as it stands on the project's page when there are no new figures."""
    folder = folder / "rivals"
    found = {way: by_row(results(folder / way)) for way in WAYS}
    if not all(found.values()):
        page = pathlib.Path("docs/quality.md")
        known = BESIDE.search(page.read_text()) if page.exists() else None
        return known.group(0) if known else "## Beside others\n\nNot measured yet.\n"
    made = dict(line.split(" ", 1) for line in (folder / "versions").read_text().splitlines())
    clips = max(len(result["scores"]) for rows in found.values() for result in rows.values())
    names = [name.format(**{known.removesuffix("-daemon"): what.split("+")[0] for known, what in made.items()}) for name in WAYS.values()]
    lines = [ABOUT.format(made=made["made"], clips=clips), "| row | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for row in found["live"]:
        if row not in found["rtpengine"]:
            continue
        cells = []
        for rows in found.values():
            result = rows.get(row)
            if result is None:
                cells.append("-")
                continue
            result = max((rows[way + row] for way in PLAYED if way + row in rows), key=lambda result: round(result["pesq"], 2))
            spoilt = " busy" if score.is_spoilt(result) else ""
            cells.append(f"{result['pesq']:.2f} ({score.number(result['delay_p50'], '.0f')}{spoilt})")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def put_beside(folder, page):
    text, part = page.read_text(), beside(folder)
    known = BESIDE.search(text)
    place = known.span() if known else (text.index("## All rows"),) * 2
    page.write_text(text[: place[0]] + part + ("" if known else "\n") + text[place[1] :])


def main():
    if sys.argv[1] == "--beside":
        return put_beside(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
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
        "\n"
        + beside(folder)
        + "\n## All rows\n\nIn brackets: no bar of the project's, but what must not be lost again."
        " *busy*: the machine held up more than 1 % of that call's packets, or one for more than 40 ms, each time it was made.\n"
    )
    print("\n".join(rows(bench, live)))
    print("\n## Near or below their bars\n\n" + near_bars(bench, live, float(margin)))
    if not live:
        print("\nThe running program was not measured in this run.")
    print(
        f"\n## Noise\n\nThe virtual bench gives the same figures each time. Other losses of the same sort (three seeds, five clips) move a row by a\nstandard deviation of 0.03 to 0.12, bursts of 10 % by 0.19. A real call draws the same losses each time, but where they fall\nin a word depends on when the streams began."
        f" `tests/quality/run` takes\n{margin} off a bar for that, and more where much is lost and the clips are few. Of {clips} clips it takes "
        + ", ".join(f"{max(float(margin), score.spread(kind, clips)):.2f} for *{kind.removeprefix('-')}*" for kind in score.SPREAD)
        + ";\nof 5, as in the reduced set, "
        + ", ".join(f"{spread} for *{kind.removeprefix('-')}*" for kind, spread in score.SPREAD.items())
        + "."
        " In virtual time it takes 0.02, for processors that round otherwise.\n\n"
        "The rows in virtual time are always judged, and in the full run all that have a bar must be there. A real call whose packets the machine held up\n"
        "says little about the gateway: it is made again, at half as many at once, and then, as long as more than a quarter are spoilt,\n"
        "up to four of them alone. What is spoilt still is held to what no clock changes: exact timestamps, and a PESQ of 1.5, below\n"
        "which it is no speech. The full run fails where more than a quarter of its calls stay spoilt; the reduced set, which runs on slow\n"
        "and shared machines, where all do.\n"
        "\n## Exactness\n\n"
        "- G.711: all 65,536 samples of the ITU's reference are equal, both laws, both directions (`src/codec/g711.rs`).\n"
        "- Timestamps: each packet's goes with its number, and 500 packets go out in any 10 s, under every loss above.\n"
        "- No digit is heard in 43 minutes of speech at either rate (`tests/quality/talk_off.rs`)."
    )


main()
