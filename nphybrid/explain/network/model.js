// The forward pass of the whole network, as in nphybrid/model.py, and the acts that change it.

// The acts of a reader. Without an act, the network is computed unchanged.
//   headMask      for each block, a factor for each head; or null
//   masked        the numbers of the patches that are replaced by the mask token
//   skipped       the numbers of the blocks that are skipped
//   blanked       {state: numbers of channels that become 0}; the states are "stem" and the residual units
//   temperature   the divisor of all scores of the attention
//   classToken    (D): the numbers that replace the learned class token; or "mean" of the patches; or null
//   positions     (N): patch i gets the learned position of patch positions[i]; or null
const NO_ACTS = {
  headMask: null,
  masked: [],
  skipped: [],
  blanked: {},
  temperature: 1,
  classToken: null,
  positions: null,
};

// The Hybrid Vision Transformer.  pixel_values (H, W, 3) -> logits (classes)
function hybrid(x, p, config, out, acts = NO_ACTS) {
  out.record("pixel_values", x);                                                                   // (64, 64, 3)
  if (p.stem) x = backbone(x, p, config, out, acts);                                               // (8, 8, 256)
  x = out.record("tokens", tokens(x, p.tokens, config, out.at("tokens"), acts));                   // (65, 192)
  x = out.record("norm", encoder(x, p, config, out, acts));                                        // (65, 192)
  if (p.head) x = out.record("logits", linear(pooled(x, p, config, out), p.head));                 // (10)
  return x;
}

// The pooled vector, which the classifier reads.  (T, D) -> (D)   ViT eq. 4
function pooled(x, p, config, out) {
  const D = config.width;
  if (config.pool === "token") x = array([D], x.data.subarray(0, D));                              // (192)
  else x = mean_pool(array([x.shape[0], D], x.data.subarray(config.class_token ? D : 0)));         // (192)
  if (p.pool_norm) x = out.record("pool_norm", layer_norm(x, p.pool_norm, config.ln_eps));
  if (p.pre_logits) x = out.record("pre_logits", linear_activate(x, p.pre_logits, "tanh"));        // (192)
  return x;
}

// The BiT network.  pixel_values (H, W, 3) -> logits (classes)
// The column at the right has the shapes of BiT-R50x1.
function bit(x, p, config, out, acts = NO_ACTS) {
  out.record("pixel_values", x);                                                                   // (224, 224, 3)
  x = backbone(x, p, config, out, acts);                                                           // (7, 7, 2048)
  if (p.features_norm) x = out.record("features_norm", norm_activate(x, p.features_norm, config));
  const mean = out.record("pooler", mean_pool(x));                                                 // (2048)
  if (p.head) x = out.record("logits", linear(mean, p.head));                                      // (1000)
  return x;
}
