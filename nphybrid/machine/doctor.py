"""Report what is installed on this computer, every problem that was found, and a remedy for each problem.

The report also gives the instruction set of the kernels, and the rule that selects this set. The checks are independent
of each other. A check that raises an error is reported as a problem, and all other checks still run.
"""
import os
import re
import warnings

from ..text import table
from . import computer

# For each package, the oldest version that setup.cfg allows.
OLDEST = {"NumPy": "2.0", "Numba": "0.61", "Pillow": "10.3", "h5py": "3.16"}

# For each variable whose wrong value raises an error, the remedy.
REMEDIES = {"NPHYBRID_ISA": "unset NPHYBRID_ISA, or set it to an instruction set of this machine",
            "NUMBA_NUM_THREADS": "unset NUMBA_NUM_THREADS, which does not change the threads of nphybrid"}


def examine() -> dict:
    """Run all checks.  -> dict that can be written as JSON

    "problems" is a list of {"problem": str, "remedy": str}.

    >>> sorted(examine())
    ['cache', 'cpu', 'engines', 'kernels', 'model', 'problems', 'threads', 'versions']
    """
    problems, report = [], {}
    for name, check in CHECKS.items():
        try:
            report[name] = check(problems)
        except Exception as error:
            report[name] = None
            remedy = "correct the permissions" if isinstance(error, PermissionError) else "install nphybrid again"
            _add(problems, f"{name}: {type(error).__name__}: {error}", remedy)
    return {**report, "problems": problems}


def _add(problems, problem, remedy):
    if problem not in [known["problem"] for known in problems]:
        problems.append({"problem": problem, "remedy": remedy})


# ---------------------------------------------------------------- the checks, which append to the list `problems`

def _versions(problems):
    """Return {name: version}, and report each package that is missing or too old."""
    found = computer.versions()
    for name, oldest in OLDEST.items():
        if found[name] is None:
            _add(problems, f"{name} is not installed", f"pip install {name.lower()}")
        elif _number(found[name]) < _number(oldest):
            _add(problems, f"{name} {found[name]} is older than {oldest}, the oldest supported version",
                 f"pip install -U {name.lower()}")
    return found


def _number(version):
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def _cpu(problems):
    return computer.cpu_name()


def _kernels(problems):
    """Report the instruction set that the kernels are compiled for, and the rule that selects an instruction set.

    "products" names the instruction that multiplies numbers of each narrow width, or "" if there is none. "isa", "tile"
    and "products" are None if the value of NPHYBRID_ISA is not valid.
    """
    wanted = os.environ.get("NPHYBRID_ISA") or None
    target = _target(problems)
    if target.config.DISABLE_JIT:
        _add(problems, "NUMBA_DISABLE_JIT is set, so the kernels run as plain Python, which is very slow",
             "unset NUMBA_DISABLE_JIT")
    triple, cpu, _ = target.TARGET
    refused = wanted not in (None, target.ISA)
    return {"llvm": target.llvm(), "target": triple, "compiles_for": cpu, "available": target.available(target.TARGET),
            "isa": None if refused else target.ISA, "tile": None if refused else [target.MR, target.NR],
            "products": None if refused else target.INSTRUCTIONS, "rule": target.RULE, "NPHYBRID_ISA": wanted}


def _target(problems):
    """Import and return the module ops.target.

    If the import fails because of a variable of REMEDIES, the module is imported without this variable.
    """
    removed = {}
    try:
        while True:
            try:
                from ..ops import target
                return target
            except ValueError as error:
                name = str(error).partition("=")[0]
                if name not in REMEDIES or name not in os.environ:
                    raise
                _add(problems, str(error), REMEDIES[name])
                removed[name] = os.environ.pop(name)
    finally:
        os.environ.update(removed)


def _cache(problems):
    """Report the folder of the compiled kernels, its contents, and the stale folders beside this folder.

    The checks compile nothing and write nothing.
    """
    from ..ops import cache
    from . import warmup
    if cache.config.DISABLE_JIT:
        return None
    if damaged := cache.damaged_files():
        _add(problems, f"{len(damaged)} files of compiled kernels are damaged, for example {damaged[0]}",
             "nphybrid warmup")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # the damaged files are already reported
        warm = not damaged and warmup.is_warm()
    obstacles = cache.obstacles() or [cache.NO_FOLDER]
    remedy = f"set NUMBA_CACHE_DIR to a folder that can be written and has {cache.ROOM >> 20} MB of free space"
    kept, stale = warmup.kept_kernels(), warmup.stale_folders()
    if not warm and all(obstacles):
        _add(problems, f"compiled kernels cannot be kept ({'; '.join(obstacles)}): every process compiles the kernels "
                       "again", remedy)
    elif cache.config.CACHE_DIR and obstacles[0] and kept.path != next(cache.folders()):
        _add(problems, f"NUMBA_CACHE_DIR is not used ({obstacles[0]}): compiled kernels are kept in {kept.path}",
             remedy)
    for path in cache.open_to_others():
        harm = "change your results" if path.suffix == cache.WEIGHTS else "run code with your rights"
        _add(problems, f"every user of this computer can write {path}, and so can {harm}", f"chmod o-w {path}")
    weights = warmup.kept_weights()
    for file in weights:
        if file.model is None:
            _add(problems, f"the packed weights {file.path} are damaged", "nphybrid warmup --model MODEL")
    return {"folder": kept.path and str(kept.path), "warm": warm, "kernels": kept.kernels,
            "bytes": kept.bytes, "weights": [{**file._asdict(), "path": str(file.path)} for file in weights],
            "stale": {str(folder.path): folder.bytes for folder in stale}}


