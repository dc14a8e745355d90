"""The exponential function, the activations and their derivatives in float32.

The functions of one number have no branches, so LLVM can vectorize loops that call them. `reference.ACTIVATIONS` has
the plain definition of each activation. The coefficients come from minimax fits in float64, and are rounded to float32.
Each fit is a weighted least-squares fit, with Lawson's weights on Chebyshev nodes. A rational function is fitted in
several iterations, and each fit is linearized about the denominator of the iteration before. The table lists the
largest errors in ULP, against float64, over 440,000 points of [-12, 12]. For exp, the points cover all x for which
exp(x) is neither 0 nor infinite. The first error of each pair is measured with fused multiply-adds, and the second
error without fused multiply-adds:

    for x > -1        gelu 2.6 / 2.9    gelu_tanh 2.8 / 2.8    quick_gelu 2.3 / 2.3
    for all x         exp 1.0 / 1.0     sigmoid 2.0 / 2.0      silu 2.3 / 2.3
                      selu 1.9 / 2.0    tanh 4.7 / 6.0

For x < -1 the error of each of the three GELU functions is at most 0.92 * 2**-22 * max(1, |x|).
tests/ops/test_elementwise.py measures the errors of exp and of all activations.

The error of each derivative is at most 2.2e-7 over [-12, 12]. The derivatives of sigmoid and tanh also keep their
digits where they are close to 0, because they are computed from exp(-|x|) and not from 1 - s.

To add an activation, add its kernel, the kernel of its derivative, its code, an entry in CODES, and a branch in
`activate_in` and in `differentiate_in` to this file. Add the definition of the activation and of its derivative to
reference.py, and a row of error bounds to tests/oracles/loops.py.
"""
import numpy as np

from .emit import fma, wide
from .jit import jit

f32 = np.float32
ZERO, HALF, ONE, TWO, THREE, FOUR = f32(0), f32(0.5), f32(1), f32(2), f32(3), f32(4)

# The lowest bits of the float32 x + MAGIC are the integer nearest to x, because MAGIC is 1.5 * 2**23.
# A conversion from float to int would be undefined for NaN.
MAGIC = f32(12582912)
LOG2E = f32(1.4426950408889634)
# LN2_HIGH has only 16 significant bits, so n * LN2_HIGH is exact.
LN2_HIGH, LN2_LOW = f32(0.693145751953125), f32(1.4286068203094172e-06)
# exp(x) is 0 for x < EXP_MIN and infinite for x > EXP_MAX.
EXP_MIN, EXP_MAX = f32(-104), f32(89)
# E0 to E4 are the coefficients of a polynomial for (exp(r) - 1 - r) / r**2 with |r| <= 0.35.
# The error of exp(r) is at most 3.3e-9.
E0, E1, E2, E3, E4 = (f32(c) for c in (
    0.4999999403953552, 0.16666515171527863, 0.04166845604777336, 0.00836941134184599, 0.001381315873004496))

# Phi is the distribution function of N(0, 1).
# (Phi(x) - 1/2) / x = 5/32 + P(x**2) / Q(x**2) for |x| <= 5.6, with an error of at most 2.1e-8.
# The product of x and the constant 5/32 is almost exact.
# Without the constant 5/32, P / Q would be larger, and so would its rounding error.
# The error of gelu(-1) would then be 4.2 ULP.
PHI_MAX, PHI_SLOPE = f32(5.6), f32(0.15625)
P0, P1, P2, P3, P4, P5 = (f32(c) for c in (
    0.24269227190984105, -0.005401570629927514, 0.00019649531813763568, -0.00012567957444284782,
    -5.170010008853631e-06, -1.6202386156503847e-07))
Q1, Q2, Q3, Q4, Q5 = (f32(c) for c in (
    0.2517124729589109, 0.028677248117408814, 0.0018854597113038961, 7.334216718421316e-05,
    1.1796574807060333e-06))

# tanh(x) / x = S(x**2) / T(x**2) for |x| <= 9.1, with an error of at most 1.1e-9.
TANH_MAX = f32(9.1)
S0, S1, S2, S3, S4 = (f32(c) for c in (
    0.9999999989587743, 0.1378152648203135, 0.004003616712292437, 3.148258390217077e-05,
    5.038773980307067e-08))
T1, T2, T3, T4, T5 = (f32(c) for c in (
    0.4711485879819865, 0.027719829200443805, 0.0004198558335042008, 1.6092263830097935e-06,
    7.29902968804951e-10))

TWO_ROOT, GELU_CUBE = f32(2 * 0.7978845608028654), f32(0.044715)      # TWO_ROOT = 2 sqrt(2 / pi)
DENSITY = f32(0.3989422804014327)                                     # 1 / sqrt(2 pi), the density of N(0, 1) at 0
QUICK = f32(1.702)
SELU_SCALE, SELU_ALPHA = f32(1.0507009873554805), f32(1.6732632423543773)


