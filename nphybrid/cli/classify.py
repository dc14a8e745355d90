"""The labels of pictures."""
import json
import sys

from .common import add_arithmetic, add_format, add_labels, add_model, load_model, positive, relabel


def add(verbs):
    """Pictures, a model, and how to compute it."""
    verb = verbs.add_parser("classify", help="print the labels of pictures")
    verb.add_argument("images", nargs="+", metavar="IMAGE")
    add_model(verb)
    add_labels(verb)
    verb.add_argument("--top-k", type=positive, default=5, metavar="K", help="how many labels (default 5)")
    add_arithmetic(verb)
    add_format(verb)
    return verb


def run(args):
    """Print the best labels of each picture; a picture that cannot be read costs its own row only."""
    from ..api.pipeline import pipeline
    pipe = pipeline("image-classification", load_model(args))
    if args.labels:
        relabel(pipe.model, args.labels)
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


def _print_labels(row, with_path):
    labels = row.get("labels", [])
    width = max((len(label["label"]) for label in labels), default=0)
    if with_path:
        print(row["path"] if labels else f"{row['path']}: error")
    for label in labels:
        print(f"{'  ' if with_path else ''}{label['label']:{width}}  {label['score']:.4f}", flush=True)
