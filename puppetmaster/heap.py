"""The C library's heap: large pieces of memory go back to the system when they are freed.

glibc learns from the first large piece that is freed to keep such pieces for later: up to 32 MB each, in
each thread's own heap. A bundle that was asked for much once would then be large for ever.
"""

import ctypes
import sys
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
#: From this size on a piece is the system's own, as glibc begins with; said aloud, it stays so.
LARGE_BYTES = 256 * 1024


def give_back_large() -> None:
    """From now on, where the C library is one that can be told so."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no such thing, and no need of it
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
