#!/usr/bin/env python3
"""Calls set up in a second: SIPp calls a registered SIPp through the gateway, which has one processor to itself.

    benches/load/setups.py [--rate 500] [--seconds 60] [--program target/release/ringback] [--json]

Each call is INVITE, 100, 180, 200, ACK, BYE, 200 on both sides, with a description and RTP ports but no media. It fails if
one call does. Told: calls that went well, the processor time of one, set-up time, and the memory before, with the load, and
when all that a call leaves for a while (transactions of 32 s) is over.
"""

import argparse
import csv
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
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
calls_per_user = {calls}
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
        most = before
        while caller.poll() is None:
            most = max(most, gateway.memory())
            time.sleep(0.5)
        took, busy, after = time.monotonic() - begun, gateway.processor() - busy, gateway.memory()
        row = results(folder)
        good, bad = int(row["SuccessfulCall(C)"]), int(row["FailedCall(C)"])
        time.sleep(AFTERWARDS)
        return {
            "calls": calls, "good": good, "failed": bad, "per_second": good / took, "cpu_ms_per_call": 1000 * busy / max(1, good),
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
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--program", default=str(ROOT / "target/release/ringback"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, pathlib.Path(folder))
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        mib = found["mib"]
        print(f"{found['good']} of {found['calls']} calls went well, {found['failed']} failed, {found['per_second']:.0f} a second; {found['retransmissions']} retransmissions")
        print(f"{found['cpu_ms_per_call']:.2f} CPU-ms a call, {100 * found['processor']:.0f} % of one processor; a call took {found['call_length']}")
        print(f"MiB: {mib['before']:.1f} before, {mib['most']:.1f} at most, {mib['at_the_end']:.1f} at the end, {mib['afterwards']:.1f} after {AFTERWARDS} s")
    return 0 if found["good"] == found["calls"] and found["failed"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
