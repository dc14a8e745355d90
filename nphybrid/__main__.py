"""The command line: one short function per verb.  `nphybrid`, or `python -m nphybrid`

Data goes to stdout, everything else to stderr. Exit codes: 0 all good, 1 some inputs failed or the doctor found
something, 2 usage, 3 model or file refused, 130 interrupted. Nothing heavy is imported before a verb needs it.
"""
import argparse
import atexit
import gc
import json
import os
import sys
from dataclasses import replace


def classify(args):
    """Print the best labels of each picture; a picture that cannot be read costs its own row only."""
    from .api.pipeline import pipeline
    _announce_compilation(args.engine)
    pipe = pipeline("image-classification", args.model, engine=args.engine, dtype=args.dtype, precision=args.precision,
                    num_threads=args.threads)
    if args.labels:
        _relabel(pipe.model, args.labels)
    rows, failed = [], 0
    for path in args.images:
        try:
            row = {"path": path, "labels": pipe(path, top_k=args.top_k)}
        except (ValueError, OSError) as error:
            row, failed = {"path": path, "error": str(error)}, 1
            print(f"nphybrid: {error}", file=sys.stderr)
        rows.append(row)
        if args.format == "text":
            _print_labels(row, with_path=len(args.images) > 1)
    if args.format == "json":
        print(json.dumps(rows, indent=2))
    return failed


def _announce_compilation(engine):
    """Tell why the first run takes longer."""
    if engine == "numba":
        from .ops import jit
        if jit.cold():
            print("nphybrid: compiling the kernels, this once (about 20 seconds) …", file=sys.stderr, flush=True)


def _print_labels(row, with_path):
    labels = row.get("labels", [])
    width = max((len(label["label"]) for label in labels), default=0)
    if with_path:
        print(row["path"] if labels else f"{row['path']}: error")
    for label in labels:
        print(f"{'  ' if with_path else ''}{label['label']:{width}}  {label['score']:.4f}", flush=True)


def _relabel(model, path):
    """Call the model's classes what a file calls them."""
    from .labels import from_file
    labels = from_file(path)
    if len(labels) != model.sizes.classes:
        raise ValueError(f"{path} holds {len(labels):,} labels, but the model has {model.sizes.classes:,} classes")
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}


def convert(args):
    """Write a model in another format, and print what it holds and what was lost."""
    from . import checkpoint, conversion, hub
    from .api.pipeline import load
    conversion.format_of(args.target, args.to)
    path = hub.located(args.source)
    model = load(path, engine="reference")
    if args.labels:
        _relabel(model, args.labels)
    # The folder of a model that was fetched is named after its commit.
    here = os.path.basename(os.path.abspath(path))
    name = here if os.path.exists(args.source) else f"{args.source.partition('@')[0]}@{here}"
    digest = checkpoint.sha256(path)
    source = {"name": name, "sha256": digest}
    lost, moved = conversion.convert(model, args.target, args.to, args.lossy, source)
    print(f"{args.target}: {type(model).__name__}, {model.num_parameters():,} parameters, "
          f"{_size(args.target):,} bytes, source sha256 {digest}")
    if lost:
        print(f"lost:\n{conversion.listed(lost)}\nthe golden logits move by {moved:.2g} of their standard deviation",
              file=sys.stderr)
    return 0


def _size(path):
    """Bytes of a file, or of the files of a folder."""
    return sum(map(os.path.getsize, [os.path.join(path, name) for name in os.listdir(path)])
               if os.path.isdir(path) else [os.path.getsize(path)])


def summary(args):
    """Print a row per state: shape, parameters, multiply-adds of one image."""
    from . import hub, report
    from .api.pipeline import class_of
    from .checkpoint import default_model, read_config
    from .config import PRESETS
    if args.model in PRESETS:
        sizes = PRESETS[args.model]
    else:
        path = args.model or default_model()
        if not (os.path.exists(path) or hub.is_name(path)):
            raise FileNotFoundError(f"{path} is no file or folder, and no preset; those are {', '.join(PRESETS)}")
        fields = read_config(path)
        kind = class_of(fields, path)
        sizes = kind.config_class.from_dict(fields).sizes()
        sizes = sizes if kind.has_head else replace(sizes, classes=0)
    rows = report.summary(sizes)
    if args.format == "json":
        print(json.dumps([row._asdict() for row in rows], indent=2))
    else:
        print(report.summary_table(rows))
    return 0


def inspect(args):
    """Print what a file holds, by its header."""
    from .inspection import inspected, shown
    found = inspected(args.path)
    print(json.dumps(found, indent=2) if args.format == "json" else shown(found))
    return 0


