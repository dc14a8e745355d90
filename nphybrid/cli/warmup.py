"""The verb `warmup` compiles every kernel before its first use."""
import sys

from .loading import announce_compilation

DESCRIPTION = """\
Compile every kernel now, so that no later run has to compile.
"""


def add(verb):
    """Add the option of `warmup` to the parser."""
    verb.description = DESCRIPTION
    verb.add_argument("--prune", action="store_true", help="delete the compiled kernels of other versions of nphybrid")


def run(args):
    """Compile every kernel.  With --prune, delete the compiled kernels of other versions."""
    from ..machine import warmup
    from ..ops import cache
    if cache.CACHE is None:
        print("nphybrid: no kernel was compiled, because there is no folder for compiled kernels. `nphybrid doctor` "
              "shows the reason.", file=sys.stderr)
        return 1
    announce_compilation("numba")
    compiled, seconds = warmup.compile_kernels()
    folder = warmup.kept_kernels()
    done = f"compiled {compiled}" if compiled else "already compiled"
    print(f"{done}, {seconds:.1f} s: {folder.kernels} kernels, {folder.bytes / 1e6:.1f} MB, in {cache.CACHE}")
    for deleted in warmup.prune() if args.prune else ():
        print(f"deleted {deleted.path}, {deleted.bytes / 1e6:.1f} MB")
    return 0
