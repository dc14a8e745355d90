steps.attention = () => {
  const { blocks, heads, side, keys } = stepFacts.attention;
  const tokens = stepFacts.tokens.shape[0];
  // The weights that the chosen token gives to each group of side x side cells, and to the class token.
  const row = (layer, head) => (layer * heads + head) * tokens + chosen.token;
  const cells = (layer, head) => numbers.attention.row(row(layer, head));
  const now = () => cells(chosen.layer, chosen.head);
  const toClass = () => numbers.to_class.at(row(chosen.layer, chosen.head));
  const ends = () => magnitudes(now());
  const skipped = () => skippedSays(chosen.layer, "weights");
  const squares = (cell) => cell.map((n) => n * side);
  const place = () => cellOf(Math.max(chosen.key, first)).map((n) => Math.floor(n / side));

  const brightest = now().indexOf(largest(now()));
  chosen.key = tokenAt(Math.floor(brightest / keys[1]) * side, (brightest % keys[1]) * side);

  classButton(document.getElementById("attention-class"), "token");
  cellBoard(document.getElementById("attention-query"), "token", {
    alt: () =>
      `the picture; ${nameOf(chosen.token)} attends to bright cells in block ${chosen.layer}, head ${chosen.head}`,
    paint(context, w, h, cell) {
      if (skipped()) drawPicture(context, w, h);
      else drawDimmed(context, w, h, now(), keys[1], squares(cell));
      if (chosen.token >= first) frame(context, ...cellOf(chosen.token), cell);
    },
  });
  cellBoard(document.getElementById("attention-keys"), "key", {
    alt: () => `attention weights of ${nameOf(chosen.token)} in block ${chosen.layer}, head ${chosen.head}, as colours`,
    paint(context, w, h, cell) {
      if (!skipped()) drawCells(context, heatMap(now(), ...keys, ends()), squares(cell));
      frame(context, ...place(), squares(cell), KEY);
    },
  });
  const bar = document.getElementById("attention-legend");
  legend(bar, ends, percent);
  views.push(() => (bar.hidden = Boolean(skipped()))); // a skipped block has no weights, and its maps stay empty
  const swatch = document.getElementById("attention-swatch");
  swatch.parentElement.hidden = !first;
  if (first) {
    views.push(() => {
      swatch.parentElement.hidden = Boolean(skipped());
      swatch.style.background = `rgb(${colour(toClass(), ...ends())})`;
      swatch.nextElementSibling.textContent = `the class token, ${percent(toClass())}`;
    });
  }
  showText(document.getElementById("attention-says"), () => {
    const [r, c] = place();
    const key = nameOf(Math.max(chosen.key, first));
    const from = side === 1 ? key : `the ${side} \u00d7 ${side} cells that contain ${key}`;
    const takes = `${nameOf(chosen.token)} gives the weight <b>${percent(now()[r * keys[1] + c])}</b> to ${from}`;
    const more = first ? `, and ${percent(toClass())} to the class token` : "";
    if (skipped()) return skipped();
    const isOff = stepFacts.weight.factors?.[chosen.layer][chosen.head] === 0;
    if (isOff) return `Block ${chosen.layer}, head ${chosen.head} is off: its weights are multiplied by 0`;
    return `Block ${chosen.layer}, head ${chosen.head}: ${takes}${more}`;
  });

  // The table of all heads. The keys Up and Down change the block. The keys Left and Right change the head.
  const canvas = document.getElementById("attention-heads");
  const aspect = ((heads / blocks) * keys[1]) / keys[0];
  const table = document.getElementById("attention-table");
  table.style.gridTemplateColumns = `auto minmax(0, ${Math.min(heads * 120, Math.round(HIGHEST * aspect))}px)`;
  const names = (count, word) => Array.from({ length: count }, (_, i) => element("span", {}, word + i));
  table.querySelector(".columns").append(...names(heads, heads > 6 ? "" : "head "));
  table.querySelector(".rows").append(...names(blocks, "block "));
  board(canvas, {
    cells: () => [blocks, heads],
    aspect,
    where: () => [chosen.layer, chosen.head],
    alt: () => `${blocks} blocks of ${heads} heads; block ${chosen.layer}, head ${chosen.head} is chosen`,
    touch: (layer, head) => choose({ layer, head }),
    paint(context, w, h, [high, wide]) {
      for (let layer = 0; layer < blocks; layer++) {
        if (skippedSays(layer, "weights")) continue;
        for (let head = 0; head < heads; head++) {
          const values = cells(layer, head);
          const picture = heatMap(values, ...keys, magnitudes(values));
          drawImage(context, picture, head * wide + 1.5, layer * high + 1.5, wide - 3, high - 3);
        }
      }
      frame(context, chosen.layer, chosen.head, [high, wide]);
    },
  });
};
