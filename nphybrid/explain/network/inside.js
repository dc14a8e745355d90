// What happens inside the blocks of the encoder, as nphybrid/explain/inside.py defines it: for all blocks and tokens.

// The arrays that depend on the picture. A skipped block has only zeros.
function insideArrays(states, { config, p }) {
  const [L, T, D] = [config.blocks, config.tokens, config.width];
  const arrays = { value: array([L, T, D]), before: array([L, T, D]), rms: array([L + 1, T, 3]) };
  for (const name of ["hidden", "activated"]) arrays[name] = array([L, T, config.hidden]);
  for (let l = 0; l <= L; l++) {
    const before = states[l ? `blocks.${l - 1}` : "tokens"];
    rms(before).forEach((value, t) => (arrays.rms.data[(l * T + t) * 3] = value));
    if (l === L || !states[`blocks.${l}.value`]) continue;
    arrays.before.data.set(before.data, l * T * D);
    arrays.value.data.set(states[`blocks.${l}.value`].data, l * T * D);
    arrays.hidden.data.set(linear(states[`blocks.${l}.norm2`], p.blocks[l].fc1).data, l * T * config.hidden);
    arrays.activated.data.set(states[`blocks.${l}.fc1`].data, l * T * config.hidden);
    const between = states[`blocks.${l}.out`];
    const added = [difference(between, before), difference(states[`blocks.${l}`], between)];
    added.forEach((x, k) => rms(x).forEach((value, t) => (arrays.rms.data[(l * T + t) * 3 + k + 1] = value)));
  }
  return arrays;
}

// The arrays that do not depend on the picture. The kernels have their input channels first.
function insideKernels({ p }) {
  const part = (choose) => {
    const parts = Object.values(p.blocks).map(choose);
    const all = array([parts.length, ...parts[0].shape]);
    parts.forEach(({ data }, l) => all.data.set(data, l * data.length));
    return all;
  };
  return {
    out: part((block) => transpose(block.out.kernel, [1, 0])),
    fc2: part((block) => transpose(block.fc2.kernel, [1, 0])),
    norm_scale: part((block) => block.norm1.scale),
    norm_bias: part((block) => block.norm1.bias),
  };
}

const difference = (x, y) => array(x.shape, x.data.map((value, i) => value - y.data[i]));

// The square root of the mean of the squares of each token.  (T, D) -> T numbers
function rms({ shape: [T, D], data }) {
  return Array.from({ length: T }, (_, t) =>
    Math.sqrt(data.subarray(t * D, (t + 1) * D).reduce((sum, value) => sum + value * value, 0) / D),
  );
}
