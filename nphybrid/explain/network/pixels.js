// Changes of the prepared picture, before the network reads it.

// The picture after the acts `pieces` and `painted`.  { shape: (H, W, C), data } -> the same
//   pieces    { grid, cell, order }: the piece at place i is the piece of place order[i]; or null
//   painted   { codes, colours }: a pixel with the code n > 0 gets the colour n - 1; or null
function changed_pixels(image, { pieces, painted }) {
  let x = image;
  if (pieces) x = shuffled_pieces(x, pieces);
  if (painted) x = painted_over(x, painted);
  return x;
}

// Cut the picture into the cells of the grid, and put the cells into another order. `cell` is [height, width].
// Pixels outside of all cells keep their place.
function shuffled_pieces({ shape, data }, { grid, cell, order }) {
  const [, W, C] = shape;
  const y = Float32Array.from(data);
  for (let i = 0; i < order.length; i++) {
    const [to, from] = [i, order[i]].map((n) => [Math.floor(n / grid[1]) * cell[0], (n % grid[1]) * cell[1]]);
    for (let row = 0; row < cell[0]; row++) {
      const start = ((from[0] + row) * W + from[1]) * C;
      y.set(data.subarray(start, start + cell[1] * C), ((to[0] + row) * W + to[1]) * C);
    }
  }
  return array(shape, y);
}

// Replace the colours of the painted pixels.
function painted_over({ shape, data }, { codes, colours }) {
  const C = shape[2];
  const y = Float32Array.from(data);
  codes.forEach((code, i) => code && y.set(colours[code - 1].slice(0, C), i * C));
  return array(shape, y);
}
