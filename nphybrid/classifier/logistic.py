"""Find the optimum of multinomial logistic regression with L2 regularization by Newton's method.

    minimize over W (D, K), b (K,):   mean of -log softmax(x W + b)[y]  +  |W|^2 / (2 C n)

The mean is over n rows x of D features, with labels y in 0 .. K-1. C is the inverse strength of the regularization, as
in scikit-learn. A larger C regularizes W less. The bias b is not regularized. For two classes, scikit-learn fits only
the difference of the two columns of W. At the optimum, the columns are w and -w, and the difference is 2 w. The squared
length of the difference is 2 |W|^2, so this module doubles the penalty for K = 2.

The method is Newton-CG with line search (Nocedal and Wright 2006, algorithm 7.1). The functions `_inner_solve` and
`_line_search` have the same names as in scikit-learn's newton-cg. `_inner_solve` uses conjugate gradients.
Conjugate gradients multiply the Hessian with vectors, so the Hessian, which has (D + 1) K rows, is not stored. The
preconditioner consists of the inverted diagonal blocks of the Hessian. A class with the probabilities p has the block
X' diag(p (1 - p)) X / n + I / (C n). The matrix X has the rows x. With many classes and features, all classes use
the mean of the blocks. A step need not be exact, so each step is computed in float32. The loss and the gradient decide
where the optimum is, so both are computed in float64.
"""
from collections.abc import Iterable

import numpy as np

# A step is accurate enough when the norm of its residual is at most INNER_TOLERANCE times the norm of the gradient.
# The blocks are recomputed after a step that needed MANY_PRODUCTS or more products of the Hessian with a vector.
# Computing the blocks takes about as long as MANY_PRODUCTS products.
# A fit with 7 strengths, 5,000 rows, 192 features and 10 classes took 3.4 s.
# When the blocks were computed only one time for each strength, the same fit took 18 s.
INNER_TOLERANCE, MANY_PRODUCTS = 0.05, 25
# Each class has its own block if all blocks together have at most MOST_NUMBERS numbers. Measured times:
#     strengths    rows  features  classes     own blocks     one block
#             7   3,000        64       30         1.0 s        1.9 s      some classes are rare
#             3   3,000       256      100         7.5 s        0.6 s
# For 1,000 classes and 768 features, the blocks of all classes would take 2.4 GB.
MOST_NUMBERS = 1 << 21
MOST_STEPS, MOST_PRODUCTS = 200, 200      # observed: at most 17 steps, and 200 products for a very large C


