// The best label of the pass.
const leader = () => stepFacts.answer && (stepFacts.answer.leader ?? stepFacts.answer.labels[0]);

// The overview at the top of the page. Each small picture shows the data of one step, and is a link to this step.
function overview() {
  const [rows, columns] = stepFacts.photograph.shape;
  const times = (shape) => shape.join(" \u00d7 ");
  // The side of a map as a share of the side of the photograph.
  // The shares are logarithmic, because the last maps would be too small otherwise.
  const share = (n) => 0.26 + 0.74 * (Math.log2(n + 1) / Math.log2(rows + 1));

  const card = (step, name, shape, paint) => {
    const canvas = element("canvas");
    const link = element("a", { href: `#${step}` }, canvas, element("b", {}, name), element("span", {}, shape));
    document.getElementById("overview").append(link);
    board(canvas, { cells: () => [1, 1], aspect: 1.08, alt: () => name, paint });
    canvas.setAttribute("aria-hidden", "true");
    return link;
  };

  // A stack of sheets, with one sheet for each doubling of the number of channels. The front sheet shows a map.
  const sheets = (channels, size, front) => (context, width, height) => {
    const shift = width / 36;
    const side = size * (width - 11 * shift);
    for (let i = Math.max(1, Math.round(Math.log2(channels))); i >= 0; i--) {
      const [x, y] = [i * shift, height - side - 1 - i * shift];
      context.fillStyle = i % 2 ? SHEET_BEHIND : SHEET;
      context.fillRect(x, y, side, side);
      context.lineWidth = 0.75;
      context.strokeStyle = "#8a8375";
      context.strokeRect(x, y, side, side);
      if (i === 0) drawImage(context, front(), x, y, side, side);
    }
  };

  card(
    "photograph",
    "photograph",
    times(stepFacts.photograph.shape),
    sheets(2, 1, () => photographImage),
  );
  if (stepFacts.stem) {
    const front = () => convolution().picture(chosen.channel);
    const [side, , channels] = stepFacts.stem.map;
    card("stem", "convolution", times(stepFacts.stem.map), sheets(channels, share(side), front));
  }
  (stepFacts.stages || []).forEach(({ name, shape, units }, s) => {
    const map = () => numbers[name].row(s === chosen.stage ? chosen.map : 0);
    const front = () => heatMap(map(), shape[0], shape[1]);
    card("stages", plural(units, "unit"), times(shape), sheets(shape[2], share(shape[0]), front));
  });
  if (stepFacts.tokens) {
    const [tokens, width] = stepFacts.tokens.shape;
    const bars = ofPass(() => {
      const all = tokenValues();
      return heatMap(all, tokens, width, signed(largest(all) / 3));
    });
    const paint = (context, w, h) => drawImage(context, bars(), 0, 0.3 * h, 0.92 * w, 0.7 * h);
    card("tokens", "tokens", times(stepFacts.tokens.shape), paint);

    const { blocks } = stepFacts.attention;
    card("layer_norm", plural(blocks, "block"), times(stepFacts.tokens.shape), (context, w, h) => {
      const [high, wide] = [rows, columns].map((side) => (0.69 * w * side) / Math.max(rows, columns));
      context.translate(0, h - high);
      const [down, across] = coverage(grid, stepFacts.tokens.cell);
      const cell = [(high * down) / grid[0], (wide * across) / grid[1]];
      drawDimmed(context, wide, high, rolloutAfter(blocks), grid[1], cell);
    });
  }
  if (stepFacts.answer) {
    const score = () => `${leader().score.toFixed(2)}, best of ${plural(stepFacts.answer.classes, "label")}`;
    const link = card("answer", leader().label, score(), (context, w, h) => {
      const best = shownLabels().sort((a, b) => b.score - a.score);
      best.slice(0, stepFacts.answer.labels.length).forEach(({ label, score }, i) => {
        context.fillStyle = label === leader().label ? ACCENT : "#b9b2a3";
        context.fillRect(0, h * (0.34 + 0.14 * i), Math.max(2, 0.92 * score * w), 0.1 * h);
      });
    });
    views.push(() => {
      link.querySelector("b").textContent = leader().label;
      link.querySelector("span").textContent = score();
    });
  }
}
