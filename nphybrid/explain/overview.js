// The walk at the top of the page: what the picture is at each step, as a little picture that leads there.
function overview() {
  const [rows, columns] = there.photograph.shape;
  const times = (shape) => shape.join(" \u00d7 ");
  // A map's side, as a share of the photograph's: logarithmic, or the last would be dots.
  const share = (n) => 0.26 + 0.74 * (Math.log2(n + 1) / Math.log2(rows + 1));

  const card = (step, name, shape, paint) => {
    const canvas = element("canvas");
    const link = element("a", { href: `#${step}` }, canvas, element("b", {}, name), element("span", {}, shape));
    document.getElementById("walk").append(link);
    board(canvas, { cells: () => [1, 1], aspect: 1.08, alt: () => name, paint });
    canvas.setAttribute("aria-hidden", "true");
  };

  // A stack of sheets, one for every doubling of the channels; the front one shows a map.
  const sheets = (channels, size, front) => (context, width, height) => {
    const shift = width / 36;
    const side = size * (width - 11 * shift);
    for (let i = Math.max(1, Math.round(Math.log2(channels))); i >= 0; i--) {
      const [x, y] = [i * shift, height - side - 1 - i * shift];
      context.fillStyle = i % 2 ? "#efeadf" : "#e2dccd";
      context.fillRect(x, y, side, side);
      context.lineWidth = 0.75;
      context.strokeStyle = "#8a8375";
      context.strokeRect(x, y, side, side);
      if (i === 0) put(context, front(), x, y, side, side);
    }
  };

  card(
    "photograph",
    "photograph",
    times(there.photograph.shape),
    sheets(2, 1, () => photo),
  );
  if (there.stem) {
    const front = () => convolution().picture(chosen.channel);
    card("stem", "stem", times(there.stem.map), sheets(there.stem.map[2], share(there.stem.map[0]), front));
  }
  (there.stages || []).forEach(({ name, shape }, s) => {
    const map = () => numbers[name].row(s === chosen.stage ? chosen.map : 0);
    const front = () => heat(map(), shape[0], shape[1]);
    card("stages", `stage ${s}`, times(shape), sheets(shape[2], share(shape[0]), front));
  });
  if (there.tokens) {
    const [tokens, width] = there.tokens.shape;
    const all = sums();
    const bars = heat(all, tokens, width, signed(largest(all) / 3));
    const paint = (context, w, h) => put(context, bars, 0, 0.3 * h, 0.92 * w, 0.7 * h);
    card("tokens", "tokens", times(there.tokens.shape), paint);

    const { blocks } = there.attention;
    card("attention", plural(blocks, "block"), times(there.tokens.shape), (context, w, h) => {
      const [high, wide] = [rows, columns].map((side) => (0.69 * w * side) / Math.max(rows, columns));
      context.translate(0, h - high);
      const [down, across] = covers(grid, there.tokens.cell);
      veiled(context, wide, high, rolled(blocks), grid[1], [(high * down) / grid[0], (wide * across) / grid[1]]);
    });
  }
  if (there.answer) {
    const { classes, labels } = there.answer;
    const told = `${labels[0].score.toFixed(2)}, of ${plural(classes, "label")}`;
    card("answer", labels[0].label, told, (context, w, h) => {
      labels.forEach(({ score }, i) => {
        context.fillStyle = i ? "#b9b2a3" : ACCENT;
        context.fillRect(0, h * (0.34 + 0.14 * i), Math.max(2, 0.92 * score * w), 0.1 * h);
      });
    });
  }
}
