"""Lesson 9: the gradient of one attention head, in fractions.  The head is the head of lesson 5.

    python examples/lesson_9_attention_gradient.py

The head computes three steps: the scores of queries and keys, softmax, and the sum of the values. The gradients are
computed in reverse order. The gradient of an array x is called dx: each of its numbers is the derivative of the loss
with respect to one number of x. Sources: Vaswani et al. 2017, "Attention Is All You Need", section 3.2; Dao et al.
2022, "FlashAttention", appendix B.2. In the package: nphybrid/ops/gradients.py, attention and softmax_gradient.
Lesson 8 explains the chain rule.
"""
import math
from fractions import Fraction

import numpy as np

from nphybrid.ops import gradients, reference

T, K = 3, 2
directions = np.array([[1, 0], [0, 1], [1, 1]])
key = np.array([[1., 0], [0, 1], [0, 0]])
value = np.array([[4., 0], [0, 4], [8, 8]])
unit = math.sqrt(2) * math.log(2)                                       # as in lesson 5
query = unit * directions
context, weights = (x.reshape(T, -1) for x in
                    reference.attention_with_weights(query[None], key[None], value[None], heads=1))
dy = np.array([[1., 0], [0, 1], [1, -1]])                               # the gradient of the context


def show(heading, *tables):
    """Print tables of one row per token side by side, as fractions."""
    print(heading)
    for t in range(T):
        row = f"{t:4}"
        for table in tables:
            fractions = [Fraction(x).limit_denominator(1000) for x in table[t]]
            assert np.allclose([float(x) for x in fractions], table[t], rtol=0, atol=1e-14)
            row += "   " + "".join(f"{str(x):>8}" for x in fractions)
        print(row)
    print()


show("""The loss is the sum of dy * context, and dy is chosen. The weights and values
are those of lesson 5:

token                  weights               value            dy""", weights, value, dy)

dv = np.array([sum(weights[t, s] * dy[t] for t in range(T)) for s in range(T)])
show("""Step 3 was context = weights @ value. In the context of token t, value s has the
weight weights[t, s]. So dv[s] is the sum of weights[t, s] * dy[t] over all t.
dweights[t, s] is the dot product of dy[t] and value[s]:

token              dv                   dweights""", dv, dweights := dy @ value.T)

means = [sum(weights[t] * dweights[t]) for t in range(T)]
dscores = np.array([weights[t] * (dweights[t] - means[t]) for t in range(T)])
assert np.allclose(means, (dy * context).sum(1), rtol=0, atol=1e-14) and np.allclose(dscores.sum(1), 0, atol=1e-15)
show("""Step 2 was softmax. If one score of a row grows, its weight grows, and the other
weights of the row shrink. The mean of row t is the sum of weights[t] *
dweights[t]. The rule is dscores = weights * (dweights - mean). Each row of
dscores sums to 0:

token         context              mean                 dscores""", context, np.array(means)[:, None], dscores)
print("""The mean of row t is also the dot product of dy[t] and context[t]. With this
equation, a fast implementation need not store T x T numbers (Dao et al.).
""")

dq = np.array([sum(dscores[t, s] * key[s] for s in range(T)) / math.sqrt(K) for t in range(T)])
dk = np.array([sum(dscores[t, s] * query[t] for t in range(T)) / math.sqrt(K) for s in range(T)])
show("""Step 1 was scores[t, s] = (dot product of query[t] and key[s]) / sqrt(2). So
dq[t] is the sum of dscores[t, s] * key[s] / sqrt(2) over all s. And dk[s] is
the sum of dscores[t, s] * query[t] / sqrt(2) over all t:

token       sqrt(2) * dq          dk / ln 2""", math.sqrt(2) * dq, dk / math.log(2))

by_package = gradients.attention(dy[None], context[None], query[None], key[None], value[None], 1)
assert np.allclose(by_package, np.array([dq, dk, dv])[:, None], rtol=0, atol=1e-14)
assert np.allclose(gradients.softmax_gradient(dweights, weights), dscores, rtol=0, atol=1e-15)
print("nphybrid.ops.gradients.attention computes dq, dk and dv.")

of_bias = [str(Fraction(x).limit_denominator(1000)) for x in math.sqrt(2) * dq.sum(0)]
assert np.allclose(dk.sum(0), 0, rtol=0, atol=1e-14)
print(f"""
The gradient of a bias is the sum over the tokens. For the keys, this sum is 0,
because a bias of the keys adds one number to all scores of a row. Then the
weights do not change (lesson 5), and the loss does not depend on this bias. For
the bias of the queries, sqrt(2) times the sum is {" and ".join(of_bias)}.""")


def loss(key):
    return (dy * reference.attention(query[None], key[None], value[None], 1)[0]).sum()


step = np.zeros((T, K))
step[1, 0] = 0.001
print(f"""
A test without any rule: key[1, 0] becomes 0.001 larger and 0.001 smaller. The
difference of the two losses, divided by 0.002, is {(loss(key + step) - loss(key - step)) / 0.002:.6f}. The rule gives
dk[1, 0] = {Fraction(dk[1, 0] / math.log(2)).limit_denominator(1000)} * ln 2 = {dk[1, 0]:.6f}.""")
