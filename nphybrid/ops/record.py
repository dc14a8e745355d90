"""The record of a forward pass, from which the backward pass computes gradients.

    record = Record(reference, gradients.RULES)
    x = Variable(pixel_values, record)
    logits = hybrid(x, p, config, record, Discard())      # the network calls the operations of the record
    record.backward(logits, dlogits)
    x.gradient                                            # the gradient of pixel_values

A `Record` is a further implementation of the operations. It computes each operation with the module `ops`, and writes a
note. A note has the operation, its rule, its arguments and its result. `backward` reads the notes from the last to the
first, and calls the rules (gradients.py). This is reverse-mode automatic differentiation, and the record is also
called a tape (Baydin et al. 2018, section 3.2).

The states of the network, which are the arrays between its operations, are `Variable`s. So the record also sees what
the network computes with NumPy itself, such as x + p.positions. A `Variable` uses two protocols of NumPy for this:
__array_ufunc__ and __array_function__.

If `recompute` is True, the record keeps only the results of units and blocks, at whose end `border` is called. It drops
all other states, and computes them again before the backward pass needs them (Chen et al. 2016). An operation that is
repeated gives the same bits, so the gradients have the same bits.
"""
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..params import tree_map
from . import threads
from .gradients import NUMPY_RULES


class Variable(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on a record.  Its gradient is added up during the backward pass.

    `value` is the array. A record that recomputes states drops the value for some time, and `value` is then None.

    `read_last` is True if no rule reads the gradient before the rules of `Record.prepare`, which come last.

    `gradient` is None before the backward pass. The gradient of a result of an operation is None again after the
    backward pass has used it, unless `keeps_gradient` is True. The gradient of any other Variable stays.
    """

    def __init__(self, value, record):
        self.value = value
        self.record = record
        self.gradient = None
        self.read_last = True
        self.keeps_gradient = False       # whether the gradient of a result stays after the backward pass used it

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    dtype = property(lambda self: self.value.dtype)
    size = property(lambda self: self.value.size)

    def __len__(self):
        return len(self.value)

    def __getitem__(self, index):
        return self.record.note(operator.getitem, NUMPY_RULES[np.ndarray.__getitem__], self, index)

    def reshape(self, *shape):
        """As the method of an array.  The arguments are separate integers."""
        return self.record.note(np.reshape, NUMPY_RULES[np.reshape], self, shape)

    def transpose(self, *axes):
        """As the method of an array.  The arguments are separate integers, and all axes are given."""
        return self.record.note(np.transpose, NUMPY_RULES[np.transpose], self, axes)

    def __array_ufunc__(self, ufunc, method, *arguments, **options):
        if method != "__call__" or options or ufunc not in NUMPY_RULES:
            return NotImplemented
        return self.record.note(ufunc, NUMPY_RULES[ufunc], *arguments)

    def __array_function__(self, function, types, arguments, options):
        if function not in NUMPY_RULES:
            return NotImplemented
        return self.record.note(partial(function, **options), partial(NUMPY_RULES[function], **options), *arguments)


class Note(NamedTuple):
    """One operation of the forward pass."""
    result: Variable
    operation: Callable[..., Any]
    rule: Callable[..., Any]
    arguments: tuple[Any, ...]            # Variables, arrays and other values; branches of Params; lists


class Record:
    """An implementation of the operations that writes a note for each operation.

    `ops` is the module that computes the operations, and `rules` is a dict {name of an operation: rule}. `recompute` is
    explained at the top of the file. A record is for one forward pass.

    An operation without a Variable among its arguments needs no gradient, and gets no note. So the arrays that are not
    trained are passed as arrays instead of Variables.
    """

    def __init__(self, ops, rules, recompute=False):
        self.ops = ops
        self.notes = []
        self.recompute = recompute
        self.segments = []                # (first, end) of each segment of dropped states: the notes range(first, end)
        self.prepared = 0                 # the number of notes of `prepare`
        self.start = 0                    # the number of the first note after the last border
        for name, rule in rules.items():
            setattr(self, name, partial(self.note, getattr(ops, name), rule))

    def note(self, operation, rule, *arguments):
        """Compute an operation, and write a note.  -> Variable, or an array if no argument is a Variable"""
        result = operation(*values(arguments))
        if not has_variable(arguments):
            return result
        result = Variable(result, self)
        result.read_last = False
        self.notes.append(Note(result, operation, rule, arguments))
        return result

    # -- Operations that consist of others have a method. If `rules` has a rule for such an operation, __init__ sets an
    # -- attribute with the name of the operation, and Python finds the attribute before the method.

    def prepare(self, params, config):
        """Standardize the kernels of the convolutions.  Params -> Params

        All other arrays are unchanged. The leaves are Variables, or arrays that are not trained.
        """
        prepared = tree_map(lambda name, leaf: self.standardize(leaf, config.ws_eps, config.ws_form)
                            if leaf.ndim == 4 else leaf, params)
        for note in self.notes:
            note.result.read_last = True
        self.prepared = len(self.notes)
        self.start = self.prepared        # many units use the prepared kernels, so no border drops them
        return prepared

    def linear_activate(self, x, p, activation):
        """activation(linear(x))"""
        return self.activate(self.linear(x, p), activation)

    def linear_add(self, x, p, residual):
        """linear(x) + residual"""
        return self.linear(x, p) + residual

    def group_norm_activate(self, x, norm, groups, eps, activation):
        """activation(group_norm(x))"""
        return self.activate(self.group_norm(x, norm, groups, eps), activation)

    def group_norm_add_activate(self, x, norm, groups, eps, shortcut, activation):
        """activation(group_norm(x) + shortcut)"""
        return self.activate(self.group_norm(x, norm, groups, eps) + shortcut, activation)

    def attention_with_weights(self, query, key, value, heads):
        """The context is a Variable.  The weights are an array, because the network only records them."""
        weights = self.ops.attention_with_weights(*values((query, key, value)), heads)[1]
        return self.attention(query, key, value, heads), weights

    # -- the backward pass

    def border(self, state):
        """Mark the end of a unit or block, whose result is `state`.

        If `recompute` is True, the values of all results since the last border are dropped, except the value of
        `state`. So the network must use no other result of the unit or block after the border.
        """
        if self.recompute:
            for note in self.notes[self.start:]:
                if note.result is not state:
                    note.result.value = None
            self.segments.append((self.start, len(self.notes)))
        self.start = len(self.notes)

    def backward(self, result, gradient):
        """Compute the gradient of every Variable from which `result` was computed.

        `gradient` is the gradient of `result`. Each note is removed after its rule was called, so that its memory is
        released.
        """
        result.gradient = gradient
        with threads.Later() as later:
            while self.notes:
                while self.segments and self.segments[-1][1] == len(self.notes):
                    self._compute_again(*self.segments.pop())
                if len(self.notes) == self.prepared:
                    later.finish()
                note = self.notes.pop()
                dy = note.result.gradient
                if dy is None:            # `result` does not depend on this result
                    continue
                gradients = note.rule(dy, note.result.value, *values(note.arguments))
                for argument, of_argument in zip(note.arguments, gradients):
                    _add(argument, of_argument, later)
                if not note.result.keeps_gradient:
                    note.result.gradient = None

    def _compute_again(self, first, end):
        """Compute the dropped values of the notes range(first, end)."""
        for note in self.notes[first:end]:
            if note.result.value is None:
                note.result.value = note.operation(*values(note.arguments))


def values(argument):
    """Replace each Variable in an argument by its value.  Tuples, branches of Params and lists are searched."""
    if isinstance(argument, Variable):
        return argument.value
    if hasattr(argument, "_fields"):
        return type(argument)(*map(values, argument))
    if type(argument) in (tuple, list):
        return type(argument)(map(values, argument))
    return argument


def has_variable(argument):
    """Whether an argument is a Variable, or a tuple, branch of Params or list that contains one."""
    if isinstance(argument, (tuple, list)):
        return any(map(has_variable, argument))
    return isinstance(argument, Variable)


def _add(argument, gradient, later):
    """Add a gradient to the Variables in an argument.  `gradient` has the structure of the argument.

    A rule can return a function instead of an array. The function is called only for a Variable, so that a gradient
    that nobody needs is not computed. Its first argument is the gradient so far, or None. It returns the sum of the
    gradient so far and its own gradient. Its second argument is `threads.run`, or the same method of `later` for a
    gradient that is read last. In the latter case, the gradient so far is None, and nobody reads the result before
    `finish`.
    """
    if isinstance(argument, Variable):
        so_far = argument.gradient
        if so_far is not None and argument.read_last:
            later.finish()
        if callable(gradient):
            argument.gradient = gradient(so_far, later.run if so_far is None and argument.read_last else threads.run)
        elif gradient is not None:
            argument.gradient = gradient if so_far is None else so_far + gradient
    elif has_variable(argument):
        for part, of_part in zip(argument, gradient):
            _add(part, of_part, later)