def verify(args):
    """Print whether an `.h5` still is, and is computed as, what was converted."""
    from .checkpoint import default_model
    from .verification import shown, verified
    _announce_compilation(args.engine)
    checks = verified(args.model or default_model(), args.engine, args.dtype, args.precision, args.image)
    print(json.dumps([check._asdict() for check in checks], indent=2) if args.format == "json" else shown(checks))
    return int(not all(check.ok for check in checks))


def compare(args):
    """Print where two models or two traces part, state by state."""
    from .comparison import as_json, compared, shown
    rows = compared(args.a, args.b, args.tolerance, args.image)
    print(json.dumps(as_json(rows), indent=2) if args.format == "json" else shown(rows))
    return int(not all(row.ok for row in rows))


def bench(args):
    """Print a row per combination of dtype, threads and batch; one whose process is killed costs its own row only."""
    from .bench import combinations, row, shown, surroundings
    from .ops import threads
    wanted = combinations(args.model, args.engine, args.dtype, args.precision,
                          args.threads or sorted({1, threads.number()}), args.batch, args.runs, args.profile)
    here, rows = surroundings(), []
    for i, combination in enumerate(wanted):
        if sys.stderr.isatty():
            print(f"{i + 1} of {len(wanted)} …", end="\r", file=sys.stderr, flush=True)
        rows.append(row(combination))
    print(shown(here, rows, args.format))
    return int(any("error" in each for each in rows))


def doctor(args):
    """Print what is installed and chosen here, and every problem with its remedy."""
    from .doctor import examine, shown
    found = examine()
    print(json.dumps(found, indent=2) if args.format == "json" else shown(found))
    return int(bool(found["problems"]))


def warmup(args):
    """Compile every kernel now; with --prune, delete what other versions have left behind."""
    from .ops import jit
    from .warmup import kept, prune, warm
    if jit.CACHE is None:
        print("nphybrid: nothing to warm up, for no kernel can be kept: see `nphybrid doctor`", file=sys.stderr)
        return 1
    _announce_compilation("numba")
    compiled, seconds = warm()
    folder, done = kept(), f"compiled {compiled}" if compiled else "warm already"
    print(f"{done}, {seconds:.1f} s: {folder.kernels} kernels, {folder.bytes / 1e6:.1f} MB, in {jit.CACHE}")
    for gone in prune() if args.prune else ():
        print(f"deleted {gone.path}, {gone.bytes / 1e6:.1f} MB")
    return 0


ENGINES, DTYPES = ("numba", "reference"), ("float32", "float64", "bfloat16")


def _parser():
    from . import __version__
    parser = argparse.ArgumentParser(prog="nphybrid", description="The Hybrid Vision Transformer in NumPy and Numba.")
    parser.add_argument("--version", action="version", version=f"nphybrid {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add, run in ((_add_classify, classify), (_add_convert, convert), (_add_summary, summary),
                     (_add_inspect, inspect), (_add_verify, verify), (_add_compare, compare), (_add_bench, bench),
                     (_add_doctor, doctor), (_add_warmup, warmup)):
        verb = add(verbs)
        verb.add_argument("--debug", action="store_true", help="show the traceback of an error")
        verb.set_defaults(run=run)
    return parser


def _add_classify(verbs):
    verb = verbs.add_parser("classify", help="print the labels of pictures")
    verb.add_argument("images", nargs="+", metavar="IMAGE")
    verb.add_argument("--model", help="a file or folder, or owner/name on the hub (default: the CIFAR-10 "
                                      "model that comes along)")
    _add_labels(verb)
    verb.add_argument("--top-k", type=_positive, default=5, metavar="K", help="how many labels (default 5)")
    verb.add_argument("--engine", choices=ENGINES, default="numba")
    verb.add_argument("--dtype", choices=DTYPES, default="float32")
    verb.add_argument("--precision", choices=("highest", "high"), default="highest",
                      help="high: less of float32 where that is faster, on AMX (default highest)")
    verb.add_argument("--threads", type=_positive, metavar="N", help="how many threads (default: every core)")
    verb.add_argument("--format", choices=("text", "json"), default="text")
    return verb


def _add_convert(verbs):
    verb = verbs.add_parser("convert", help="write a model in another format")
    verb.add_argument("source", metavar="SOURCE", help="a file or folder, or owner/name[@revision] on the hub")
    verb.add_argument("target", metavar="TARGET",
                      help="a .h5, which loses nothing; a .npz with Google's names; or a folder")
    verb.add_argument("--to", choices=("h5", "huggingface", "timm", "google"),
                      help="what the target's name does not tell: a folder of timm (default huggingface)")
    verb.add_argument("--lossy", action="store_true", help="write what the target can hold, and list what is lost")
    _add_labels(verb)
    return verb


