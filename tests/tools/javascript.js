// Answers the requests of javascript.py. It runs after the text of the page's worker: in Node, or in a browser.

const numbersOf = (base64) => new Float32Array(decoded(base64).buffer);
function base64Of({ buffer, byteOffset, byteLength }) {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
}

// The learned arrays as they stand in the page, or from float32 numbers.
function learned({ leaves, exact, weights }) {
  if (weights) return parameters(leaves, weights);
  const numbers = numbersOf(exact);
  let next = 0;
  return tree(leaves.map(([name, shape]) => [name, array(shape, numbers.slice(next, (next += sizeOf(shape))))]));
}

// For each picture: {name of a state: [shape, numbers]}. If `most` is a number, only about `most` numbers of a state.
let loaded;
function statesOf({ config, pictures, shape, acts, most, ...rest }) {
  if (rest.leaves) loaded = { config, p: learned(rest) };
  const [pixels, size] = [numbersOf(pictures), sizeOf(shape)];
  return Array.from({ length: pixels.length / size }, (_, i) => {
    const trace = new Trace();
    const x = array(shape, pixels.slice(i * size, (i + 1) * size));
    (loaded.config.blocks ? hybrid : bit)(x, loaded.p, loaded.config, trace, { ...NO_ACTS, ...acts });
    const states = Object.entries(trace.states).map(([name, state]) => {
      const step = most ? Math.ceil(state.data.length / most) : 1;
      return [name, [state.shape, base64Of(state.data.filter((_, k) => k % step === 0))]];
    });
    return Object.fromEntries(states);
  });
}

// The shape and the bytes of the resized and cropped picture, and the input of the network.
function preparedPicture({ image, shape, steps, photograph }) {
  const bytes = prepare(array(shape, decoded(image)), { ...steps, factor: null, mean: null });
  return [bytes.shape, base64Of(bytes.data), base64Of(prepare(bytes, photograph).data)];
}

// The arrays of the inside of the blocks, for one picture.
function insideOf({ config, pictures, shape, acts, ...rest }) {
  const network = { config, p: learned(rest) };
  const trace = new Trace();
  hybrid(array(shape, numbersOf(pictures)), network.p, config, trace, { ...NO_ACTS, ...acts });
  const arrays = { ...insideArrays(trace.states, network), ...insideKernels(network) };
  return Object.fromEntries(Object.entries(arrays).map(([name, { shape, data }]) => [name, [shape, base64Of(data)]]));
}

// The channels and the maps inside the residual unit that the page shows.
function unitOf({ config, pictures, shape, ...rest }) {
  const network = { config, p: learned(rest) };
  const [trace, arrays] = [new Trace(), {}];
  (config.blocks ? hybrid : bit)(array(shape, numbersOf(pictures)), network.p, config, trace);
  const facts = unitFacts(trace.states, network, arrays, null);
  return [facts, Object.fromEntries(Object.entries(arrays).map(([name, { data }]) => [name, base64Of(data)]))];
}

function handled({ inside, unit, ...request }) {
  if (inside) return insideOf(request);
  if (unit) return unitOf(request);
  return request.image ? preparedPicture(request) : statesOf(request);
}
