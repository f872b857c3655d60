"""Compares what was heard with what was said: PESQ (P.862, narrowband, MOS-LQO) clip by clip, and the delay.

    score.py SPEECH RECORDINGS [--json FILE] [--judge MARGIN [--full]]

RECORDINGS is a folder with recordings.json and the sound files that it names. With --judge each row is held against its
bars, PESQ less the margin, and the last line is "N passed, N failed". With --full every row that has a bar must be there, and
no more than a quarter of the real calls may be spoilt by the machine; without it not all of them may, unless the machine stood
still under our own ends as well in each: then it says so, and virtual time alone is judged.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import pathlib
import statistics
import sys
import wave

import numpy as np
import pesq

RATE = 8_000
# What comes later than the clip's end belongs to it still, by as much as a receiver may hold back.
LATE_MS = 400
# The stretches in which the delay is measured, and the longest that is looked for.
STRETCH = RATE // 2
LONGEST_MS = 600

# PESQ at least, as the project set out to reach: of a browser at 32 kbit/s with FEC, which the *fec* rows are (Firefox, and
# whatever has no RED), and those with RED beside it all the more.
BARS = {
    "up-0": 4.05, "up-1": 4.00, "up-3": 3.92, "up-5": 3.85, "up-10": 3.60, "up-burst-5": 3.45, "up-burst-10": 3.05,
    "up-fec-1": 4.00, "up-fec-3": 3.92, "up-fec-5": 3.85, "up-fec-10": 3.60, "up-fec-burst-5": 3.45, "up-fec-burst-10": 3.05,
    "down-0": 4.18, "down-1": 4.10, "down-3": 4.03, "down-5": 3.95, "down-10": 3.70,
    "down-trunk-1": 3.80, "down-trunk-3": 3.35, "down-trunk-5": 3.04, "down-trunk-10": 2.45,
    # At most 0.1 less than without drift.
    "up-drift+200": 3.95, "up-drift-200": 3.95, "down-drift+200": 4.08, "down-drift-200": 4.08,
}  # fmt: skip
# Where nobody set a bar: what was reached, less a little, so that it is not lost again.
FLOORS = {
    "up-jitter-10": 3.95, "down-jitter-10": 3.80, "up-stalls": 3.80, "down-stalls": 3.40, "up-reorder": 4.00,
    "down-reorder": 4.10, "up-duplicate": 4.00, "down-duplicate": 4.10, "up-ptime-mixed": 3.80, "down-ptime-mixed": 4.10,
    "up-chromium-0": 4.10,
}  # fmt: skip
# The delay that the gateway adds to a browser's call without loss, median and 99th percentile in ms, in virtual time: the
# project's bar for calls as browsers make them. Where a browser sends FEC while nothing is lost, as in up-0, one packet waits
# for the next: what that comes to, a little more.
BAR_MS = (25, 45)
DELAYS = {"up-chromium-0": BAR_MS, "down-chromium-0": BAR_MS, "down-0": BAR_MS, "up-0": (35, 45)}
# A machine that holds up more of a call's packets than this says little about the gateway (live.rs): such a row is made
# again, and then held to what no clock can change: its timestamps, and that it is speech at all. A real call's delay is shown
# and not judged: packets that the machine held up by a few milliseconds make playout hold a frame more, as they should.
SPOILT, SPOILT_MS = 0.01, 40
LEAST_SPEECH = 1.5
# More of the real calls than this may not be spoilt in the full run: it would be none.
MOST_SPOILT = 0.25
# A real call meets other losses each time. Between seeds of the bench the means over so many clips have standard deviations of
# 0.12 (10 % at random) and 0.19 (10 % in bursts); below their bars by two and a half of that is no accident any more. The mean
# of more clips is steadier by the root of their number.
SPREAD = {"-5": 0.2, "-10": 0.3, "-burst-5": 0.3, "-burst-10": 0.48}
SPREAD_CLIPS = 5


def reference(speech, clip):
    return np.frombuffer((speech / f"clip-{clip:02}.8000.raw").read_bytes(), "<i2")


def heard(path):
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2), path
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def delays(said, sound):
    """The delay in milliseconds of each half second that has speech in it: where the waveform fits best."""
    found = []
    for start in range(0, len(said) - STRETCH + 1, STRETCH):
        piece = said[start : start + STRETCH].astype(float)
        place = sound[start : start + STRETCH + LONGEST_MS * 8].astype(float)
        power = np.sqrt(np.mean(piece**2))
        if power < 200 or len(place) <= STRETCH:
            continue
        size = 1 << int(len(place) + STRETCH).bit_length()
        likeness = np.fft.irfft(np.fft.rfft(place, size) * np.conj(np.fft.rfft(piece, size)), size)
        likeness = likeness[: len(place) - STRETCH]
        energy = np.convolve(place**2, np.ones(STRETCH), "valid")[: len(likeness)]
        likeness = likeness / np.sqrt(np.maximum(energy, 1) * np.sum(piece**2))
        best = int(np.argmax(likeness))
        if likeness[best] > 0.6:
            found.append(best / 8)
    return found


def measured(job):
    speech, folder, entry = job
    sound = heard(folder / entry["file"])
    scores, lags = [], []
    # Those who say other clips than the first ones tell which.
    for clip, start_ms in zip(entry.get("clips") or itertools.count(), entry["starts_ms"]):
        said = reference(speech, clip)
        place = sound[start_ms * 8 : (start_ms + entry["clip_ms"] + LATE_MS) * 8]
        lags += delays(said, np.concatenate([place, np.zeros(LONGEST_MS * 8, np.int16)]))
        # Of silence there is none.
        try:
            scores.append(pesq.pesq(RATE, said, place, "nb") if np.any(place) else 1.0)
        except pesq.NoUtterancesError:
            scores.append(1.0)
    lags = [lag - entry["path_ms"] for lag in lags]
    middle, high = (float(np.percentile(lags, share)) if lags else None for share in (50, 99))
    return entry | {
        "pesq": statistics.fmean(scores),
        "worst": min(scores),
        "scores": [round(score, 3) for score in scores],
        "delay_p50": middle,
        "delay_p99": high,
    }


def scored(speech, folder):
    entries = json.loads((folder / "recordings.json").read_text())
    with multiprocessing.Pool(os.cpu_count()) as pool:
        return pool.map(measured, [(speech, folder, entry) for entry in entries], chunksize=1)


def number(value, form):
    return format(value, form) if value is not None else "-"


def table(results):
    ideal = {result["row"].removeprefix("ideal-"): result["pesq"] for result in results if result["row"].startswith("ideal-")}
    lines = [
        f"{'row':22} {'PESQ':>6} {'bar':>5} {'ideal':>6} {'worst':>6} {'delay p50':>9} {'p99':>6} {'lost':>6} {'conc. ms':>8}"
        f" {'ts err':>6} {'held up':>7} {'ms':>4}  in 10 s"
    ]
    for result in results:
        row = result["row"]
        if row.startswith("ideal-"):
            continue
        bar = BARS.get(row, FLOORS.get(row))
        best = ideal.get(row.removeprefix("up-")) if row.startswith("up-") else None
        mark = " " if bar is None or result["pesq"] >= bar else "<"
        lines.append(
            f"{row:22} {result['pesq']:6.3f}{mark}{number(bar, '5.2f'):>5} {number(best, '6.3f'):>6} {result['worst']:6.2f}"
            f" {number(result['delay_p50'], '9.1f'):>9} {number(result['delay_p99'], '6.1f'):>6}"
            f" {100 * result['lost'] / max(result['packets'], 1):5.1f}% {number(result.get('concealed_ms'), '8'):>8}"
            f" {result['timestamps_wrong']:6} {number(result.get('held_up'), '7.2%'):>7} {number(result.get('held_up_ms'), '4.0f'):>4}  {result['packets_in_10_s']}"
        )
    return "\n".join(lines)


def is_live(result):
    return "held_up" in result


def is_spoilt(result):
    return is_live(result) and (result["held_up"] > SPOILT or result["held_up_ms"] > SPOILT_MS)


def stood_still(result):
    """Whether the machine itself did: our own ends could not send either, who do nothing else."""
    return is_spoilt(result) and result.get("stood_ms", 0) > SPOILT_MS


def spread(kind, clips):
    """How far a real call of this kind may be below its bar by accident."""
    return SPREAD.get(kind, 0) * (SPREAD_CLIPS / clips) ** 0.5


def margin_of(result, margin):
    """What a row may be below its bar."""
    kind = result["row"].removeprefix("up").removeprefix("down").removeprefix("-trunk").removeprefix("-fec")
    return max(margin, spread(kind, len(result["scores"]))) if is_live(result) else margin


def bar_less_margin(result, margin):
    """The PESQ below which a row is at fault; none where there is no bar."""
    bar = BARS.get(result["row"], FLOORS.get(result["row"]))
    return None if bar is None else bar - margin_of(result, margin)


def faults(result, margin):
    """What is wrong with a row; nothing when it is well."""
    least_pesq = LEAST_SPEECH if is_spoilt(result) else bar_less_margin(result, margin)
    if stood_still(result):
        least_pesq = None
    if least_pesq is not None and result["pesq"] < least_pesq:
        yield f"PESQ {result['pesq']:.3f}, at least {least_pesq:.2f} expected"
    # Who has stood still goes on where the others are.
    if result["timestamps_wrong"] and not stood_still(result):
        yield f"{result['timestamps_wrong']} timestamps that do not go with their numbers"
    if is_spoilt(result):
        return
    # The packets of a real call are counted by a clock that may look late.
    least, most = result["packets_in_10_s"]
    slack = 5 if is_live(result) else 1
    if least < 500 - slack or most > 500 + slack:
        yield f"{least} to {most} packets in 10 s, 500 expected"
    if is_live(result):
        return
    for name, limit in zip(("delay_p50", "delay_p99"), DELAYS.get(result["row"], ())):
        if result[name] is None or result[name] > limit:
            yield f"{name} of {number(result[name], '.1f')} ms, at most {limit} expected"


def gaps(rows, full):
    """What keeps the rows from being a measurement at all."""
    # One call makes a row up and a row down.
    call = lambda result: result["row"].split("-", 1)[1]
    calls, spoilt = {call(result) for result in rows}, {call(result) for result in rows if is_spoilt(result)}
    if not rows:
        yield "no row was made"
    elif not full and spoilt == calls and all(map(stood_still, rows)):
        print("NOT JUDGED: the machine stood still in each real call; what is said of them is said in virtual time alone")
    elif len(spoilt) > MOST_SPOILT * len(calls) if full else spoilt == calls:
        yield f"the machine spoilt {len(spoilt)} of {len(calls)} real calls: too many for a verdict"
    if full:
        missing = {*BARS, *FLOORS} - {result["row"] for result in rows}
        yield from (f"no row {name}, which has a bar" for name in sorted(missing))


def judge(results, margin, full=False):
    """Says what is wrong and the sum; whether all is well."""
    rows = [result for result in results if not result["row"].startswith("ideal-")]
    for result in filter(is_spoilt, rows):
        late = f"{result['held_up']:.1%} of the packets held up, one for {result['held_up_ms']:.0f} ms"
        held = "nothing" if stood_still(result) else "its timestamps and to being speech"
        print(f"busy: {result['row']} is held to {held}, as the machine spoilt it ({late})")
    failed, spoilt_well = 0, 0
    for result in rows:
        found = list(faults(result, margin))
        failed += bool(found)
        spoilt_well += is_spoilt(result) and not found
        for fault in found:
            print(f"FAILED {result['row']}: {fault}")
    # What could not be judged in full is no row that has passed.
    passed = len(rows) - failed - spoilt_well
    for gap in gaps(rows, full):
        failed += 1
        print(f"FAILED {gap}")
    print(f"{passed} passed, {failed} failed")
    return failed == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("speech", type=pathlib.Path)
    parser.add_argument("recordings", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--judge", type=float, metavar="MARGIN")
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    results = scored(arguments.speech, arguments.recordings)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    print(table(results))
    if arguments.judge is not None and not judge(results, arguments.judge, arguments.full):
        sys.exit(1)


if __name__ == "__main__":
    main()
