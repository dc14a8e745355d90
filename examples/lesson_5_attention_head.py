"""Lesson 5: one attention head with three tokens, and with weights that are simple fractions.

    python examples/lesson_5_attention_head.py

Each token has a query, a key and a value, all of width K = 2. An attention score, in this lesson called score, is the
dot product of a query and a key, divided by sqrt(K). Softmax turns the scores of a query into weights that sum to 1.
The output of a token is called its context. The context is the sum of all values, each multiplied by its weight.
Sources: Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", eq. 5-8; Vaswani et al. 2017, "Attention Is All You
Need", section 3.2. In the package: nphybrid/ops/reference.py, attention_with_weights; nphybrid/encoder.py.
"""
import math
from fractions import Fraction

import numpy as np

from nphybrid.ops import reference

T, K = 3, 2
directions = np.array([[1, 0], [0, 1], [1, 1]])
key = np.array([[1., 0], [0, 1], [0, 0]])
value = np.array([[4., 0], [0, 4], [8, 8]])
# With this factor, each score divided by sqrt(K) is a multiple of ln 2. So each exp is a power of 2.
unit = math.sqrt(2) * math.log(2)
query = unit * directions

print(f"token   query / {unit:.3f}        key        value        {unit:.3f} = sqrt(2) ln 2")
for t in range(T):
    print(f"{t:4}" + "".join(f"{row[0]:10.0f}{row[1]:4.0f}" for row in (directions[t], key[t], value[t])))

scores = np.array([[sum(query[t, k] * key[s, k] for k in range(K)) for s in range(T)] for t in range(T)])
scaled = scores / math.sqrt(K)
powers = np.exp(scaled)
weights = powers / powers.sum(1, keepdims=True)
context = np.array([[sum(weights[t, s] * value[s, k] for s in range(T)) for k in range(K)] for t in range(T)])

print("""
Each row belongs to a query. In each of the first four groups of three columns,
each column belongs to a key:

token    query . key        / sqrt(2)         exp      / their sum     context""")
for t in range(T):
    fractions = [str(Fraction(weight).limit_denominator(100)) for weight in weights[t]]
    assert np.allclose([float(Fraction(fraction)) for fraction in fractions], weights[t], rtol=0, atol=1e-15)
    print(f"{t:4} " + "".join(f"{x:6.3f}" for x in scores[t]) + " " + "".join(f"{x:6.3f}" for x in scaled[t])
          + " " + "".join(f"{x:3.0f}" for x in powers[t]) + " " + "".join(f"{fraction:>5}" for fraction in fractions)
          + " " + "".join(f"{x:5.1f}" for x in context[t]))

by_package, its_weights = reference.attention_with_weights(query[None], key[None], value[None], heads=1)
assert np.allclose(by_package[0], context, rtol=0, atol=1e-14) and np.allclose(its_weights[0, 0], weights, atol=1e-15)
print("\nnphybrid.ops.reference.attention_with_weights computes the numbers above.")

undivided = " ".join(f"{weight:.3f}" for weight in reference.softmax(scores)[0])
print(f"""
Why are scores divided by sqrt(K)? If products are independent and have mean 0,
a sum of K products is about sqrt(K) times as large as one product. If scores
are too large, the largest weight is close to 1, and all gradients of the scores
are close to 0 (lesson 9).
Without the division, token 0 has the weights {undivided}.
The first weight is then 2 ** sqrt(2) = {2 ** math.sqrt(2):.3f} times the second weight.""")

shifted = reference.softmax(scaled + 1000)
assert np.allclose(shifted, weights, rtol=0, atol=1e-13)
print(f"""
If a constant is added to all scores of a row, the weights do not change.
Therefore softmax first subtracts the largest score from all scores. Without
the subtraction, the exp of a large score overflows, because the largest float32
is exp({math.log(np.finfo(np.float32).max):.1f}).""")

order = [2, 0, 1]
shuffled = reference.attention(query[None, order], key[None, order], value[None, order], 1)[0]
assert np.allclose(shuffled, context[order], rtol=0, atol=1e-14)
print("""
If the tokens are given in the order 2 0 1, the outputs get this order, too,
without any other change. So attention gets no information about the order of
the tokens. Therefore lesson 4 adds position vectors.""")

# The width D = A K is cut into A heads of K columns. In the second head, the keys of tokens 0 and 1 are swapped.
swapped = key[[1, 0, 2]]
halves = [np.hstack(pair)[None] for pair in ((query, query), (key, swapped), (value, value))]    # (1, T, 2 K)
both = reference.attention(*halves, heads=2)[0]
second = reference.attention(query[None], swapped[None], value[None], heads=1)[0]
assert np.allclose(both, np.hstack([context, second]), rtol=0, atol=1e-14)
print("""
Two heads are computed side by side. In the second head, the keys of tokens 0
and 1 are swapped:

token    context of head 0    of head 1""")
for t in range(T):
    print(f"{t:4}    " + "       ".join("".join(f"{x:6.1f}" for x in half) for half in (both[t, :K], both[t, K:])))
