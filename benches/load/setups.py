#!/usr/bin/env python3
"""Calls set up in a second: SIPp calls a registered SIPp through the gateway, which has one processor to itself.

    benches/load/setups.py [--rate 500] [--seconds 120] [--program target/release/ringback] [--json | --page docs/performance.md]

Each call is INVITE, 100, 180, 200, ACK, BYE, 200 on both sides, with a description and RTP ports but no media. Told: calls that
went well, the rate that was reached, the processor time of a call, set-up time, and the memory before, with the load, and when
all that a call leaves for a while (transactions of 32 s) is over. It fails if one call does, if the rate is less by 2 %, or if
memory grows (`growth`). With --page it writes its part of that page.
"""

import argparse
import csv
import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import page

ROOT = page.ROOT
SCENARIOS = ROOT / "tests/sipp/scenarios"
PLAN = """
[plan]
name = "setups"
default = "deny"
[numbering]
country = "44"
national = "0"
international = ["00", "+"]
short = ["2XX"]
[[in]]
name = "phone"
did = "250"
user = "desk"
"""
CONFIG = """
[http]
listen = "127.0.0.1:0"
[sip]
udp = ["127.0.0.1:{sip}"]
[media]
browser = "127.0.0.1:0"
rtp_address = "127.0.0.1"
rtp_ports = "40000-64999"
[auth]
open = true
[dialplan]
dir = "plans"
[limits]
calls = {calls}
[trunk.caller]
address = "127.0.0.1:{caller}"
sources = ["127.0.0.1"]
number_format = "as-dialled"
options = 0
[registrar]
realm = "setups"
# As many as there may be; at 500 a second a hundred stand at once.
calls_per_user = 1000
[registrar.users.desk]
ha1 = "{ha1}"
[log]
level = "warn"
"""
# SIPp knows no other hash, and a registrar that has only MD5 asks for only MD5.
PASSWORD = "correct-horse"
HA1 = hashlib.md5(f"desk:setups:{PASSWORD}".encode()).hexdigest()
PORTS = {"sip": 15060, "caller": 15061, "phone": 15062}
# What is kept of a call after its end: timers of 32 s (RFC 3261, 17.2.1), and some time to spare.
AFTERWARDS = 45
# Until so many seconds of load have passed what is kept becomes more; of what follows a third has so many samples at least.
WARM_UP = AFTERWARDS
LEAST = 3
# What the last third may be more than the first: 5 % and 4 MiB.
SHARE, SLACK_MIB = 0.05, 4
# The rate that is reached may be so much less than what was asked for.
RATE_SHARE = 0.98


def growth(samples):
    """Of (seconds, MiB) the medians of the first and last third after the warm-up, and the most that the last may be.

    None where the load was too short for a verdict.
    """
    after = [mib for second, mib in samples if second >= WARM_UP]
    third = len(after) // 3
    if third < LEAST:
        return None
    first, last = statistics.median(after[:third]), statistics.median(after[-third:])
    return {"first": first, "last": last, "most": first * (1 + SHARE) + SLACK_MIB}


def faults(found):
    """What is wrong; nothing where all is well."""
    if found["failed"] or found["good"] != found["calls"]:
        yield f"{found['calls'] - found['good']} of {found['calls']} calls did not go well"
    if found["per_second"] < RATE_SHARE * found["rate"]:
        yield f"{found['per_second']:.0f} calls a second were reached, and {found['rate']} were asked for"
    grown = found["growth"]
    if grown and grown["last"] > grown["most"]:
        yield f"memory grows: {grown['first']:.1f} MiB at first, {grown['last']:.1f} at last"


def scenario(name, folder, words):
    """A scenario of the SIPp tests with its parts and words put in."""
    text = (SCENARIOS / f"{name}.xml").read_text()
    for part in (SCENARIOS / "parts").iterdir():
        text = text.replace(f"@{part.stem}@", part.read_text().rstrip())
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    text = re.sub(r'<pause distribution="uniform" min="50" max="1000"/>', '<pause milliseconds="100"/>', text)
    path = folder / f"{name}.xml"
    path.write_text(text)
    return path


def sipp(folder, name, port, to, words, *more):
    """Starts SIPp on processor 1."""
    path = scenario(name, folder, {"MEDIA_IP": "127.0.0.1", "MEDIA_PORT": "9", **words})
    command = ["taskset", "-c", "1", "sipp", to, "-sf", path, "-i", "127.0.0.1", "-p", str(port), "-nostdin", "-buff_size", "4194304", *more]
    log = open(folder / f"{name}.log", "wb")
    return subprocess.Popen([str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "TERM": "dumb"})


