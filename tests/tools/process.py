"""Python processes that tests start. They find the checkout and the tests by PYTHONPATH; see tests/conftest.py."""
import os
import subprocess
import sys

# A process that reaches its time limit is taken for one that hangs. Where all processes are slow, for example under
# emulation (arm.sh), this factor raises every limit of `run_python`.
TIME_FACTOR = float(os.environ.get("NPHYBRID_TEST_TIME_FACTOR", "1"))


def python_environment(**variables):
    """The environment of this process with other variables. None removes a variable."""
    return {name: str(value) for name, value in {**os.environ, **variables}.items() if value is not None}


def run_python(*args, text=True, timeout=300, **options):
    """A Python that has ended.  -> subprocess.CompletedProcess, its output captured

    timeout: seconds, which TIME_FACTOR multiplies.
    options: of subprocess.run.

    >>> run_python("-c", "print(6 * 7)").stdout
    '42\\n'
    """
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=text,
                          timeout=timeout * TIME_FACTOR, **options)


def nphybrid(*args, **options):
    """The command line in a process of its own.  -> subprocess.CompletedProcess

    >>> nphybrid("inspect", "nowhere.h5").returncode
    3
    """
    return run_python("-m", "nphybrid", *args, **options)


def run_example(root, name, *args):
    """What an example prints."""
    done = run_python(root / "examples" / name, *args, cwd=root)
    assert done.returncode == 0, done.stderr
    return done.stdout
