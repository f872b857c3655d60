"""The parts of docs/performance.md that measurements write: each between marks of its own."""

import datetime
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def marks(part):
    return f"<!-- {part}: begin -->", f"<!-- {part}: end -->"


def put(old, part, text):
    """`old` with `text` as that part."""
    begin, end = marks(part)
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    if len(marked.findall(old)) != 1:
        raise SystemExit(f"the page has no one place for {part}: {begin} and {end}")
    return marked.sub(lambda _: f"{begin}\n{text.rstrip()}\n{end}", old)


def write(page, part, text):
    path = pathlib.Path(page)
    path.write_text(put(path.read_text(), part, text))
    print(text)


def commit():
    """The commit that is measured; marked where the tree has more than it."""
    git = lambda *words: subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    head = git("rev-parse", "--short", "HEAD")
    if head.returncode != 0:
        return "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "crates", "Cargo.toml", "Cargo.lock", ".cargo").stdout.strip()
    return head.stdout.strip() + (" with changes" if changed else "")


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def machine():
    """Processors and kernel, as the driver says it."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = len(re.findall(r"^processor\s*:", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    kernel = pathlib.Path("/proc/sys/kernel/osrelease").read_text().strip()
    return f"{cores} x {cpu.group(1) if cpu else 'an unknown processor'}, Linux {kernel}"
