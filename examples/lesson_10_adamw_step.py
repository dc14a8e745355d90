"""Lesson 10: two steps of AdamW, the optimizer of most transformers, with four weights.

    python examples/lesson_10_adamw_step.py

The optimizer keeps two numbers for each weight. m is a running mean of the gradients g, and v is a running mean of the
squared gradients. A step divides m by the root of v. So the length of a step does not depend on the scale of the
gradients. The weight decay is a separate term. Sources: Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization",
algorithm 1; Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2. In the package:
nphybrid/training/optimizers.py, AdamW.
"""
import math

import numpy as np

from nphybrid.training.optimizers import AdamW

RATE, DECAY, BETA1, BETA2, EPS = 0.1, 0.2, 0.9, 0.999, 1e-8


def adamw(w, g, m, v, t):
    """Step number t of AdamW.  Returns the new w, m and v, and the columns of the table."""
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g ** 2
    mean = m / (1 - BETA1 ** t)
    root = np.sqrt(v / (1 - BETA2 ** t))
    move = RATE * mean / (root + EPS)
    decayed = RATE * DECAY * w
    new = w - decayed - move
    return new, m, v, (w, g, m, v, mean, root, move, decayed, new)


def show(t, columns):
    print(f"\nStep t = {t}, so m' = m / {1 - BETA1 ** t:.2g} and v' = v / {1 - BETA2 ** t:.4g}:")
    print("\n    w       g         m         v        m'  root v'     move  decay   new w")
    for row in zip(*columns):
        w, g, m, v, mean, root, move, decayed, new = (float(f"{x:.12g}") for x in row)
        print(f"{w:5.4g}{g:8g}{m:10.4g}{v:10.4g}{mean:10.4g}{root:9.4g}{move:9.4f}{decayed:7.3f}{new:8.4f}")


print(f"""Learning rate {RATE}, weight decay {DECAY}, beta1 {BETA1}, beta2 {BETA2}, eps {EPS:g}.

    m     = beta1 * m + (1 - beta1) * g              m and v begin with 0
    v     = beta2 * v + (1 - beta2) * g * g
    m'    = m / (1 - beta1^t)                        t = 1 in the first step
    v'    = v / (1 - beta2^t)
    move  = learning rate * m' / (root v' + eps)
    decay = learning rate * weight decay * w
    new w = w - decay - move""")

w, m, v = np.full(4, 10.0), np.zeros(4), np.zeros(4)
first = np.array([100, 1, 1e-8, 0])
w, m, v, columns = adamw(w, first, m, v, 1)
show(1, columns)
print("""
The first two weights move by the learning rate, although one gradient is 100
times as large as the other. The third gradient is as small as eps. So the third
move is one half of the learning rate. The last gradient is 0. So the last
weight only decays.""")

second = np.array([100, -1, 1e-8, 1])
w, m, v, columns = adamw(w, second, m, v, 2)
show(2, columns)
optimizer, by_package = AdamW(DECAY, (BETA1, BETA2), EPS), {"head.kernel": np.full((4, 1), 10.0)}
for g in first, second:
    optimizer.step(by_package, {"head.kernel": g[:, None]}, RATE)
assert np.allclose(by_package["head.kernel"][:, 0], w, rtol=0, atol=1e-14)
print(f"""
The first gradient is the same in both steps, and so is the first move. The
second gradient changes its sign. So m' = (0.9 * 0.1 - 0.1) / 0.19 = -1/19, and
the weight moves back by only {RATE} / 19 = {RATE / 19:.4f}.
nphybrid.training.optimizers.AdamW computes the same new weights.""")

print(f"""
Why are m and v divided by 1 - beta^t? In the first step, m is only 0.1 * g, and
v is only 0.001 * g * g, because both begin with 0. Without the divisions, the
first move would be 0.1 / sqrt(0.001) = {0.1 / math.sqrt(0.001):.3f} times the learning rate.""")

with_penalty = adamw(np.zeros(4), first + DECAY * 10, np.zeros(4), np.zeros(4), 1)[0] + 10
print(f"""
Why is the weight decay a separate term? An L2 penalty would add {DECAY} * w = {DECAY * 10:g}
to each gradient. Then the first step would give {" ".join(f"{x:.3f}" for x in with_penalty)}. All
moves are equal, because the division by the root also removes the size of the
penalty. Loshchilov and Hutter call the separate term decoupled weight decay.""")
