"""The rules by which rows are judged (score.py): `python -m unittest discover -s tests/quality -p 'test_*.py'`."""

import contextlib
import io
import unittest

import score


def row(name, pesq=4.2, clips=5, held_up_ms=None, **more):
    """A row that is well; of a real call where it is said for how long a packet was held up."""
    result = {
        "row": name, "pesq": pesq, "scores": [pesq] * clips, "timestamps_wrong": 0, "packets_in_10_s": [500, 500],
        "delay_p50": 20.0, "delay_p99": 20.0,
    }  # fmt: skip
    if held_up_ms is not None:
        result |= {"held_up": 0.0, "held_up_ms": held_up_ms}
    return result | more


def judged(rows, margin=0.15, full=False):
    """Whether all is well, and the last line."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        well = score.judge(rows, margin, full)
    return well, said.getvalue().splitlines()[-1]


def everything(spoilt):
    """All rows that have a bar, as real calls, of which so many are spoilt."""
    names = list({**score.BARS, **score.FLOORS})
    calls = sorted({name.split("-", 1)[1] for name in names})[:spoilt]
    return [row(name, held_up_ms=90 if name.split("-", 1)[1] in calls else 5) for name in names]


class Judgement(unittest.TestCase):
    def test_fec_rows_are_held_to_the_bars_of_the_rows_with_red(self):
        for kind in ("1", "3", "5", "10", "burst-5", "burst-10"):
            self.assertEqual(score.BARS["up-fec-" + kind], score.BARS["up-" + kind])
        self.assertEqual(judged([row("up-fec-burst-5", 3.42)], 0.02), (False, "0 passed, 1 failed"))
        self.assertEqual(judged([row("up-fec-burst-5", 3.44)], 0.02), (True, "1 passed, 0 failed"))

    def test_of_more_clips_less_is_taken_off(self):
        for clips, least in ((5, 3.45 - 0.3), (15, 3.45 - 0.173)):
            for over, well in ((0.01, True), (-0.01, False)):
                self.assertEqual(judged([row("up-fec-burst-5", least + over, clips, held_up_ms=5)])[0], well, clips)
        # Never less than the margin of all real calls.
        self.assertEqual(score.margin_of(row("up-5", clips=1000, held_up_ms=5), 0.15), 0.15)

    def test_the_delay_has_its_bar_in_virtual_time(self):
        for name, p50, p99, well in (
            ("up-chromium-0", 25, 45, True), ("up-chromium-0", 26, 45, False), ("down-0", 25, 46, False),
            ("up-0", 33, 33, True), ("up-0", 36, 36, False), ("up-1", 60, 60, True),
        ):  # fmt: skip
            self.assertEqual(judged([row(name, delay_p50=p50, delay_p99=p99)])[0], well, (name, p50, p99))
        self.assertTrue(judged([row("up-0", delay_p50=60, delay_p99=60, held_up_ms=5)])[0], "a real call's is shown alone")

    def test_a_spoilt_call_is_held_to_what_no_clock_changes(self):
        spoilt = lambda **more: [row("up-0", held_up_ms=5), row("up-1", **({"pesq": 2.0, "held_up_ms": 90} | more))]
        self.assertEqual(judged(spoilt(packets_in_10_s=[450, 510])), (True, "1 passed, 0 failed"))
        self.assertEqual(judged(spoilt(timestamps_wrong=1)), (False, "1 passed, 1 failed"))
        self.assertEqual(judged(spoilt(pesq=1.2)), (False, "1 passed, 1 failed"))

    def test_a_machine_that_stood_still_is_no_fault_of_the_gateway(self):
        stood = lambda **more: row("up-1", **({"pesq": 1.1, "held_up_ms": 900, "timestamps_wrong": 9, "stood_ms": 700} | more))
        self.assertEqual(judged([row("up-0", held_up_ms=5), stood()]), (True, "1 passed, 0 failed"))
        self.assertEqual(judged([row("up-0", held_up_ms=5), stood(stood_ms=5)]), (False, "1 passed, 1 failed"))
        self.assertTrue(judged([stood(), stood(row="down-1")])[0], "another run may judge them")
        self.assertFalse(judged([stood(), stood(row="down-1", stood_ms=5)])[0])
        self.assertFalse(judged([stood()], full=True)[0])

    def test_a_reduced_run_is_none_whose_calls_are_all_spoilt(self):
        both = lambda held_up_ms: [row("up-1", held_up_ms=held_up_ms), row("down-1", held_up_ms=held_up_ms)]
        self.assertEqual(judged(both(90)), (False, "0 passed, 1 failed"))
        self.assertTrue(judged([*both(90), row("down-trunk-1", held_up_ms=5)])[0])
        self.assertEqual(judged([]), (False, "0 passed, 1 failed"))

    def test_a_full_run_is_none_with_more_than_a_quarter_spoilt(self):
        rows = everything(0)
        calls = len({result["row"].split("-", 1)[1] for result in rows})
        for spoilt, well in ((0, True), (calls // 4, True), (calls // 4 + 1, False), (calls, False)):
            self.assertEqual(judged(everything(spoilt), full=True)[0], well, spoilt)

    def test_a_full_run_has_every_row_that_has_a_bar(self):
        rows = everything(0)
        self.assertFalse(judged(rows[1:], full=True)[0])
        self.assertTrue(judged(rows[1:])[0])


if __name__ == "__main__":
    unittest.main()
