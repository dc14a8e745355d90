"""Every kernel compiled ahead."""
import sys

from .loading import announce_compilation


def add(verbs):
    """Whether to tidy up too."""
    verb = verbs.add_parser("warmup", help="compile every kernel now")
    verb.add_argument("--prune", action="store_true", help="delete the compiled kernels of other versions")
    return verb


def run(args):
    """Compile every kernel now; with --prune, delete what other versions have left behind."""
    from ..machine.warmup import kept, prune, warm
    from ..ops import cache
    if cache.CACHE is None:
        print("nphybrid: nothing to warm up, for no kernel can be kept: see `nphybrid doctor`", file=sys.stderr)
        return 1
    announce_compilation("numba")
    compiled, seconds = warm()
    folder, done = kept(), f"compiled {compiled}" if compiled else "warm already"
    print(f"{done}, {seconds:.1f} s: {folder.kernels} kernels, {folder.bytes / 1e6:.1f} MB, in {cache.CACHE}")
    for gone in prune() if args.prune else ():
        print(f"deleted {gone.path}, {gone.bytes / 1e6:.1f} MB")
    return 0
