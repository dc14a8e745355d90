"""The verb `warmup` compiles every kernel before its first use."""
import sys

from .loading import announce_compilation

DESCRIPTION = """\
Compile every kernel now, so that no later run has to compile. The compiled kernels are stored in the folder that
NUMBA_CACHE_DIR names. If this variable is not set, they are stored in the user's cache, or if the cache cannot be
written, in a private folder of the system's temporary folder (nphybrid-UID). Later runs can use the folder even if they
cannot write to it.
"""

EXAMPLES = """\
examples:
  nphybrid warmup
  nphybrid warmup --into /opt/kernels
  env NUMBA_CACHE_DIR=/opt/kernels nphybrid classify cat.png
"""


def add(verb):
    """Add the options of `warmup` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("--into", metavar="FOLDER",
                      help="store the compiled kernels in this folder, for example in the image of a container. Later "
                           "runs find the kernels if NUMBA_CACHE_DIR names this folder.")
    verb.add_argument("--training", action="store_true",
                      help="also compile the kernels that `nphybrid finetune` needs for gradients and optimizers")
    verb.add_argument("--prune", action="store_true",
                      help="delete all other compiled kernels: those of other versions of nphybrid, Numba and Python, "
                           "and those for other CPUs and instruction sets. Other computers that share this folder "
                           "then compile their kernels again.")


def run(args):
    """Compile every kernel.  With --prune, delete all other compiled kernels."""
    from ..machine import warmup
    from ..ops import cache
    if cache.config.DISABLE_JIT:
        print("nphybrid: no kernel was compiled, because NUMBA_DISABLE_JIT is set", file=sys.stderr)
        return 1
    if args.into is not None:
        cache.use(args.into)
    elif cache.config.CACHE_DIR:
        cache.PRIVATE_TOO = False         # kernels in the private folder do not fill the folder that the user named
        if not warmup.is_warm():
            cache.use(cache.config.CACHE_DIR)
    announce_compilation("numba")
    compiled, seconds = warmup.compile_kernels(args.training)
    if not warmup.is_warm():
        print("nphybrid: the compiled kernels could not be stored", file=sys.stderr)
        return 1
    kept = warmup.kept_kernels()
    done = f"compiled {compiled}" if compiled else "already compiled"
    print(f"{done}, {seconds:.1f} s: {kept.kernels} kernels, {kept.bytes / 1e6:.1f} MB, in {kept.path}")
    for deleted in warmup.prune() if args.prune else ():
        print(f"deleted {deleted.path}, {deleted.bytes / 1e6:.1f} MB")
    return 0
