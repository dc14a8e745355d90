"""Kill a run at random moments, resume it each time, and compare its files with those of an uninterrupted run.

    python tests/tools/kill_and_resume.py VERB FOLDER OUTPUT KILLS [OPTION …]

VERB is classify, embed or finetune; OUTPUT is their file, KILLS is how often they are killed, and an OPTION is one of
the verb. Prints one line of JSON: whether the files are equal, how often the run was killed, its exit code, and how
many rows there were at each kill. This process imports and compiles what a run needs, and forks a child for each run.
"""
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from nphybrid.__main__ import main


class Task(NamedTuple):
    """A command whose runs are killed."""
    verb: str
    folder: str                           # of pictures
    output: str
    options: tuple[str, ...]

    def run(self, output, *more):
        """Run the command in this process.  -> exit code"""
        format = ["--format", Path(self.output).suffix[1:]] if self.verb == "classify" else []
        return main([self.verb, self.folder, "-o", output, "--quiet", *format, *self.options, *more])

    def fork(self):
        """Run it with --resume in a child.  -> pid"""
        pid = os.fork()
        if not pid:
            os._exit(self.run(self.output, "--resume"))
        return pid

    def row_count(self, lines):
        """How many lines of rows are on the disk; `lines` if there is only the finished file."""
        log = Path(self.output + {"classify": "", "embed": ".part/rows.jsonl", "finetune": ".run/log.jsonl"}[self.verb])
        if log.exists():
            return log.read_bytes().count(b"\n")
        return lines if os.path.exists(self.output) else 0


def file_bytes(output):
    """The bytes of an output, of the files beside it, and of the files in a folder beside it.  -> {name: bytes}"""
    output = Path(output)
    files = (file for start in output.parent.glob(output.name + "*") for file in (start, *start.glob("*")))
    return {str(file.relative_to(output.parent)): file.read_bytes() for file in files if file.is_file()}


def kill_at(goal, task, lines, rng):
    """Start a run and kill it as soon as there are `goal` rows.  -> the number of rows then; None if it ended before"""
    pid = task.fork()
    # If the goal is already reached, the run is killed while it starts, which takes about 0.2 s.
    deadline = time.monotonic() + 0.3 * rng.random() if task.row_count(lines) >= goal else None
    while not os.waitpid(pid, os.WNOHANG)[0]:
        due = task.row_count(lines) >= goal if deadline is None else time.monotonic() > deadline
        if due:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return task.row_count(lines)
        time.sleep(0.0005)
    return None


def kill_and_resume(task, kills):
    """Everything above.  -> dict"""
    undisturbed = Path(task.output).parent / "undisturbed" / Path(task.output).name
    undisturbed.parent.mkdir()
    task.run(str(undisturbed))
    if task.verb == "embed":
        lines = len(os.listdir(task.folder))
    else:
        lines = task._replace(output=str(undisturbed)).row_count(0)
    rng = random.Random(0)
    goals = sorted(rng.randrange(lines) for _ in range(kills))
    reached = [kill_at(goal, task, lines, rng) for goal in goals]
    reached = [rows for rows in reached if rows is not None]
    code = os.waitstatus_to_exitcode(os.waitpid(task.fork(), 0)[1])
    return {"same": file_bytes(task.output) == file_bytes(undisturbed), "kills": len(reached), "exit": code,
            "rows": reached}


if __name__ == "__main__":
    stdout = os.dup(1)
    os.dup2(2, 1)                         # what the commands print goes to stderr
    found = kill_and_resume(Task(*sys.argv[1:4], tuple(sys.argv[5:])), int(sys.argv[4]))
    sys.stdout.flush()
    os.dup2(stdout, 1)
    print(json.dumps(found))
