"""The verb `trace` prints statistics and the time of every state of a forward pass."""
from .loading import load_model
from .options import add_depth, add_engine, add_format, add_max_pixels, add_model, show
from .targets import check_target

# The number of timed forward passes. In 11 forward passes of the bundled model, the time of a state, divided by the
# total time, varied by 50 % or more.
RUNS = 5

DESCRIPTION = f"""\
Print a row for each part of the network and for each state of the forward pass of one picture. A state is a named
intermediate array. The row contains the shape, the mean, the root mean square and the time of the state. The row of a
part, for example blocks.0, contains the time of all indented rows below it, and the other columns of its last state.
All engines use the names that `nphybrid summary` prints. The module nphybrid.trace (`pydoc nphybrid.trace`) has the
formula of each state. The states are recorded in one forward pass. The times are the medians of {RUNS} other forward
passes without recording, because recording would change the times. They compute all tokens. The attention weights have
no time, because a forward pass without recording does not store them.

With --backward, the loss is the cross-entropy of the predicted class or of --label. The rows then contain the root mean
square of the gradient of each state, and the memory that the backward pass needs for the state.
"""

EXAMPLES = """\
examples:
  nphybrid trace cat.png
  nphybrid trace cat.png --model model.h5 --save trace.npz
  nphybrid trace cat.png --backward --label 3
"""


def add(verb):
    """Add the options of `trace` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("image", metavar="IMAGE", help="a picture")
    add_model(verb)
    add_engine(verb)
    add_max_pixels(verb)
    verb.add_argument("--save", metavar="TRACE.npz",
                      help="write every state to this .npz file. `nphybrid compare` compares two of these files.")
    verb.add_argument("--backward", action="store_true",
                      help="print the gradient of each state, and the memory that the backward pass needs for it")
    verb.add_argument("--label", type=int, metavar="CLASS",
                      help="the index of the class for --backward (default: the predicted class)")
    verb.add_argument("--recompute", action="store_true",
                      help="with --backward, keep only the results of units and blocks, and compute all other states a "
                           "second time")
    add_depth(verb)
    add_format(verb)
    verb.set_defaults(refuse=verb.error)


def run(args):
    """Print a row for each state.  With --save, also write the states to a file."""
    from ..tensorfile import write_npz
    from ..text import undivided
    from ..trace import SUMMED, state_as_json, states, states_table
    if args.backward:
        return _run_backward(args)
    if args.label is not None or args.recompute:
        args.refuse("--label and --recompute need --backward")
    if args.save is not None:
        check_target(args, args.save, ".npz")
    model = load_model(args)
    trace = model.trace(model.prepared(args.image), runs=RUNS)
    if args.save is not None:
        write_npz(args.save, trace)
    rows = states(trace)
    document = [state_as_json(row) for row in undivided(rows, SUMMED, args.depth)]
    show(args, document, states_table(rows, args.depth))
    return 0


def _run_backward(args):
    import numpy as np

    from ..api.gradients import backward_states, backward_table, check_classes
    from ..text import undivided
    if args.save is not None:
        args.refuse("--save writes the states of a forward pass; expected no --backward")
    model = load_model(args)
    check_classes(model)
    x = model.prepared(args.image)
    classes = model.network_config.classes
    if args.label is not None and not 0 <= args.label < classes:
        args.refuse(f"argument --label: found {args.label}; expected the index of a class, 0 to {classes - 1}")
    label = int(model(x).logits[0].argmax()) if args.label is None else args.label
    rows = backward_states(model, x, np.array([label]), args.recompute)
    document = [row._asdict() for row in undivided(rows, ["bytes"], args.depth)]
    show(args, document, backward_table(rows, args.depth))
    return 0