def logistic_regression(X: np.ndarray, y: np.ndarray, K: int, strengths: Iterable[float], tolerance: float = 1e-8
                        ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Find the optimum for each C of `strengths`, in order.  Each search starts at the previous optimum.

    `X` is a float array (n, D). `y` is an int array (n,) that contains every class. A search ends when no component of
    the gradient is larger than `tolerance`. Returns [(kernel (D, K), bias (K,)), …] in float64. Raises ValueError if a
    search does not reach the tolerance.

    >>> (kernel, bias), = logistic_regression(np.array([[0.], [1], [2], [3]]), np.array([0, 1, 0, 1]), 2, [1.0])
    >>> kernel.round(4), bias.round(4)
    (array([[-0.2264,  0.2264]]), array([ 0.3397, -0.3397]))
    """
    # Each column of W is a weighted sum of rows of X.
    # If there are fewer rows than features, R = n orthonormal axes span all weighted sums of the rows.
    axes = np.linalg.qr(X.T)[0] if len(X) < X.shape[1] else np.eye(X.shape[1])  # (D, R)
    Z = np.column_stack([X @ axes, np.ones(len(X))])                            # (n, R + 1)
    Y = np.eye(K)[y]                                                            # (n, K)
    U = np.zeros((Z.shape[1], K))
    solutions = []
    for C in strengths:
        U = _newton(Z, Y, U, _penalty(Z, K, C), tolerance)
        # Adding the same number to all biases changes no answer. Biases with the mean 0 make the optimum unique.
        solutions.append((axes @ U[:-1], U[-1] - U[-1].mean()))
    return solutions


def loss(X: np.ndarray, y: np.ndarray, kernel: np.ndarray, bias: np.ndarray, C: float) -> float:
    """The loss that `logistic_regression` minimizes.

    >>> round(float(loss(np.ones((3, 2)), np.array([0, 1, 2]), np.zeros((2, 3)), np.zeros(3), C=1)), 6)
    1.098612
    """
    Z = np.column_stack([X, np.ones(len(X))])
    return _loss_and_probabilities(Z, np.eye(len(bias))[y], np.vstack([kernel, bias]), _penalty(Z, len(bias), C))[0]


def _penalty(Z, K, C):
    """The regularization strength of each row of W, and 0 for b.  -> (D + 1, 1)

    The loss contains the term strength * |row|^2 / 2 for each row.
    """
    return np.append(np.full(Z.shape[1] - 1, (2 if K == 2 else 1) / (C * len(Z))), 0.0)[:, None]


def _newton(Z, Y, U, penalty, tolerance):
    """Run Newton's method from the start U to the optimum.  (D + 1, K) -> (D + 1, K)"""
    value, P = _loss_and_probabilities(Z, Y, U, penalty)
    Z32 = Z.astype(np.float32)
    products = MANY_PRODUCTS              # so that the blocks are computed before the first step
    inverses, largest = None, np.inf
    for _ in range(MOST_STEPS):
        gradient = Z.T @ (P - Y) / len(Z) + penalty * U
        largest = np.abs(gradient).max()
        if largest <= tolerance:
            return U
        if products >= MANY_PRODUCTS:
            inverses = inverse_blocks(Z32, P, penalty)
        step, products = _inner_solve(Z32, P, gradient, penalty, inverses)
        U, value, P = _line_search(Z, Y, U, penalty, value, gradient, step)
    raise ValueError(f"logistic regression: after {MOST_STEPS} steps the gradient has a component of {largest:.2g}; "
                     f"expected at most {tolerance:g}")


def _loss_and_probabilities(Z, Y, U, penalty):
    """The loss, and the probabilities (n, K) of the classes."""
    logits = Z @ U
    logits -= logits.max(1, keepdims=True)
    P = np.exp(logits)
    sums = P.sum(1, keepdims=True)
    P /= sums
    return (np.log(sums).sum() - np.vdot(logits, Y)) / len(Z) + np.vdot(penalty * U, U) / 2, P


def _line_search(Z, Y, U, penalty, value, gradient, step):
    """Find the first of U + step, U + step / 2, U + step / 4, … that lowers the loss enough.

    The Armijo condition decides whether the loss is low enough. The method is algorithm 3.1 of Nocedal and Wright 2006,
    with rho = 1/2 and c = 1e-4. Returns the new U, its loss and its probabilities.
    """
    slope = np.vdot(gradient, step)
    # Very near the optimum, the loss falls by less than the rounding error of the loss.
    rounding = 8 * np.finfo(np.float64).eps * value
    alpha = 1.0
    while True:
        new_value, P = _loss_and_probabilities(Z, Y, U + alpha * step, penalty)
        if new_value <= value + 1e-4 * alpha * slope + rounding or alpha < 1e-10:
            return U + alpha * step, new_value, P
        alpha /= 2


def _inner_solve(Z, P, gradient, penalty, inverses):
    """Solve the linear system H @ step = -gradient for `step`, in float32.  -> step (D + 1, K), number of products

    H is the Hessian, and the number of products counts the products of H with a vector. The method is conjugate
    gradients, algorithm 5.3 of Nocedal and Wright 2006. Here A is H, the residual is r = b - A x, and
    b is -gradient scaled to length 1. The vector y of the book is called z here.
    """
    P, penalty = P.astype(np.float32), penalty.astype(np.float32)
    r = (-gradient / np.linalg.norm(gradient)).astype(np.float32)
    x = np.zeros_like(r)
    p = np.zeros_like(r)
    rz, products = np.inf, 0
    while products < MOST_PRODUCTS:
        z = _times_blocks(inverses, r)                                          # 5.39d
        previous_rz = rz
        rz = np.vdot(r, z)
        beta = rz / previous_rz                                                 # 5.39e; 0 in the first iteration
        p = z + beta * p                                                        # 5.39f
        Ap = _hessian_times(Z, P, penalty, p)
        products += 1
        alpha = rz / np.vdot(p, Ap)                                             # 5.39a
        x += alpha * p                                                          # 5.39b
        r -= alpha * Ap                                                         # 5.39c
        if np.linalg.norm(r) <= INNER_TOLERANCE:
            break
    return x.astype(np.float64) * np.linalg.norm(gradient), products


def _hessian_times(Z, P, penalty, p):
    """Multiply the Hessian of the loss with the vector p.  (D + 1, K) -> (D + 1, K)"""
    Zp = Z @ p                                                                  # (n, K)
    weighted = P * (Zp - np.einsum("nk,nk->n", P, Zp)[:, None])
    return Z.T @ weighted / len(Z) + penalty * p


def inverse_blocks(Z: np.ndarray, P: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Invert the diagonal blocks of the Hessian in float32.  -> (K or 1, D + 1, D + 1)

    There is one block per class. If all blocks together have more than MOST_NUMBERS numbers, the function inverts only
    the mean of the blocks. `Z` is (n, D + 1). `P` are the probabilities, (n, K). `penalty` is (D + 1, 1).
    """
    weights = P * (1 - P) / len(Z)
    if P.shape[1] * Z.shape[1] ** 2 > MOST_NUMBERS:
        weights = weights.mean(1, keepdims=True)
    inverses = np.empty((weights.shape[1], Z.shape[1], Z.shape[1]), np.float32)
    for k, weight in enumerate(weights.T):
        weighted = Z * np.sqrt(weight, dtype=np.float32)[:, None]
        block = (weighted.T @ weighted).astype(np.float64)
        # If all probabilities of a class are near 0 or 1, the block has almost no curvature in the direction of b.
        block[np.diag_indices_from(block)] += penalty[:, 0] + 1e-9
        inverses[k] = np.linalg.inv(block)
    return inverses


def _times_blocks(blocks, x):
    """Multiply each column with the block of its class, or with the only block.  (K or 1, D, D), (D, K) -> (D, K)"""
    if len(blocks) == 1:
        return blocks[0] @ x
    return (blocks @ x.T[:, :, None])[:, :, 0].T
