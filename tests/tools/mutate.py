"""Mutation testing: small faults are put into the source one at a time, and the tests have to fail.

    python tests/tools/mutate.py RESULTS.jsonl                                 every mutant of every file of the table
    python tests/tools/mutate.py RESULTS.jsonl --sample 50 --seed 1 tokens.py  50 mutants of a file, drawn at random
    python tests/tools/mutate.py RESULTS.jsonl --report                        the score of each file; the survivors

A mutant is a copy of the checkout in a temporary folder with one change. It is "killed" if its tests fail, "timeout" if
they take too long, "survived" if they pass. Each result is one JSON line of RESULTS; a second call skips the mutants
that stand there already. Some survivors are equivalent to the original: those need eyes.

The tests of a mutant run in a forked process. Its parent has imported the libraries, which takes longer than most of
these tests, and nothing of nphybrid.
"""
import argparse
import ast
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("nphybrid", "tests", "examples", "weights", "setup.cfg", "README.md", "CONTRIBUTING.md", "SECURITY.md")
TIMEOUT = 600                             # seconds of the tests of one mutant

NETWORK = ["network/test_trace.py", "network/test_shape_column.py", "network/test_surprises.py",
           "parity/test_network_parity.py", "network/test_image.py", "ops/test_reference.py",
           "dialects/test_dialects.py"]
# Without the slow tests of these files, which compile all kernels for other instruction sets.
KERNELS = ["ops/test_kernels.py", "ops/test_tile.py", "-m", "not slow"]
DIALECTS = ["dialects", "parity/test_positions_parity.py", "parity/test_dialects_parity.py"]
TESTS = {                                 # source file or folder of nphybrid -> folders and files of tests
    "config.py": ["network/test_config.py", "network/test_params.py", "api/test_configs.py"],
    "params.py": ["network/test_params.py", "checkpoint/test_checkpoint.py"],
    "image.py": ["network/test_image.py", "parity/test_image_parity.py"],
    "backbone.py": NETWORK, "tokens.py": NETWORK, "encoder.py": NETWORK, "model.py": NETWORK,
    "api/losses.py": ["api/test_losses.py", "parity/test_losses_parity.py"],
    "dialects": DIALECTS,
    "ops/reference.py": ["ops/test_reference.py", "parity/test_network_parity.py", "ops/test_kernels.py"],
    "ops/elementwise.py": ["ops/test_elementwise.py", *KERNELS],
    "ops/target.py": ["ops/test_jit.py"],
    "ops/cache.py": ["ops/test_jit.py"],
    "ops/jit.py": ["ops/test_jit.py", "ops/test_cache.py"],
    "ops/threads.py": ["ops/test_threads.py", "ops/test_kernels.py"],
    "ops/amx.py": ["ops/test_amx.py"],
    "ops/plan.py": ["ops/test_plan.py"],
    "ops/plans.py": ["ops/test_plan.py"],
    "ops/recorder.py": ["ops/test_plan.py"],
    "ops": KERNELS,
}
# What the parent imports for all test processes, where it is installed.
LIBRARIES = ("h5py", "hypothesis", "jax", "numba", "PIL.Image", "pytest", "scipy.ndimage", "torch.nn.functional",
             "transformers.models.bit.modeling_bit",
             "transformers.models.deprecated.vit_hybrid.image_processing_vit_hybrid",
             "transformers.models.deprecated.vit_hybrid.modeling_vit_hybrid")

SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}


