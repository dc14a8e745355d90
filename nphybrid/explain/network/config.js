// The rules of padding, as in nphybrid/config.py. `config` has the fields and the properties of Config, and
// `config.plan` is the plan of the backbone.

// The numbers of padding cells before and after an axis of n cells.
// With the rule "same" of TensorFlow, the end gets the odd cell.
function pads(rule, n, kernel, stride, dilation = 1) {
  if (rule === "same") {
    const total = Math.max((Math.ceil(n / stride) - 1) * stride + dilation * (kernel - 1) + 1 - n, 0);
    return [Math.floor(total / 2), Math.ceil(total / 2)];
  }
  const half = rule === "symmetric" ? Math.floor((stride - 1 + dilation * (kernel - 1)) / 2) : 0;
  return [half, half];
}

// The number of rows and columns of zeros around the result of the stem's convolution.
const stem_border = (config) => (config.padding === "same" ? 0 : 1);
