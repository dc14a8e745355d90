"""Lesson 5: one attention head. Three tokens, queries and keys of width 2, every share a fraction.

    python examples/lesson_5_attention_head.py

Each token asks (its query), offers (its key) and has something to say (its value). Query times key over sqrt(K) is a
score; softmax turns a token's scores into shares that sum to 1, in which it mixes the values. Dosovitskiy et al. 2020,
"An Image is Worth 16x16 Words", eq. 5-8; Vaswani et al. 2017, "Attention Is All You Need", section 3.2. In the package:
nphybrid/ops/reference.py, attention_with_weights; nphybrid/encoder.py, attention.
"""
import math
from fractions import Fraction

import numpy as np

from nphybrid.ops import reference

T, K = 3, 2
asks = np.array([[1, 0], [0, 1], [1, 1]])
key = np.array([[1., 0], [0, 1], [0, 0]])
value = np.array([[4., 0], [0, 4], [8, 8]])
# In this unit a score, after its division by sqrt(K), is a whole number of ln 2; its exp is a power of 2.
unit = math.sqrt(2) * math.log(2)
query = unit * asks

print(f"token   query / {unit:.3f}        key        value        {unit:.3f} = sqrt(2) ln 2")
for t in range(T):
    print(f"{t:4}" + "".join(f"{row[0]:10.0f}{row[1]:4.0f}" for row in (asks[t], key[t], value[t])))

scores = np.array([[sum(query[t, k] * key[s, k] for k in range(K)) for s in range(T)] for t in range(T)])
scaled = scores / math.sqrt(K)
powers = np.exp(scaled)
weights = powers / powers.sum(1, keepdims=True)
context = np.array([[sum(weights[t, s] * value[s, k] for s in range(T)) for k in range(K)] for t in range(T)])

print("""
A row for each token that asks, a column for each that is asked:

token    query . key        / sqrt(2)         exp      / their sum     context""")
for t in range(T):
    shares = [str(Fraction(weight).limit_denominator(100)) for weight in weights[t]]
    assert np.allclose([float(Fraction(share)) for share in shares], weights[t], rtol=0, atol=1e-15)
    print(f"{t:4} " + "".join(f"{x:6.3f}" for x in scores[t]) + " " + "".join(f"{x:6.3f}" for x in scaled[t])
          + " " + "".join(f"{x:3.0f}" for x in powers[t]) + " " + "".join(f"{share:>5}" for share in shares)
          + " " + "".join(f"{x:5.1f}" for x in context[t]))

by_package, its_weights = reference.attention_with_weights(query[None], key[None], value[None], heads=1)
assert np.allclose(by_package[0], context, rtol=0, atol=1e-14) and np.allclose(its_weights[0, 0], weights, atol=1e-15)
print("\nnphybrid.ops.reference.attention_with_weights gives the same numbers.")

undivided = " ".join(f"{weight:.3f}" for weight in reference.softmax(scores)[0])
print(f"""
Why sqrt(K)? A sum of K products is about sqrt(K) times as large as one of them,
and the larger the scores, the more the largest of them takes all. Undivided,
token 0 would share out {undivided}: 2 ** sqrt(2) = {2 ** math.sqrt(2):.3f} to 1 to 1.""")

shifted = reference.softmax(scaled + 1000)
assert np.allclose(shifted, weights, rtol=0, atol=1e-13)
print(f"""
What is added to all scores of a row changes no share. So softmax first takes
the largest of them away: exp({math.log(np.finfo(np.float32).max):.1f}) is the end of float32.""")

order = [2, 0, 1]
shuffled = reference.attention(query[None, order], key[None, order], value[None, order], 1)[0]
assert np.allclose(shuffled, context[order], rtol=0, atol=1e-14)
print("""
Tokens in the order 2 0 1 hear the same, in the order 2 0 1. Attention knows no
order: that is why lesson 4 had to add positions.""")

# Two heads: the width D = A K is cut into A runs of K columns. In the second, tokens 0 and 1 have traded keys.
traded = key[[1, 0, 2]]
halves = [np.hstack(pair)[None] for pair in ((query, query), (key, traded), (value, value))]    # (1, T, 2 K)
both = reference.attention(*halves, heads=2)[0]
second = reference.attention(query[None], traded[None], value[None], heads=1)[0]
assert np.allclose(both, np.hstack([context, second]), rtol=0, atol=1e-14)
print("""
Two heads are two of these side by side. In the second 0 and 1 have traded keys:

token    context of head 0    of head 1""")
for t in range(T):
    print(f"{t:4}    " + "       ".join("".join(f"{x:6.1f}" for x in half) for half in (both[t, :K], both[t, K:])))
