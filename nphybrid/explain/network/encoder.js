// The tokens and the transformer encoder, as in nphybrid/tokens.py and nphybrid/encoder.py.

// Project the patches, prepend the class token, add the positions.  (H, W, C) -> (T, D)   ViT eq. 1
// `acts` (model.js) can mask patches, replace the class token, and permute the positions.
function tokens(x, p, config, out, acts) {
  x = patches(x, config.patch);                                                                    // (64, 256)
  x = out.record("proj", linear(x, p.proj));                                                       // (64, 192)
  if (acts.masked.length) x = out.record("masked", masked(x, acts.masked, p.mask));
  const cls = class_token(x, p, acts);                                                             // (192)
  if (cls) x = array([x.shape[0] + 1, config.width], Float32Array.of(...cls, ...x.data));          // (65, 192)
  return add(x, permuted(p.positions, acts.positions));
}

// The class token before the first block, or undefined in a network without a class token.  patches (N, D) -> (D)
function class_token(x, p, acts) {
  const [N, D] = x.shape;
  return acts.classToken === "mean" ? mean_pool(reshape(x, [N, 1, D])).data : (acts.classToken ?? p.cls?.data);
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
  const none = [[0, 0], [0, 0]];
  return windows(x, [P, P], P, 1, none, [h, w]);
}

// Compute L blocks, then the last layer norm.  (T, D) -> (T, D)   ViT eq. 2-4
// A skipped block returns its input. It has no other states.
function encoder(x, p, config, out, acts) {
  for (let l = 0; l < config.blocks; l++) {
    const name = `blocks.${l}`;
    if (!acts.skipped.includes(l)) x = block(x, p.blocks[l], config, out.at(name), acts, acts.headMask?.[l]);
    out.record(name, x);                                                                           // (65, 192)
  }
  return p.norm ? layer_norm(x, p.norm, config.ln_eps) : x;
}

// Attention with a shortcut, then an MLP with a shortcut.  (T, D) -> (T, D)   ViT eq. 2, 3
function block(x, p, config, out, acts, headMask) {
  let y = out.record("norm1", layer_norm(x, p.norm1, config.ln_eps));
  y = attention(y, p, config, out, acts.temperature, headMask);
  x = out.record("out", linear_add(y, p.out, x));                                                  // (65, 192)
  y = out.record("norm2", layer_norm(x, p.norm2, config.ln_eps));
  y = out.record("fc1", linear_activate(y, p.fc1, config.activation));                             // (65, 384)
  return linear_add(y, p.fc2, x);                                                                  // (65, 192)
}

// Multi-head self-attention without the output projection.  (T, D) -> (T, D)   ViT eq. 5-8
// `headMask` (A) has a factor for each head, or is undefined.
function attention(x, p, config, out, temperature, headMask) {
  const q = out.record("query", linear(x, p.query));                                               // (65, 192)
  const k = out.record("key", linear(x, p.key));                                                   // (65, 192)
  const v = out.record("value", linear(x, p.value));                                               // (65, 192)
  let [context, weights] = attention_with_weights(q, k, v, config.heads, temperature);             // (3, 65, 65)
  if (headMask) {
    const [square, K] = [weights.shape[1] ** 2, config.head_width];
    weights = array(weights.shape, weights.data.map((value, i) => value * headMask[Math.floor(i / square)]));
    const head = (i) => Math.floor((i % config.width) / K);
    context = array(context.shape, context.data.map((value, i) => value * headMask[head(i)]));
  }
  out.record("weights", weights);
  return out.record("context", context);                                                           // (65, 192)
}
