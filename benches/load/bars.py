"""What the project set out to reach, and whether a measurement does."""

KINDS = ("narrow", "full-band", "relay")
# CPU-ms a call-second at most, by the number of calls.
CPU = {"narrow": {20: 5, 100: 4}, "full-band": {20: 6, 100: 5}, "relay": {20: 2.2, 100: 1.4}}
# MiB a call at most.
MEMORY = {"narrow": 0.25, "full-band": 0.25, "relay": 0.2}
# Times less processor time than rtpengine in the same run, where sound is transcoded, and nothing worse to hear.
CHEAPER = 2.5
# Milliseconds from a browser's offer to our answer at most, at the median.
ANSWER_MS = 1
YES, NO, NONE = "yes", "**no**", "not measured"


def verdict(met):
    return NONE if met is None else YES if met else NO


def ratio(theirs, ours):
    return theirs / ours if theirs is not None and ours else None


def sounds(ours, theirs):
    """Whether ours sounds equal or better both ways, to a hundredth; None where either was not heard."""
    ours, theirs = ours.get("pesq") or {}, theirs.get("pesq") or {}
    pairs = [(ours.get(way), theirs.get(way)) for way in ("up", "down")]
    if any(score is None for pair in pairs for score in pair):
        return None
    return all(round(our, 2) >= round(their, 2) for our, their in pairs)


def cheaper(ours, theirs):
    """The bar of one row: so many times cheaper, at equal or better PESQ."""
    times, sound = ratio(theirs["cpu_ms_per_call_second"], ours["cpu_ms_per_call_second"]), sounds(ours, theirs)
    # One half that fails is enough; to be met it takes both.
    if sound is False or (times is not None and times < CHEAPER):
        return False
    return None if times is None or sound is None else True


def at_most(value, bar):
    return None if value is None else round(value, 2) <= bar


def judged(found):
    """The bars, of medians `found[kind][gateway] = {calls: row}`: what, the bar, what was measured, whether it is met."""
    row = lambda kind, calls, gateway="ringback": found.get(kind, {}).get(gateway, {}).get(calls)
    number = lambda value: "-" if value is None else f"{value:.2f}"
    for kind in KINDS:
        for calls, bar in CPU[kind].items():
            cpu = (row(kind, calls) or {}).get("cpu_ms_per_call_second")
            yield f"CPU-ms a call-second, {kind}, {calls} calls", f"at most {bar:g}", number(cpu), at_most(cpu, bar)
    for kind in KINDS:
        mib = [value for other in found.get(kind, {}).get("ringback", {}).values() if (value := other["mib_per_call"]) is not None]
        most = max(mib, default=None)
        yield f"MiB a call, {kind}", f"at most {MEMORY[kind]:g}", number(most), at_most(most, MEMORY[kind])
    for kind in ("narrow", "full-band"):
        for calls in CPU[kind]:
            ours, theirs = row(kind, calls), row(kind, calls, "rtpengine")
            met, times = None, None
            if ours and theirs:
                met, times = cheaper(ours, theirs), ratio(theirs["cpu_ms_per_call_second"], ours["cpu_ms_per_call_second"])
            what = f"times cheaper than rtpengine at equal or better PESQ, {kind}, {calls} calls"
            sound = {True: ", PESQ equal or better", False: ", PESQ worse", None: ""}[sounds(ours, theirs) if ours and theirs else None]
            yield what, f"at least {CHEAPER:g}", number(times) + sound, met
    answers = [answer["p50"] for other in found.get("narrow", {}).get("ringback", {}).values() if (answer := other["set_up"]["answer_ms"])]
    answer = max(answers, default=None)
    yield "ms from offer to answer, p50, narrow", f"at most {ANSWER_MS}", number(answer), at_most(answer, ANSWER_MS)
