"""Memory and time of what a process does, by the counts of Linux's kernel; needs no package."""

import contextlib
import ctypes
import gc
import re
import time
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def resident(which="VmRSS"):
    """Bytes that this process holds (VmRSS), or held at most (VmHWM)."""
    return 1024 * int(re.search(rf"{which}:\s+(\d+)", STATUS.read_text())[1])


class Peak:
    """Bytes at most above those at the beginning, and seconds, of what happens inside.

    Seconds are those of the processor (`cpu`), which others on the machine hardly change, and of the clock.
    """

    def __enter__(self):
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        CLEAR.write_text(RESET_PEAK)
        self.before = resident()
        self.began, self.cpu_began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.began
        self.cpu = time.process_time() - self.cpu_began
        self.bytes = resident("VmHWM") - self.before
