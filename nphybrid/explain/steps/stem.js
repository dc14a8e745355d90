// The first convolution, computed here from the pixels and the standardized weights.
let convolution;
function filters() {
  if (convolution) return convolution;
  const [count, taps, , channels] = facts.arrays.filters.shape;
  const [rows, columns] = there.stem.map;
  const [height, width] = there.photograph.shape;
  const size = taps * taps * channels;
  const weights = Float32Array.from({ length: count * size }, (_, i) => numbers.filters.at(i));
  // Where in pixelValues a tap lies when the filter stands at a cell; null in the padding, which counts as 0.
  const pixel = (row, column, tap) => {
    const y = 2 * row - there.stem.padding[0] + Math.floor(tap / taps);
    const x = 2 * column - there.stem.padding[1] + (tap % taps);
    return y >= 0 && y < height && x >= 0 && x < width ? (y * width + x) * channels : null;
  };
  const response = (filter, row, column) => {
    let sum = 0;
    for (let tap = 0; tap < taps * taps; tap++) {
      const from = pixel(row, column, tap);
      if (from === null) continue;
      for (let c = 0; c < channels; c++) sum += pixelValues[from + c] * weights[filter * size + tap * channels + c];
    }
    return sum;
  };
  // The whole map of a filter, or one cell of every step x step.
  const map = (filter, step = 1) => {
    const values = [];
    for (let row = 0; row < rows; row += step) {
      for (let column = 0; column < columns; column += step) values.push(response(filter, row, column));
    }
    return values;
  };
  const [maps, pictures] = [{}, {}];
  const whole = (filter) => (maps[filter] ||= map(filter));
  const picture = (filter) =>
    (pictures[filter] ||= heat(whole(filter), rows, columns, range([-1], largest(whole(filter)))));
  convolution = { count, taps, channels, rows, columns, size, weights, pixel, response, map, whole, picture };
  return convolution;
}

steps.stem = () => {
  const { count, taps, channels, rows, columns, size, weights, pixel, response, map, whole, picture } = filters();
  const across = Math.ceil(Math.sqrt(count));
  const tapPictures = Array.from({ length: count }, (_, filter) => {
    const most = largest(weights.subarray(filter * size, (filter + 1) * size));
    const byte = (tap, c) =>
      127.5 + (127.5 * weights[filter * size + tap * channels + Math.min(c, channels - 1)]) / most;
    return raster(taps, taps, (tap) => [0, 1, 2].map((c) => Math.round(byte(tap, c))));
  });
  const step = Math.ceil(Math.max(rows, columns) / 48);
  const [fewRows, fewColumns] = [Math.ceil(rows / step), Math.ceil(columns / step)];
  const small = Array.from({ length: count }, (_, filter) => {
    const values = map(filter, step);
    return heat(values, fewRows, fewColumns, range([-1], largest(values)));
  });
  const at = () => [Math.floor(chosen.at / columns), chosen.at % columns];
  chosen.at = Math.floor(rows / 2) * columns + Math.floor(columns / 2);

  const pick = { count, across, touch: (channel) => choose({ channel }), chosenTile: () => chosen.channel };
  tiles(document.getElementById("stem-filters"), {
    ...pick,
    tile: (i) => tapPictures[i],
    alt: () => `${count} filters of ${taps} by ${taps} taps; filter ${chosen.channel} is chosen`,
  });
  tiles(document.getElementById("stem-responses"), {
    ...pick,
    aspect: columns / rows,
    tile: (i) => small[i],
    alt: () => `${count} maps of responses; that of filter ${chosen.channel} is chosen`,
  });

  board(document.getElementById("stem-patch"), {
    cells: () => [taps, taps],
    alt: () => `the ${taps} by ${taps} pixels under the filter at row ${at()[0]}, column ${at()[1]}`,
    paint(context, w, h) {
      const byte = (i, c) => numbers.pixels.at(i + Math.min(c, channels - 1));
      const patch = raster(taps, taps, (tap) => {
        const i = pixel(...at(), tap);
        return i === null ? [128, 128, 128] : [0, 1, 2].map((c) => byte(i, c));
      });
      put(context, patch, 0, 0, w, h);
    },
  });
  board(document.getElementById("stem-filter"), {
    cells: () => [taps, taps],
    alt: () => `filter ${chosen.channel}`,
    paint: (context, w, h) => put(context, tapPictures[chosen.channel], 0, 0, w, h),
  });
  board(document.getElementById("stem-response"), {
    cells: () => [rows, columns],
    where: at,
    touch: (row, column) => choose({ at: row * columns + column }),
    alt: () => `responses of filter ${chosen.channel}; row ${at()[0]}, column ${at()[1]} is chosen`,
    paint(context, w, h, cell) {
      put(context, picture(chosen.channel), 0, 0, w, h);
      frame(context, ...at(), cell);
    },
  });
  legend(document.getElementById("stem-legend"), () => range([-1], largest(whole(chosen.channel))));
  tell(document.getElementById("stem-says"), () => {
    const sum = shown(response(chosen.channel, ...at()));
    const where = `Filter ${chosen.channel} at row ${at()[0]}, column ${at()[1]}`;
    return `${where}: ${size} pixel values times ${size} weights add up to <b id="stem-value">${sum}</b>`;
  });
};
