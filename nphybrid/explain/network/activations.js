// The operations of attention, and the activations, as nphybrid/ops/reference.py defines them.

// softmax(query @ key.T / sqrt(K) / temperature) @ value in each head.  three (T, D) -> (T, D), weights (A, T, T)
// K = D / heads is the width of a head. The network has the temperature 1.
function attention_with_weights(query, key, value, heads, temperature = 1) {
  const [T, D] = query.shape;
  const K = D / heads;
  const [context, weights] = [array([T, D]), array([heads, T, T])];
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < T; i++) {
      const scores = new Float64Array(T);
      for (let j = 0; j < T; j++) {
        let sum = 0;
        for (let c = head * K; c < (head + 1) * K; c++) sum += query.data[i * D + c] * key.data[j * D + c];
        scores[j] = sum / Math.sqrt(K) / temperature;
      }
      const row = softmax(scores);
      weights.data.set(row, (head * T + i) * T);
      for (let c = head * K; c < (head + 1) * K; c++) {
        let sum = 0;
        for (let j = 0; j < T; j++) sum += row[j] * value.data[j * D + c];
        context.data[i * D + c] = sum;
      }
    }
  }
  return [context, weights];
}

// exp(x) / sum(exp(x)), without overflow in exp.  (T) -> (T), a plain or typed array
function softmax(x) {
  const most = x.reduce((a, b) => Math.max(a, b));
  const powers = x.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

// Apply an activation, given by its name, to each element of x.  (...) -> (...)
const activate = (x, activation) => array(x.shape, x.data.map(ACTIVATIONS[activation]));

const relu = (x) => Math.max(0, x);

// x * Phi(x), where Phi is the distribution function of N(0, 1).  Hendrycks & Gimpel 2016, eq. 1
const gelu = (x) => (x * (1 + erf(x / Math.SQRT2))) / 2;

// The error function.  Its power series is a sum of positive numbers, so no digits cancel; error at most 3e-16:
// erf(x) = 2 / sqrt(pi) * exp(-x^2) * (x + 2 x^3 / 3 + 4 x^5 / (3 * 5) + ...).  Abramowitz & Stegun 1964, 7.1.6
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x); // erf(6) is 1 - 2e-17
  let [term, sum] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const ACTIVATIONS = { gelu, relu, tanh: Math.tanh };
