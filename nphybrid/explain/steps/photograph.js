steps.photograph = () => {
  const [rows, columns, channels] = there.photograph.shape;
  const poster = document.getElementById("poster");
  const [width, height] = facts.picture;
  board(document.getElementById("photograph-whole"), {
    cells: () => [1, 1],
    aspect: width / height,
    alt: () => `the picture, ${width} by ${height} pixels`,
    paint(context, w, h) {
      put(context, poster, 0, 0, w, h);
    },
  });
  poster.decode().then(() => choose({}));

  const where = () => [Math.floor(chosen.pixel / columns), chosen.pixel % columns];
  board(document.getElementById("photograph-seen"), {
    cells: () => [rows, columns],
    where,
    alt: () => `the same picture in ${rows} by ${columns} pixels; row ${where()[0]}, column ${where()[1]} is chosen`,
    touch: (row, column) => choose({ pixel: row * columns + column }),
    paint(context, w, h, cell) {
      put(context, photo, 0, 0, w, h);
      frame(context, ...where(), cell);
    },
  });

  const names =
    channels === 3 ? ["red", "green", "blue"] : Array.from({ length: channels }, (_, c) => `channel ${c}`);
  tell(document.getElementById("photograph-says"), () => {
    const values = names.map((name, c) => {
      const i = chosen.pixel * channels + c;
      return `${name} ${numbers.pixels.at(i)} \u2192 <b>${shown(pixelValues[i])}</b>`;
    });
    return `Row ${where()[0]}, column ${where()[1]}: ${values.join(", ")}`;
  });
};
