steps.norms = () => {
  const { count, rows, columns, size, whole, at } = convolution();
  const { width, border, eps, ws_eps, ws_form } = stepFacts.norms;
  const filterOf = (name) => Array.from({ length: size }, (_, i) => numbers[name].at(chosen.channel * size + i));
  const mean = (x, n = x.length) => x.reduce((sum, value) => sum + value, 0) / n;
  const variance = (x, m) => x.reduce((sum, value) => sum + (value - m) ** 2, 0) / x.length;
  const raw = () => filterOf("raw_filters");
  const standard = () => filterOf("filters");
  const deviationOf = (x) => {
    const spread = variance(x, mean(x));
    return ws_form === "deviation" ? Math.sqrt(spread) + ws_eps : Math.sqrt(spread + ws_eps);
  };

  const [slider, name] = ["filter", "name"].map((part) => document.getElementById(`norms-${part}`));
  slider.max = String(count - 1);
  slider.addEventListener("input", () => choose({ channel: Number(slider.value) }));
  views.push(() => {
    slider.value = String(chosen.channel);
    name.textContent = `filter ${chosen.channel}`;
  });
  const panels = [
    ["norms-raw", `${size} weights of a filter`, raw],
    ["norms-standard", `${size} standardized weights`, standard],
  ];
  strips(panels, { length: size, choice: "tap" });
  showText(document.getElementById("norms-weight"), () => {
    const [w, i] = [raw(), chosen.tap];
    const where = `Weight ${i} of filter ${chosen.channel}`;
    const [weight, average, deviation] = [w[i], mean(w), deviationOf(w)].map((value) =>
      value.toFixed(6).replace("-", "\u2212"),
    );
    const difference = `${weight} \u2212 ${mean(w) < 0 ? `(${average})` : average}`;
    return `${where}: (${difference}) / ${deviation} = <b>${formatted(standard()[i])}</b>`;
  });

  // The mean and the deviation of each group. The zeros around the cells count too.
  const groups = ofPass(() => ({}));
  const group = () => {
    const g = Math.floor(chosen.channel / width);
    if (groups()[g]) return groups()[g];
    const maps = Array.from({ length: width }, (_, i) => whole(g * width + i));
    const all = (rows + 2 * border) * (columns + 2 * border) * width;
    const m = maps.reduce((sum, map) => sum + mean(map, all), 0);
    const zeros = all - rows * columns * width;
    const squares = maps.reduce((sum, map) => sum + variance(map, m) * map.length, zeros * m * m);
    return (groups()[g] = { first: g * width, mean: m, deviation: Math.sqrt(squares / all + eps) });
  };
  const norm = (name) => numbers[`stem_${name}`].at(chosen.channel);
  const after = (value) => ((value - group().mean) / group().deviation) * norm("scale") + norm("bias");
  for (const [id, what, values] of [
    ["norms-before", "the channel before group norm", () => whole(chosen.channel)],
    ["norms-after", "the channel after group norm", () => whole(chosen.channel).map(after)],
  ]) {
    mapBoard(
      document.getElementById(id),
      () => heatMap(values(), rows, columns, signed(largest(values()))),
      () => `${what}; row ${at()[0]}, column ${at()[1]} is chosen`,
    );
    legend(document.getElementById(`${id}-legend`), () => signed(largest(values())));
  }
  listNumbers(document.getElementById("norms-numbers"), () => {
    const from = group().first;
    const value = whole(chosen.channel)[chosen.at];
    return [
      [`mean of the channels ${from} to ${from + width - 1}`, formatted(group().mean)],
      ["deviation: \u221a(variance + \u03b5)", formatted(group().deviation)],
      [`channel ${chosen.channel}, row ${at()[0]}, column ${at()[1]}`, formatted(value)],
      ["minus the mean, / deviation", formatted((value - group().mean) / group().deviation)],
      [`scale and bias of channel ${chosen.channel}`, `${formatted(norm("scale"))}, ${formatted(norm("bias"))}`],
      ["after group norm", formatted(after(value))],
    ];
  });
  showText(document.getElementById("norms-says"), () => {
    const value = whole(chosen.channel)[chosen.at];
    const where = `Channel ${chosen.channel}, row ${at()[0]}, column ${at()[1]}`;
    return `${where}: ${formatted(value)} becomes <b>${formatted(after(value))}</b>`;
  });
};
