// The worker: it computes the network for a picture, so that the page never waits.
//
// The page sends { network, weights } once, and then any number of { file, pixels, acts, keep }:
//   file     a picture, which the worker decodes and prepares
//   pixels   or prepared pixels { shape, data } in 0..255; without both, the picture before
//   acts     the acts (model.js and pixels.js), or null
//   keep     the names of states that the page wants, for example ["stem"]
// The worker answers { facts, arrays, untouched, differences, states, milliseconds } or { error }. `untouched` are the
// facts of the pass without acts, and `differences` are the differences to this pass. For a file, the answer also has
// its size `picture`, a small copy `poster`, and `resized`.

const POSTER = 640; // the longest side of the copy of the picture for the page
const MAX_PIXELS = 64_000_000; // as in nphybrid/pictures
let network, untouched;

// Decode a file, turned upright and on white, without a colour profile: the rules of nphybrid/pictures/decode.py.
async function decodedPicture(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none" };
  const bitmap = await createImageBitmap(file, options);
  if (bitmap.width * bitmap.height > MAX_PIXELS) throw new Error("it has more than 64,000,000 pixels");
  const draw = (width, height) => {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, width, height);
    return context;
  };
  const [width, height] = [bitmap.width, bitmap.height];
  const rgba = draw(width, height).getImageData(0, 0, width, height).data;
  const rgb = new Uint8ClampedArray(width * height * 3);
  for (let i = 0, k = 0; i < rgba.length; i += 4) {
    rgb[k++] = rgba[i];
    rgb[k++] = rgba[i + 1];
    rgb[k++] = rgba[i + 2];
  }
  const factor = Math.min(1, POSTER / Math.max(width, height));
  const sides = [width, height].map((n) => Math.max(Math.round(n * factor), 1));
  const poster = draw(...sides).canvas.transferToImageBitmap();
  bitmap.close();
  return { image: array([height, width, 3], rgb), poster };
}

// One forward pass.  -> the facts and arrays of the page, and all states
function pass(pixels, acts, kept) {
  const trace = new Trace();
  const forward = network.config.blocks ? hybrid : bit;
  forward(prepare(pixels, network.photograph), network.p, network.config, trace, acts);
  return { ...scene(trace.states, pixels, network, acts, kept), states: trace.states };
}

async function answer({ file, pixels, acts, keep = [] }) {
  const milliseconds = {};
  let [before, opened] = [performance.now(), {}];
  const lap = (name) => {
    const now = performance.now();
    [milliseconds[name], before] = [now - before, now];
  };
  if (file) {
    const { image, poster } = await decodedPicture(file);
    lap("decode");
    const [height, width] = image.shape;
    const resized = network.steps.size ? resized_size(height, width, network.steps.size) : [height, width];
    pixels = prepare(image, network.steps);
    opened = { poster, picture: [width, height], resized };
    lap("prepare");
  }
  if (pixels) untouched = { pixels, ...pass(pixels, NO_ACTS, null) };
  const result = acts ? pass(changed_pixels(untouched.pixels, acts), acts, untouched.facts) : untouched;
  const far = acts ? differences(result.states, untouched.states) : {};
  lap("network");
  const states = Object.fromEntries(keep.map((name) => [name, result.states[name]]));
  const { facts, arrays } = result;
  return { ...opened, facts, arrays, untouched: untouched.facts, differences: far, states, milliseconds };
}

onmessage = async ({ data }) => {
  if (data.weights) {
    network = { ...data.network, p: parameters(data.network.leaves, data.weights) };
    return;
  }
  try {
    postMessage(await answer(data));
  } catch (error) {
    postMessage({ error: String(error.message ?? error) });
  }
};
