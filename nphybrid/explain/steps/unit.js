steps.unit = () => {
  const { name, shape, shapes, activation } = stepFacts.unit;
  const parts = ["conv1", "conv2", "branch", "shortcut", "sum"];
  const texts = {
    conv1: "after the first convolution, 1 \u00d7 1",
    conv2: "after the second convolution, 3 \u00d7 3",
    branch: `after the third convolution, 1 \u00d7 1${activation ? ", and its norm" : ""}`,
    shortcut: "the shortcut",
    sum: `the sum${activation ? `, after ${activation}` : ""}`,
  };
  // The first two convolutions have other channels than the sum, so their maps cannot be chosen.
  const isInner = (part) => part === "conv1" || part === "conv2";
  const channelsOf = (part) => stepFacts.unit[isInner(part) ? part : "channels"];
  const count = channelsOf("sum").length;
  const sizeOf = (part) => (part === "conv1" ? shapes.conv1 : shape).slice(0, 2);
  const map = (part, i) => numbers[`unit_${part}`].row(i);
  const pictures = ofPass(() =>
    Object.fromEntries(
      parts.map((part) => [part, channelsOf(part).map((_, i) => heatMap(map(part, i), ...sizeOf(part)))]),
    ),
  );
  for (const part of parts) {
    const label = element("span", { class: "label" }, element("b", {}, capitalized(texts[part])));
    const canvas = element("canvas", { id: `unit-${part}-tiles` });
    document.getElementById("unit-tiles").append(element("div", { class: "panel" }, label, canvas));
    const [rows, columns] = sizeOf(part);
    tiles(canvas, {
      count: channelsOf(part).length,
      across: count,
      aspect: columns / rows,
      tile: (i) => pictures()[part][i],
      ...(!isInner(part) && { touch: (unitMap) => choose({ unitMap }), chosenTile: () => chosen.unitMap }),
      alt: () =>
        isInner(part)
          ? `maps of ${name}, ${texts[part]}; channels ${channelsOf(part).join(", ")}`
          : `maps of ${name}, ${texts[part]}; channel ${channelsOf(part)[chosen.unitMap]} is chosen`,
    });
  }

  const at = () => [0, 1].map((i) => clamp(Math.floor(chosen.place[i] * shape[i]), 0, shape[i] - 1));
  const values = (part) => map(part, chosen.unitMap);
  const most = () => Math.max(...["branch", "shortcut", "sum"].map((part) => largest(values(part))));
  for (const part of ["branch", "shortcut", "sum"]) {
    board(document.getElementById(`unit-${part}`), {
      cells: () => shape.slice(0, 2),
      where: at,
      alt: () => `${texts[part]}, channel ${channelsOf(part)[chosen.unitMap]}; row ${at()[0]}, column ${at()[1]}`,
      touch: (...place) => choose({ place: place.map((n, i) => (n + 0.5) / shape[i]) }),
      paint(context, w, h, cell) {
        drawImage(context, heatMap(values(part), shape[0], shape[1], signed(most())), 0, 0, w, h);
        frame(context, ...at(), cell);
      },
    });
  }
  legend(document.getElementById("unit-legend"), () => signed(most()));
  showText(document.getElementById("unit-says"), () => {
    const [row, column] = at();
    const [branch, shortcut, sum] = ["branch", "shortcut", "sum"].map((part) => values(part)[row * shape[1] + column]);
    const where = `Channel ${channelsOf("sum")[chosen.unitMap]}, row ${row}, column ${column}`;
    if (shownChanges.blanked.includes(`${name}:${channelsOf("sum")[chosen.unitMap]}`))
      return `${where}: the channel is blanked, so the sum is replaced by <b>0</b>`;
    const [a, b] = [rounded(branch), rounded(shortcut)];
    const total = rounded(a + b);
    const after = activation === "relu" ? Math.max(total, 0) : sum;
    const added = `${formatted(a)} + ${formatted(b)} = ${formatted(total)}`;
    return `${where}: ${added}${activation ? `, and after ${activation} <b>${formatted(after)}</b>` : ""}`;
  });
};
