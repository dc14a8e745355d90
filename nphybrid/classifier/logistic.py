"""Multinomial logistic regression, solved to its optimum by Newton's method.

    minimize over W (D, K), b (K,):   mean of -log softmax(x W + b)[y]  +  |W|^2 / (2 C n)

over n rows x of D features, with labels y in 0 .. K-1. C is scikit-learn's: the larger, the less W is held back; b
never is. Of two classes scikit-learn fits the one direction between them, twice as long as either of W's, so the
penalty is doubled for K = 2.

A Newton step is solved by conjugate gradients (Nocedal and Wright 2006, algorithm 7.1), which multiply with the Hessian
and never make it: it has D K rows. What makes them few is a preconditioner, the Hessian's diagonal blocks, one for each
class: X' diag(p (1 - p)) X / n + 1 / C n. Of many classes and features, all take the mean of these blocks. A step need
not be exact, so it is computed in float32; the gradient, which says where the optimum is, and the loss are float64.
"""
import numpy as np

# A step is good enough with a twentieth of the gradient left. One that took many products asks for new blocks, which
# cost about as much as that many: 7 strengths, 5,000 rows, 192 features, 10 classes took 3.4 s so, 18 s with the blocks
# made once for a strength.
ENOUGH, MANY = 0.05, 25
# Each class has a block of its own while all of them hold no more numbers than this. 7 strengths, 3,000 rows, 64
# features, 30 classes, some rare, took 1.0 s so, 1.9 s with one block for all; 3 strengths, 3,000 rows, 256 features,
# 100 classes 7.5 s so, 0.6 s with one for all, and 1,000 classes of 768 features would take 2.4 GB.
MOST_NUMBERS = 1 << 21
MOST_STEPS, MOST_PRODUCTS = 200, 200      # observed: 17, and 200 where C is so large that hardly anything holds W back


def logistic(X, y, K, strengths, tolerance=1e-8):
    """The optimum for each strength C, in their order, each search begun where the last one ended.

    X floats (n, D), y int (n,), every class at least once -> [(kernel (D, K), bias (K,)), …] in float64. tolerance: a
    search ends where no component of the gradient is larger. Raises ValueError where that is out of reach.

    >>> (kernel, bias), = logistic(np.array([[0.], [1], [2], [3]]), np.array([0, 1, 0, 1]), 2, [1.0])
    >>> kernel.round(4), bias.round(4)
    (array([[-0.2264,  0.2264]]), array([ 0.3397, -0.3397]))
    """
    # W is a sum of rows of X; where these are few, it has as many numbers in axes of their own.
    axes = np.linalg.qr(X.T)[0] if len(X) < X.shape[1] else np.eye(X.shape[1])  # (D, R)
    Z, Y = np.column_stack([X @ axes, np.ones(len(X))]), np.eye(K)[y]           # (n, R + 1), (n, K)
    U, solutions = np.zeros((Z.shape[1], K)), []
    for C in strengths:
        U = _optimum(Z, Y, U, _penalty(Z, K, C), tolerance)
        # A number added to every bias changes no answer; without a mean there is one optimum.
        solutions.append((axes @ U[:-1], U[-1] - U[-1].mean()))
    return solutions


def loss(X, y, kernel, bias, C):
    """What `logistic` minimizes.  -> float

    >>> round(float(loss(np.ones((3, 2)), np.array([0, 1, 2]), np.zeros((2, 3)), np.zeros(3), C=1)), 6)
    1.098612
    """
    Z, U = np.column_stack([X, np.ones(len(X))]), np.vstack([kernel, bias])
    return _value(Z, np.eye(len(bias))[y], U, _penalty(Z, len(bias), C))[0]


def _penalty(Z, K, C):
    """The factor of half the square of each row of W and, the last, of b.  -> (D + 1, 1)"""
    return np.append(np.full(Z.shape[1] - 1, (2 if K == 2 else 1) / (C * len(Z))), 0.0)[:, None]


def _optimum(Z, Y, U, penalty, tolerance):
    """Newton's method from U.  (D + 1, K) -> (D + 1, K)"""
    value, P = _value(Z, Y, U, penalty)
    products, narrow = MANY, Z.astype(np.float32)
    for _ in range(MOST_STEPS):
        gradient = Z.T @ (P - Y) / len(Z) + penalty * U
        size = np.abs(gradient).max()
        if size <= tolerance:
            return U
        if products >= MANY:
            inverses = _inverse_blocks(narrow, P, penalty)
        step, products = _newton_step(narrow, P, gradient, penalty, inverses)
        slope, length = np.vdot(gradient, step), 1.0
        # Nearer to the optimum than this, the value's own rounding decides.
        rounding = 8 * np.finfo(np.float64).eps * value
        while True:
            found, P = _value(Z, Y, U + length * step, penalty)
            if found <= value + 1e-4 * length * slope + rounding or length < 1e-10:
                break
            length /= 2
        U, value = U + length * step, found
    raise ValueError(f"logistic regression: after {MOST_STEPS} steps the gradient has a component of {size:.2g}; "
                     f"expected at most {tolerance:g}")


def _value(Z, Y, U, penalty):
    """The loss, and the probabilities (n, K)."""
    logits = Z @ U
    logits -= logits.max(1, keepdims=True)
    P = np.exp(logits)
    sums = P.sum(1, keepdims=True)
    P /= sums
    return (np.log(sums).sum() - np.vdot(logits, Y)) / len(Z) + np.vdot(penalty * U, U) / 2, P


def _newton_step(Z, P, gradient, penalty, inverses):
    """Conjugate gradients in float32 for H step = -gradient.  -> (D + 1, K), how many products they took"""
    P, penalty = P.astype(np.float32), penalty.astype(np.float32)
    left = (-gradient / np.linalg.norm(gradient)).astype(np.float32)
    step, product = np.zeros_like(left), np.inf
    towards = np.zeros_like(left)
    for count in range(1, MOST_PRODUCTS + 1):
        scaled = _times(inverses, left)
        product, before = np.vdot(left, scaled), product
        towards = scaled + product / before * towards
        A = Z @ towards
        A = P * (A - np.einsum("nk,nk->n", P, A)[:, None])
        curved = Z.T @ A / len(Z) + penalty * towards
        length = product / np.vdot(towards, curved)
        step += length * towards
        left -= length * curved
        if np.linalg.norm(left) <= ENOUGH:
            break
    return step.astype(np.float64) * np.linalg.norm(gradient), count


def _inverse_blocks(Z, P, penalty):
    """The inverse of each class's own block of the Hessian, or of their mean, float32.  -> (K or 1, D + 1, D + 1)"""
    weights = P * (1 - P) / len(Z)
    if P.shape[1] * Z.shape[1] ** 2 > MOST_NUMBERS:
        weights = weights.mean(1, keepdims=True)
    inverses = np.empty((weights.shape[1], Z.shape[1], Z.shape[1]), np.float32)
    for k, weight in enumerate(weights.T):
        weighted = Z * np.sqrt(weight, dtype=np.float32)[:, None]
        block = (weighted.T @ weighted).astype(np.float64)
        # Where every row is sure about a class, its b has hardly any curvature of its own.
        block[np.diag_indices_from(block)] += penalty[:, 0] + 1e-9
        inverses[k] = np.linalg.inv(block)
    return inverses


def _times(blocks, x):
    """Each class's block times its column, or the one block times all.  (K or 1, D, D), (D, K) -> (D, K)"""
    if len(blocks) == 1:
        return blocks[0] @ x
    return (blocks @ x.T[:, :, None])[:, :, 0].T
