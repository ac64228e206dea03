"""What becomes of large pieces of memory that were freed: asked of the kernel, in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from puppetmaster import app

def resident_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

if sys.argv[1] == "told":
    app.give_back_large()
large = b"x" * (8 << 20)
del large  # from this glibc learns to keep such pieces
before = resident_kib()
large = b"x" * (7 << 20)
beside = [b"x" * 100_000 for _ in range(20)]  # what lies behind it keeps it from being cut off
del large
print(resident_kib() - before)
"""


def kept_kib(told: str) -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT, told], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="it is about glibc")
def test_freed_memory_goes_back_to_the_system() -> None:
    assert kept_kib("told") < 4000
