"""``python -m benchmarks``: all of them in turn, and their lines as a table in test-output/benchmarks.md.

Short forms by default; ``--full`` takes each one's own defaults, and much longer. One that fails is told of
and does not keep the others from running; then the exit code is 1.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
#: By module: the options of the short form. The full form has none: the defaults.
SHORT: dict[str, list[str]] = {
    "flow": ["--count", "2000", "--rounds", "1"],
    "blocking": ["--count", "200", "--rounds", "1"],
    "creation": ["--rounds", "3"],
    "turnaround": ["--count", "100", "--rounds", "2"],
    "disk": ["--count", "1000"],
    "memory": ["--jobs", "3"],
    "bounds": ["--gateways", "100", "--stored", "20000", "--bodies", "4"],
    "absent": ["--count", "2000", "--rest", "10", "--rounds", "2"],
    "timeouts": ["--count", "5000", "--rounds", "1", "--jobs", "2"],
    "restart": ["--count", "2000", "--rounds", "1"],
    "takeover": ["--rounds", "2"],
    "fairness": ["--count", "5000", "--rounds", "5"],
    "load": ["--count", "5000", "--jobs", "20", "--seconds", "3"],
    "sockets": ["--count", "2000", "--subscribers", "50", "--rounds", "1", "--changes", "20"],
    "store": ["--rounds", "3"],
    "stores": ["--rounds", "3", "--count", "2000"],
    "retention": ["--count", "5000", "--jobs", "5000", "--rounds", "1"],
    "registry": ["--counts", "5000"],
    "page": ["--count", "2000"],
    "simulated": [],
    "bridged": ["--count", "3", "--rounds", "1"],
}


@dataclass(frozen=True, slots=True)
class Ran:
    """One of them has run: what it printed."""

    name: str
    lines: list[str]
    code: int
    taken_s: float


def run(name: str, arguments: list[str]) -> Ran:
    """Run one as a process of its own, and show its lines as they come."""
    begun_s = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=PROJECT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        lines = []
        for line in child.stdout:
            print(f"  {line}", end="", flush=True)
            lines.append(line.rstrip())
    return Ran(name, lines, child.returncode, time.monotonic() - begun_s)


def table(ran: list[Ran]) -> str:
    """All lines of those that succeeded, the last one of those that did not."""
    rows = ["| benchmark | figures | seconds |", "|---|---|---|"]
    for one in ran:
        shown = one.lines if one.code == 0 else [f"**failed:** {one.lines[-1] if one.lines else one.code}"]
        figures = "<br>".join(line.replace("|", "\\|") for line in shown if line)
        rows.append(f"| {one.name} | {figures} | {one.taken_s:.0f} |")
    return "\n".join(rows) + "\n"


def main() -> int:
    """Run them; the number of those that failed, 1 at most."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of: {', '.join(SHORT)}")
    parser.add_argument("--full", action="store_true", help="measure much; takes long")
    parser.add_argument("--output", type=Path, default=PROJECT / "test-output" / "benchmarks.md")
    options = parser.parse_args()
    chosen = options.names or list(SHORT)
    if unknown := [name for name in chosen if name not in SHORT]:
        parser.error(f"expected names among {', '.join(SHORT)}, got {', '.join(unknown)}")
    ran: list[Ran] = []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(chosen, 1):
        print(f"{number} of {len(chosen)}: {name}", flush=True)
        ran.append(run(name, [] if options.full else SHORT[name]))
        print(f"  {'done' if ran[-1].code == 0 else 'FAILED'} in {ran[-1].taken_s:.0f} s", flush=True)
        options.output.write_text(table(ran), "utf-8")
    print(f"written to {options.output}")
    return int(any(one.code for one in ran))


if __name__ == "__main__":
    sys.exit(main())
