"""Stress: commands that overlap, that are killed, and whose model file or kernel cache changes; and what is left.

    python tests/tools/stress.py 1800                                 every scene in turn, for 1,800 seconds
    python tests/tools/stress.py 120 --only embed --seed 3            one scene, with other random numbers
    python tests/tools/stress.py 1 --only embed --seed 3 --first 17   a single scene again, as a finding states it
    python tests/tools/stress.py 600 --only first-runs                five first runs at once while the cache is torn
    python tests/tools/stress.py 120 --plant FAULT                    with a fault of FAULTS, until it is found

A scene starts commands of nphybrid in one folder at random moments, kills some of them with SIGKILL, and compares what
is left with what the same commands write when nothing disturbs them. What a scene draws follows from the seed, its
index and its name. How the processes overlap also depends on the computer.

The processes use a copy of the package, two tiny models, and a kernel cache of their own. Prints each finding with the
history of its scene, and at the end a line for each scene. Exit code 1 if there was a finding. Needs Linux.
"""
import argparse
import ctypes
import importlib.util
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from nphybrid.features import files

from tools.overlap import LONGEST, Scene, Stage, write_files

REFERENCE = ("--engine", "reference")     # starts faster than the kernels
# With batches of one picture, the bits of a row of this engine do not depend on other pictures.
ROWS = ("--quiet", "--batch", "1", *REFERENCE)
NEW, RESUME, APPEND = (), ("--resume",), ("--append",)
# The other reasons for which a run may be refused.
REFUSED = ("another run wrote it", "computed with another model")
CHANGES = ("rewritten", "replaced", "renamed")            # of a model file


class Fault(NamedTuple):
    """A fault that is put into the copy of the package."""
    scene: str                            # the scene that finds it
    changes: tuple                        # (file of the package, text, new text), …; each text is there once


# On a file system without locks, the owner of a file is the process that created a second file.
NO_LOCKS = ("tensorfile/owner.py", "        fcntl.flock(file, ", "        raise OSError(errno.ENOLCK, ")
SEVERAL_OWNERS = ("tensorfile/owner.py", "fcntl.flock(file, fcntl.LOCK_EX", "fcntl.flock(file, fcntl.LOCK_SH")
NO_CHECK = (("features/writer.py", "    _check_folder(folder, len(names), ", "    (folder, len(names), "),
            ("cli/classify.py", "        resume.check_rows(args.output, ", "        (args.output, "))
FAULTS = {
    "several owners of features": Fault("embed", (SEVERAL_OWNERS,)),
    "several owners of labels": Fault("classify", (SEVERAL_OWNERS,)),
    "several owners of features, no check": Fault("embed", (SEVERAL_OWNERS, *NO_CHECK)),
    "several owners of labels, no check": Fault("classify", (SEVERAL_OWNERS, *NO_CHECK)),
    "another model file": Fault("model-file", (
        ("batch/identity.py", "if _file_states(path) != file_states:", "if False:"),)),
    "another model file with the same time": Fault("model-file", (
        ("tensorfile/stored.py", "status.st_mtime_ns, status.st_ctime_ns", "status.st_mtime_ns"),)),
    "temporary files stay": Fault("targets", (
        ("tensorfile/atomic.py", "    sweep(target.parent, target.name)\n", ""),)),
    "temporary files of others are removed": Fault("targets", (
        ("tensorfile/atomic.py", "os.kill(int(found[2]), 0)", "raise ProcessLookupError"),)),
    "a torn kernel is loaded": Fault("torn-cache", (
        ("ops/cache.py", "return data if hashlib.sha256(data).digest() == digest else None", "return data"),)),
    "a read-only cache is not read": Fault("read-only-cache", (
        ("ops/cache.py", "    for folder in folders():\n",
         "    for folder in filter(lambda folder: os.access(folder, os.W_OK), folders()):\n"),)),
    "a full disk is an error": Fault("full-cache", (
        ("ops/cache.py", "        except (OSError, ValueError) as error:", "        except ValueError as error:"),)),
}


# ---------------------------------------------------------------- the scenes

