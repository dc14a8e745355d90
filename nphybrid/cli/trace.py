"""Every state of a forward pass, and its share of the time."""
from .loading import load_model
from .options import add_engine, add_format, add_model, show
from .targets import check_target

# Between 11 forward passes, the share of the time that a state of the bundled model takes varied by half and more.
RUNS = 5

DESCRIPTION = f"""\
Print a row per state of the forward pass: shape, mean, root mean square, and time. The names are those of
`nphybrid summary`, and the same for both engines. The states are of one forward pass, which keeps them; the times
are medians of {RUNS} more, which keep nothing, because keeping states takes time. The attention weights have no
time: a forward pass that does not keep them never stores them.
"""


def add(verb):
    """A picture, a model, how to compute it, and where the states go."""
    verb.description = DESCRIPTION
    verb.add_argument("image", metavar="IMAGE", help="a picture")
    add_model(verb)
    add_engine(verb)
    verb.add_argument("--save", metavar="TRACE.npz",
                      help="write every state to this .npz file; `nphybrid compare` compares two of them")
    add_format(verb)


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
