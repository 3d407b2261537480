"""What Linux's control groups, version 1 or 2, grant this process: a container's limits are those of a group.

Every reader takes ``root``, the folder that ``proc`` and ``sys`` lie in, and gives None where no limit is set.
"""

from __future__ import annotations

from pathlib import Path

from assay.core.units import Bytes

ROOT = Path("/")
_NO_LIMIT = 2**62
"""Version 1 has no word for it: it gives the largest multiple of the page size instead."""
_GIVEN_BACK = ("active_file", "inactive_file", "slab_reclaimable")


def cgroup_quota(root: Path = ROOT) -> float | None:
    """Cores the control group or any above it allows; None without a limit."""
    quotas: list[float] = []
    for folder in _folders(root, "", ""):
        quotas += _quota(*_text(folder / "cpu.max").split()[:2])
    for folder in _folders(root, "cpu", "cpu"):
        quotas += _quota(_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip())
    return min(quotas, default=None)


def cgroup_memory(root: Path = ROOT) -> Bytes | None:
    """The memory limit of the control group or of any above it, whichever is least; None without one."""
    return min((limit for limit, _ in _memory(root)), default=None)


def cgroup_memory_available(root: Path = ROOT) -> Bytes | None:
    """What may still be taken before one of these limits is met; None without one.

    The cache of files and of their names counts as free: it is given back when memory is short.
    """
    return min((max(0, limit - used) for limit, used in _memory(root)), default=None)


def _memory(root: Path) -> list[tuple[Bytes, Bytes]]:
    """(limit, in use) of every group around this process that has a limit, innermost first."""
    versions = (
        (_folders(root, "", ""), "memory.max", "memory.current", ""),
        (_folders(root, "memory", "memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    )
    found = []
    for folders, limit, usage, prefix in versions:
        for folder in folders:
            most = _number(_text(folder / limit))
            if most is None or most >= _NO_LIMIT:
                continue
            used = (_number(_text(folder / usage)) or 0) - _cache(_text(folder / "memory.stat"), prefix)
            found.append((most, max(0, used)))
    return found


def _cache(stat: str, prefix: str) -> Bytes:
    wanted = {f"{prefix}{name}" for name in _GIVEN_BACK}
    rows = (line.split() for line in stat.splitlines())
    return sum(_number(row[1]) or 0 for row in rows if len(row) == 2 and row[0] in wanted)


def _folders(root: Path, controller: str, mount: str) -> list[Path]:
    """The folder of this process's control group and all above it, innermost first.

    ``controller`` is empty for version 2, whose line in /proc/self/cgroup has an empty second field.
    """
    top = root / "sys/fs/cgroup" / mount
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            inner = top / path.strip().lstrip("/")
            return [inner, *(p for p in inner.parents if p.is_relative_to(top))]
    return []


def _quota(quota: str = "", period: str = "") -> list[float]:
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        return [int(quota) / int(period)]
    return []


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
