"""What is installed, what was chosen and why, and what is wrong with it.

Each look is taken by itself: one that fails is a finding like any other, and the rest goes on.
"""
import os
import re
import warnings

from ..text import table
from . import computer

# The oldest packages that setup.cfg allows.
LEAST = {"NumPy": "2.0", "Numba": "0.61", "Pillow": "10.3", "h5py": "3.16"}


def examine():
    """Every finding.  -> dict that JSON can hold; "problems" is a list of {"problem": str, "remedy": str}

    >>> sorted(examine())
    ['cache', 'cpu', 'engines', 'kernels', 'model', 'problems', 'threads', 'versions']
    """
    problems, found = [], {}
    for name, look in LOOKS.items():
        try:
            found[name] = look(problems)
        except Exception as error:
            found[name] = None
            _add(problems, f"{name}: {type(error).__name__}: {error}", "pip install --force-reinstall nphybrid")
    return {**found, "problems": problems}


def _add(problems, problem, remedy):
    if problem not in [known["problem"] for known in problems]:
        problems.append({"problem": problem, "remedy": remedy})


def _versions(problems):
    """{name: version}"""
    found = computer.versions()
    for name, least in LEAST.items():
        if found[name] is None:
            _add(problems, f"{name} is not installed", f"pip install {name.lower()}")
        elif _number(found[name]) < _number(least):
            _add(problems, f"{name} {found[name]} is older than {least}", f"pip install -U {name.lower()}")
    return found


def _number(version):
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def _cpu(problems):
    return computer.cpu_name()


def _kernels(problems):
    """What is compiled for, and how it was chosen.  isa and tile are None where the wanted set is refused."""
    wanted = os.environ.get("NPHYBRID_ISA") or None
    jit, target, refused = _jit(problems)
    if jit.config.DISABLE_JIT:
        _add(problems, "NUMBA_DISABLE_JIT is set: the kernels run as plain Python, very slowly", "unset it")
    triple, cpu, _ = target.TARGET
    return {"llvm": target.llvm(), "target": triple, "compiles_for": cpu, "available": target.available(target.TARGET),
            "isa": None if refused else target.ISA, "tile": None if refused else [target.MR, target.NR],
            "rule": target.RULE, "NPHYBRID_ISA": wanted}


def _jit(problems):
    """ops.jit, and whether it refused the instruction set that NPHYBRID_ISA names; then it is imported without."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            from ..ops import cache, jit, target
            refused = False
        except ValueError as error:
            _add(problems, str(error), "unset NPHYBRID_ISA, or name one of these")
            wanted, refused = os.environ.pop("NPHYBRID_ISA"), True
            try:
                from ..ops import cache, jit, target
            finally:
                os.environ["NPHYBRID_ISA"] = wanted
    if cache.CACHE is None and not jit.config.DISABLE_JIT:
        told = [str(warning.message) for warning in caught if "cannot be kept" in str(warning.message)]
        _add(problems, told[0].rpartition(". NUMBA")[0] if told else "compiled kernels cannot be kept",
             f"set NUMBA_CACHE_DIR to a folder that can be written and has {cache.ROOM >> 20} MB of room")
    return jit, target, refused


def _cache(problems):
    """The folder of the kernels, None where they are not kept; what is in it, and what lies beside it."""
    from ..ops import cache
    from . import warmup
    kept, stale = warmup.kept(), warmup.stale()
    return {"folder": cache.CACHE and str(cache.CACHE), "warm": warmup.is_warm(), "kernels": kept.kernels,
            "bytes": kept.bytes, "stale": {str(folder.path): folder.bytes for folder in stale}}


def _threads(problems):
    """How many there will be, and the numbers it follows from."""
    from ..ops import threads
    number, cores = computer.allowed()
    return {"number": threads.number(), "allowed": number, "cores": cores, "quota": computer.quota()}


def _model(problems):
    """The path of the default model; None where it is missing."""
    from ..checkpoint import default_model
    try:
        return str(default_model())
    except FileNotFoundError as error:
        _add(problems, str(error).partition(";")[0], "reinstall nphybrid, or name a model of your own")
        return None


def _engines(problems):
    """[[engine, dtype]] that may be asked for."""
    from ..ops import PAIRS
    return [list(pair) for pair in PAIRS]


LOOKS = {"versions": _versions, "cpu": _cpu, "kernels": _kernels, "cache": _cache, "threads": _threads,
         "model": _model, "engines": _engines}


def shown(found):
    """The findings as a text: a line each, then the problems."""
    lines = list(found["versions"].items()) if found["versions"] else []
    lines += [("CPU", found["cpu"])]
    for name, tell in (("kernels", _tell_kernels), ("cache", _tell_cache), ("threads", _tell_threads)):
        lines += tell(found[name]) if found[name] else []
    lines += [("default model", found["model"]),
              ("engines", ", ".join(" ".join(pair) for pair in found["engines"] or []))]
    rows = [table([(name, str(value or "none")) for name, value in lines], "<<")]
    rows += [f"PROBLEM  {each['problem']}\n         {each['remedy']}" for each in found["problems"]]
    return "\n\n".join(rows if found["problems"] else [*rows, "all is well"])


def _tell_kernels(kernels):
    chosen = "none" if kernels["isa"] is None else f"{kernels['isa']}, tile {kernels['tile'][0]} x {kernels['tile'][1]}"
    return [("LLVM", kernels["llvm"]), ("compiles for", f"{kernels['compiles_for']}, {kernels['target']}"),
            ("instruction sets", ", ".join(kernels["available"])), ("chosen", chosen), ("", kernels["rule"]),
            ("NPHYBRID_ISA", kernels["NPHYBRID_ISA"] or "not set")]


def _tell_cache(cache):
    stale = sum(cache["stale"].values())
    state = "warm" if cache["warm"] else "not warm: `nphybrid warmup` compiles the rest"
    if not cache["folder"]:
        return [("cache", None)]
    lines = [("cache", cache["folder"]), ("", f"{cache['kernels']} kernels, {cache['bytes'] / 1e6:.1f} MB, {state}")]
    if cache["stale"]:
        lines += [("", f"beside it folders of other versions: {len(cache['stale'])}, {stale / 1e6:.1f} MB; "
                       "`nphybrid warmup --prune` deletes them")]
    return lines


def _tell_threads(threads):
    quota = "no quota" if threads["quota"] is None else f"a quota of {threads['quota']:g} cores"
    return [("threads", f"{threads['number']}, one per core that this process may use: {threads['allowed']} of "
                        f"{threads['cores']}, {quota}")]