def _threads(problems):
    """Report how many threads a model uses and how many cores there are."""
    from ..ops import threads
    number, cores = computer.allowed()
    return {"number": threads.number(), "allowed": number, "cores": cores, "quota": computer.quota()}


def _model(problems):
    """Report the path of the default model, or None if its file is missing."""
    from ..checkpoint import default_model
    try:
        return str(default_model())
    except FileNotFoundError as error:
        _add(problems, str(error).partition(";")[0], "reinstall nphybrid, or give the path of a different model")
        return None


def _engines(problems):
    """Report all pairs [engine, dtype] with which a model can be loaded."""
    from ..ops import PAIRS
    return [list(pair) for pair in PAIRS]


CHECKS = {"versions": _versions, "cpu": _cpu, "kernels": _kernels, "cache": _cache, "threads": _threads,
          "model": _model, "engines": _engines}


# ---------------------------------------------------------------- as text

def format_text(report: dict) -> str:
    """Return a report of `examine` as text: a table of the results, then the problems."""
    lines = list(report["versions"].items()) if report["versions"] else []
    lines += [("CPU", report["cpu"])]
    for name, lines_of in (("kernels", _kernel_lines), ("cache", _cache_lines), ("threads", _thread_lines)):
        lines += lines_of(report[name]) if report[name] else []
    lines += [("default model", report["model"]),
              ("engines", ", ".join(" ".join(pair) for pair in report["engines"] or []))]
    parts = [table([(name, str(value or "none")) for name, value in lines], "<<")]
    parts += [f"PROBLEM  {each['problem']}\n         {each['remedy']}" for each in report["problems"]]
    return "\n\n".join(parts if report["problems"] else [*parts, "no problem was found"])


def _kernel_lines(kernels):
    chosen = "none" if kernels["isa"] is None else f"{kernels['isa']}, tile {kernels['tile'][0]} x {kernels['tile'][1]}"
    return [("LLVM", kernels["llvm"]), ("compiles for", f"{kernels['compiles_for']}, {kernels['target']}"),
            ("instruction sets", ", ".join(kernels["available"])), ("chosen", chosen), ("", kernels["rule"]),
            *(_product_line(kernels["isa"], *item) for item in (kernels["products"] or {}).items()),
            ("", "`nphybrid bench --dtype float32,bfloat16,int8` compares the speed"),
            ("NPHYBRID_ISA", kernels["NPHYBRID_ISA"] or "not set")]


def _product_line(isa, width, instruction):
    """The row of the table that says how the numbers of a narrow width are multiplied."""
    if isa == "amx":
        text = {"bfloat16": f"tdpbf16ps in layers; in attention: {instruction}", "int8": "tdpbusd"}[width]
    else:
        text = instruction or "no instruction for this width; the numbers are widened to 32 bits"
    return f"{width} products", text


def _cache_lines(cache):
    if not cache["folder"]:
        return [("cache", None)]
    state = "no kernel is missing" if cache["warm"] else "`nphybrid warmup` compiles the missing kernels"
    lines = [("cache", cache["folder"]), ("", f"{cache['kernels']} kernels, {cache['bytes'] / 1e6:.1f} MB, {state}")]
    lines += [("", f"packed weights of {file['model']}, {file['dtype']}, {file['bytes'] / 1e6:.1f} MB")
              for file in cache["weights"]]
    if cache["weights"]:
        lines += [("", "`nphybrid warmup --prune` deletes the packed weights")]
    if cache["stale"]:
        size = sum(cache["stale"].values()) / 1e6
        lines += [("", f"folders with kernels of other versions or CPUs: {len(cache['stale'])}, {size:.1f} MB; "
                       "`nphybrid warmup --prune` deletes these folders")]
    return lines


def _thread_lines(threads):
    quota = "no quota" if threads["quota"] is None else f"a quota of {threads['quota']:g} cores"
    return [("threads", f"{threads['number']}, because this process may use {threads['allowed']} of "
                        f"{threads['cores']} cores; {quota}"),
            ("", "--threads, or the CPU affinity (taskset), changes this number; NUMBA_NUM_THREADS does not")]
