// The steps from a picture to pixel_values, as in nphybrid/image.py. Pictures are resized as Pillow resizes bytes, with
// the same fixed-point numbers: from the same pixels, all bytes are equal to Pillow's.

// Apply the steps to one picture.  (H, W, C) -> (h, w, C)
// `steps` are steps of image.py. A step that is null or missing is omitted. The page first applies the steps up to the
// crop, then the acts that change bytes, and then the other steps.
function prepare(image, steps) {
  let x = image;                                                                                   // (300, 451, 3)
  if (steps.size) {
    const [H, W] = x.shape;
    const [height, width] = resized_size(H, W, steps.size);
    x = resize(x, height, width, steps.resample);                                                  // (64, 96, 3)
  }
  if (steps.crop) x = centre_crop(x, ...steps.crop, steps.crop_rounding);                          // (64, 64, 3)
  if (steps.factor) x = rescale(x, steps.factor);
  if (steps.mean) x = normalize(x, steps.mean, steps.std);
  return x;
}

// The [height, width] of a picture after resizing. A number `size` is the length of the short side.
function resized_size(height, width, size) {
  if (typeof size !== "number") return size;
  const long = Math.trunc((size * Math.max(height, width)) / Math.min(height, width));
  return height < width ? [size, long] : [long, size];
}

// Resize the width and the height, one after the other. After each step, the numbers are bytes again, so the order
// matters. Pillow 13 begins with the height if the height shrinks by many more pixels.  (H, W, C) -> (h, w, C)
function resize(image, height, width, filter) {
  const [H, W, C] = image.shape;
  const heightFirst = H > height && H - height > 2 * (W - width);
  let x = image.data;
  if (heightFirst) x = resizeAxis(x, 1, H, W * C, height, FILTERS[filter]);
  if (width !== W) x = resizeAxis(x, heightFirst ? height : H, W, C, width, FILTERS[filter]);
  if (!heightFirst && height !== H) x = resizeAxis(x, 1, H, width * C, height, FILTERS[filter]);
  return array([height, width, C], x);
}

// Resize the middle axis of an array (outer, n, inner) to `m`.
function resizeAxis(x, outer, n, inner, m, filter) {
  const y = new Uint8ClampedArray(outer * m * inner);
  const sums = new Float64Array(inner);
  const taps = tapsOf(n, m, filter);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < m; i++) {
      const { first, weights } = taps[i];
      sums.fill(2 ** (PRECISION_BITS - 1));
      for (let t = 0; t < weights.length; t++) {
        const from = (o * n + first + t) * inner;
        for (let c = 0; c < inner; c++) sums[c] += x[from + c] * weights[t];
      }
      const to = (o * m + i) * inner;
      for (let c = 0; c < inner; c++) y[to + c] = Math.floor(sums[c] / 2 ** PRECISION_BITS);
    }
  }
  return y;
}

// For each of m new cells: the first of the old cells that the cell covers, and the weights of the old cells.
// If an axis becomes shorter, the filter becomes wider (antialiasing). The weights are whole numbers, and
// 2^PRECISION_BITS stands for 1.
const PRECISION_BITS = 22;
function tapsOf(n, m, { radius, at }) {
  const scale = n / m;
  const wide = Math.max(scale, 1);
  return Array.from({ length: m }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - radius * wide + 0.5), 0);
    const end = Math.min(Math.trunc(centre + radius * wide + 0.5), n);
    const weights = Float64Array.from({ length: end - first }, (_, t) => at((first + t - centre + 0.5) * (1 / wide)));
    const sum = weights.reduce((a, b) => a + b, 0);
    const whole = (weight) => Math.trunc((weight / sum) * 2 ** PRECISION_BITS + (weight < 0 ? -0.5 : 0.5));
    return { first, weights: weights.map(whole) };
  });
}

// Pillow's numbers of the filters. Bicubic: Keys 1981, eq. 4, with a = -1/2, as Pillow orders the operations.
const FILTERS = {
  2: { radius: 1, at: (x) => Math.max(1 - Math.abs(x), 0) },
  3: { radius: 2, at: (x) => bicubic(Math.abs(x)) },
};
function bicubic(x) {
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// Crop a picture around its centre. A picture that is smaller than the crop is padded with zeros.
function centre_crop(image, height, width, rounding) {
  const [H, W, C] = image.shape;
  const [top, left] = [surplus_before(H - height, rounding), surplus_before(W - width, rounding)];
  const y = new Uint8ClampedArray(height * width * C);
  for (let row = Math.max(-top, 0); row < Math.min(height, H - top); row++) {
    const [from, to] = [Math.max(left, 0), Math.min(left + width, W)];
    const line = image.data.subarray(((row + top) * W + from) * C, ((row + top) * W + to) * C);
    y.set(line, (row * width + Math.max(-left, 0)) * C);
  }
  return array([height, width, C], y);
}

// The number of surplus rows above the crop. It is negative if rows of zeros are added.
function surplus_before(surplus, rounding) {
  if (rounding === "floor") return Math.floor(surplus / 2);
  if (surplus <= 0) return -Math.floor(-surplus / 2);
  return surplus % 4 === 3 ? (surplus + 1) / 2 : Math.floor(surplus / 2); // a half goes to the even number
}

// image * factor, rounded to float32.  (H, W, C) -> (H, W, C)
const rescale = (image, factor) => array(image.shape, Float32Array.from(image.data, (value) => value * factor));

// Compute (image - mean) / std in each channel.  (H, W, C) -> (H, W, C)
// As in NumPy, the result of each operation is rounded to float32.
function normalize(image, mean, std) {
  const C = image.shape[2];
  const x = Float32Array.from(image.data);
  [mean, std] = [Float32Array.from(mean), Float32Array.from(std)];
  return array(image.shape, x.map((value, i) => Math.fround(value - mean[i % C]) / std[i % C]));
}