def _add_labels(verb):
    verb.add_argument("--labels", metavar="FILE", help="what to call the classes: one name a line, or a JSON list or "
                                                       "object (default: the model's own names)")


def _add_summary(verbs):
    verb = verbs.add_parser("summary", help="print shapes, parameters and multiply-adds of a model or a config")
    verb.add_argument("model", nargs="?", metavar="MODEL",
                      help="a file, a folder, a config.json, owner/name on the hub, or a preset such as "
                           "R50+ViT-B/16")
    verb.add_argument("--format", choices=("text", "json"), default="text")
    return verb


def _add_inspect(verbs):
    verb = verbs.add_parser("inspect", help="print what a model file holds: tensors, checksums, whose names")
    verb.add_argument("path", metavar="PATH",
                      help="a weight file, an index of shards, a config.json, a folder, or owner/name on the hub")
    verb.add_argument("--format", choices=("text", "json"), default="text")
    return verb


def _add_verify(verbs):
    verb = verbs.add_parser("verify", help="recompute the checksums and the logits that an .h5 keeps")
    verb.add_argument("model", nargs="?", metavar="MODEL.h5", help="(default: the model that comes along)")
    verb.add_argument("--engine", choices=ENGINES, default="numba", help="verified beside the reference in float64")
    verb.add_argument("--dtype", choices=DTYPES, default="float32")
    verb.add_argument("--precision", choices=("highest", "high"), default="highest")
    verb.add_argument("--image", metavar="CATS.jpg",
                      help="000000039769.jpg of COCO val2017: its published logits, for google/vit-hybrid-base-bit-384")
    verb.add_argument("--format", choices=("text", "json"), default="text")
    return verb


def _add_compare(verbs):
    verb = verbs.add_parser("compare", help="tell where two models or two traces part")
    verb.add_argument("a", metavar="A", help="a model of any format; or a trace, an .npz or .safetensors of states")
    verb.add_argument("b", metavar="B", help="another of the same kind")
    verb.add_argument("--tolerance", type=_tolerance, metavar="X",
                      help="of max|a - b| / max|b| per state (default 1e-9 in float64, else 3e-4)")
    verb.add_argument("--image", help="the picture that both models look at (default: a built-in one)")
    verb.add_argument("--format", choices=("text", "json"), default="text")
    return verb


def _add_bench(verbs):
    verb = verbs.add_parser("bench", help="measure load, first and steady calls, and memory of a model",
                            description="Options with N,M take several values; each combination is measured by itself.")
    verb.add_argument("model", nargs="?", metavar="MODEL",
                      help="a file, a folder, or a preset such as R50+ViT-B/16 (default: the model that comes along)")
    verb.add_argument("--threads", type=_several(_positive), metavar="N,M", help="(default: 1, and every core)")
    verb.add_argument("--batch", type=_several(_positive), default=[1], metavar="N,M", help="images a call (default 1)")
    verb.add_argument("--dtype", type=_several(_one_of(DTYPES)), default=["float32"], metavar="A,B",
                      help=f"of {', '.join(DTYPES)} (default float32)")
    verb.add_argument("--precision", type=_several(str), default=["highest"], metavar="A,B",
                      help="of highest, high (default highest)")
    verb.add_argument("--engine", choices=ENGINES, default="numba")
    verb.add_argument("--runs", type=_positive, default=11, metavar="N", help="calls that count (default 11)")
    verb.add_argument("--profile", action="store_true", help="tell the time of each stage of the walk too")
    verb.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    return verb


def _add_doctor(verbs):
    verb = verbs.add_parser("doctor", help="tell what is installed and chosen here, and what is wrong")
    verb.add_argument("--format", choices=("text", "json"), default="text")
    return verb


def _add_warmup(verbs):
    verb = verbs.add_parser("warmup", help="compile every kernel now")
    verb.add_argument("--prune", action="store_true", help="delete the compiled kernels of other versions")
    return verb


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of 1 or more")
    return int(text)


def _tolerance(text):
    try:
        if float(text) >= 0:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text} is no number of 0 or more")


def _several(kind):
    """Values with commas between them."""
    return lambda text: [kind(value) for value in text.split(",")]


def _one_of(choices):
    def choice(text):
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r}; expected one of {', '.join(choices)}")
        return text
    return choice


def main(argv=None):
    """Run one verb.  -> exit code"""
    args = _parser().parse_args(argv)
    # Python would take all of Numba apart before it ends, which takes 0.25 s.
    atexit.register(gc.freeze)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader left, as `head` does. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError) as error:
        if args.debug:
            raise
        print(f"nphybrid: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