def embed(scene):
    """Several `embed` write one file: with one or two models, new, with --resume and with --append."""
    rng = scene.rng
    formats = [".h5", ".npy", *[".parquet"][:importlib.util.find_spec("pyarrow") is not None]]
    output = f"out{rng.choice(formats)}"
    modes = rng.choice(([NEW], [RESUME], [NEW, RESUME], [APPEND], [NEW, APPEND]))
    commands = [embed_command(scene.stage, output, model) for model in scene.stage.models[:rng.randint(1, 2)]]
    wholes = [scene.stage.undisturbed(*command) for command in commands]
    write_files(wholes[0].files if rng.random() < 0.3 else {}, scene.folder)
    for _ in range(rng.randint(1, 3)):
        before = copies(scene, output, wholes)
        runs = start_several(scene, commands, modes, wholes[0])
        wrote = scene.judge(runs, 1, REFUSED)
        after = copies(scene, output, wholes)
        scene.expect(after or not wrote, f"{output} does not exist, but the last run succeeded")
        if modes == [APPEND]:
            successes = sum(run.code == 1 for run in runs)
            scene.expect(before + successes <= after <= before + len(scene.runs),
                         f"{successes} runs succeeded, and the pictures were added {after - before} times")
    scene.finish((*commands[0], *(modes[-1] if len(commands) == 1 else NEW)))
    scene.expect(copies(scene, output, wholes), f"{output} does not exist")
    expect_no_other_files(scene, wholes[0].files)


def embed_command(stage, output, model):
    """The command that writes the features of all pictures."""
    return "embed", str(stage.pictures), "-o", output, "--model", model, *ROWS


def start_several(scene, commands, modes, whole):
    """Start one to three commands together, each in one of some modes.  -> Runs in the order of their end"""
    chosen = [(*scene.rng.choice(commands), *scene.rng.choice(modes)) for _ in range(scene.rng.randint(1, 3))]
    return scene.together(chosen, whole.seconds)


def copies(scene, output, wholes):
    """How many times a file of features contains all rows of one of some undisturbed files; 0 if there is no file."""
    if not (scene.folder / output).exists():
        return 0
    found = files.contents(scene.folder / output)
    expected = [features_in(output, whole) for whole in wholes]
    whole, expected = next((pair for pair in zip(wholes, expected)
                            if pair[1].manifest["model"] == found.manifest["model"]), (wholes[0], expected[0]))
    pictures = len(expected.names)
    count = len(found.names) // pictures
    scene.expect(found.names == expected.names * count, f"{output} has {len(found.names)} rows for {pictures} pictures")
    scene.expect(np.array_equal(found.values, np.tile(expected.values, (count, 1))),
                 f"{output} has other features than the pictures have with the model of its record")
    scene.expect(found.errors == {i + pictures * n: text for n in range(count) for i, text in expected.errors.items()},
                 f"{output} has other errors")
    if count == 1:
        scene.expect(whole.files.items() <= scene.files().items(), f"{output} has other bytes than the file of one run")
    return count


