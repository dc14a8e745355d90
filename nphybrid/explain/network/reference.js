// The operations, as nphybrid/ops/reference.py defines them. Sums are float64, and every result is rounded to float32.

// Slide a kernel over a map that is padded with zeros.  x (H, W, C), kernel (O, KH, KW, C) -> (H', W', O)
// `padding` is [[top, bottom], [left, right]].
function conv2d(x, kernel, stride, dilation, padding) {
  const [O, KH, KW, C] = kernel.shape;
  const axis = (n, k, pad) => Math.floor((n + pad[0] + pad[1] - dilation * (k - 1) - 1) / stride) + 1;
  const [rows, columns] = [axis(x.shape[0], KH, padding[0]), axis(x.shape[1], KW, padding[1])];
  const plain = KH === 1 && KW === 1 && stride === 1 && !padding.flat().some(Boolean);
  const under = plain ? x : windows(x, [KH, KW], stride, dilation, padding, [rows, columns]);
  const y = product(under.data, kernel.data, rows * columns, KH * KW * C, O);
  return array([rows, columns, O], y);
}

// The numbers under a kernel at each of its places, one place per row.  (H, W, C) -> (H' * W', KH * KW * C)
function windows(x, [KH, KW], stride, dilation, padding, [rows, columns]) {
  const [H, W, C] = x.shape;
  const y = array([rows * columns, KH * KW * C]);
  let to = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let u = 0; u < KH; u++) {
        const i = row * stride + u * dilation - padding[0][0];
        for (let v = 0; v < KW; v++, to += C) {
          const j = column * stride + v * dilation - padding[1][0];
          if (i < 0 || i >= H || j < 0 || j >= W) continue; // the padding is 0
          const from = (i * W + j) * C;
          for (let c = 0; c < C; c++) y.data[to + c] = x.data[from + c];
        }
      }
    }
  }
  return y;
}

// The product of a matrix with a transposed matrix.  a (N, K), b (O, K) -> (N, O)
// The inner loop computes a tile of four rows and two columns, so that it uses each number several times. At the edges,
// a tile contains the last row or column more than once. Multiply-adds per nanosecond on one core of an AMD EPYC, with
// V8 11.3, for (N, K, O) = (256, 288, 32): 1.0 for tiles of 1 x 1, 2.3 for 2 x 2, and 2.6 for 4 x 2. A declaration
// such as [s00, s01] = [0, 0] would cost half of the speed.
function product(a, b, N, K, O) {
  const y = new Float32Array(N * O);
  for (let j = 0; j < O; j += 2) {
    const j1 = Math.min(j + 1, O - 1);
    const b0 = j * K;
    const b1 = j1 * K;
    for (let i = 0; i < N; i += 4) {
      const i1 = Math.min(i + 1, N - 1);
      const i2 = Math.min(i + 2, N - 1);
      const i3 = Math.min(i + 3, N - 1);
      const a0 = i * K;
      const a1 = i1 * K;
      const a2 = i2 * K;
      const a3 = i3 * K;
      let s00 = 0;
      let s01 = 0;
      let s10 = 0;
      let s11 = 0;
      let s20 = 0;
      let s21 = 0;
      let s30 = 0;
      let s31 = 0;
      for (let k = 0; k < K; k++) {
        const left = b[b0 + k];
        const right = b[b1 + k];
        s00 += a[a0 + k] * left;
        s01 += a[a0 + k] * right;
        s10 += a[a1 + k] * left;
        s11 += a[a1 + k] * right;
        s20 += a[a2 + k] * left;
        s21 += a[a2 + k] * right;
        s30 += a[a3 + k] * left;
        s31 += a[a3 + k] * right;
      }
      y[i * O + j] = s00;
      y[i * O + j1] = s01;
      y[i1 * O + j] = s10;
      y[i1 * O + j1] = s11;
      y[i2 * O + j] = s20;
      y[i2 * O + j1] = s21;
      y[i3 * O + j] = s30;
      y[i3 * O + j1] = s31;
    }
  }
  return y;
}