def variants(node):
    """The nodes that may stand in the place of a node."""
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in SWAPS:
        yield changed(node, op=SWAPS[type(node.op)]())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield changed(node, ops=[SWAPS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node.operand
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        others = node.value + 1, node.value - 1, -node.value, node.value * 2
        yield from (ast.Constant(value) for value in dict.fromkeys(others) if value != node.value)
    elif isinstance(node, ast.Slice):
        for bound in ("lower", "upper"):
            if getattr(node, bound) is not None:
                yield changed(node, **{bound: ast.BinOp(getattr(node, bound), ast.Add(), ast.Constant(1))})
                yield changed(node, **{bound: None})
    elif isinstance(node, (ast.Assign, ast.AugAssign, ast.Expr, ast.If, ast.Raise)) and not is_docstring(node):
        yield ast.Pass()


def changed(node, **fields):
    """A copy of a node with other fields."""
    copy = type(node)(**{name: getattr(node, name) for name in node._fields})
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def is_docstring(node):
    """Whether a statement is a string and nothing else."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def mutants(source):
    """(line, text before, text after, the whole mutated source) of each mutant, in the order of the syntax tree.

    >>> [mutant[:3] for mutant in mutants("def f(x):\\n    return x + 1  # why\\n")][:2]
    [(2, 'x + 1', 'x - 1'), (2, '1', '2')]
    """
    tree = ast.parse(source)
    inside_functions = {id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef)
                        for node in ast.walk(function)}
    # Python 3.11 gives the parts of an f-string the place of the whole string.
    inside_strings = {id(node) for string in ast.walk(tree) if isinstance(string, ast.JoinedStr)
                      for node in ast.walk(string)}
    for node in ast.walk(tree):
        if id(node) in inside_strings or isinstance(node, ast.stmt) and id(node) not in inside_functions:
            continue
        for other in variants(node):
            yield node.lineno, brief(node), brief(other), replaced(source, node, other)


def replaced(source, node, other):
    """The source with one node in the place of another; comments stay."""
    lines = source.encode().split(b"\n")                  # col_offset counts bytes
    start = sum(len(line) + 1 for line in lines[:node.lineno - 1]) + node.col_offset
    end = sum(len(line) + 1 for line in lines[:node.end_lineno - 1]) + node.end_col_offset
    text = ast.unparse(ast.fix_missing_locations(other))
    if isinstance(other, ast.expr) and not isinstance(other, ast.Slice):
        text = f"({text})"
    return (source.encode()[:start] + text.encode() + source.encode()[end:]).decode()


def brief(node):
    """The first line of a node's text."""
    return ast.unparse(ast.fix_missing_locations(node)).split("\n")[0][:80]


def pytest_arguments(file):
    """The tests of a source file, as arguments of pytest in the root of the checkout."""
    tests = TESTS.get(file) or TESTS[file.split("/")[0]]
    return [f"tests/{name}" if (ROOT / "tests" / name).exists() else name for name in tests]


def import_libraries(folder):
    """Import LIBRARIES. Compiled kernels are kept in the folder of the copies."""
    # The name of a worker that compiles no kernel before it needs one; see tests/conftest.py.
    os.environ.update(NUMBA_CACHE_DIR=str(folder / "kernels"), PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=str(folder),
                      PYTEST_XDIST_WORKER="mutant", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    sys.dont_write_bytecode = True
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if "nphybrid" in sys.modules:
        sys.exit("nphybrid was imported before it was changed")


def run_tests(folder, tests):
    """What the tests of a copy say: "survived", "killed" or "timeout"."""
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            os.chdir(folder)
            sys.path[0] = str(folder)
            silence = os.open(os.devnull, os.O_RDWR)
            for stream in 0, 1, 2:
                os.dup2(silence, stream)
            code = sys.modules["pytest"].main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests])
            os._exit(int(code))
        finally:
            os._exit(70)
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return "survived" if status == 0 else "killed"
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout"


def all_mutants(files):
    """(file, number, line, before, after, source) of every mutant of some files, or of every file of the table."""
    chosen = [path.relative_to(ROOT / "nphybrid").as_posix() for name in files or TESTS
              for path in sorted((ROOT / "nphybrid" / name).glob("*.py")) or [ROOT / "nphybrid" / name]]
    for file in dict.fromkeys(chosen):
        source = (ROOT / "nphybrid" / file).read_text("utf-8")
        for number, mutant in enumerate(mutants(source)):
            yield (file, number, *mutant)


def read(results):
    """The results so far, as dictionaries."""
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.exists() else []


def main(arguments=None):
    """Run or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a file of JSON lines")
    parser.add_argument("files", nargs="*", help="source files or folders of nphybrid; default: the whole table")
    parser.add_argument("--sample", type=int, help="how many mutants of each file are drawn; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--report", action="store_true", help="print the results so far and run nothing")
    args = parser.parse_args(arguments)
    if args.report:
        return report(read(args.results))
    with tempfile.TemporaryDirectory() as folder:
        import_libraries(Path(folder))
        copy_checkout(Path(folder))
        for file, mutants_of_file in drawn(args.files, args.sample, args.seed).items():
            run_file(Path(folder), file, mutants_of_file, args.results)


def drawn(files, sample, seed):
    """{file: its mutants}, at most `sample` of each."""
    by_file = {}
    for mutant in all_mutants(files):
        by_file.setdefault(mutant[0], []).append(mutant)
    if sample is None:
        return by_file
    return {file: random.Random(f"{file} {seed}").sample(found, min(sample, len(found)))
            for file, found in by_file.items()}


def run_file(folder, file, mutants_of_file, results):
    """Run the mutants of a file that have no result yet."""
    done = {tuple(result[key] for key in ("file", "number", "line", "before", "after")) for result in read(results)}
    left = [mutant for mutant in mutants_of_file if mutant[:5] not in done]
    if left and run_tests(folder, pytest_arguments(file)) != "survived":
        sys.exit(f"{file}: its tests fail without any change")
    for file, number, line, before, after, source in left:
        outcome = run_mutant(folder, file, source)
        result = dict(file=file, line=line, before=before, after=after, number=number, outcome=outcome)
        with results.open("a", encoding="utf-8") as log:
            log.write(json.dumps(result, ensure_ascii=False) + "\n")
        print(f"{outcome:8}  {file}:{line}: {before} -> {after}", flush=True)


def copy_checkout(folder):
    """Copy what the tests need."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)


def run_mutant(folder, file, source):
    """The outcome of one mutant; the copy is then as it was."""
    path = folder / "nphybrid" / file
    original = path.read_text("utf-8")
    path.write_text(source, "utf-8")
    try:
        return run_tests(folder, pytest_arguments(file))
    finally:
        path.write_text(original, "utf-8")


def report(results):
    """Print the share of killed mutants of each file, and the survivors."""
    for file in sorted({result["file"] for result in results}):
        counts = Counter(result["outcome"] for result in results if result["file"] == file)
        total = sum(counts.values())
        print(f"{file:28} {(total - counts['survived']) / total:6.1%} of {total} mutants: {dict(counts)}")
    for result in results:
        if result["outcome"] == "survived":
            print("survived  {file}:{line}: {before} -> {after}".format(**result))


if __name__ == "__main__":
    main()
