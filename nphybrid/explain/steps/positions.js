steps.positions = () => {
  const count = grid[0] * grid[1];
  const between = (i, j) => numbers.similarity.at(i * count + j);
  // The cosine of a position with itself is 1 and would hide the rest: the scale ends at the largest other.
  let most = 0;
  for (let i = 0; i < count; i++) for (let j = 0; j < i; j++) most = Math.max(most, Math.abs(between(i, j)));
  const ends = signed(most || 1);
  const row = (i) => Array.from({ length: count }, (_, j) => between(i, j));
  const maps = Array.from({ length: count }, (_, i) => heat(row(i), ...grid, ends));
  const [here, other] = [() => Math.max(chosen.token, first), () => Math.max(chosen.key, first)];

  cellBoard(document.getElementById("positions-all"), "token", {
    alt: () => `${count} maps, one for each cell, in the places of the cells; ${nameOf(here())} is chosen`,
    paint(context, w, h, cell) {
      const gap = Math.min(2, cell[1] / 8);
      maps.forEach((map, i) => {
        const [row, column] = cellOf(first + i);
        put(context, map, column * cell[1] + gap / 2, row * cell[0] + gap / 2, cell[1] - gap, cell[0] - gap);
      });
      frame(context, ...cellOf(here()), cell);
    },
  });
  cellBoard(document.getElementById("positions-one"), "key", {
    alt: () => `similarity of the position of ${nameOf(here())} with those of all cells`,
    paint(context, w, h, cell) {
      lay(context, maps[here() - first], cell);
      frame(context, ...cellOf(here()), cell);
      frame(context, ...cellOf(other()), cell, KEY);
    },
  });
  legend(
    document.getElementById("positions-legend"),
    () => ends,
    (value) => shown(value, 2),
  );
  tell(document.getElementById("positions-says"), () => {
    const cosine = shown(between(here() - first, other() - first), 2);
    return `The positions of ${nameOf(here())} and of ${nameOf(other())}: cosine <b>${cosine}</b>`;
  });
};
