"""What a network computes on its way: every state of the walk, and its share of the time."""
import os

from .common import add_arithmetic, add_format, add_model, load_model, show

# Of a state of the bundled model, the share of the time varied by half and more between 11 walks.
RUNS = 5


def add(verbs):
    """A picture, a model, how to compute it, and where to keep the states."""
    verb = verbs.add_parser("trace", help="print every state of the walk of a picture: mean, rms, share of time",
                            description="Print a row per state of the walk, by the names of `nphybrid summary`, which "
                            "are those of both engines: shape, mean, root of the mean square, and time. Keeping states "
                            "takes time of its own, most of all the attention weights, which otherwise never leave the "
                            f"cache; so the states are of one walk, and the times the medians of {RUNS} more that keep "
                            "nothing, in which the weights are no state.")
    verb.add_argument("image", metavar="IMAGE")
    add_model(verb)
    add_arithmetic(verb)
    verb.add_argument("--save", metavar="TRACE.npz",
                      help="write every state to a new .npz, two of which `nphybrid compare` lays side by side")
    add_format(verb)
    return verb


def run(args):
    """Print a row per state; with --save, write the states first."""
    from .. import report
    from ..api.pipeline import prepared
    from ..tensorfile import write_npz
    if args.save is not None:
        _refuse(args.save)
    model = load_model(args)
    trace = model.trace(prepared(model, args.image, args.model), runs=RUNS)
    if args.save is not None:
        write_npz(args.save, trace)
    rows = report.states(trace)
    show(args, [report.state_as_json(row) for row in rows], report.walk_table(rows))
    return 0


def _refuse(target):
    """Raise what is wrong with the place of a new file, before anything is computed."""
    folder = os.path.dirname(os.path.abspath(target))
    if not target.endswith(".npz"):
        raise ValueError(f"{target}: a trace is saved as an .npz; expected a name that ends so")
    if os.path.lexists(target):
        raise FileExistsError(f"{target} is there already; expected the name of a new file")
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{target}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{target}: nothing may be written in {folder}")