@jit
def _power(t):
    """Return 2**n, where t = n + MAGIC and n is an integer from -126 to 127."""
    t = np.float32(t)                     # Numba must know the type of t before .view
    bits = np.int32((t.view(np.int32) << 23) + 0x3F800000)
    return bits.view(np.float32)


@jit
def _reduced(x):
    """t = n + MAGIC and p = exp(r) - 1, where n is the integer nearest to x / ln 2, and r = x - n ln 2.  -> t, p"""
    t = fma(x, LOG2E, MAGIC)
    n = t - MAGIC
    r = fma(-n, LN2_LOW, fma(-n, LN2_HIGH, x))
    return t, fma(fma(fma(fma(fma(E4, r, E3), r, E2), r, E1), r, E0), r * r, r)


@jit
def exp(x):
    """exp(x) = 2**n * exp(r).  2**n is a product of two powers, because -150 <= n <= 128."""
    x = EXP_MIN if x < EXP_MIN else x
    x = EXP_MAX if x > EXP_MAX else x
    t, p = _reduced(x)
    half = fma(t - MAGIC, HALF, MAGIC)
    return (p + ONE) * _power(half) * _power(t - (half - MAGIC))


@jit
def exp_negative(x):
    """exp(x) for x <= 0, as softmax needs it.  The result is 0 for x < -87, so that a single factor 2**n is enough."""
    t, p = _reduced(f32(-87) if x < f32(-87) else x)
    return ZERO if x < f32(-87) else (p + ONE) * _power(t)


@jit
def expm1(x):
    """exp(x) - 1 = (2**n - 1) + 2**n (exp(r) - 1), for x <= 0."""
    t, p = _reduced(f32(-30) if x < f32(-30) else x)
    scale = _power(t)
    return fma(scale, p, scale - ONE)


@jit
def sigmoid(x):
    """1 / (1 + exp(-x))"""
    return ONE / (ONE + exp(-x))


@jit
def sigmoid_derivative(x):
    """s * (1 - s) = e / (1 + e)^2, where s = sigmoid(x) and e = exp(-|x|)."""
    e = exp_negative(-abs(x))
    r = ONE / (ONE + e)
    return e * r * r


@jit
def _product_rule(x, v, slope):
    """The derivative of x * sigmoid(v): s + x * s * (1 - s) * slope, where s = sigmoid(v) and slope = v'.

    One exponential is enough for s and s * (1 - s). LLVM did not vectorize a loop that computed two.
    """
    e = exp_negative(-abs(v))
    r = ONE / (ONE + e)
    s = r if v > ZERO else e * r
    return fma(x * slope, e * r * r, s)


@jit
def normal_cdf(x):
    """Phi(x), the distribution function of N(0, 1)."""
    z = PHI_MAX if x > PHI_MAX else x
    z = -PHI_MAX if z < -PHI_MAX else z
    u = z * z
    p = fma(fma(fma(fma(fma(P5, u, P4), u, P3), u, P2), u, P1), u, P0)
    q = fma(fma(fma(fma(fma(Q5, u, Q4), u, Q3), u, Q2), u, Q1), u, ONE)
    phi = fma(z, PHI_SLOPE, fma(z, p / q, HALF))
    phi = ZERO if x <= -PHI_MAX else phi
    return ONE if x >= PHI_MAX else phi


@jit
def gelu(x):
    """x * Phi(x), where Phi is the distribution function of N(0, 1)."""
    return x * normal_cdf(x)


@jit
def gelu_derivative(x):
    """Phi(x) + x * phi(x), where phi is the density of N(0, 1)."""
    return fma(x, DENSITY * exp_negative(-HALF * x * x), normal_cdf(x))


@jit
def gelu_tanh(x):
    """x / 2 * (1 + tanh(u)) = x * sigmoid(2 u), where u = sqrt(2 / pi) * (x + 0.044715 x**3)."""
    return x * sigmoid(TWO_ROOT * fma(GELU_CUBE * x, x * x, x))


@jit
def gelu_tanh_derivative(x):
    """The derivative of x * sigmoid(v), where v = 2 sqrt(2 / pi) * (x + 0.044715 x**3)."""
    v = TWO_ROOT * fma(GELU_CUBE * x, x * x, x)
    return _product_rule(x, v, TWO_ROOT * fma(THREE * GELU_CUBE * x, x, ONE))


@jit
def quick_gelu(x):
    """x * sigmoid(1.702 x)"""
    return x * sigmoid(QUICK * x)


