steps.stages = () => {
  const shape = (numbers) => `(${numbers.join(", ")})`;
  const maps = there.stages.map(({ name, channels }) => channels.map((_, i) => numbers[name].row(i)));
  const pictures = there.stages.map(({ shape: [rows, columns] }, s) =>
    maps[s].map((map) => heat(map, rows, columns, range(map))),
  );
  document.getElementById("stages-shapes").textContent =
    `(H, W, C) = ${[there.stem, ...there.stages].map(({ shape: size }) => shape(size)).join(" \u2192 ")}`;

  there.stages.forEach(({ shape: [rows, columns, count], units, channels }, s) => {
    const label = element("span", { class: "label" });
    const told = `${units} units; ${channels.length} of ${count} maps of ${rows} \u00d7 ${columns} cells`;
    label.append(element("b", {}, `Stage ${s}`), `: ${told}`);
    const canvas = element("canvas", { id: `stages-${s}` });
    document.getElementById("stages-tiles").append(element("div", { class: "panel" }, label, canvas));
    tiles(canvas, {
      count: channels.length,
      across: 8,
      aspect: columns / rows,
      tile: (i) => pictures[s][i],
      touch: (map) => choose({ stage: s, map }),
      chosenTile: () => (chosen.stage === s ? chosen.map : -8),
      alt: () =>
        `stage ${s}: ${channels.length} maps` +
        (chosen.stage === s ? `; channel ${channels[chosen.map]} is chosen` : ""),
    });
  });

  // The chosen place is kept as a share of the picture, so that it stays where it is from stage to stage.
  chosen.place = [0.5, 0.5];
  const now = () => there.stages[chosen.stage];
  const at = () =>
    chosen.place.map((share, axis) => Math.min(Math.floor(share * now().shape[axis]), now().shape[axis] - 1));
  for (const [id, picture, what] of [
    ["stages-photo", () => photo, "the picture"],
    ["stages-map", () => pictures[chosen.stage][chosen.map], "the map"],
  ]) {
    board(document.getElementById(id), {
      cells: () => now().shape.slice(0, 2),
      where: at,
      alt: () => `${what}; row ${at()[0]}, column ${at()[1]} of stage ${chosen.stage} is chosen`,
      touch: (row, column) => choose({ place: [(row + 0.5) / now().shape[0], (column + 0.5) / now().shape[1]] }),
      paint(context, w, h, cell) {
        put(context, picture(), 0, 0, w, h);
        frame(context, ...at(), cell);
      },
    });
  }
  const map = () => maps[chosen.stage][chosen.map];
  legend(document.getElementById("stages-legend"), () => range(map()));
  tell(
    document.getElementById("stages-name"),
    () => `<b>Channel ${now().channels[chosen.map]}</b> of stage ${chosen.stage}`,
  );
  tell(document.getElementById("stages-says"), () => {
    const [row, column] = at();
    return (
      `Stage ${chosen.stage}, channel ${now().channels[chosen.map]}, row ${row}, column ${column}: ` +
      `<b>${shown(map()[row * now().shape[1] + column])}</b>`
    );
  });
};
