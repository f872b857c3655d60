"""The tables of docs/performance.md, of what benches/load/run has measured.

    tables.py --speech FOLDER OUT.wav                joins the 8 kHz clips of tests/quality into one file
    tables.py --score RUN.json SPEECH RECORDINGS     puts the PESQ of the recordings into the rows of a run (wants QUALITY_PYTHON)
    tables.py --whole RUN.json CALLS                 fails unless the run has a row for each number of calls, such as 100,20
    tables.py --part tables|limit|soak PAGE FOLDER   writes that part of the page, and the plots beside it
"""

import argparse
import json
import pathlib
import statistics
import sys
import wave

import bars
import page
import plot

TITLES = {
    "narrow": "Opus <-> PCMU, the browser sends narrowband as it is asked",
    "full-band": "Opus <-> PCMU, the browser sends full band all the same",
    "relay": "PCMU <-> PCMU, relayed",
}
GATEWAYS = ("ringback", "rtpengine")
# Rounds that a median wants, and the effort of a gateway that spares itself nothing (crates/bench, figures.rs).
ENOUGH, FULL_EFFORT = 3, 2


def join(folder, out):
    """Joins the clips at 8 kHz (16-bit PCM without a header)."""
    clips = sorted(pathlib.Path(folder).glob("clip-*.8000.raw"))
    if not clips:
        raise SystemExit(f"no clip of 8 kHz in {folder}")
    with wave.open(str(out), "wb") as joined:
        joined.setnchannels(1)
        joined.setsampwidth(2)
        joined.setframerate(8000)
        for clip in clips:
            joined.writeframes(clip.read_bytes())


def score(run, speech, recordings):
    """Each row gets the mean PESQ of what was heard in it, by the scorer of tests/quality."""
    sys.path.insert(0, str(page.ROOT / "tests/quality"))
    import score as scorer

    path, found = pathlib.Path(run), {}
    for result in scorer.scored(pathlib.Path(speech), pathlib.Path(recordings)):
        found.setdefault(result["row"], []).append(result["pesq"])
    run = json.loads(path.read_text())
    for row in run["rows"]:
        scores = {way: found.get(f"{row['calls']}-{way}") for way in ("up", "down")}
        row["pesq"] = {way: statistics.fmean(heard) if heard else None for way, heard in scores.items()}
    path.write_text(json.dumps(run, indent=1))


def medians(rows):
    """One row of the medians of several rounds' rows; of words there is none."""
    known = [row for row in rows if row is not None]
    if known and isinstance(known[0], dict):
        keys = dict.fromkeys(key for row in known for key in row)
        return {key: medians([row.get(key) for row in known]) for key in keys}
    numbers = [row for row in known if isinstance(row, (int, float))]
    return statistics.median(numbers) if numbers else None


def is_valid(row):
    """Measured on a machine that was ours, of a gateway that did all that it does otherwise."""
    return not row.get("void") and (row.get("effort") is None or row["effort"] >= FULL_EFFORT)


def gathered(runs):
    """Of several runs' rows: by the number of calls the medians of those that are valid, and how many they are."""
    by_calls = {}
    for run in runs:
        for row in run["rows"]:
            by_calls.setdefault(row["calls"], []).append(row)
    found = {}
    for calls, rows in sorted(by_calls.items()):
        valid = [row for row in rows if is_valid(row)]
        found[calls] = (medians(valid) | {"calls": calls} if valid else None, len(valid))
    return found


