"""Describe this computer, for measurements and for `nphybrid doctor`.  This file imports neither NumPy nor Numba."""
import contextlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from .. import __version__

PACKAGES = ("NumPy", "Numba", "llvmlite", "Pillow", "h5py")
QUIET = 0.5                               # the largest load average of a quiet machine


def versions() -> dict[str, str | None]:
    """Return {name: version} of nphybrid, Python and PACKAGES.  The version of a missing package is None."""
    found: dict[str, str | None] = {"nphybrid": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def cpu_name(cpuinfo="/proc/cpuinfo") -> str:
    """The model name of the CPU, for display only.  If the system gives no name, the name comes from LLVM."""
    with contextlib.suppress(OSError):
        for line in Path(cpuinfo).read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True,
                                  check=True, timeout=10).stdout.strip()
    return _llvm_name() or platform.processor() or platform.machine()


def _llvm_name():
    """LLVM's name of the CPU, for example "cortex-a72".  The name is empty if LLVM does not know this CPU.

    For an Arm CPU, Linux gives only two numbers: one for the designer and one for the part. LLVM has a table of these
    numbers and their names.
    """
    with contextlib.suppress(ImportError):
        from llvmlite.binding import get_host_cpu_name
        name = get_host_cpu_name()
        return "" if name == "generic" else name
    return ""


def allowed() -> tuple[int, int]:
    """Return the number of cores that this process may use, and the number of all cores."""
    cores = os.cpu_count() or 1
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores), cores


def quota(groups="/sys/fs/cgroup") -> float | None:
    """The number of cores that a Linux container may use, as set in cgroups.  None if there is no limit."""
    with contextlib.suppress(OSError, ValueError):
        limit, period = Path(groups, "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with contextlib.suppress(OSError, ValueError):
        limit, period = (int(Path(groups, "cpu", f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return limit / period if limit > 0 else None
    return None


def load_average() -> float | None:
    """Return the mean number of running programs in the last minute, or None if the system does not count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def peak_memory() -> int | None:
    """The largest number of bytes that this process has had in memory, or None if this number is unknown.

    On Linux, the result is VmHWM, which starts at zero when the program starts. The result of getrusage would include
    the memory of the parent process.
    """
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
    if sys.platform == "darwin":
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
