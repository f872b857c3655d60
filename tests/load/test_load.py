"""The rules of benches/load: `python3 -m unittest discover -s tests/load -p 'test_*.py'`."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benches/load"))

import bars
import page
import plot
import setups
import tables


def way(p50=40.0, lost=0):
    return {"packets": 1000, "lost": lost, "delay_ms": {"p50": p50, "p95": p50, "p99": p50 + 5}}


def row(calls=20, cpu=4.0, mib=0.2, pesq=(4.1, 4.2), **more):
    """A row that is well, as the driver writes it."""
    scores = dict(zip(("up", "down"), pesq)) if pesq else None
    return {
        "calls": calls, "void": None, "cpu_ms_per_call_second": cpu, "driver_cpu_ms_per_call_second": 5.0, "mib_per_call": mib,
        "up": way(), "down": way(), "lateness_p99_ms": 2.0, "set_up": {"answer_ms": {"p50": 0.8, "p95": 1.0, "p99": 2.0}}, "pesq": scores,
    } | more  # fmt: skip


def run(*rows, **more):
    return {"machine": "2 x a processor", "rows": list(rows), "ended": None, "most_calls": None} | more


class Medians(unittest.TestCase):
    def test_a_void_row_and_one_of_less_effort_have_no_part_in_them(self):
        runs = [run(row(cpu=cpu)) for cpu in (4.0, 5.0, 6.0)] + [run(row(cpu=90.0, void="machine-taken"))]
        runs.append(run(row(cpu=1.0, effort=1)))
        ((median, valid),) = tables.gathered(runs).values()
        self.assertEqual((median["cpu_ms_per_call_second"], median["up"]["delay_ms"]["p99"], valid), (5.0, 45.0, 3))

    def test_rows_are_those_of_a_number_of_calls_whatever_their_order(self):
        found = tables.gathered([run(row(100), row(20)), run(row(20, void="driver-late"), row(100))])
        self.assertEqual([(calls, valid) for calls, (_, valid) in found.items()], [(20, 1), (100, 2)])

    def test_nothing_valid_is_no_row(self):
        self.assertEqual(tables.gathered([run(row(void="driver-late"))])[20], (None, 0))


class Bars(unittest.TestCase):
    def test_cheaper_counts_only_at_equal_or_better_pesq(self):
        ours = row(cpu=4.0, pesq=(4.10, 4.20))
        for cpu, pesq, met in (
            (10.0, (4.10, 4.20), True), (10.0, (4.104, 4.20), True), (10.0, (4.11, 4.20), False), (10.0, (4.00, 4.30), False),
            (9.9, (4.00, 4.00), False), (10.0, None, None), (9.9, None, False), (10.0, (None, 4.2), None),
        ):  # fmt: skip
            self.assertEqual(bars.cheaper(ours, row(cpu=cpu, pesq=pesq)), met, (cpu, pesq))

    def test_each_bar_is_met_or_not_or_not_measured(self):
        found = {"narrow": {"ringback": {20: row(), 100: row(100, cpu=4.2, mib=0.3)}, "rtpengine": {20: row(cpu=11.0)}}}
        met = {what: met for what, _, _, met in bars.judged(found)}
        self.assertEqual(met["CPU-ms a call-second, narrow, 20 calls"], True)
        self.assertEqual(met["CPU-ms a call-second, narrow, 100 calls"], False)
        self.assertEqual(met["CPU-ms a call-second, relay, 20 calls"], None)
        self.assertEqual((met["MiB a call, narrow"], met["MiB a call, relay"]), (False, None))
        cheaper = "times cheaper than rtpengine at equal or better PESQ, narrow, {} calls"
        self.assertEqual((met[cheaper.format(20)], met[cheaper.format(100)]), (True, None))
        self.assertEqual(met["ms from offer to answer, p50, narrow"], True)
        self.assertEqual([bars.verdict(word) for word in (True, False, None)], ["yes", "**no**", "not measured"])


class Pages(unittest.TestCase):
    def test_a_part_is_written_between_its_own_marks(self):
        old = "a\n<!-- one: begin -->\nold\n<!-- one: end -->\nb\n<!-- two: begin -->\nkept\n<!-- two: end -->\n"
        new = page.put(old, "one", "new \\1\n")
        self.assertEqual(new, old.replace("old", "new \\1"))
        with self.assertRaises(SystemExit):
            page.put(old, "three", "new")

    def test_the_page_has_a_place_for_each(self):
        text = (page.ROOT / "docs/performance.md").read_text()
        for part in ("tables", "limit", "soak", "setups"):
            page.put(text, part, "new")

    def test_the_tables_have_both_the_comparison_and_the_bars(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "measured").write_text("2026-01-02 abc with changes\n")
            (folder / "versions").write_text("ringback 1\nrtpengine-daemon 26\n")
            for name, cpu in (("ringback", 4.0), ("rtpengine", 11.0)):
                (folder / f"narrow-{name}-1.json").write_text(json.dumps(run(row(100, cpu=cpu), row(20, cpu=cpu, void="driver-late"))))
            text, thin = tables.tables(folder)
        self.assertIn("Measured 2026-01-02 at commit abc with changes on 2 x a processor; ringback 1, rtpengine-daemon 26; medians of 1", text)
        self.assertIn("| 100 | 4.00 | 11.00 | 2.8 | 0.20 | 0.20 | 1.0 | 4.10 / 4.10 | 4.20 / 4.20 | yes |", text)
        self.assertIn("| ringback | 20 | void |", text)
        self.assertIn("| CPU-ms a call-second, narrow, 20 calls | at most 5 | - | not measured |", text)
        columns = {line.count("|") for line in text.splitlines() if line.startswith(("| ringback", "| rtpengine"))}
        self.assertEqual(columns, {tables.HEAD.splitlines()[0].count("|")})

    def test_what_was_not_measured_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "rounds").write_text("5\n")
            (folder / "gateways").write_text("ringback\nrtpengine\n")
            for number in range(1, 6):
                rows = [row(100, void="machine-taken" if number > 2 else None), row(20)]
                (folder / f"narrow-ringback-{number}.json").write_text(json.dumps(run(*rows, faults=["call 7: it has ended"] if number == 4 else [])))
            text, thin = tables.tables(folder)
        self.assertEqual(thin[:2], ["ringback, narrow, 100 calls: 2 of 5 rounds valid", "rtpengine, narrow: not measured"])
        self.assertIn("- ringback, narrow: call 7: it has ended\n", text)
        self.assertIn("| 2 of 5 |", text)

    def test_a_run_that_ended_early_is_not_whole(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(json.dumps(run(row(100))))
            file.flush()
            for calls, code in (("100,20", 1), ("100", 0)):
                words = [sys.executable, str(page.ROOT / "benches/load/tables.py"), "--whole", file.name, calls]
                self.assertEqual(subprocess.run(words).returncode, code, calls)

    def test_the_limit_and_the_soak_are_drawn(self):
        sample = {
            "minute": 1.0, "mib": 30.0, "lateness_p99_ms": 2.0, "cpu_ms_per_call_second": 4.0, "void": None,
            "delay_up_ms": way()["delay_ms"], "delay_down_ms": None,
        }  # fmt: skip
        soak = {
            "calls": 8, "minutes": 2, "begun": 50, "lost_calls": 0, "lost_packets_pct": 0.0, "samples": [sample, sample | {"void": "machine-taken"}],
            "memory": {"medians": {"first": 30.0, "last": 31.0, "most": 35.5}, "grows": False}, "lateness": None, "well": True,
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "limit-ringback.json").write_text(json.dumps(run(row(50), row(75, void="driver-late"), ended="late", most_calls=50)))
            (folder / "limit-ringback-that-refuses.json").write_text(json.dumps(run(row(50, effort=1), ended="full", faults=["a call"])))
            (folder / "soak.json").write_text(json.dumps(run(soak=soak)))
            limit = tables.limit(folder, folder / "limit.svg")
            soaked = tables.soak(folder, folder / "soak.svg")
            self.assertTrue(all((folder / name).read_text().count("<circle") for name in ("limit.svg", "soak.svg")))
        self.assertIn("ringback: no call suffers up to 50; no more calls: late.", limit)
        self.assertIn("ringback-that-refuses: the end was not found; no more calls: full.\n\nringback-that-refuses failed: a call.", limit)
        self.assertIn("| 1, effort 1 |", limit)
        self.assertIn("Memory does not grow: 30.0 MiB at first, 31.0 at last, where 35.5 may be; lateness p99 was not judged", soaked)
        self.assertIn("| 1 of 2 | yes |", soaked)

    def test_a_plot_of_nothing_but_zeros_is_one(self):
        self.assertEqual(plot.steps(0)[-1] > 0, True)


class SetUps(unittest.TestCase):
    def samples(self, mib):
        return [(second, mib(second)) for second in range(120)]

    def test_what_is_kept_for_a_while_is_no_growth(self):
        flat = setups.growth(self.samples(lambda second: min(second, 35)))
        self.assertEqual((flat["first"], flat["last"]), (35, 35))
        grows = setups.growth(self.samples(lambda second: second))
        self.assertGreater(grows["last"], grows["most"])
        self.assertIsNone(setups.growth(self.samples(float)[:50]))

    def test_a_lost_call_and_a_rate_not_reached_and_growth_are_faults(self):
        well = {"rate": 500, "calls": 10, "good": 10, "failed": 0, "per_second": 495.0, "growth": {"first": 30, "last": 31, "most": 35}}
        self.assertEqual(list(setups.faults(well)), [])
        self.assertEqual(list(setups.faults(well | {"growth": None})), [])
        for wrong in ({"good": 9}, {"failed": 1}, {"per_second": 489.0}, {"growth": {"first": 30, "last": 36, "most": 35}}):
            self.assertEqual(len(list(setups.faults(well | wrong))), 1, wrong)


if __name__ == "__main__":
    unittest.main()
