steps.stages = () => {
  const maps = ofPass(() => stepFacts.stages.map(({ name, channels }) => channels.map((_, i) => numbers[name].row(i))));
  const pictures = ofPass(() =>
    stepFacts.stages.map(({ shape: [rows, columns] }, s) => maps()[s].map((map) => heatMap(map, rows, columns))),
  );
  const shapes = [stepFacts.stem, ...stepFacts.stages].map(({ shape }) => `(${shape.join(", ")})`);
  document.getElementById("stages-shapes").textContent = `(H, W, C) = ${shapes.join(" \u2192 ")}`;

  const now = () => stepFacts.stages[chosen.stage];
  const channel = () => now().channels[chosen.map];
  stepFacts.stages.forEach(({ shape: [rows, columns, count], units, channels }, s) => {
    const content =
      `${plural(units, "unit")}; ${channels.length} of ${count} channels, with ${rows} \u00d7 ${columns} cells`;
    const label = element("span", { class: "label" }, element("b", {}, `Stage ${s}`), `: ${content}`);
    const canvas = element("canvas", { id: `stages-${s}` });
    document.getElementById("stages-tiles").append(element("div", { class: "panel" }, label, canvas));
    const here = () => chosen.stage === s;
    tiles(canvas, {
      count: channels.length,
      across: 8,
      aspect: columns / rows,
      tile: (i) => pictures()[s][i],
      touch: (map) => choose({ stage: s, map }),
      chosenTile: () => (here() ? chosen.map : -1),
      alt: () => `stage ${s}: ${content}${here() ? `; channel ${channel()} is chosen` : ""}`,
    });
  });

  // The chosen place is stored as fractions of the height and the width, so the place is valid for all stages.
  const size = () => now().shape.slice(0, 2);
  const span = () => coverage(size(), [now().cell, now().cell]);
  const at = () => [0, 1].map((i) => clamp(Math.floor((chosen.place[i] * size()[i]) / span()[i]), 0, size()[i] - 1));
  const picture = () => pictures()[chosen.stage][chosen.map];
  for (const [id, what, paint] of [
    ["stages-photo", "the picture", (context, w, h) => drawImage(context, photographImage, 0, 0, w, h)],
    ["stages-map", "the map", (context, w, h, cell) => drawCells(context, picture(), cell)],
  ]) {
    board(document.getElementById(id), {
      cells: size,
      span,
      aspect: stepFacts.photograph.shape[1] / stepFacts.photograph.shape[0],
      where: at,
      alt: () => `${what}; row ${at()[0]}, column ${at()[1]} of stage ${chosen.stage} is chosen`,
      touch: (...place) => choose({ place: place.map((n, i) => ((n + 0.5) / size()[i]) * span()[i]) }),
      paint(context, w, h, cell) {
        paint(context, w, h, cell);
        frame(context, ...at(), cell);
        if (id === "stages-photo") frameOfReach(context, w, h);
      },
    });
  }
  // A thin frame around the pixels that the convolutions of the chosen cell read, as far as the picture reaches.
  function frameOfReach(context, w, h) {
    const { cell, reach, reads_from: from } = now();
    const starts = at().map((n, i) => n * cell + from[i]);
    const pixels = stepFacts.photograph.shape;
    const [[top, left], [end, right]] = [starts, starts.map((n) => n + reach)].map((corner) =>
      corner.map((n, i) => clamp(n, 0, pixels[i]) * ([h, w][i] / pixels[i])),
    );
    for (const [ink, thick] of [["#000000", 3], ["#ffffff", 1]]) {
      [context.strokeStyle, context.lineWidth] = [ink, thick];
      context.strokeRect(left + 1.5, top + 1.5, right - left - 3, end - top - 3);
    }
  }
  const map = () => maps()[chosen.stage][chosen.map];
  legend(document.getElementById("stages-legend"), () => range(map()));
  showText(document.getElementById("stages-name"), () => `<b>Channel ${channel()}</b> of stage ${chosen.stage}`);
  showText(document.getElementById("stages-says"), () => {
    const [row, column] = at();
    const value = formatted(map()[row * size()[1] + column]);
    return `Stage ${chosen.stage}, channel ${channel()}, row ${row}, column ${column}: <b>${value}</b>`;
  });
};
