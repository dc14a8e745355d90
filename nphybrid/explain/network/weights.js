// The learned arrays, as network.py writes them into the page.

// Decode base64.  text -> bytes
function decoded(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// The tree of all learned arrays: p.stages[0][1].conv1 is the array "stages.0.1.conv1".
// `leaves` is [[name, shape], ...], in the order of the numbers. `weights` has two texts in base64. `exact` has the
// arrays of one axis as float32, and one float32 scale for each index of the first axis of every other array. `codes`
// has the other arrays in 16 bits: a number is code * scale / 32767.
function parameters(leaves, weights) {
  const exact = new Float32Array(decoded(weights.exact).buffer);
  const codes = new Int16Array(decoded(weights.codes).buffer);
  let [next, nextCode] = [0, 0];
  const numbersOf = (shape) => {
    if (shape.length === 1) return exact.slice(next, (next += shape[0]));
    const scales = exact.subarray(next, (next += shape[0]));
    const row = sizeOf(shape) / shape[0];
    const part = codes.subarray(nextCode, (nextCode += sizeOf(shape)));
    return Float32Array.from(part, (code, i) => (code * scales[Math.floor(i / row)]) / 32767);
  };
  return tree(leaves.map(([name, shape]) => [name, array(shape, numbersOf(shape))]));
}

// Nested objects from [[dotted name, leaf], ...]
function tree(leaves) {
  const root = {};
  for (const [name, leaf] of leaves) {
    const keys = name.split(".");
    const last = keys.pop();
    keys.reduce((node, key) => (node[key] ??= {}), root)[last] = leaf;
  }
  return root;
}
