steps.residual = () => {
  const { blocks } = stepFacts.attention;
  const tokens = stepFacts.tokens.shape[0];
  // The rms before block `layer`, of what its attention adds, and of what its MLP adds.
  const row = (layer) => [0, 1, 2].map((part) => numbers.rms.at((layer * tokens + chosen.token) * 3 + part));
  const rows = () => Array.from({ length: blocks + 1 }, (_, layer) => row(layer));
  const names = ["the token", "attention adds", "the MLP adds"];
  const dashes = ["none", "7 3", "2 3"];
  const style = (part) => ({ stroke: inks()[part], "stroke-width": part ? 2 : 2.75, "stroke-dasharray": dashes[part] });

  tokenPicker("residual", () => chosen.token, () => chosen.layer);
  listNumbers(document.getElementById("residual-numbers"), () => {
    const [stream, attention, mlp] = row(chosen.layer);
    return [
      [`before block ${chosen.layer}`, formatted(stream)],
      ["attention adds", formatted(attention)],
      ["the MLP adds", formatted(mlp)],
      [`after block ${chosen.layer}`, formatted(row(chosen.layer + 1)[0])],
    ];
  });

  const node = document.getElementById("residual-chart");
  const highest = () => 1.08 * Math.max(...rows().flat()) || 1;
  const size = () => [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50].find((each) => highest() / each <= 6) || 100;
  chart(node, {
    ratio: 0.5,
    highest,
    ticks: () => Array.from({ length: Math.floor(highest() / size()) + 1 }, (_, i) => Number((i * size()).toFixed(2))),
    count: blocks + 1,
    offset: 0.25,
    axisName: `block (${blocks}: after the last block)`,
    strong: () => chosen.layer,
    touch: (layer) => choose({ layer: Math.min(layer, blocks - 1) }),
    content(x, y, [, , upper, lower]) {
      const now = { x1: x(chosen.layer), x2: x(chosen.layer), y1: upper, y2: lower, stroke: MARK };
      node.append(svg("line", now));
      names.forEach((name, part) => {
        const shown = rows().slice(0, part ? blocks : blocks + 1);
        const points = shown.map((values, layer) => `${x(layer)},${y(values[part])}`).join(" ");
        node.append(svg("polyline", { points, fill: "none", ...style(part), "data-part": part }));
        for (const [layer, values] of shown.entries()) {
          const dot = { cx: x(layer), cy: y(values[part]), r: layer === chosen.layer ? 4.5 : 3, fill: inks()[part] };
          node.append(svg("circle", { ...dot, stroke: "#ffffff" }));
        }
      });
      const content = `the rms of ${nameOf(chosen.token)}, and of what attention and the MLP add, for ${blocks} blocks`;
      node.setAttribute("aria-label", `${content}; block ${chosen.layer} is chosen`);
    },
  });
  const keys = document.getElementById("residual-keys");
  views.push(() => {
    const line = (part) => `border-top: 3px ${["solid", "dashed", "dotted"][part]} ${inks()[part]}`;
    keys.replaceChildren(...names.map((name, part) => element("span", {}, element("i", { style: line(part) }), name)));
  });
  showText(document.getElementById("residual-says"), () => {
    const [stream, attention, mlp] = row(chosen.layer).map((value) => formatted(value, 2));
    const where = `Block ${chosen.layer}: ${nameOf(chosen.token)} has the rms <b>${stream}</b>`;
    return `${where}; attention adds a vector of rms ${attention}, and the MLP one of rms ${mlp}`;
  });
};
