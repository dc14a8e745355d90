"""Processes of nphybrid that overlap in one folder and are killed, for the scenes of stress.py."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from nphybrid import ViTHybridConfig, ViTHybridForImageClassification

from tools.folders import write_pictures

ROOT = Path(__file__).resolve().parents[2]
PICTURES, BROKEN = 100, 5                 # in the folder of pictures
LONGEST = 300                             # seconds that a process may take
SEEDS = (1, 3)                            # of the two models; their files have the same size
# A network that has every part; its file has 40 kB.
CONFIG = dict(backbone_config=dict(embedding_size=8, hidden_sizes=[16], depths=[1], num_groups=4), image_size=32,
              hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, num_labels=3,
              initializer_range=0.5)


class Written(NamedTuple):
    """What an undisturbed command leaves."""
    code: int
    out: bytes                            # on stdout
    files: dict                           # {name: bytes}
    seconds: float


class Stage:
    """What all scenes share: a copy of the package, pictures, two models, and a cache of compiled kernels."""

    def __init__(self, folder, changes=()):
        copy_package(folder / "nphybrid", changes)
        self.folder, self.pictures, self.kernels = folder, folder / "pictures", folder / "cache"
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(self.kernels), "NUMBA_CACHE_DIR": "",
                            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT / 'tests' / 'children'}"}
        self.pictures.mkdir()
        self.paths, broken = write_pictures(self.pictures, PICTURES, BROKEN)
        self.good = [path for i, path in enumerate(self.paths) if i not in broken]
        self.labels = folder / "labels.csv"
        rows = [f"{path},{'ab'[i % 2]}\n" for i, path in enumerate(self.paths)]
        self.labels.write_text("path,label\n" + "".join(rows))
        self.models = [str(folder / name) for name in ("a.h5", "b.h5")]
        for seed, path in zip(SEEDS, self.models):
            model = ViTHybridForImageClassification(ViTHybridConfig(**CONFIG), seed=seed, engine="reference")
            model.processor = {"size": 32, "crop_size": 32}
            model.save(path)
        self.undisturbed = cache(self.undisturbed)

    def undisturbed(self, *command, model=None):
        """Run a command in an empty folder, or beside a copy of a model with the name model.h5.  -> Written"""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            if model:
                shutil.copy(model, f"{folder}/model.h5")
            start = time.monotonic()
            done = subprocess.run([sys.executable, "-m", "nphybrid", *command], cwd=folder, env=self.environment,
                                  capture_output=True, timeout=LONGEST)
            if done.returncode not in (0, 1):
                sys.exit(f"nphybrid {' '.join(command)}: nothing disturbed it, but it failed: {done.stderr.decode()}")
            files = {name: data for name, data in files_in(folder).items() if name != "model.h5"}
            return Written(done.returncode, done.stdout, files, time.monotonic() - start)


def copy_package(target, changes):
    """Copy nphybrid and change it.  Exits if a text that is to be changed is not there exactly once.

    changes: triples (file, text, new text).
    """
    shutil.copytree(ROOT / "nphybrid", target, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in changes:
        source = (target / file).read_text("utf-8")
        if source.count(old) != 1:
            sys.exit(f"{file} contains the text of the fault {source.count(old)} times; expected once: {old}")
        (target / file).write_text(source.replace(old, new), "utf-8")


def files_in(folder):
    """{name: bytes} of all files in a folder and in the folders inside it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*"))
            if path.is_file()}


def write_files(files, folder):
    """Write {name: bytes} into a folder."""
    for name, data in files.items():
        Path(folder, name).parent.mkdir(exist_ok=True)
        Path(folder, name).write_bytes(data)


