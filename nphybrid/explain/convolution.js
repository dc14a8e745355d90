// The first convolution of the network. The page computes the responses from the pixels and the standardized filters.
let computed;
function convolution() {
  if (computed) return computed;
  const [count, taps, , channels] = facts.arrays.filters.shape;
  const [rows, columns] = stepFacts.stem.map;
  const [height, width] = stepFacts.photograph.shape;
  const size = taps * taps * channels;
  const weights = Float32Array.from({ length: count * size }, (_, i) => numbers.filters.at(i));

  // The index into pixelValues of the pixel under one tap (a position in a filter), for one cell of the map.
  // The index is null in the padding, where all values are 0.
  const pixel = (row, column, tap) => {
    const y = 2 * row - stepFacts.stem.padding[0] + Math.floor(tap / taps);
    const x = 2 * column - stepFacts.stem.padding[1] + (tap % taps);
    return y >= 0 && y < height && x >= 0 && x < width ? (y * width + x) * channels : null;
  };
  // If the worker has computed the pass, the page shows the responses of the worker.
  const response = (filter, row, column) => {
    if (numbers.responses) return numbers.responses.at((row * columns + column) * count + filter);
    let sum = 0;
    for (let tap = 0; tap < taps * taps; tap++) {
      const from = pixel(row, column, tap);
      if (from === null) continue;
      for (let c = 0; c < channels; c++) sum += pixelValues[from + c] * weights[filter * size + tap * channels + c];
    }
    return sum;
  };
  // The responses of a filter at every `step`-th row and column.
  const map = (filter, step) => {
    const values = [];
    for (let row = 0; row < rows; row += step) {
      for (let column = 0; column < columns; column += step) values.push(response(filter, row, column));
    }
    return values;
  };

  const [maps, pictures] = [ofPass(() => ({})), ofPass(() => ({}))];
  const whole = (filter) => (maps()[filter] ||= map(filter, 1));
  const picture = (filter) =>
    (pictures()[filter] ||= heatMap(whole(filter), rows, columns, signed(largest(whole(filter)))));
  const step = Math.ceil(Math.max(rows, columns) / 48);
  const small = ofPass(() =>
    Array.from({ length: count }, (_, filter) => {
      const values = map(filter, step);
      return heatMap(values, Math.ceil(rows / step), Math.ceil(columns / step), signed(largest(values)));
    }),
  );
  // The weights of a filter as a picture. A weight of 0 is grey.
  // The largest absolute weight gets the byte 0 or 255.
  const filter = (i) => {
    const most = largest(weights.subarray(i * size, (i + 1) * size)) || 1;
    const byte = (tap, c) => {
      const weight = weights[i * size + tap * channels + Math.min(c, channels - 1)];
      return Math.round(127.5 + (127.5 * weight) / most);
    };
    return raster(taps, taps, (tap) => packColour([byte(tap, 0), byte(tap, 1), byte(tap, 2)]));
  };
  const at = () => [Math.floor(chosen.at / columns), chosen.at % columns]; // the chosen cell
  computed = { count, taps, channels, rows, columns, size, pixel, response, whole, picture, small, filter, at };
  return computed;
}

// Small pictures of all maps of the first convolution. The reader chooses a channel.
function mapTiles(canvas, alt) {
  const { count, rows, columns, small } = convolution();
  tiles(canvas, {
    count,
    across: Math.ceil(Math.sqrt(count)),
    aspect: columns / rows,
    tile: (i) => small()[i],
    touch: (channel) => choose({ channel }),
    chosenTile: () => chosen.channel,
    alt,
  });
}

// A map of the first convolution. The reader chooses a cell. `picture()` is an image with one pixel for each cell.
function mapBoard(canvas, picture, alt) {
  const { rows, columns, at } = convolution();
  board(canvas, {
    cells: () => [rows, columns],
    where: at,
    touch: (row, column) => choose({ at: row * columns + column }),
    alt,
    paint(context, w, h, cell) {
      drawImage(context, picture(), 0, 0, w, h);
      frame(context, ...at(), cell);
    },
  });
}
