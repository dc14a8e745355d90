// The convolutional backbone, as in nphybrid/backbone.py.

// Compute the stem and the stages.  pixel_values (H, W, 3) -> feature map
// `acts` (model.js) can blank channels of the stem and of the units.
function backbone(x, p, config, out, acts) {
  x = blanked(stem(x, p.stem, config, out.at("stem")), acts.blanked.stem);                         // (16, 16, 64)
  const maps = [out.record("stem", x)];
  const apply = { bottleneck, preactivation }[config.unit];
  config.plan.forEach((stage, s) => {
    stage.forEach((unit, u) => {
      const name = `stages.${s}.${u}`;
      x = blanked(apply(x, p.stages[s][u], unit, config, out.at(name)), acts.blanked[name]);
      out.record(name, x);                                                                         // (H', W', O)
    });
    maps.push(x);
  });
  return maps.at(config.feature_stage);                                                            // (8, 8, 256)
}

// A 7x7 convolution and a 3x3 max pool, each with stride 2.  (H, W, 3) -> (H/4, W/4, 64)
function stem(x, p, config, out) {
  x = out.record("conv", conv(x, p.conv, 7, config, 2));                                           // (32, 32, 64)
  const border = stem_border(config);
  if (border) x = out.record("border", bordered(x, border));                                       // (34, 34, 64)
  if (p.norm) x = out.record("norm", norm_activate(x, p.norm, config));
  const padding = x.shape.slice(0, 2).map((n) => pads(config.pool_padding, n, 3, 2));
  return max_pool(x, padding, config.pool_fill);                                                   // (16, 16, 64)
}

// The residual unit of the hybrid.  (H, W, C) -> (H', W', O)
function bottleneck(x, p, unit, config, out) {
  let shortcut = x;
  if (unit.project) {
    shortcut = out.record("proj", conv(x, p.proj, 1, config, unit.stride));                        // (H', W', O)
    shortcut = out.record("norm_proj", group_norm(shortcut, p.norm_proj, config.groups, config.gn_eps));
  }
  let y = out.record("conv1", conv(x, p.conv1, 1, config));                                        // (H, W, M)
  y = out.record("norm1", norm_activate(y, p.norm1, config));
  y = out.record("conv2", conv(y, p.conv2, 3, config, unit.stride, unit.dilation));                // (H', W', M)
  y = out.record("norm2", norm_activate(y, p.norm2, config));
  y = out.record("conv3", conv(y, p.conv3, 1, config));                                            // (H', W', O)
  return group_norm_add_activate(y, p.norm3, config.groups, config.gn_eps, shortcut, config.backbone_activation);
}

// The residual unit of BiT networks.  (H, W, C) -> (H', W', O)
function preactivation(x, p, unit, config, out) {
  let y = out.record("norm1", norm_activate(x, p.norm1, config));
  let shortcut = x;
  if (unit.project) shortcut = out.record("proj", conv(y, p.proj, 1, config, unit.stride));        // (H', W', O)
  y = out.record("conv1", conv(y, p.conv1, 1, config));                                            // (H, W, M)
  y = out.record("norm2", norm_activate(y, p.norm2, config));
  y = out.record("conv2", conv(y, p.conv2, 3, config, unit.stride, unit.dilation));                // (H', W', M)
  y = out.record("norm3", norm_activate(y, p.norm3, config));
  y = out.record("conv3", conv(y, p.conv3, 1, config));                                            // (H', W', O)
  return add(y, shortcut);
}

// A size x size convolution with the padding rule `config.padding`.  (H, W, C) -> (H', W', O)
function conv(x, kernel, size, config, stride = 1, dilation = 1) {
  const padding = x.shape.slice(0, 2).map((n) => pads(config.padding, n, size, stride, dilation));
  return conv2d(x, kernel, stride, dilation, padding);
}

// A group norm and the activation of the backbone.  (H, W, C) -> (H, W, C)
const norm_activate = (x, norm, config) =>
  group_norm_activate(x, norm, config.groups, config.gn_eps, config.backbone_activation);

// The map with `border` rows and columns of zeros on each side.  (H, W, C) -> (H + 2 border, W + 2 border, C)
function bordered(x, border) {
  const [H, W, C] = x.shape;
  const y = array([H + 2 * border, W + 2 * border, C]);
  for (let row = 0; row < H; row++) {
    const line = x.data.subarray(row * W * C, (row + 1) * W * C);
    y.data.set(line, ((row + border) * y.shape[1] + border) * C);
  }
  return y;
}

// The map, in which all cells of the given channels are 0.  (H, W, C) -> (H, W, C)
function blanked(x, channels) {
  if (!channels) return x;
  const C = x.shape[2];
  return array(x.shape, x.data.map((value, i) => (channels.includes(i % C) ? 0 : value)));
}
