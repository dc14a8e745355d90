steps.photograph = () => {
  const {
    shape: [rows, columns, channels],
    resized,
    factor,
    mean,
    std,
  } = stepFacts.photograph;
  const poster = document.getElementById("poster");
  const [width, height] = facts.picture;
  // The shares of the original height and width that remain after the crop.
  const part = [Math.min(rows / resized[0], 1), Math.min(columns / resized[1], 1)];
  board(document.getElementById("photograph-whole"), {
    cells: () => [1, 1],
    aspect: width / height,
    alt: () => `the picture, ${width} by ${height} pixels; if it is cropped, a frame marks the input of the model`,
    paint(context, w, h) {
      drawImage(context, poster, 0, 0, w, h);
      const [high, wide] = [h * part[0], w * part[1]];
      context.translate((w - wide) / 2, (h - high) / 2);
      if (part[0] < 1 || part[1] < 1) frame(context, 0, 0, [high, wide]);
    },
  });
  poster.decode().then(() => choose({}));

  const where = () => [Math.floor(chosen.pixel / columns), chosen.pixel % columns];
  board(document.getElementById("photograph-input"), {
    cells: () => [rows, columns],
    where,
    alt: () =>
      `the input of the model, ${rows} by ${columns} pixels; row ${where()[0]}, column ${where()[1]} is chosen`,
    touch: (row, column) => choose({ pixel: row * columns + column }),
    paint(context, w, h, cell) {
      drawImage(context, photographImage, 0, 0, w, h);
      frame(context, ...where(), cell);
    },
  });

  const names =
    channels === 3 ? ["red", "green", "blue"] : Array.from({ length: channels }, (_, c) => `channel ${c}`);
  const plain = (value) => String(Number(value.toFixed(3))).replace("-", "\u2212");
  const times = Number.isInteger(1 / factor) && factor < 1 ? `/ ${1 / factor}` : `\u00b7 ${plain(factor)}`;
  showText(document.getElementById("photograph-says"), () => {
    const lines = names.map((name, c) => {
      const i = chosen.pixel * channels + c;
      const v = plain(numbers.pixels.at(i));
      const sum = `(${v} ${times} \u2212 ${plain(mean[c])}) / ${plain(std[c])}`;
      return `${name}: ${sum} = <b>${formatted(pixelValues[i])}</b>`;
    });
    return [`Row ${where()[0]}, column ${where()[1]}`, ...lines].join("<br>");
  });
};
