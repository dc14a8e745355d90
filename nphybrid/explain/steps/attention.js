steps.attention = () => {
  const { blocks, heads, side, keys } = there.attention;
  const tokens = there.tokens.shape[0];
  const aspect = there.photograph.shape[1] / there.photograph.shape[0];
  // One row: what the chosen token takes from the class token, where there is one, and from each cell or 2 x 2 cells.
  const row = (layer, head, token) => numbers.attention.row((layer * heads + head) * tokens + token);
  const cells = (layer, head) => row(layer, head, chosen.token).slice(first);
  const now = () => cells(chosen.layer, chosen.head);
  const place = (token) => cellOf(token).map((at) => Math.floor(at / side));
  const keyCell = () => place(Math.max(chosen.key, first));
  // A key cell in the corner of the grid may be cut: its share of the board is that of whole cells.
  const extent = [(keys[0] * side) / grid[0], (keys[1] * side) / grid[1]];
  const spread = (context, w, h, draw) => draw(w * extent[1], h * extent[0]);

  const brightest = now().indexOf(largest(now()));
  chosen.key = tokenAt(Math.floor(brightest / keys[1]) * side, (brightest % keys[1]) * side);

  const button = document.getElementById("attention-class");
  button.hidden = !first;
  button.addEventListener("click", () => choose({ token: 0 }));
  views.push(() => button.setAttribute("aria-pressed", String(chosen.token < first)));

  board(document.getElementById("attention-query"), {
    cells: () => grid,
    aspect,
    where: () => cellOf(Math.max(chosen.token, first)),
    alt: () => `the picture, lit where ${nameOf(chosen.token)} looks in block ${chosen.layer}, head ${chosen.head}`,
    touch: (r, c) => choose({ token: tokenAt(r, c) }),
    paint(context, w, h, cell) {
      spread(context, w, h, (wide, high) => {
        put(context, photo, 0, 0, w, h);
        const values = now();
        const most = largest(values) || 1;
        const [high1, wide1] = [high / keys[0], wide / keys[1]];
        values.forEach((value, i) => {
          context.fillStyle = `rgba(12, 10, 8, ${0.9 * (1 - value / most)})`;
          context.fillRect((i % keys[1]) * wide1, Math.floor(i / keys[1]) * high1, wide1, high1);
        });
      });
      if (chosen.token >= first) frame(context, ...cellOf(chosen.token), cell);
    },
  });
  board(document.getElementById("attention-keys"), {
    cells: () => grid,
    aspect,
    where: () => cellOf(Math.max(chosen.key, first)),
    alt: () =>
      `attention weights of ${nameOf(chosen.token)} in block ${chosen.layer}, head ${chosen.head}, as colours`,
    touch: (r, c) => choose({ key: tokenAt(r, c) }),
    paint(context, w, h, cell) {
      const values = now();
      spread(context, w, h, (wide, high) =>
        put(context, heat(values, ...keys, [0, largest(values), scales.sequential]), 0, 0, wide, high),
      );
      frame(
        context,
        ...keyCell(),
        cell.map((n) => n * side),
        "#ffd166",
      );
    },
  });
  legend(document.getElementById("attention-legend"), () => [0, largest(now()), scales.sequential], percent);
  tell(document.getElementById("attention-says"), () => {
    const weights = row(chosen.layer, chosen.head, chosen.token);
    const [r, c] = keyCell();
    const key =
      side === 1
        ? nameOf(Math.max(chosen.key, first))
        : `the ${side} \u00d7 ${side} cells around ${nameOf(Math.max(chosen.key, first))}`;
    const ofClass = first ? `; ${percent(weights[0])} from the class token` : "";
    return (
      `Block ${chosen.layer}, head ${chosen.head}: ${nameOf(chosen.token)} takes ` +
      `<b>${percent(weights[first + r * keys[1] + c])}</b> from ${key}${ofClass}`
    );
  });

  // The table of all heads. Up and down is another block, left and right another head.
  const canvas = document.getElementById("attention-heads");
  canvas.style.maxWidth = `${heads * 120}px`;
  board(canvas, {
    cells: () => [blocks, heads],
    aspect: (heads / blocks) * aspect,
    where: () => [chosen.layer, chosen.head],
    alt: () => `${blocks} blocks of ${heads} heads; block ${chosen.layer}, head ${chosen.head} is chosen`,
    touch: (layer, head) => choose({ layer, head }),
    paint(context, w, h, [high, wide]) {
      for (let layer = 0; layer < blocks; layer++) {
        for (let head = 0; head < heads; head++) {
          const values = cells(layer, head);
          put(
            context,
            heat(values, ...keys, [0, largest(values), scales.sequential]),
            head * wide + 1.5,
            layer * high + 1.5,
            wide - 3,
            high - 3,
          );
        }
      }
      frame(context, chosen.layer, chosen.head, [high, wide]);
    },
  });
};
