"""The tables of docs/performance.md, of what benches/load/run has measured.

    tables.py --speech FOLDER OUT.wav           joins the 8 kHz clips of tests/quality into one file
    tables.py --page PAGE FOLDER --commit ID    writes the tables between the page's marks, and a plot beside the page
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import wave

import plot

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
KINDS = {
    "narrow": "Opus <-> PCMU, the browser sends narrowband as it is asked",
    "full-band": "Opus <-> PCMU, the browser sends full band all the same",
    "relay": "PCMU <-> PCMU, relayed",
}


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


def medians(rows):
    """One row of the medians of several rounds' rows."""
    first = rows[0]
    if isinstance(first, dict):
        return {key: medians([row[key] for row in rows if row is not None]) for key in first}
    numbers = [row for row in rows if isinstance(row, (int, float))]
    return statistics.median(numbers) if numbers else None


def figure(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def delay(way):
    found = way["delay_ms"]
    return "-" if found is None else f"{found['p50']:.0f} / {found['p95']:.0f} / {found['p99']:.0f}"


def lost(way):
    return 100.0 * way["lost"] / max(1, way["packets"] + way["lost"])


HEAD = (
    "| | calls | CPU-ms a call-second | of the driver | MiB a call | delay up, p50 / p95 / p99 ms | delay down | lost, % "
    "| lateness p99, ms | offer to answer p50 / p95, ms |\n|---|---|---|---|---|---|---|---|---|---|\n"
)


def line(name, row):
    answer = row["set_up"]["answer_ms"]
    answer = "-" if answer is None else f"{answer['p50']:.1f} / {answer['p95']:.1f}"
    cells = [
        name,
        f"{row['calls']:.0f}",
        figure(row["cpu_ms_per_call_second"], 2),
        figure(row["driver_cpu_ms_per_call_second"]),
        figure(row["mib_per_call"], 2),
        delay(row["up"]),
        delay(row["down"]),
        figure(max(lost(row["up"]), lost(row["down"])), 2),
        figure(row["lateness_p99_ms"], 0),
        answer,
    ]
    return "| " + " | ".join(cells) + " |\n"


def beside(found):
    """How many times as much processor time the other gateway needs, at each number of calls."""
    ours, theirs = found.get("ringback", []), found.get("rtpengine", [])
    times = [
        f"{other['cpu_ms_per_call_second'] / our['cpu_ms_per_call_second']:.1f} at {our['calls']:.0f} calls"
        for our, other in zip(ours, theirs)
        if our["cpu_ms_per_call_second"] and other["cpu_ms_per_call_second"]
    ]
    return f"Processor time of rtpengine, in ours: {', '.join(times)}.\n\n" if times else ""


def tables(folder, commit, drawing):
    folder, text, machine, rounds = pathlib.Path(folder), "", None, set()
    for kind, title in KINDS.items():
        found = {}
        for name in ("ringback", "rtpengine"):
            runs = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{kind}-{name}-*.json"))]
            if runs:
                rounds.add(len(runs))
                machine = runs[-1]["machine"]
                found[name] = [medians(list(same)) for same in zip(*(run["rows"] for run in runs))]
        lines = "".join(line(name, row) for name, rows in found.items() for row in rows)
        if lines:
            text += f"### {title}\n\n{HEAD}{lines}\n{beside(found)}"
        if kind == "narrow" and found:
            plot.plot(found, drawing)
            text += f"![Processor time and delay over calls]({drawing.name})\n\n"
    limit = folder / "limit-ringback.json"
    if limit.exists():
        run = json.loads(limit.read_text())
        machine = run["machine"]
        text += "### Until it is too much\n\n" + HEAD + "".join(line("ringback", row) for row in run["rows"])
        most = run["most_calls"]
        text += f"\nNo call suffers up to {most}.\n\n" if most else "\nThe end was not found.\n\n"
    if not text:
        raise SystemExit(f"nothing was measured in {folder}")
    versions = folder / "versions"
    others = versions.read_text().strip().replace("\n", ", ") if versions.exists() else "nobody beside it"
    made = subprocess.run(["date", "-u", "+%F"], capture_output=True, text=True, check=True).stdout.strip()
    many = " or ".join(str(number) for number in sorted(rounds)) or "1"
    return f"Measured {made} at commit {commit} on {machine}; {others}; medians of {many} rounds.\n\n{text}"


def write(page, text):
    page = pathlib.Path(page)
    old = page.read_text()
    marked = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.S)
    if not marked.search(old):
        raise SystemExit(f"{page} has no place for the tables: {BEGIN} and {END}")
    page.write_text(marked.sub(lambda _: f"{BEGIN}\n{text}{END}", old))
    print(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", nargs=2, metavar=("FOLDER", "OUT"))
    parser.add_argument("--page", nargs=2, metavar=("PAGE", "FOLDER"))
    parser.add_argument("--commit", default="unknown")
    asked = parser.parse_args()
    if asked.speech:
        join(*asked.speech)
    if asked.page:
        page, folder = asked.page
        write(page, tables(folder, asked.commit, pathlib.Path(page).with_suffix(".svg")))


if __name__ == "__main__":
    main()
