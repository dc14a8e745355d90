"""Python processes as a user starts them: they see the checkout, the tests, and what this process sees."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment(**variables):
    """The environment of a process that imports from the checkout and from the tests; None removes a variable."""
    found = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, sys.path)])}
    found.update(variables)
    return {name: value for name, value in found.items() if value is not None}


def run_python(*args, env=None, text=True, timeout=300, **options):
    """A Python that has ended.  -> subprocess.CompletedProcess, its output captured

    env: of the process, see `environment`. options: of subprocess.run.

    >>> run_python("-c", "print(6 * 7)").stdout
    '42\\n'
    """
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=text, timeout=timeout,
                          env=env or environment(), **options)


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
