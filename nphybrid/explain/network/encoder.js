// The tokens and the transformer encoder, as in nphybrid/tokens.py and nphybrid/encoder.py.

// Project the patches, prepend the class token, add the positions.  (H, W, C) -> (T, D)   ViT eq. 1
// `acts` (model.js) can mask patches, replace the class token, and permute the positions.
function tokens(x, p, config, out, acts) {
  x = patches(x, config.patch);                                                                    // (64, 256)
  x = out.record("proj", linear(x, p.proj));                                                       // (64, 192)
  if (acts.masked.length) x = out.record("masked", masked(x, acts.masked, p.mask));
  const cls = class_token(x, p, acts);                                                             // (192)
  if (cls) x = concatenate(cls, x);                                                                // (65, 192)
  return add(x, permuted(p.positions, acts.positions));
}

// The class token before the first block, or undefined in a network without a class token.  patches (N, D) -> (D)
function class_token(x, p, acts) {
  const [N, D] = x.shape;
  return acts.classToken === "mean" ? mean_pool(reshape(x, [N, 1, D])).data : (acts.classToken ?? p.cls?.data);
}

// Put a token before all other tokens.  (D), (T, D) -> (T + 1, D)
function concatenate(token, x) {
  const [T, D] = x.shape;
  return array([T + 1, D], Float32Array.of(...token, ...x.data));
}

// The positions, in which patch i has the position of patch order[i]. The class token keeps its position.
// `order` (N), or null for the learned order.  (T, D) -> (T, D)
function permuted(positions, order) {
  if (!order) return positions;
  const [T, D] = positions.shape;
  const first = T - order.length;
  const row = (t) => (t < first ? t : first + order[t - first]);
  return array([T, D], positions.data.map((_, i) => positions.data[row(Math.floor(i / D)) * D + (i % D)]));
}

// Replace patches by the mask token. A network without a mask token gets vectors of zeros.  (N, D) -> (N, D)
function masked(x, numbers, mask) {
  const D = x.shape[1];
  const y = array(x.shape, x.data.slice());
  for (const n of numbers) y.data.set(mask ? mask.data : new Float32Array(D), n * D);
  return y;
}

// Cut a map into P x P patches.  (H, W, C) -> (H/P * W/P, P * P * C)
function patches(x, P) {
  const [H, W, C] = x.shape;
  const [h, w] = [Math.floor(H / P), Math.floor(W / P)];
  x = reshape(top_left(x, h * P, w * P), [h, P, w, P, C]);                                         // (8, 1, 8, 1, 256)
  return reshape(transpose(x, [0, 2, 1, 3, 4]), [h * w, P * P * C]);                               // (64, 256)
}

// The first rows and columns of a map.  (H, W, C) -> (rows, columns, C)
function top_left(x, rows, columns) {
  const [, W, C] = x.shape;
  const y = array([rows, columns, C]);
  for (let row = 0; row < rows; row++) {
    y.data.set(x.data.subarray(row * W * C, (row * W + columns) * C), row * columns * C);
  }
  return y;
}

// Compute L blocks, then the last layer norm.  (T, D) -> (T, D)   ViT eq. 2-4
// A skipped block returns its input. It has no other states.
function encoder(x, p, config, out, acts) {
  for (let l = 0; l < config.blocks; l++) {
    const name = `blocks.${l}`;
    const mask = acts.headMask?.[l];                                                               // (3)
    if (!acts.skipped.includes(l)) x = block(x, p.blocks[l], config, out.at(name), mask, acts.temperature);
    out.record(name, x);                                                                           // (65, 192)
  }
  return p.norm ? layer_norm(x, p.norm, config.ln_eps) : x;
}

// Attention with a shortcut, then an MLP with a shortcut.  (T, D) -> (T, D)   ViT eq. 2, 3
function block(x, p, config, out, head_mask, temperature) {
  let y = out.record("norm1", layer_norm(x, p.norm1, config.ln_eps));
  y = attention(y, p, config, out, head_mask, temperature);
  x = out.record("out", linear_add(y, p.out, x));                                                  // (65, 192)
  y = out.record("norm2", layer_norm(x, p.norm2, config.ln_eps));
  y = out.record("fc1", linear_activate(y, p.fc1, config.activation));                             // (65, 384)
  return linear_add(y, p.fc2, x);                                                                  // (65, 192)
}

// Multi-head self-attention without the output projection.  (T, D) -> (T, D)   ViT eq. 5-8
// `head_mask` (A) has a factor for the weights and the context of each head, or is undefined.
function attention(x, p, config, out, head_mask, temperature) {
  const q = out.record("query", linear(x, p.query));                                               // (65, 192)
  const k = out.record("key", linear(x, p.key));                                                   // (65, 192)
  const v = out.record("value", linear(x, p.value));                                               // (65, 192)
  let weights;
  [x, weights] = attention_with_weights(q, k, v, config.heads, temperature);                       // (3, 65, 65)
  if (head_mask) {
    const [T, K] = [x.shape[0], config.head_width];
    weights = times(weights, (i) => head_mask[Math.floor(i / (T * T))]);
    x = times(x, (i) => head_mask[Math.floor(i / K) % config.heads]);                              // (65, 192)
  }
  out.record("weights", weights);
  return out.record("context", x);                                                                 // (65, 192)
}

// Multiply number i of an array by factor(i).
const times = (x, factor) => array(x.shape, x.data.map((value, i) => value * factor(i)));
