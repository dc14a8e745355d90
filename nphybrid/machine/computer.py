"""The computer, as far as a measurement or a diagnosis has to name it.  Imports nothing heavy."""
import contextlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from .. import __version__

PACKAGES = ("NumPy", "Numba", "llvmlite", "Pillow", "h5py")


def versions():
    """{name: version} of nphybrid, Python and the packages; None for one that is not installed."""
    found = {"nphybrid": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def cpu_name(cpuinfo="/proc/cpuinfo"):
    """What the CPU calls itself: for display, nothing is decided by it."""
    with contextlib.suppress(OSError):
        for line in Path(cpuinfo).read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True,
                                  check=True, timeout=10).stdout.strip()
    return platform.processor() or platform.machine()


def allowed():
    """How many cores this process may run on, of how many."""
    cores = os.cpu_count() or 1
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores), cores


def quota(groups="/sys/fs/cgroup"):
    """How many cores' time the container may use, by Linux's control groups; None where there is no limit."""
    with contextlib.suppress(OSError, ValueError):
        limit, period = Path(groups, "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with contextlib.suppress(OSError, ValueError):
        limit, period = (int(Path(groups, "cpu", f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return limit / period if limit > 0 else None
    return None


def peak_memory():
    """The most bytes this process has held in memory so far; None where nobody counts them.

    Linux: VmHWM, which begins anew with the program; getrusage would add what its parent had.
    """
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
    if sys.platform == "darwin":
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
