steps.tokens = () => {
  const [count, width] = there.tokens.shape;
  const [rows, columns] = there.photograph.shape;
  let dimension = 0;
  const gridlines = (context, w, h, [high, wide]) => {
    context.strokeStyle = "rgba(255, 255, 255, 0.55)";
    context.lineWidth = 1;
    for (let row = 1; row < grid[0]; row++) context.strokeRect(-2, row * high, w + 4, 0);
    for (let column = 1; column < grid[1]; column++) context.strokeRect(column * wide, -2, 0, h + 4);
  };
  board(document.getElementById("tokens-grid"), {
    cells: () => grid,
    aspect: columns / rows,
    where: () => cellOf(Math.max(chosen.token, first)),
    alt: () => `the picture as ${grid[0]} by ${grid[1]} cells; ${nameOf(chosen.token)} is chosen`,
    touch: (row, column) => choose({ token: tokenAt(row, column) }),
    paint(context, w, h, cell) {
      put(context, photo, 0, 0, w, h);
      gridlines(context, w, h, cell);
      if (chosen.token >= first) frame(context, ...cellOf(chosen.token), cell);
    },
  });

  const sum = Array.from({ length: count * width }, (_, i) => numbers.contents.at(i) + numbers.positions.at(i));
  const most = largest(sum) / 2;
  const all = heat(sum, count, width, range(sum, most));
  board(document.getElementById("tokens-all"), {
    cells: () => [count, 1],
    aspect: columns / rows,
    where: () => [chosen.token, 0],
    alt: () => `${count} tokens of ${width} numbers; ${nameOf(chosen.token)} is chosen`,
    touch: (row) => choose({ token: row }),
    paint(context, w, h, cell) {
      put(context, all, 0, 0, w, h);
      frame(context, chosen.token, 0, cell);
    },
  });

  // Three strips: the numbers of one token, folded where they are many.
  const lines = Math.ceil(width / 192);
  const across = Math.ceil(width / lines);
  const parts = {
    "tokens-content": (i) => numbers.contents.at(i),
    "tokens-position": (i) => numbers.positions.at(i),
    "tokens-sum": (i) => sum[i],
  };
  const ends = () => range([-1], most);
  for (const [id, part] of Object.entries(parts)) {
    board(document.getElementById(id), {
      cells: () => [lines, across],
      aspect: 18 / Math.min(lines, 3),
      where: () => [Math.floor(dimension / across), dimension % across],
      alt: () => `${width} numbers of ${nameOf(chosen.token)}`,
      touch: (row, column) => {
        dimension = Math.min(row * across + column, width - 1);
        choose({});
      },
      paint(context, w, h, cell) {
        const values = Array.from({ length: lines * across }, (_, i) =>
          i < width ? part(chosen.token * width + i) : 0,
        );
        put(context, heat(values, lines, across, ends()), 0, 0, w, h);
        frame(context, Math.floor(dimension / across), dimension % across, cell);
      },
    });
  }
  legend(document.getElementById("tokens-legend"), ends);
  tell(document.getElementById("tokens-says"), () => {
    const values = Object.values(parts).map((part) => shown(part(chosen.token * width + dimension)));
    const name = nameOf(chosen.token);
    return `Number ${dimension} of ${name}: ${values[0]} + ${values[1]} = <b>${values[2]}</b>`;
  });
};
