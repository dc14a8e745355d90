"""What a network computes on its way: every state of the walk, and its share of the time."""
from .loading import load_model
from .options import add_arithmetic, add_format, add_model, show
from .targets import check_target

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
                      help="write every state to an .npz, two of which `nphybrid compare` lays side by side")
    add_format(verb)
    return verb


def run(args):
    """Print a row per state; with --save, write the states first."""
    from ..tensorfile import write_npz
    from ..trace import state_as_json, states, states_table
    if args.save is not None:
        check_target(args, args.save, ".npz")
    model = load_model(args)
    trace = model.trace(model.prepared(args.image), runs=RUNS)
    if args.save is not None:
        write_npz(args.save, trace)
    rows = states(trace)
    show(args, [state_as_json(row) for row in rows], states_table(rows))
    return 0
