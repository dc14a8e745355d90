steps.weight = () => {
  const { heads } = stepFacts.attention;
  const { width } = stepFacts.weight;
  const tokens = stepFacts.tokens.shape[0];
  // The query or the key of a token in the chosen block and head.
  const vector = (name, token) => {
    const start = ((chosen.layer * tokens + token) * heads + chosen.head) * width;
    return Array.from({ length: width }, (_, i) => numbers[name].at(start + i));
  };
  const root = () => Math.sqrt(width) * temperature();
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const temperature = () => stepFacts.weight.temperature ?? 1; // acts.js can change it
  const factor = () => stepFacts.weight.factors?.[chosen.layer][chosen.head] ?? 1; // of the head
  const isSkipped = () => stepFacts.weight.skipped?.includes(chosen.layer) ?? false;
  const query = () => vector("query", chosen.token);
  const key = () => vector("key", chosen.key);
  const products = () => {
    const k = key();
    return query().map((value, i) => value * k[i]);
  };

  const button = document.getElementById("weight-class");
  button.hidden = !first;
  button.addEventListener("click", () => choose({ key: 0 }));
  views.push(() => button.setAttribute("aria-pressed", String(chosen.key < first)));
  cellBoard(document.getElementById("weight-key"), "key", {
    alt: () => `the picture; the query is ${nameOf(chosen.token)}, the key is ${nameOf(chosen.key)}`,
    paint(context, w, h, cell) {
      drawImage(context, photographImage, 0, 0, w, h);
      if (chosen.token >= first) frame(context, ...cellOf(chosen.token), cell);
      if (chosen.key >= first) frame(context, ...cellOf(chosen.key), cell, KEY);
    },
  });
  for (const [id, name, values] of [
    ["weight-q", `query of ${width} numbers`, query],
    ["weight-k", `key of ${width} numbers`, key],
    ["weight-products", `${width} products`, products],
  ]) {
    strip(document.getElementById(id), { length: width, values, choice: "number", alt: () => name });
    showText(document.getElementById(`${id}-most`), () => `\u00b1\u202f${formatted(largest(values()), 2)}`);
  }
  const table = document.getElementById("weight-sum");
  drawWhenVisible(table, () => {
    const q = query();
    const scores = Array.from({ length: tokens }, (_, token) => dot(q, vector("key", token)) / root());
    const most = Math.max(...scores);
    const sum = scores.reduce((all, score) => all + Math.exp(score - most), 0);
    const score = scores[chosen.key];
    const divisor = temperature() === 1 ? "" : `${temperatureSays(temperature())} `;
    const [share, off] = [Math.exp(score - most) / sum, factor() === 0];
    const lines = [
      ["q \u00b7 k", formatted(dot(q, key()))],
      [`score: q \u00b7 k / ${divisor}\u221a${width}`, formatted(score)],
      ["largest score of this query", formatted(most)],
      ["exp(score \u2212 largest)", formatted(Math.exp(score - most), 4)],
      [`sum of exp over all ${tokens} keys`, formatted(sum)],
      [off ? "exp / sum" : "weight: exp / sum", percent(share)],
      ...(off ? [["weight: 0 \u00b7 exp / sum, because the head is off", percent(0)]] : []),
    ];
    if (isSkipped()) lines.splice(0, lines.length, [`block ${chosen.layer} is skipped`, "no weights"]);
    table.replaceChildren(...lines.flatMap(([what, value]) => [element("dt", {}, what), element("dd", {}, value)]));
  });
  showText(document.getElementById("weight-says"), () => {
    const [q, k] = [query()[chosen.number], key()[chosen.number]];
    if (isSkipped()) return `Block ${chosen.layer} is skipped, so it has no queries and no keys`;
    const where = `Number ${chosen.number} of ${width} in block ${chosen.layer}, head ${chosen.head}`;
    return `${where}: ${formatted(q)} \u00b7 ${formatted(k)} = <b>${formatted(q * k)}</b>`;
  });
};
