steps.positions = () => {
  const count = grid[0] * grid[1];
  // With shuffled positions, cell i has the position of cell place(i).
  const order = shuffledOrder(count);
  const place = (i) => (shownChanges.shuffled.includes("positions") ? order[i] : i);
  const between = (i, j) => numbers.similarity.at(place(i) * count + place(j));
  // The scale ends at the largest absolute cosine of two different cells.
  // The cosine of a cell with itself is 1. A scale that ends at 1 would hide the smaller cosines.
  let most = 0;
  for (let i = 0; i < count; i++) for (let j = 0; j < i; j++) most = Math.max(most, Math.abs(between(i, j)));
  const ends = signed(most || 1);
  const row = (i) => Array.from({ length: count }, (_, j) => between(i, j));
  const maps = ofPass(() => Array.from({ length: count }, (_, i) => heatMap(row(i), ...grid, ends)));
  const [here, other] = [() => Math.max(chosen.token, first), () => Math.max(chosen.key, first)];

  cellBoard(document.getElementById("positions-all"), "token", {
    alt: () => `${count} maps, with one map at the place of each cell; ${nameOf(here())} is chosen`,
    paint(context, w, h, cell) {
      const gap = Math.min(2, cell[1] / 8);
      maps().forEach((map, i) => {
        const [row, column] = cellOf(first + i);
        drawImage(context, map, column * cell[1] + gap / 2, row * cell[0] + gap / 2, cell[1] - gap, cell[0] - gap);
      });
      frame(context, ...cellOf(here()), cell);
    },
  });
  cellBoard(document.getElementById("positions-one"), "key", {
    alt: () => `cosines between the position of ${nameOf(here())} and the positions of all cells`,
    paint(context, w, h, cell) {
      drawCells(context, maps()[here() - first], cell);
      frame(context, ...cellOf(here()), cell);
      frame(context, ...cellOf(other()), cell, KEY);
    },
  });
  legend(
    document.getElementById("positions-legend"),
    () => ends,
    (value) => formatted(value, 2),
  );
  // How often the position vector that is most similar to that of a cell belongs to a neighbour of the cell.
  const isNear = (i, j) => {
    const [[row, column], [otherRow, otherColumn]] = [cellOf(first + i), cellOf(first + j)];
    return Math.abs(row - otherRow) <= 1 && Math.abs(column - otherColumn) <= 1;
  };
  const near = ofPass(() => {
    if (count === 1) return "";
    const others = (i) => Array.from({ length: count }, (_, j) => j).filter((j) => j !== i);
    const best = (i) => others(i).reduce((a, b) => (between(i, b) > between(i, a) ? b : a));
    const all = Array.from({ length: count }, (_, i) => i);
    const found = all.filter((i) => isNear(i, best(i))).length;
    const byChance = all.reduce((sum, i) => sum + others(i).filter((j) => isNear(i, j)).length / (count - 1), 0);
    if (Math.round(byChance) === count) return ""; // all cells are neighbours
    const says = `Here, the largest cosine is that of a neighbour (one of the at most 8 cells around) for ${found} of ${plural(count, "cell")}`;
    // The second limit is for small grids, where twice the number by chance can be more than all cells.
    const often = found > Math.min(2 * byChance, (byChance + count) / 2);
    const more = often
      ? "So the position vectors of neighbours are often the most similar, although training used only pictures and labels."
      : "So the most similar position vectors are mostly not those of neighbours.";
    return `${says}; by chance, it would be for about ${Math.round(byChance)}. ${more}`;
  });
  showText(document.getElementById("positions-near"), near);
  const ofCells = (name) => Array.from({ length: count }, (_, i) => numbers[name].row(first + i)).flat();
  const sizes = ofPass(() => ["contents", "positions"].map((name) => rms(ofCells(name))));
  showText(document.getElementById("positions-sizes"), () => {
    const [contents, positions] = sizes();
    const [cells, places] = [contents, positions].map((size) => formatted(size, 2));
    const little = positions < contents / 4 ? ", so the positions change the tokens only a little" : "";
    const positionsSay = `those of the positions, which are the same for every picture, ${places}`;
    return `The numbers of the cells of this picture have a root mean square of ${cells}, ${positionsSay}${little}.`;
  });
  showText(document.getElementById("positions-says"), () => {
    const cosine = formatted(between(here() - first, other() - first), 2);
    return `The positions of ${nameOf(here())} and of ${nameOf(other())} have the cosine <b>${cosine}</b>`;
  });
};
