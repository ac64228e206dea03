"""Bytes written to disk per request at several window sizes, beside what is kept of one in the end."""

import argparse
from pathlib import Path

from benchmarks.gateways import body, created, ended, gateway
from puppetmaster import ranges


def written(pid: int) -> int:
    """Bytes that this process caused to be written to storage, as Linux counts them."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "write_bytes":
            return int(value)
    raise RuntimeError(f"expected a line write_bytes in /proc/{pid}/io, got none")


def main() -> None:
    """Measure each window with a gateway of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.disk", description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="requests of one job (%(default)s)")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 10, 100, 500], help="(%(default)s)")
    options = parser.parse_args()
    pattern = f"cg-[00001-{options.count:05d}]"
    fleet = ["--shape", "one-model", "--to", pattern]
    for window in options.windows:
        with gateway(fleet, max_in_flight=window) as (made, client):
            before = written(made.bundle.pid)
            job = created(client, body("get", ranges.expand(pattern)))
            ended(client, job["id"], poll_s=0.2)
            bytes_each = (written(made.bundle.pid) - before) / options.count
            made.bundle.terminate()
            kept = (made.directory / "data" / "puppetmaster.db").stat().st_size / options.count
        print(
            f"window {window:3}: {bytes_each:6.0f} bytes written per request, {kept:4.0f} kept, "
            f"ratio {bytes_each / kept:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
