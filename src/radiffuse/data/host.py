"""How much memory of the machine, or of the container this process runs in, is free."""

from pathlib import Path

import psutil

__all__ = ["free_bytes"]

CGROUP = Path("/sys/fs/cgroup")


def free_bytes() -> int:
    """Bytes that this process may still take, what can be had back from the disk cache among them."""
    free = psutil.virtual_memory().available
    try:
        most, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        reclaimed = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, int(most) - int(used) + int(reclaimed.get("inactive_file", 0)))
    except (OSError, ValueError):  # no container, or no limit ("max")
        pass
    return max(free, 0)
