steps.weight = () => {
  const { heads } = there.attention;
  const { width } = there.weight;
  const tokens = there.tokens.shape[0];
  const aspect = there.photograph.shape[1] / there.photograph.shape[0];
  let number = 0;
  // What a head sees of a token: its own columns of the block's queries or keys.
  const vector = (name, token) => {
    const start = ((chosen.layer * tokens + token) * heads + chosen.head) * width;
    return Array.from({ length: width }, (_, i) => numbers[name].at(start + i));
  };
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const query = () => vector("query", chosen.token);
  const key = () => vector("key", chosen.key);
  const products = () => {
    const k = key();
    return query().map((value, i) => value * k[i]);
  };

  board(document.getElementById("weight-key"), {
    cells: () => grid,
    aspect,
    where: () => cellOf(Math.max(chosen.key, first)),
    alt: () => `the picture; ${nameOf(chosen.token)} looks at ${nameOf(chosen.key)}`,
    touch: (row, column) => choose({ key: tokenAt(row, column) }),
    paint(context, w, h, cell) {
      put(context, photo, 0, 0, w, h);
      if (chosen.token >= first) frame(context, ...cellOf(chosen.token), cell);
      if (chosen.key >= first) frame(context, ...cellOf(chosen.key), cell, "#ffd166");
    },
  });
  for (const [id, name, values] of [
    ["weight-q", `query of ${width} numbers`, query],
    ["weight-k", `key of ${width} numbers`, key],
    ["weight-products", `${width} products`, products],
  ]) {
    board(document.getElementById(id), {
      cells: () => [1, width],
      aspect: 20,
      where: () => [0, number],
      alt: () => name,
      touch: (row, column) => {
        number = column;
        choose({});
      },
      paint(context, w, h, cell) {
        put(context, heat(values(), 1, width, range([-1], largest(values()))), 0, 0, w, h);
        frame(context, 0, number, cell);
      },
    });
  }
  views.push(() => {
    const q = query();
    const scores = Array.from({ length: tokens }, (_, token) => dot(q, vector("key", token)) / Math.sqrt(width));
    const most = Math.max(...scores);
    const sum = scores.reduce((all, score) => all + Math.exp(score - most), 0);
    const score = scores[chosen.key];
    const lines = [
      ["q \u00b7 k", shown(score * Math.sqrt(width))],
      [`score: divided by \u221a${width}`, shown(score)],
      ["largest score of this query", shown(most)],
      ["exp(score \u2212 largest)", shown(Math.exp(score - most), 4)],
      [`the same of all ${tokens}, added`, shown(sum)],
      ["the weight: their ratio", percent(Math.exp(score - most) / sum)],
    ];
    document
      .getElementById("weight-sum")
      .replaceChildren(...lines.flatMap(([what, value]) => [element("dt", {}, what), element("dd", {}, value)]));
  });
  tell(document.getElementById("weight-says"), () => {
    const [q, k] = [query()[number], key()[number]];
    return `Number ${number} of ${width} in block ${chosen.layer}, head ${chosen.head}: ${shown(q)} \u00b7 ${shown(k)} = <b>${shown(q * k)}</b>`;
  });
};