class Run:
    """A process of nphybrid."""

    def __init__(self, command, **options):
        self.killed, self.started, self.ended = False, time.monotonic(), None
        self.process = subprocess.Popen([sys.executable, "-m", "nphybrid", *command], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, **options)
        self.pid = self.process.pid

    def has_ended(self):
        """Whether the process has ended.  If so, `ended`, `code`, `out` and `err` are set."""
        if self.ended is None and self.process.poll() is not None:
            self.ended, self.code = time.monotonic(), self.process.returncode
            self.out, err = self.process.communicate()
            self.err = err.decode("utf-8", "replace").strip()
        return self.ended is not None

    def kill(self):
        """End the process by SIGKILL, if it has not ended."""
        if not self.has_ended():
            self.killed = True
            self.process.kill()

    def names_one_of(self, others):
        """Whether the message on stderr names a process that ran at the same time."""
        return any(re.search(rf"\b{other.pid}\b", self.err) and other.started < self.ended
                   and other.ended > self.started for other in others if other is not self)


class Scene:
    """One scene: its folder, its random numbers, its processes, its history, and what was wrong."""

    def __init__(self, stage, rng, folder):
        self.stage, self.rng, self.folder, self.kernels = stage, rng, folder, stage.kernels
        self.runs, self.history, self.findings, self.begin = [], [], [], time.monotonic()

    def note(self, text, moment=None):
        """Add a line to the history."""
        self.history.append((moment or time.monotonic(), text))

    def expect(self, condition, text):
        """If the condition is not true, it is a finding."""
        if not condition:
            self.findings.append(text)
            self.note(f"WRONG: {text}")

    def files(self):
        """{name: bytes} of all files in the folder of the scene."""
        return files_in(self.folder)

    def start(self, command, **options):
        """Start a process in the folder of the scene.  -> Run"""
        environment = {**self.stage.environment, "XDG_CACHE_HOME": str(self.kernels), "TMPDIR": str(self.folder)}
        run = Run(command, cwd=self.folder, env=environment, **options)
        self.runs.append(run)
        self.note(f"{run.pid} is nphybrid {' '.join(command)}")
        return run

    def together(self, commands, seconds, kill=0.5, events=(), **options):
        """Start commands at random moments, kill some at random moments, and wait.  -> Runs in the order of their end

        seconds: how long a command takes alone. kill: the probability that a command is killed.
        events: pairs (seconds from the start, function that is called then). options: of subprocess.Popen
        """
        runs, due = {}, list(events)

        def start(number):
            runs[number] = self.start(commands[number], **options)

        for number in range(len(commands)):
            moment = self.rng.uniform(0, 0.7) * seconds if number else 0
            due.append((moment, partial(start, number)))
            if self.rng.random() < kill:
                due.append((moment + self.rng.uniform(0.3, 1.3) * seconds, lambda number=number: runs[number].kill()))
        due.sort(key=lambda pair: pair[0])
        begin = time.monotonic()
        while len(runs) < len(commands) or any(run.ended is None for run in runs.values()):
            while due and time.monotonic() - begin >= due[0][0]:
                due.pop(0)[1]()
            for run in runs.values():
                run.has_ended()
            if time.monotonic() - begin > LONGEST:
                raise TimeoutError(f"a process still runs after {LONGEST} s")
            time.sleep(0.002)
        ended = sorted(runs.values(), key=lambda run: run.ended)
        for run in ended:
            how = "was killed" if run.killed else f"ended with {run.code}"
            self.note(f"{run.pid} {how} {run.err[-600:]}", run.ended)
        return ended

    def judge(self, runs, code, refusals=()):
        """Each run must be killed, end with the code, or be refused because of another process or for a given reason.

        -> whether the last run to end succeeded
        """
        for run in runs:
            refused = run.code == 3 and (run.names_one_of(self.runs) or any(text in run.err for text in refusals))
            self.expect(run.killed or run.code == code or refused,
                        f"{run.pid} ended with {run.code} and named no process that ran at the same time")
            self.expect("Traceback" not in run.err, f"{run.pid} printed a traceback")
        return runs[-1].code == code

    def finish(self, command):
        """Run a command that nothing disturbs any more.  -> Run"""
        run, = self.together([command], 0, kill=0)
        self.expect(run.code in (0, 1), f"{run.pid} ended with {run.code}, although it ran alone")
        return run

    def stop(self):
        """Kill what still runs."""
        for run in self.runs:
            run.kill()
            run.process.wait()
