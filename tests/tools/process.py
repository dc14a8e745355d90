"""Python processes as a user starts them: they see the checkout and what this process sees."""
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


def run_example(root, name, *args):
    """What an example prints."""
    done = subprocess.run([sys.executable, root / "examples" / name, *args], capture_output=True, text=True,
                          timeout=300, cwd=root, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout
