steps.positions = () => {
  const count = grid[0] * grid[1];
  const aspect = there.photograph.shape[1] / there.photograph.shape[0];
  const between = (i, j) => numbers.similarity.at(i * count + j);
  // The cosine of a position with itself is 1 and would hide the rest: the scale ends at the largest other.
  let low = 0;
  let high = 0;
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < i; j++) [low, high] = [Math.min(low, between(i, j)), Math.max(high, between(i, j))];
  }
  const most = Math.max(high, -low) || 1;
  const ends = low < 0 ? [-most, most, scales.diverging] : [0, most, scales.sequential];
  const maps = Array.from({ length: count }, (_, i) =>
    heat(
      Array.from({ length: count }, (_, j) => between(i, j)),
      ...grid,
      ends,
    ),
  );
  const here = () => cellOf(Math.max(chosen.token, first));
  const index = () => Math.max(chosen.token, first) - first;

  board(document.getElementById("positions-all"), {
    cells: () => grid,
    aspect,
    where: here,
    alt: () => `${count} maps, one for each cell, in the places of the cells; ${nameOf(index() + first)} is chosen`,
    touch: (row, column) => choose({ token: tokenAt(row, column) }),
    paint(context, w, h, [high, wide]) {
      const gap = Math.min(2, wide / 8);
      maps.forEach((map, i) =>
        put(
          context,
          map,
          (i % grid[1]) * wide + gap / 2,
          Math.floor(i / grid[1]) * high + gap / 2,
          wide - gap,
          high - gap,
        ),
      );
      frame(context, ...here(), [high, wide]);
    },
  });
  board(document.getElementById("positions-one"), {
    cells: () => grid,
    aspect,
    where: () => cellOf(Math.max(chosen.key, first)),
    alt: () => `similarity of the position of ${nameOf(index() + first)} with those of all cells`,
    touch: (row, column) => choose({ key: tokenAt(row, column) }),
    paint(context, w, h, cell) {
      put(context, maps[index()], 0, 0, w, h);
      frame(context, ...here(), cell);
      frame(context, ...cellOf(Math.max(chosen.key, first)), cell, "#ffd166");
    },
  });
  legend(
    document.getElementById("positions-legend"),
    () => ends,
    (value) => shown(value, 2),
  );
  tell(document.getElementById("positions-says"), () => {
    const key = Math.max(chosen.key, first);
    const cosine = shown(between(index(), key - first), 2);
    return `The positions of ${nameOf(index() + first)} and of ${nameOf(key)}: cosine <b>${cosine}</b>`;
  });
};
