steps.stem = () => {
  const { count, taps, channels, rows, columns, size, pixel, response, whole, picture, filter, at } = convolution();
  const filters = Array.from({ length: count }, (_, i) => filter(i));
  chosen.at = Math.floor(rows / 2) * columns + Math.floor(columns / 2);

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
    alt: () => `the ${taps} by ${taps} pixels under the filter at row ${at()[0]}, column ${at()[1]}`,
    paint(context, w, h) {
      const byte = (i, c) => numbers.pixels.at(i + Math.min(c, channels - 1));
      const patch = raster(taps, taps, (tap) => {
        const i = pixel(...at(), tap);
        return packColour(i === null ? [128, 128, 128] : [byte(i, 0), byte(i, 1), byte(i, 2)]);
      });
      drawImage(context, patch, 0, 0, w, h);
    },
  });
  board(document.getElementById("stem-filter"), {
    cells: () => [taps, taps],
    alt: () => `filter ${chosen.channel}`,
    paint: (context, w, h) => drawImage(context, filters[chosen.channel], 0, 0, w, h),
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
    return `${where}: the sum of ${size} products is <b id="stem-value">${sum}</b>`;
  });
};
