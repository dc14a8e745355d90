steps.photograph = () => {
  const {
    shape: [rows, columns, channels],
    factor,
    mean,
    std,
  } = stepFacts.photograph;
  const original = () => `${facts.picture[1]} \u00d7 ${facts.picture[0]} pixels`;
  // The shares of the original height and width that remain after the crop.
  const part = () => [rows, columns].map((n, axis) => Math.min(n / stepFacts.photograph.resized[axis], 1));
  board(document.getElementById("photograph-whole"), {
    cells: () => [1, 1],
    aspect: () => facts.picture[0] / facts.picture[1],
    alt: () => `the picture, ${original()}; if it is cropped, a frame marks the input of the network`,
    paint(context, w, h) {
      drawImage(context, posterImage, 0, 0, w, h);
      const [high, wide] = [h * part()[0], w * part()[1]];
      context.translate((w - wide) / 2, (h - high) / 2);
      if (part()[0] < 1 || part()[1] < 1) frame(context, 0, 0, [high, wide]);
    },
  });
  posterImage.decode().then(() => choose({}));
  showText(document.getElementById("photograph-original"), original);
  // What was done to this picture, as sentences.py says it.
  const { prepared } = facts;
  const isCropped = () => part().some((share) => share < 1);
  const isPadded = () => [rows, columns].some((n, axis) => n > stepFacts.photograph.resized[axis]);
  showText(document.getElementById("photograph-prepared"), () => {
    const done = [stepFacts.photograph.do_resize && "resized", isCropped() && "cropped", isPadded() && "padded"];
    const phrases = done.filter(Boolean).map((name) => prepared[name]);
    return phrases.join(" and ") || prepared.unchanged;
  });
  showText(document.getElementById("photograph-framed"), () => (isCropped() ? prepared.framed : ""));
  // The sizes beside the code of `prepare` are those of this picture: at first, after resizing and after the crop.
  const sizes = () => [[facts.picture[1], facts.picture[0]], stepFacts.photograph.resized.slice(0, 2), [rows, columns]];
  const listings = [...document.querySelectorAll("#photograph [data-function=prepare] pre")].map((listing) =>
    Array.from(listing.querySelectorAll(".shape")),
  );
  const ran = listings[0].map((node) => node.textContent !== ""); // the others are not in the JavaScript listing
  for (const nodes of listings) {
    const shown = nodes.filter((node) => node.textContent);
    shown.forEach((node, i) => showText(node, () => `(${sizes().filter((_, n) => ran[n])[i].join(", ")}, ${channels})`));
  }

  const where = () => [Math.floor(chosen.pixel / columns), chosen.pixel % columns];
  board(document.getElementById("photograph-input"), {
    cells: () => [rows, columns],
    where,
    alt: () =>
      `the input of the network, ${rows} by ${columns} pixels; row ${where()[0]}, column ${where()[1]} is chosen`,
    touch: (row, column) => choose({ pixel: row * columns + column }),
    paint(context, w, h, cell) {
      drawImage(context, photographImage, 0, 0, w, h);
      frame(context, ...where(), cell);
    },
  });

  const names = channels === 3 ? ["red", "green", "blue"] : Array.from({ length: channels }, (_, c) => `channel ${c}`);
  const plain = (value) => String(Number(value.toFixed(3))).replace("-", "\u2212");
  const times = Number.isInteger(1 / factor) && factor < 1 ? `/ ${1 / factor}` : `\u00b7 ${plain(factor)}`;
  showText(document.getElementById("photograph-says"), () => {
    const lines = names.map((name, c) => {
      const i = chosen.pixel * channels + c;
      const v = plain(numbers.pixels.at(i));
      const sum = `(${v} ${times} \u2212 ${plain(mean[c])}) / ${plain(std[c])}`;
      return `${name}: ${sum} = <b>${formatted(pixelValues[i])}</b>`;
    });
    return [`Row ${where()[0]}, column ${where()[1]}: (<var>v</var> \u00b7 factor \u2212 mean) / std`, ...lines].join("<br>");
  });
};