def figure(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def three(found):
    return "-" if found is None else f"{found['p50']:.0f} / {found['p95']:.0f} / {found['p99']:.0f}"


def lost(way):
    return 100.0 * way["lost"] / max(1, way["packets"] + way["lost"])


def heard(row):
    scores = row.get("pesq") or {}
    return f"{figure(scores.get('up'), 2)} / {figure(scores.get('down'), 2)}"


HEAD = (
    "| | calls | CPU-ms a call-second | of the driver | MiB a call | PESQ up / down | delay up, p50 / p95 / p99 ms | delay down "
    "| lost, % | lateness p99, ms | offer to answer p50 / p95, ms | runs |\n|" + "---|" * 12 + "\n"
)


def line(name, calls, row, runs):
    if row is None:
        return f"| {name} | {calls} | void" + " |" * 9 + f" {runs} |\n"
    answer = row["set_up"]["answer_ms"]
    answer = "-" if answer is None else f"{answer['p50']:.1f} / {answer['p95']:.1f}"
    cells = [
        name,
        f"{calls}",
        figure(row["cpu_ms_per_call_second"], 2),
        figure(row["driver_cpu_ms_per_call_second"]),
        figure(row["mib_per_call"], 2),
        heard(row),
        three(row["up"]["delay_ms"]),
        three(row["down"]["delay_ms"]),
        figure(max(lost(row["up"]), lost(row["down"])), 2),
        figure(row["lateness_p99_ms"], 0),
        answer,
        runs,
    ]
    return "| " + " | ".join(cells) + " |\n"


BESIDE = (
    "| calls | CPU-ms, ours | rtpengine's | times cheaper | MiB a call, ours | rtpengine's | times less | PESQ up, ours / rtpengine's "
    f"| PESQ down | at least {bars.CHEAPER:g} times cheaper at equal or better PESQ |\n|" + "---|" * 10 + "\n"
)


def beside(ours, theirs, wanted):
    """Both gateways in one row, at each number of calls that both have."""
    rows = ""
    for calls in sorted(set(ours) & set(theirs)):
        our, their = ours[calls], theirs[calls]
        cpu, mib = ([row[key] for row in (our, their)] for key in ("cpu_ms_per_call_second", "mib_per_call"))
        pesq = {way: [(row.get("pesq") or {}).get(way) for row in (our, their)] for way in ("up", "down")}
        cells = [
            f"{calls}",
            *(figure(value, 2) for value in cpu),
            figure(bars.ratio(cpu[1], cpu[0]), 1),
            *(figure(value, 2) for value in mib),
            figure(bars.ratio(mib[1], mib[0]), 1),
            *(" / ".join(figure(value, 2) for value in pesq[way]) for way in ("up", "down")),
            bars.verdict(bars.cheaper(our, their)) if wanted else "no bar",
        ]
        rows += "| " + " | ".join(cells) + " |\n"
    return f"{BESIDE}{rows}\n" if rows else ""


def runs_of(folder, pattern):
    return [json.loads(path.read_text()) for path in sorted(folder.glob(pattern))]


def made(folder, machine, rest):
    versions, measured = folder / "versions", folder / "measured"
    others = versions.read_text().strip().replace("\n", ", ") if versions.exists() and versions.read_text().strip() else "nobody beside it"
    # The commit is that of the measurement, not of a later look at its files.
    when, commit = measured.read_text().strip().split(" ", 1) if measured.exists() else (page.today(), page.commit())
    return f"Measured {when} at commit {commit} on {machine}; {others}; {rest}\n\n"


def noted(folder, name, default):
    path = folder / name
    return path.read_text().split() if path.exists() else default


def tables(folder):
    """The part, and what of it has too few valid rounds."""
    rounds = int(noted(folder, "rounds", ["1"])[0])
    text, machine, found, thin, faults = "", None, {}, [], []
    for kind, title in TITLES.items():
        lines, found[kind] = "", {}
        for name in noted(folder, "gateways", GATEWAYS):
            runs = runs_of(folder, f"{kind}-{name}-*.json")
            machine = runs[-1]["machine"] if runs else machine
            faults += [f"{name}, {kind}: {fault}" for run in runs for fault in run.get("faults", [])]
            rows = gathered(runs)
            if not rows:
                thin.append(f"{name}, {kind}: not measured")
            for calls, (row, valid) in rows.items():
                lines += line(name, calls, row, f"{valid} of {rounds}")
                if valid < min(ENOUGH, rounds):
                    thin.append(f"{name}, {kind}, {calls} calls: {valid} of {rounds} rounds valid")
            found[kind][name] = {calls: row for calls, (row, _) in rows.items() if row}
        if lines:
            both = (found[kind].get(name, {}) for name in GATEWAYS)
            text += f"### {title}\n\n{HEAD}{lines}\n{beside(*both, kind != 'relay')}"
    if not text:
        raise SystemExit(f"nothing was measured in {folder}")
    verdicts = "".join(f"| {what} | {bar} | {value} | {bars.verdict(met)} |\n" for what, bar, value, met in bars.judged(found))
    text += f"### Bars\n\n| | bar | measured | met |\n|---|---|---|---|\n{verdicts}"
    failed = [*thin, *faults]
    text += "\nWhat failed:\n\n" + "".join(f"- {what}\n" for what in failed) if failed else ""
    return made(folder, machine, f"medians of {rounds} rounds, order alternated, without what was void.") + text, thin


def limit(folder, drawing):
    text, drawn, machine = "", {}, None
    for name in ("ringback", "ringback-that-refuses", "rtpengine"):
        for run in runs_of(folder, f"limit-{name}.json"):
            machine, drawn[name] = run["machine"], [row for row in run["rows"] if not row["void"]]
            runs = lambda row: "1" if row["void"] or is_valid(row) else f"1, effort {row['effort']}"
            text += HEAD + "".join(line(name, row["calls"], None if row["void"] else row, runs(row)) for row in run["rows"])
            ended, most = run["ended"], run["most_calls"]
            text += f"\n{name}: " + (f"no call suffers up to {most}" if most else "the end was not found")
            text += (f"; no more calls: {ended}" if ended else "") + ".\n\n"
            text += "".join(f"{name} failed: {fault}.\n\n" for fault in run.get("faults", []))
    # What refuses is the same gateway up to there.
    drawn = {name: rows for name, rows in drawn.items() if rows and name in GATEWAYS}
    if not text:
        raise SystemExit(f"no limit was measured in {folder}")
    if drawn:
        drawing.write_text(plot.over_calls(drawn))
        text += f"![Processor time and delay over calls]({drawing.name})\n"
    return made(folder, machine, "one run.") + text


def growth(name, unit, found):
    if found is None:
        return f"{name} was not judged: too few samples are valid"
    medians = found["medians"]
    verdict = "grows" if found["grows"] else "does not grow"
    return f"{name} {verdict}: {medians['first']:.1f} {unit} at first, {medians['last']:.1f} at last, where {medians['most']:.1f} may be"


def soak(folder, drawing):
    (run,) = runs_of(folder, "soak.json") or [None]
    if run is None or run["soak"] is None:
        raise SystemExit(f"no soak was measured in {folder}: {'; '.join((run or {}).get('faults', []))}")
    soak = run["soak"]
    samples = soak["samples"]
    valid = [sample for sample in samples if not sample["void"]]
    middle = medians(valid) if valid else {}
    drawing.write_text(plot.over_time(samples))
    most = f", 80 % of the {run['most_calls']} that were found to be the most" if run["most_calls"] else ""
    cells = [
        f"{soak['minutes']}",
        f"{soak['calls']}",
        f"{soak['begun']}",
        f"{soak['lost_calls']}",
        figure(soak["lost_packets_pct"], 4),
        figure(middle.get("cpu_ms_per_call_second"), 2),
        figure(middle.get("lateness_p99_ms"), 0),
        three(middle.get("delay_up_ms")),
        three(middle.get("delay_down_ms")),
        f"{len(valid)} of {len(samples)}",
        "yes" if soak["well"] else "**no**",
    ]
    head = (
        "| minutes | calls at once | in all | lost | packets lost, % | CPU-ms a call-second | lateness p99, ms | delay up, p50 / p95 / p99 ms "
        "| delay down | valid samples | well |\n|" + "---|" * 11 + "\n"
    )
    verdicts = f"{growth('Memory', 'MiB', soak['memory'])}; {growth('lateness p99', 'ms', soak['lateness'])}."
    text = f"{head}| {' | '.join(cells)} |\n\n{verdicts}\n\n![Memory, lateness and processor time over the soak]({drawing.name})\n"
    return made(folder, run["machine"], f"{soak['calls']} calls at once{most}; medians of the samples.") + text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", nargs=2, metavar=("FOLDER", "OUT"))
    parser.add_argument("--score", nargs=3, metavar=("RUN", "SPEECH", "RECORDINGS"))
    parser.add_argument("--whole", nargs=2, metavar=("RUN", "CALLS"))
    parser.add_argument("--part", nargs=3, metavar=("PART", "PAGE", "FOLDER"))
    asked = parser.parse_args()
    if asked.speech:
        join(*asked.speech)
    if asked.score:
        score(*asked.score)
    if asked.whole:
        rows = json.loads(pathlib.Path(asked.whole[0]).read_text())["rows"]
        sys.exit({row["calls"] for row in rows} != {int(calls) for calls in asked.whole[1].split(",")})
    if asked.part:
        part, where, folder = asked.part[0], pathlib.Path(asked.part[1]), pathlib.Path(asked.part[2])
        drawing, thin = (lambda name: where.with_name(f"{where.stem}{name}.svg")), []
        if part == "tables":
            text, thin = tables(folder)
        else:
            text = limit(folder, drawing("")) if part == "limit" else soak(folder, drawing("-soak"))
        page.write(where, part, text)
        if thin:
            sys.exit("too few rounds are valid:\n" + "\n".join(thin))


if __name__ == "__main__":
    main()
