steps.mlp = () => {
  const { units, curve } = stepFacts.mlp;
  const width = stepFacts.tokens.shape[1];
  const count = units ? units.length : stepFacts.mlp.width;
  const nameOfUnit = () => (units ? units[chosen.unit] : chosen.unit);
  const hidden = () => rowOfToken("hidden", count);
  const activated = () => rowOfToken("activated", count);
  const point = () => [hidden()[chosen.unit], activated()[chosen.unit]];
  const row = () => rowOfBlock("fc2", width, chosen.unit, count);
  const added = () => row().map((weight) => weight * activated()[chosen.unit]);
  // The unit that adds the longest vector to the token, among those of the opening choice.
  const lengths = activated().map((value, unit) => {
    const squares = rowOfBlock("fc2", width, unit, count).reduce((sum, weight) => sum + weight * weight, 0);
    return Math.abs(value) * Math.sqrt(squares);
  });
  chosen.unit = lengths.indexOf(Math.max(...lengths));

  tokenPicker("mlp");
  // If possible, every square is a unit. A width such as 509 has no divisor, so some squares stay empty.
  const side = Math.ceil(Math.sqrt(count));
  const widths = Array.from({ length: side }, (_, i) => side + i);
  const across = widths.find((width) => count % width === 0) ?? side;
  const lines = Math.ceil(count / across);
  const ends = () => signed(largest(hidden()));
  for (const [id, values, name] of [
    ["mlp-hidden", hidden, "before the activation"],
    ["mlp-activated", activated, "after the activation"],
  ]) {
    board(document.getElementById(id), {
      cells: () => [lines, across],
      where: () => [Math.floor(chosen.unit / across), chosen.unit % across],
      touch: (down, right) => choose({ unit: Math.min(down * across + right, count - 1) }),
      alt: () => `${plural(count, "hidden unit")} ${name}; unit ${nameOfUnit()} is chosen`,
      paint(context, w, h, cell) {
        const all = values();
        const padded = Array.from({ length: lines * across }, (_, i) => all[i] ?? 0);
        drawCells(context, heatMap(padded, lines, across, ends()), cell);
        frame(context, Math.floor(chosen.unit / across), chosen.unit % across, cell);
      },
    });
  }
  legend(document.getElementById("mlp-legend"), ends);

  // The curve of the activation. If the chosen unit is outside, the axes become longer.
  const end = () => Math.max(4, 1.1 * Math.abs(point()[0]), 1.1 * Math.abs(point()[1]));
  showText(document.getElementById("mlp-curve-most"), () => `\u00b1\u202f${formatted(end(), 2)}`);
  board(document.getElementById("mlp-curve"), {
    cells: () => [1, 1],
    aspect: stepFacts.photograph.shape[1] / stepFacts.photograph.shape[0],
    alt: () => `the curve of the activation; it turns ${formatted(point()[0])} into ${formatted(point()[1])}`,
    paint(context, w, h) {
      const most = end();
      const [x, y] = [(value) => (w * (value + most)) / (2 * most), (value) => (h * (most - value)) / (2 * most)];
      const line = (points, ink, thick) => {
        context.beginPath();
        points.forEach(([from, to]) => context.lineTo(x(from), y(to)));
        [context.strokeStyle, context.lineWidth] = [ink, thick];
        context.stroke();
      };
      line([[-most, 0], [most, 0]], LINE, 1);
      line([[0, -most], [0, most]], LINE, 1);
      line(curve, ACCENT, 2);
      context.fillStyle = MARK;
      context.beginPath();
      context.arc(x(point()[0]), y(point()[1]), 6, 0, 2 * Math.PI);
      context.fill();
    },
  });
  strips([["mlp-added", `what the unit adds, ${width} numbers`, added]], {
    length: width,
    lines: Math.ceil(width / 192),
    choice: "dimension",
  });
  showText(document.getElementById("mlp-says"), () => {
    const skipped = skippedSays(insideLayer(), "hidden units");
    if (skipped) return skipped;
    const [before, after] = point();
    const d = chosen.dimension;
    const where = `Block ${insideLayer()}, unit ${nameOfUnit()}: ${formatted(before)} becomes ${formatted(after)}`;
    const product = `${formatted(after)} \u00b7 ${formatted(row()[d])} = <b>${formatted(added()[d], 4)}</b>`;
    return `${where}. It adds ${product} to number ${d} of ${nameOf(insideToken())}`;
  });
};