@jit
def quick_gelu_derivative(x):
    """The derivative of x * sigmoid(1.702 x)."""
    return _product_rule(x, QUICK * x, QUICK)


@jit
def relu(x):
    """max(0, x).  The result for NaN is NaN, because NaN < 0 is false."""
    return ZERO if x < ZERO else x


@jit
def relu_derivative(x):
    """1 for x > 0, else 0."""
    return ONE if x > ZERO else ZERO


@jit
def selu(x):
    """scale * x for x > 0, else scale * alpha * (exp(x) - 1)."""
    return SELU_SCALE * (x if x > ZERO else SELU_ALPHA * expm1(x))


@jit
def selu_derivative(x):
    """scale for x > 0, else scale * alpha * exp(x)."""
    return SELU_SCALE * (ONE if x > ZERO else SELU_ALPHA * exp_negative(x))


@jit
def silu(x):
    """x * sigmoid(x)"""
    return x * sigmoid(x)


@jit
def silu_derivative(x):
    """The derivative of x * sigmoid(x)."""
    return _product_rule(x, x, ONE)


@jit
def tanh(x):
    """tanh(x)"""
    z = TANH_MAX if x > TANH_MAX else x
    z = -TANH_MAX if z < -TANH_MAX else z
    u = z * z
    p = fma(fma(fma(fma(S4, u, S3), u, S2), u, S1), u, S0)
    q = fma(fma(fma(fma(fma(T5, u, T4), u, T3), u, T2), u, T1), u, ONE)
    return z * (p / q)


@jit
def tanh_derivative(x):
    """1 - tanh(x)^2 = 4 s * (1 - s), where s = sigmoid(2 x)."""
    return FOUR * sigmoid_derivative(TWO * x)


# The jitted function `activate_in` selects an activation by its code, with one explicit branch for each code.
# A loop over a table of kernels (numba.literal_unroll) was tried and dropped.
# In some callers, the machine code of the loop was different from the machine code of the explicit branches.
GELU, GELU_TANH, QUICK_GELU, RELU, SELU, SILU, TANH, SIGMOID = range(1, 9)

# The code of each activation in reference.ACTIVATIONS. The empty name "" means no activation.
CODES = {
    "": 0, "gelu": GELU, "gelu_new": GELU_TANH, "gelu_pytorch_tanh": GELU_TANH, "quick_gelu": QUICK_GELU,
    "relu": RELU, "selu": SELU, "silu": SILU, "tanh": TANH, "sigmoid": SIGMOID,
}


def code_of(activation):
    """The code of an activation.  Raises ValueError for an unknown name.  The error message lists all names."""
    if activation not in CODES:
        raise ValueError(f"activation: expected one of {', '.join(filter(None, CODES))}, found {activation!r}")
    return CODES[activation]


@jit
def activate_in(x, code):
    """x = activation(x) in place, for a flat array x.

    The result is written into x, so that LLVM does not have to check whether two arrays overlap.
    """
    wide()
    if code == GELU:
        for i in range(x.size):
            x[i] = gelu(x[i])
    elif code == GELU_TANH:
        for i in range(x.size):
            x[i] = gelu_tanh(x[i])
    elif code == QUICK_GELU:
        for i in range(x.size):
            x[i] = quick_gelu(x[i])
    elif code == RELU:
        for i in range(x.size):
            x[i] = relu(x[i])
    elif code == SELU:
        for i in range(x.size):
            x[i] = selu(x[i])
    elif code == SILU:
        for i in range(x.size):
            x[i] = silu(x[i])
    elif code == TANH:
        for i in range(x.size):
            x[i] = tanh(x[i])
    elif code == SIGMOID:
        for i in range(x.size):
            x[i] = sigmoid(x[i])


@jit
def differentiate_in(d, x, code):
    """d = d * (the derivative of the activation at x) in place, for flat arrays d and x."""
    wide()
    if code == GELU:
        for i in range(d.size):
            d[i] *= gelu_derivative(x[i])
    elif code == GELU_TANH:
        for i in range(d.size):
            d[i] *= gelu_tanh_derivative(x[i])
    elif code == QUICK_GELU:
        for i in range(d.size):
            d[i] *= quick_gelu_derivative(x[i])
    elif code == RELU:
        for i in range(d.size):
            d[i] *= relu_derivative(x[i])
    elif code == SELU:
        for i in range(d.size):
            d[i] *= selu_derivative(x[i])
    elif code == SILU:
        for i in range(d.size):
            d[i] *= silu_derivative(x[i])
    elif code == TANH:
        for i in range(d.size):
            d[i] *= tanh_derivative(x[i])
    elif code == SIGMOID:
        for i in range(d.size):
            d[i] *= sigmoid_derivative(x[i])