class Gateway:
    """The running program."""

    def __init__(self, program, folder, calls):
        plans = folder / "plans"
        plans.mkdir()
        (plans / "plan.toml").write_text(PLAN)
        (folder / "ringback.toml").write_text(CONFIG.format(calls=calls, ha1=HA1, **PORTS))
        self.log = folder / "gateway.log"
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", program, "--config", folder / "ringback.toml"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.log, "wb")
        )
        for _ in range(300):
            listening = subprocess.run(["ss", "-Hlun", f"sport = :{PORTS['sip']}"], capture_output=True, text=True, check=True)
            if listening.stdout or self.process.poll() is not None:
                break
            time.sleep(0.1)
        if self.process.poll() is not None:
            raise SystemExit(f"the gateway does not start:\n{self.log.read_text()}")

    def memory(self):
        """Resident, MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    def processor(self):
        """Seconds so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def results(folder):
    """The last line of the caller's statistics."""
    (path,) = folder.glob("soak-caller_*_.csv")
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))[-1]


def measure(options, folder):
    gateway = Gateway(options.program, folder, 40 * options.rate)
    phone = None
    try:
        to = f"127.0.0.1:{PORTS['sip']}"
        registers = sipp(folder, "register", PORTS["phone"], to, {"USER": "desk", "PASSWORD": PASSWORD}, "-m", 1, "-timeout", 20)
        if registers.wait() != 0:
            raise SystemExit(f"the phone cannot register:\n{gateway.log.read_text()}")
        phone = sipp(folder, "soak-phone", PORTS["phone"], to, {})
        before, busy, begun = gateway.memory(), gateway.processor(), time.monotonic()
        calls = options.rate * options.seconds
        load = ("-m", calls, "-r", options.rate, "-l", 10 * options.rate, "-timeout", 4 * options.seconds, "-trace_stat", "-fd", 1)
        caller = sipp(folder, "soak-caller", PORTS["caller"], to, {"TO": "250", "FROM": "+15550100"}, *load)
        samples = [(0, before)]
        while caller.poll() is None:
            samples.append((time.monotonic() - begun, gateway.memory()))
            time.sleep(0.5)
        took, busy, after = time.monotonic() - begun, gateway.processor() - busy, gateway.memory()
        row = results(folder)
        good, bad = int(row["SuccessfulCall(C)"]), int(row["FailedCall(C)"])
        time.sleep(options.afterwards)
        most = max(mib for _, mib in samples)
        return {
            "rate": options.rate, "seconds": options.seconds, "calls": calls, "good": good, "failed": bad,
            "per_second": float(row["CallRate(C)"]), "growth": growth(samples), "cpu_ms_per_call": 1000 * busy / max(1, good),
            "processor": busy / took, "retransmissions": int(row["Retransmissions(C)"]), "call_length": row["CallLength(C)"],
            "mib": {"before": before, "most": most, "at_the_end": after, "afterwards": gateway.memory()},
        }
    finally:
        if phone:
            phone.terminate()
            phone.wait()
        gateway.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--afterwards", type=int, default=AFTERWARDS, help="seconds until what is kept of calls is gone")
    parser.add_argument("--program", default=str(ROOT / "target/release/ringback"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--page", help="the page whose part is written")
    options = parser.parse_args()
    subprocess.run([ROOT / "tests/support/install", "sip-tester"], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, pathlib.Path(folder))
    found["versions"] = versions(options.program)
    if options.json:
        print(json.dumps(found, indent=1))
    elif options.page:
        page.write(options.page, "setups", part(found))
    else:
        print(part(found))
    wrong = list(faults(found))
    for fault in wrong:
        print(f"FAILED {fault}", file=sys.stderr)
    return 1 if wrong else 0


def versions(program):
    """Of the gateway and of SIPp, which ends with an error when it tells its own."""
    said = [subprocess.run(command, capture_output=True, text=True).stdout for command in ([program, "--version"], ["sipp", "-v"])]
    ours, theirs = said[0].strip(), re.search(r"SIPp v\S+", said[1])
    return f"{ours}, {theirs.group(0).rstrip('.') if theirs else 'SIPp'}"


def part(found):
    """What the page says of it."""
    mib, grown, wrong = found["mib"], found["growth"], list(faults(found))
    if grown is None:
        flat = "not judged, the load was too short"
    else:
        flat = f"{grown['first']:.1f} MiB at first, {grown['last']:.1f} at last, where {grown['most']:.1f} may be"
    rows = [
        ("calls a second: reached, asked for", f"{found['per_second']:.0f}, {found['rate']}"),
        ("calls: well, failed", f"{found['good']} of {found['calls']}, {found['failed']}"),
        ("retransmissions of the caller", f"{found['retransmissions']}"),
        ("CPU-ms a call", f"{found['cpu_ms_per_call']:.2f}"),
        ("of one processor", f"{100 * found['processor']:.0f} %"),
        ("a call took, with 100 ms between answer and end", found["call_length"]),
        ("MiB before, at most, at the end, when all is forgotten", ", ".join(f"{mib[when]:.1f}" for when in ("before", "most", "at_the_end", "afterwards"))),
        ("memory, last third against first", flat),
        ("well", "**no**: " + "; ".join(wrong) if wrong else "yes"),
    ]
    head = f"Measured {page.today()} at commit {page.commit()} on {page.machine()}; {found['versions']}; {found['seconds']} s.\n\n"
    return head + "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


if __name__ == "__main__":
    sys.exit(main())
