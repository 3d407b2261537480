"""Control groups of both versions, in trees written as Linux has them."""

from pathlib import Path

from assay.core import child
from assay.core.control_group import cgroup_memory, cgroup_memory_available, cgroup_quota

GIB = 2**30


def write(root, files):
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return root


def meminfo(available_gib, swap_gib=0):
    kib = 2**20
    return f"MemTotal: {64 * kib} kB\nMemAvailable: {available_gib * kib} kB\nSwapFree: {swap_gib * kib} kB\n"


def test_cgroup_version_2_takes_the_tightest_of_all_levels(tmp_path):
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a/memory.max": "1073741824\n",
            "sys/fs/cgroup/cpu.max": "400000 100000\n",
        },
    )
    assert cgroup_quota(root) == 1.5
    assert cgroup_memory(root) == 2**30


def test_cgroup_version_1(tmp_path):
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/box\n4:cpu,cpuacct:/box\n1:name=systemd:/x\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "2147483648\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert cgroup_quota(root) == 2.5
    assert cgroup_memory(root) == 2**31


def test_no_cgroup_at_all(tmp_path):
    assert cgroup_quota(tmp_path) is None
    assert cgroup_memory(tmp_path) is None
    assert cgroup_memory_available(tmp_path) is None


def test_what_is_available_is_the_limit_less_what_cannot_be_given_back(tmp_path):
    """The outer group is the larger, but other containers in it have taken most of it."""
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/box/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/pod/box/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/pod/box/memory.stat": f"anon {GIB}\ninactive_file {GIB}\nactive_file {GIB}\n",
            "sys/fs/cgroup/pod/memory.max": f"{16 * GIB}\n",
            "sys/fs/cgroup/pod/memory.current": f"{12 * GIB}\n",
            "sys/fs/cgroup/pod/memory.stat": f"anon {12 * GIB}\n",
            "sys/fs/cgroup/memory.max": "max\n",
        },
    )
    assert cgroup_memory(root) == 8 * GIB
    assert cgroup_memory_available(root) == 4 * GIB
    (root / "sys/fs/cgroup/pod/memory.max").write_text("max\n")
    assert cgroup_memory_available(root) == 7 * GIB
    (root / "sys/fs/cgroup/pod/box/memory.max").write_text(f"{GIB // 2}\n")  # lowered below what is in use
    assert cgroup_memory_available(root) == 0


def test_a_container_sees_its_own_group_at_the_top(tmp_path):
    """Version 1 tells the path outside of the container, where only the container's own folder is mounted."""
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "9:name=systemd:/docker/abc\n4:memory:/docker/abc\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"cache 5\ninactive_file 5\ntotal_inactive_file {GIB // 2}\n",
        },
    )
    assert cgroup_memory_available(root) == GIB + GIB // 2


def test_a_child_may_take_nine_tenths_of_the_tighter_of_machine_and_container(tmp_path):
    root = write(tmp_path, {"proc/meminfo": meminfo(10, swap_gib=2), "proc/self/cgroup": "0::/box\n"})
    assert child.most_of_memory(root) == int(0.9 * 12 * GIB)  # no limit
    write(root, {"sys/fs/cgroup/box/memory.max": f"{4 * GIB}\n"})
    assert child.most_of_memory(root) == int(0.9 * 4 * GIB)
    write(root, {"sys/fs/cgroup/box/memory.max": f"{40 * GIB}\n"})
    assert child.most_of_memory(root) == int(0.9 * 12 * GIB)
    write(root, {"sys/fs/cgroup/box/memory.max": "max\n", "sys/fs/cgroup/memory.max": f"{2 * GIB}\n"})
    assert child.most_of_memory(root) == int(0.9 * 2 * GIB)
    (root / "proc/meminfo").unlink()
    assert child.most_of_memory(root) == int(0.9 * 2 * GIB)
    assert child.most_of_memory(Path(tmp_path / "nothing")) is None