// The largest value of each 3x3 window, with stride 2.  (H, W, C) -> (H', W', C)
// Each cell of the padding has the value `fill`.
function max_pool(x, padding, fill) {
  const [H, W, C] = x.shape;
  const [rows, columns] = [H, W].map((n, axis) => Math.floor((n + padding[axis][0] + padding[axis][1] - 3) / 2) + 1);
  const y = array([rows, columns, C]);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let c = 0; c < C; c++) {
        let most = -Infinity;
        for (let u = 0; u < 3; u++) {
          const i = 2 * row + u - padding[0][0];
          for (let v = 0; v < 3; v++) {
            const j = 2 * column + v - padding[1][0];
            const inside = i >= 0 && i < H && j >= 0 && j < W;
            most = Math.max(most, inside ? x.data[(i * W + j) * C + c] : fill);
          }
        }
        y.data[(row * columns + column) * C + c] = most;
      }
    }
  }
  return y;
}

// The mean over the cells of a map.  (..., C) -> (C)
function mean_pool(x) {
  const C = x.shape[x.shape.length - 1];
  const sums = new Float64Array(C);
  for (let i = 0; i < x.data.length; i++) sums[i % C] += x.data[i];
  return array(
    [C],
    Float32Array.from(sums, (sum) => sum / (x.data.length / C)),
  );
}

// Normalize each group of neighbouring channels over all cells.  (H, W, C) -> (H, W, C)   Wu & He 2018, section 3.1
function group_norm(x, norm, groups, eps) {
  const [H, W, C] = x.shape;
  const count = (H * W * C) / groups;
  const group = (i) => Math.floor((i % C) / (C / groups));
  const [mean, variance] = [new Float64Array(groups), new Float64Array(groups)];
  for (let i = 0; i < x.data.length; i++) mean[group(i)] += x.data[i] / count;
  for (let i = 0; i < x.data.length; i++) variance[group(i)] += (x.data[i] - mean[group(i)]) ** 2 / count;
  const y = array(x.shape);
  for (let i = 0; i < x.data.length; i++) {
    const [c, g] = [i % C, group(i)];
    y.data[i] = ((x.data[i] - mean[g]) / Math.sqrt(variance[g] + eps)) * norm.scale.data[c] + norm.bias.data[c];
  }
  return y;
}

// activation(group_norm(x))
const group_norm_activate = (x, norm, groups, eps, activation) =>
  activate(group_norm(x, norm, groups, eps), activation);

// activation(group_norm(x) + shortcut)
const group_norm_add_activate = (x, norm, groups, eps, shortcut, activation) =>
  activate(add(group_norm(x, norm, groups, eps), shortcut), activation);

// Normalize each token over its width.  (T, D) -> (T, D)   Ba et al. 2016, eq. 4
function layer_norm(x, norm, eps) {
  const D = x.shape.at(-1);
  const y = array(x.shape);
  for (let start = 0; start < x.data.length; start += D) {
    let [mean, variance] = [0, 0];
    for (let d = 0; d < D; d++) mean += x.data[start + d] / D;
    for (let d = 0; d < D; d++) variance += (x.data[start + d] - mean) ** 2 / D;
    const root = Math.sqrt(variance + eps);
    for (let d = 0; d < D; d++) {
      y.data[start + d] = ((x.data[start + d] - mean) / root) * norm.scale.data[d] + norm.bias.data[d];
    }
  }
  return y;
}

// x @ kernel.T + bias.  x (..., C), kernel (O, C) -> (..., O)
function linear(x, p) {
  const [O, C] = p.kernel.shape;
  const y = product(x.data, p.kernel.data, x.data.length / C, C, O);
  if (p.bias) for (let i = 0; i < y.length; i++) y[i] += p.bias.data[i % O];
  return array([...x.shape.slice(0, -1), O], y);
}

// activation(linear(x))
const linear_activate = (x, p, activation) => activate(linear(x, p), activation);

// linear(x) + residual
const linear_add = (x, p, residual) => add(linear(x, p), residual);

function add(x, y) {
  return array(
    x.shape,
    x.data.map((value, i) => value + y.data[i]),
  );
}
