// Measures of one forward pass, as nphybrid/explain/measures.py defines them.

// The share that each input token contributes to each token after each block.  Abnar & Zuidema 2020, section 3
// The heads are averaged, and the shortcut counts as much as the attention.  (L, A, T, T) -> L times T * T numbers
function rollout(weights) {
  const [L, A, T] = weights.shape;
  let mixed = eye(T);
  return Array.from({ length: L }, (_, l) => {
    const [step, next] = [eye(T), new Float64Array(T * T)];
    for (let i = 0; i < A * T * T; i++) step[i % (T * T)] += weights.data[l * A * T * T + i] / A;
    for (let i = 0; i < T; i++) {
      const row = step.subarray(i * T, (i + 1) * T);
      const sum = row.reduce((a, b) => a + b);
      row.forEach((share, j) => {
        for (let t = 0; t < T; t++) next[i * T + t] += (share / sum) * mixed[j * T + t];
      });
    }
    return (mixed = next);
  });
}

// The identity matrix.  -> T * T numbers
const eye = (T) => new Float64Array(T * T).map((_, i) => (i % (T + 1) ? 0 : 1));

// The mean distance in pixels from a query cell to the key cells, weighted by attention.  (L, A, T, T) -> (L, A)
// A head without weights, which is switched off or skipped, has the distance 0.   ViT, figure 7, right; appendix D.7
function attention_distance(weights, grid, cell) {
  const [L, A, T] = weights.shape;
  const N = grid[0] * grid[1];
  const far = distances(grid, cell);
  const distance = (l, a) => {
    let mean = 0;
    for (let q = 0; q < N; q++) {
      const start = ((l * A + a) * T + T - N + q) * T + T - N;
      const among = weights.data.subarray(start, start + N);
      const weighted = among.reduce((sum, weight, k) => sum + weight * far[q * N + k], 0);
      mean += weighted / (among.reduce((sum, weight) => sum + weight, 0) || 1) / N;
    }
    return mean;
  };
  return Array.from({ length: L }, (_, l) => Array.from({ length: A }, (_, a) => distance(l, a)));
}

// The distance in pixels between the centres of each pair of cells.  -> N * N numbers
function distances([rows, columns], [height, width]) {
  const N = rows * columns;
  const places = Array.from({ length: N }, (_, i) => [Math.floor(i / columns) * height, (i % columns) * width]);
  return places.flatMap(([y, x]) => places.map((place) => Math.hypot(y - place[0], x - place[1])));
}

// The cosine between the position vectors of each pair of cells.  (T, D) -> (N, N)   ViT, figure 7, centre
// A cosine is 0 if one of its two vectors is a vector of zeros.
function position_similarity(positions, grid) {
  const [N, D] = [grid[0] * grid[1], positions.shape[1]];
  const cells = positions.data.subarray(-N * D);
  const lengths = Array.from({ length: N }, (_, n) => Math.hypot(...cells.subarray(n * D, (n + 1) * D)));
  const directions = cells.map((value, i) => value / (lengths[Math.floor(i / D)] || 1));
  return array([N, N], product(directions, directions, N, D, N));
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

// Compute logits from each state, as if the encoder ended at this state.  S times (T, D) -> S times (classes)
function logit_lens(states, p, config) {
  return states.map((x) => {
    if (p.norm) x = layer_norm(x, p.norm, config.ln_eps);
    return linear(pooled(x, p, config, new Trace(new Set())), p.head);
  });
}
