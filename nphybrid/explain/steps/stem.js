steps.stem = () => {
  const { count, taps, channels, rows, columns, size, pixel, response, whole, picture, filter, at } = convolution();
  const filters = Array.from({ length: count }, (_, i) => filter(i));
  chosen.at = Math.floor(rows / 2) * columns + Math.floor(columns / 2);
  chosen.tap = Math.floor((taps * taps) / 2) * channels;
  // The chosen pixel under the filter, which has one weight for each channel.
  const tap = () => Math.floor(chosen.tap / channels);
  const place = () => [Math.floor(tap() / taps), tap() % taps];
  const chooseTap = (row, column) => choose({ tap: (row * taps + column) * channels });

  tiles(document.getElementById("stem-filters"), {
    count,
    across: Math.ceil(Math.sqrt(count)),
    touch: (channel) => choose({ channel }),
    chosenTile: () => chosen.channel,
    tile: (i) => filters[i],
    alt: () => `${count} filters of ${taps} by ${taps} taps; filter ${chosen.channel} is chosen`,
  });
  mapTiles(
    document.getElementById("stem-responses"),
    () => `maps of ${count} channels; channel ${chosen.channel} is chosen`,
  );

  board(document.getElementById("stem-patch"), {
    cells: () => [taps, taps],
    where: place,
    touch: chooseTap,
    alt: () => `the ${taps} by ${taps} pixels under the filter at row ${at()[0]}, column ${at()[1]}`,
    paint(context, w, h, cell) {
      const byte = (i, c) => numbers.pixels.at(i + Math.min(c, channels - 1));
      const patch = raster(taps, taps, (n) => {
        const i = pixel(...at(), n);
        return packColour(i === null ? [128, 128, 128] : [byte(i, 0), byte(i, 1), byte(i, 2)]);
      });
      drawImage(context, patch, 0, 0, w, h);
      frame(context, ...place(), cell);
    },
  });
  board(document.getElementById("stem-filter"), {
    cells: () => [taps, taps],
    where: place,
    touch: chooseTap,
    alt: () => `filter ${chosen.channel}; row ${place()[0]}, column ${place()[1]} is chosen`,
    paint(context, w, h, cell) {
      drawImage(context, filters[chosen.channel], 0, 0, w, h);
      frame(context, ...place(), cell);
    },
  });
  mapBoard(
    document.getElementById("stem-response"),
    () => picture(chosen.channel),
    () => `channel ${chosen.channel}; row ${at()[0]}, column ${at()[1]} is chosen`,
  );
  legend(document.getElementById("stem-legend"), () => signed(largest(whole(chosen.channel))));
  showText(document.getElementById("stem-says"), () => {
    const sum = formatted(response(chosen.channel, ...at()));
    const where = `Filter ${chosen.channel} at row ${at()[0]}, column ${at()[1]}`;
    const from = pixel(...at(), tap());
    const products = Array.from({ length: channels }, (_, c) => {
      const weight = numbers.filters.at(chosen.channel * size + tap() * channels + c);
      return `${formatted(from === null ? 0 : pixelValues[from + c])} \u00b7 ${formatted(weight)}`;
    });
    const outside = Array.from({ length: taps * taps }, (_, n) => pixel(...at(), n)).includes(null);
    return [
      `${where}: the sum of ${size} products is <b id="stem-value">${sum}</b>`,
      `The products of the framed pixel: ${products.join(", ")}`,
      ...(outside ? ["The grey pixels lie outside the picture. Their values are 0: this is the padding"] : []),
    ].join("<br>");
  });
};