def features_in(output, whole):
    """The Contents of an undisturbed file of features."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(whole.files, folder)
        found = files.contents(f"{folder}/{output}")
        return found._replace(values=np.array(found.values))


def expect_no_other_files(scene, files):
    """The folder of a scene contains these files and no others."""
    found = sorted(scene.files())
    scene.expect(found == sorted(files), f"the folder contains {found}; expected {sorted(files)}")


def classify(scene):
    """Several `classify -o` write one file: with one or two models, new and with --resume."""
    output = f"out{scene.rng.choice(['.csv', '.jsonl'])}"
    models = scene.stage.models[:scene.rng.randint(1, 2)]
    commands = [classify_command(scene.stage, output, model) for model in models]
    wholes = [scene.stage.undisturbed(*command) for command in commands]
    for _ in range(scene.rng.randint(1, 3)):
        runs = start_several(scene, commands, [NEW, RESUME], wholes[0])
        expect_rows(scene, output, wholes, complete=scene.judge(runs, 1, REFUSED))
    scene.finish((*commands[0], *(RESUME if len(models) == 1 else NEW)))
    expect_rows(scene, output, wholes, complete=True)
    expect_no_other_files(scene, wholes[0].files)


def classify_command(stage, output, model):
    """The command that writes the labels of all pictures."""
    return ("classify", str(stage.pictures), "-o", output, "--format", output.rpartition(".")[2], "--model",
            model, *ROWS)


def expect_rows(scene, output, wholes, complete):
    """A file of labels contains the first rows of one of some undisturbed files, or all of them, and its record."""
    found = scene.files()
    rows = found.get(output, b"")
    # A run that begins empties the file before it writes the record.
    record = f"{output}.run.json"
    whole = next((whole for whole in wholes if whole.files[record] == found.get(record)), None)
    scene.expect(whole or not rows, f"{output} has the record of no run")
    if whole:
        right = whole.files[output]
        scene.expect(right.startswith(rows), f"{output} has other rows than the run of its record")
        scene.expect(rows == right or not complete, f"{output} is not complete, but the last run succeeded")


def targets(scene):
    """Two or three commands write one file or folder: a model, a head, a page, a figure, states."""
    stage = scene.stage
    commands = scene.rng.choice(list(zip(*(target_commands(stage, model) for model in stage.models))))
    wholes = [stage.undisturbed(*command) for command in commands]
    old = wholes[1].files if scene.rng.random() < 0.5 else {}
    write_files(old, scene.folder)
    runs = scene.together(scene.rng.choices(commands, k=scene.rng.randint(2, 3)), wholes[0].seconds, 0.8)
    wrote = scene.judge(runs, 0, ["already exists"])
    found = {name: data for name, data in scene.files().items() if not name.startswith(".")}
    possible = [whole.files for whole in wholes] + [old] * (not wrote)
    scene.expect(found in possible, f"there are {sorted(found)}: neither the old nor the complete files")
    shutil.rmtree(scene.folder / "folder", ignore_errors=True)
    scene.finish(commands[0])
    scene.expect(scene.files() == wholes[0].files, f"there are {sorted(scene.files())}; expected the files of one run, "
                 f"{sorted(wholes[0].files)}")


def target_commands(stage, model):
    """The commands that replace their output in one step."""
    picture, known = stage.good[0], (*stage.good[:20], "--labels", str(stage.labels))
    model = ("--model", model)
    return [("convert", model[1], "converted.h5"),
            ("convert", model[1], "folder"),
            ("probe", "fit", *known, "-o", "head.h5", *model, *ROWS),
            ("explain", picture, "-o", "page.html", *model, *REFERENCE),
            ("figures", "attention", picture, "-o", "figure.png", *model, *REFERENCE),
            ("trace", picture, "--save", "states.npz", *model, *REFERENCE)]


def model_file(scene):
    """A model file is rewritten, replaced or exchanged before, while and after a run loads it."""
    stage, rng, model = scene.stage, scene.rng, scene.folder / "model.h5"
    output = rng.choice(["out.h5", "out.csv"])
    command = (embed_command if output == "out.h5" else classify_command)(stage, output, "model.h5")
    wholes = [stage.undisturbed(*command, model=path) for path in stage.models]
    # The run gets the list of its pictures late, after it has loaded the model.
    command = [argument if argument != str(stage.pictures) else "-" for argument in command]
    shutil.copy(stage.models[0], model)
    shutil.copy(stage.models[1], scene.folder / "spare.h5")
    for _ in range(rng.randint(1, 3)):
        change = partial(change_model, scene, model, rng.choice(CHANGES), rng.random() < 0.5)
        first, step = rng.uniform(0.2, 1.2) * wholes[0].seconds, rng.uniform(0, 0.2)
        events = [(first + step * i, change) for i in range(rng.randint(1, 4))]
        receive, send = os.pipe()
        with open(receive) as stdin, open(send, "w") as pipe:
            events.append((rng.uniform(0.5, 1.5) * wholes[0].seconds, partial(send_list, pipe, stage.paths)))
            runs = scene.together([(*command, *rng.choice([NEW, RESUME]))], 1.5 * wholes[0].seconds, 0.3, events,
                                  stdin=stdin)
        wrote = scene.judge(runs, 1, (*REFUSED, "model.h5"))
        if output == "out.csv":
            expect_rows(scene, output, wholes, wrote)
        else:
            scene.expect(copies(scene, output, wholes) or not wrote, f"{output} does not exist")


def send_list(pipe, paths):
    """Send a list of pictures to the process at the other end of a pipe."""
    pipe.write("\n".join(paths))
    pipe.close()


def change_model(scene, model, how, keep_time):
    """Exchange the contents of model.h5 and spare.h5, in one of three ways."""
    spare, new, times = scene.folder / "spare.h5", scene.folder / "new.h5", os.stat(model)
    if how == "renamed":
        os.link(model, new)
        os.replace(spare, model)
        os.replace(new, spare)
    else:
        before, after = model.read_bytes(), spare.read_bytes()
        if how == "replaced":
            new.write_bytes(after)
            os.replace(new, model)
        else:
            with open(model, "r+b") as file:
                file.write(after)
                file.truncate()
        spare.write_bytes(before)
    if keep_time:
        os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
    scene.note(f"the model file was {how}{' and kept its time' if keep_time else ''}")


def torn_cache(scene):
    """Several processes use a kernel cache whose files are torn before and meanwhile."""
    copy_warm_cache(scene)
    for _ in range(scene.rng.randint(1, 3)):
        tear(scene)
    compute_labels(scene, scene.rng.randint(1, 3), 0.2, [scene.rng.uniform(0, 5) for _ in range(3)])
    expect_mended(scene)


def first_runs(scene):
    """Five first processes begin with an empty kernel cache; a file of it is torn every second."""
    scene.kernels = scene.folder / "cache"
    compute_labels(scene, 5, 0, range(1, LONGEST))
    expect_mended(scene)


def read_only_cache(scene):
    """A kernel cache, whole or torn, cannot be written."""
    copy_warm_cache(scene)
    torn = scene.rng.random() < 0.3
    if torn:
        tear(scene)
    for path in scene.kernels.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = scene.files()
    runs = compute_labels(scene, scene.rng.randint(1, 2), 0, (), preexec_fn=give_up_the_rights_of_root)
    for run in runs:
        scene.expect(torn or not run.err, f"{run.pid} printed something, but the cache was whole")
    scene.expect(torn or scene.files() == before, "something was written, but the cache was whole")
    for path in scene.kernels.rglob("*"):
        path.chmod(0o755)


def full_cache(scene):
    """Kernels are compiled, but from a random moment on no file can be written."""
    copy_warm_cache(scene)
    for path in scene.rng.sample(cache_files(scene), 6):
        path.unlink()
    limit = scene.rng.choice([0, 1000, 20_000])

    def fill():
        scene.note(f"from now on files can have {limit} bytes")
        for run in scene.runs:
            if not run.has_ended():
                resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (limit, limit))

    compute_labels(scene, 1, 0, [scene.rng.uniform(0, 4)], fill)
    expect_mended(scene)


def copy_warm_cache(scene):
    """Give the scene a kernel cache of its own, which contains every kernel that it needs."""
    scene.stage.undisturbed(*labels_command(scene.stage))
    scene.kernels = scene.folder / "cache"
    shutil.copytree(scene.stage.kernels, scene.kernels)


def labels_command(stage):
    """A command that computes with the kernels and prints the labels of four pictures."""
    return "classify", *stage.good[:4], "--format", "jsonl", "--model", stage.models[0], "--quiet"


def compute_labels(scene, count, kill, moments, event=None, **options):
    """Run `labels_command` several times at once, while an event happens at some moments.  -> Runs

    The event is by default that a file of the cache is torn. The labels of each Run must be right.
    """
    command = labels_command(scene.stage)
    events = [(moment, event or partial(tear, scene)) for moment in moments]
    runs = scene.together([command] * count, 1, kill, events, **options)
    for run in runs:
        scene.expect(run.killed or (run.code, run.out) == (0, scene.stage.undisturbed(*command).out),
                     f"{run.pid} ended with {run.code} and printed {run.out.count(b'labels')} of 4 rows or wrong ones")
        scene.expect("Traceback" not in run.err, f"{run.pid} printed a traceback")
    return runs


def expect_mended(scene):
    """The next process mends the kernel cache, and the process after it has nothing to say."""
    for _ in range(2):
        run, = compute_labels(scene, 1, 0, ())
    scene.expect(not run.err, f"the kernel cache is not mended: {run.pid} printed something")


def cache_files(scene):
    """The files of the kernel cache, sorted."""
    return sorted(path for path in scene.kernels.rglob("*") if path.is_file())


def tear(scene):
    """Damage a random file of the kernel cache as a full disk, a crash or a lost page does."""
    for path in scene.rng.sample(cache_files(scene), 1) if cache_files(scene) else []:
        how, size = scene.rng.choice(["emptied", "cut", "zeroed", "deleted"]), path.stat().st_size
        if how == "deleted":
            path.unlink()
        elif how == "zeroed":
            start = scene.rng.randrange(size + 1)
            with open(path, "r+b") as file:
                file.seek(start)
                file.write(bytes(min(4096, size - start)))
        else:
            os.truncate(path, size // 2 if how == "cut" else 0)
        scene.note(f"{path.name} was {how}")


def give_up_the_rights_of_root():
    """In a new process: from now on root, too, cannot write where there is no permission to write."""
    PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


SCENES = {"embed": embed, "classify": classify, "targets": targets, "model-file": model_file, "torn-cache": torn_cache,
          "read-only-cache": read_only_cache, "full-cache": full_cache, "first-runs": first_runs}
RARE = ("first-runs",)                    # takes minutes, and runs only if --only names it


# ---------------------------------------------------------------- the program

def play(stage, name, seed, index):
    """Play one scene, and print its findings.  -> Scene"""
    with tempfile.TemporaryDirectory(dir=stage.folder) as folder:
        scene = Scene(stage, random.Random(f"{name} {seed} {index}"), Path(folder))
        try:
            SCENES[name](scene)
        except Exception:
            scene.expect(False, traceback.format_exc())
        finally:
            scene.stop()
    if scene.findings:
        print(f"FINDING {name}: " + "\n    ".join(scene.findings))
        print(f"    again: --only {name} --seed {seed} --first {index}")
        for moment, text in sorted(scene.history):
            print(f"    {moment - scene.begin:7.3f} s: {text}", flush=True)
    return scene


def main(argv=None):
    """Play scenes until the time is over.  -> exit code"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float, help="no scene begins later")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=SCENES, help="the only scene; default: all in turn, without first-runs")
    parser.add_argument("--first", type=int, default=0, help="index of the first scene (default 0)")
    parser.add_argument("--no-locks", action="store_true", help="as on a file system without locks")
    parser.add_argument("--plant", choices=FAULTS, help="a fault; the program ends when it is found")
    args = parser.parse_args(argv)
    fault = FAULTS[args.plant] if args.plant else Fault(None, ())
    only = args.only or fault.scene
    names = [only] if only else [name for name in SCENES if name not in RARE]
    begin, index, counts = time.monotonic(), args.first, {name: Counter() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), (*fault.changes, *[NO_LOCKS] * args.no_locks))
        while index == args.first or time.monotonic() - begin < args.seconds:
            name = names[index % len(names)]
            start = time.monotonic()
            scene = play(stage, name, args.seed, index)
            counts[name].update(scenes=1, processes=len(scene.runs), kills=sum(run.killed for run in scene.runs),
                                seconds=time.monotonic() - start, findings=int(bool(scene.findings)))
            index += 1
            if args.plant and scene.findings:
                print(f"the fault was found after {time.monotonic() - begin:.0f} s")
                break
    for name, count in counts.items():
        print(f"{name:16} {count['scenes']:5} scenes, {count['processes']:5} processes, {count['kills']:5} kills, "
              f"{count['seconds']:6.0f} s, {count['findings']} findings")
    return int(any(count["findings"] for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
