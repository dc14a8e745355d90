"""The verb `warmup` compiles every kernel before its first use, and stores the packed weights of a model."""
import sys

from .loading import announce_compilation, refuse_preset
from .options import DTYPES, PRECISIONS, say

DESCRIPTION = """\
Compile every kernel now, so that no later run has to compile. The compiled kernels are stored in the folder that
NUMBA_CACHE_DIR names. If this variable is not set, they are stored in the user's cache, or if the cache cannot be
written, in a private folder of the system's temporary folder (nphybrid-UID). Later runs can use the folder even if they
cannot write to it. With --model, the packed weights of a model are stored there, too. Later runs with this model start
faster and share the memory of its weights. The file has about the size of the weights in memory.
"""

EXAMPLES = """\
examples:
  nphybrid warmup
  nphybrid warmup --model model.h5 --dtype int8
  nphybrid warmup --model model.h5 --into /opt/kernels
  env NUMBA_CACHE_DIR=/opt/kernels nphybrid classify cat.png
"""


def add(verb):
    """Add the options of `warmup` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("--model",
                      help="a file, a folder, or owner/name on the Hugging Face hub, whose packed weights are stored. "
                           "An .h5 file may be moved or copied later. Another model must stay unchanged in its place.")
    verb.add_argument("--dtype", choices=[dtype for dtype in DTYPES if dtype != "float64"],
                      help="the dtype of the computation, with --model (default: as for `nphybrid classify`)")
    verb.add_argument("--precision", choices=PRECISIONS, default="highest",
                      help="the precision of float32 matrix products, with --model (default highest)")
    verb.set_defaults(refuse=verb.error)
    verb.add_argument("--into", metavar="FOLDER",
                      help="store the compiled kernels and the packed weights in this folder, for example in the image "
                           "of a container. Later runs find them if NUMBA_CACHE_DIR names this folder.")
    verb.add_argument("--training", action="store_true",
                      help="also compile the kernels that `nphybrid finetune` needs for gradients and optimizers")
    verb.add_argument("--prune", action="store_true",
                      help="delete all other compiled kernels: those of other versions of nphybrid, Numba and Python, "
                           "and those for other CPUs and instruction sets. Other computers that share this folder "
                           "then compile their kernels again. Also delete the packed weights of all other models, "
                           "dtypes and precisions.")


def run(args):
    """Compile every kernel, and store the packed weights of a model.  With --prune, delete the rest of the cache."""
    from .. import checkpoint
    from ..machine import warmup
    from ..ops import cache
    if cache.config.DISABLE_JIT:
        print("nphybrid: no kernel was compiled, because NUMBA_DISABLE_JIT is set", file=sys.stderr)
        return 1
    if args.model is None and (args.dtype or args.precision != "highest"):
        args.refuse("--dtype and --precision need --model")
    refuse_preset(args.model)
    if args.model is not None:
        checkpoint.read(args.model)       # a wrong model is refused before the compilation
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
    say(f"{done}, {seconds:.1f} s: {kept.kernels} kernels, {kept.bytes / 1e6:.1f} MB, in {kept.path}")
    weights = None
    if args.model is not None:
        weights, new = warmup.keep_weights(args.model, args.dtype, args.precision)
        done = "stored the packed weights" if new else "the packed weights are already stored"
        say(f"{done}: {weights.stat().st_size / 1e6:.1f} MB, in {weights}")
    for path, size in warmup.prune(but=weights).items() if args.prune else ():
        say(f"deleted {path}, {size / 1e6:.1f} MB")
    return 0
