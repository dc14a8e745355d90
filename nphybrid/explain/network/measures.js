// Measures of one forward pass, as nphybrid/explain/measures.py defines them.

// The share that each input token contributes to the input of the classifier, before the first block and after each.
// weights: for each block (A, T, T), or null for a skipped block -> (L + 1, T)
function rollout(weights, config) {
  const [T, A] = [config.tokens, config.heads];
  const cells = Array.from({ length: T - config.class_token }, (_, i) => i + Number(config.class_token));
  const reads = config.pool === "token" ? [0] : cells;
  let mixed = Float64Array.from({ length: T * T }, (_, i) => (i % (T + 1) ? 0 : 1));
  const shares = [];
  const read = () => {
    for (let t = 0; t < T; t++) shares.push(reads.reduce((sum, i) => sum + mixed[i * T + t], 0) / reads.length);
  };
  read();
  for (const heads of weights) {
    if (heads) mixed = step(heads.data);
    read();
  }
  return array([weights.length + 1, T], Float32Array.from(shares));

  // (mean of the heads + I) @ mixed, with the rows of the first matrix divided by their sums
  function step(data) {
    const [next, factors] = [new Float64Array(T * T), new Float64Array(T)];
    for (let i = 0; i < T; i++) {
      for (let j = 0; j < T; j++) {
        factors[j] = i === j ? 1 : 0;
        for (let a = 0; a < A; a++) factors[j] += data[(a * T + i) * T + j] / A;
      }
      const sum = factors.reduce((a, b) => a + b);
      factors.forEach((factor, j) => {
        for (let t = 0; t < T; t++) next[i * T + t] += (factor / sum) * mixed[j * T + t];
      });
    }
    return next;
  }
}

// The mean distance in pixels from a query cell to the key cells, weighted by attention.  (A, T, T) -> A numbers
// A head without weights, which is switched off or skipped, has the distance 0.
function attention_distance(heads, config, [height, width]) {
  const [T, [rows, columns]] = [config.tokens, config.grid];
  const N = rows * columns;
  return Array.from({ length: config.heads }, (_, a) => {
    if (!heads) return 0;
    let mean = 0;
    for (let i = 0; i < N; i++) {
      let [sum, all] = [0, 0];
      for (let j = 0; j < N; j++) {
        const weight = heads.data[(a * T + i + T - N) * T + j + T - N];
        const [down, across] = [Math.floor(i / columns) - Math.floor(j / columns), (i % columns) - (j % columns)];
        sum += weight * Math.hypot(down * height, across * width);
        all += weight;
      }
      mean += all ? sum / all / N : 0;
    }
    return mean;
  });
}

// The differences of two forward passes, state by state: rms(state - untouched) / rms(untouched).
// A skipped block has no inner states.  {name: state} twice -> {name: number}
function differences(states, untouched) {
  const far = {};
  for (const [name, { data }] of Object.entries(states)) {
    const before = untouched[name]?.data;
    if (before?.length !== data.length) continue;
    let [sum, all] = [0, 0];
    for (let i = 0; i < data.length; i++) {
      sum += (data[i] - before[i]) ** 2;
      all += before[i] ** 2;
    }
    far[name] = Math.sqrt(sum / (all || 1));
  }
  return far;
}

// The logits as if the encoder ended at a state.  (T, D) -> (classes)
function logit_lens(x, p, config) {
  if (p.norm) x = layer_norm(x, p.norm, config.ln_eps);
  return linear(pooled(x, p, config, new Trace(new Set())), p.head);
}
