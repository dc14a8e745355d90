// The block of the queries and keys: the chosen block, or the only block whose queries and keys the page stores.
const queryLayer = () => Math.max(chosen.layer, stepFacts.weight.first);

// The query or the key of a token in the chosen block and head.
function headVector(name, token) {
  const { first: firstLayer, width } = stepFacts.weight;
  const [tokens, D] = stepFacts.tokens.shape;
  const start = ((queryLayer() - firstLayer) * tokens + token) * D + chosen.head * width;
  return Array.from({ length: width }, (_, i) => numbers[name].at(start + i));
}

// The divisor of q k: the root of K, times the temperature. The reader can change the temperature, switch off a head,
// whose factor is then 0, and skip a block (acts.js).
const temperature = () => stepFacts.weight.temperature ?? 1;
const factor = () => stepFacts.weight.factors?.[queryLayer()][chosen.head] ?? 1;
const root = () => Math.sqrt(stepFacts.weight.width) * temperature();

// The attention scores of the chosen token for all keys.
function attentionScores() {
  const query = headVector("query", chosen.token);
  const score = (key) => query.reduce((sum, value, i) => sum + value * key[i], 0) / root();
  return Array.from({ length: stepFacts.tokens.shape[0] }, (_, token) => score(headVector("key", token)));
}

function softmax(scores) {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

steps.weight = () => {
  const { width } = stepFacts.weight;
  const tokens = stepFacts.tokens.shape[0];
  const query = () => headVector("query", chosen.token);
  const key = () => headVector("key", chosen.key);
  const products = () => {
    const k = key();
    return query().map((value, i) => value * k[i]);
  };

  classButton(document.getElementById("weight-class"), "key");
  keyBoard(document.getElementById("weight-key"));
  const panels = [
    ["weight-q", `the query, ${width} numbers`, query],
    ["weight-k", `the key, ${width} numbers`, key],
    ["weight-products", `${width} products`, products],
  ];
  strips(panels, { length: width, choice: "number" });
  showText(document.getElementById("weight-q-name"), () => nameOf(chosen.token));
  showText(document.getElementById("weight-k-name"), () => nameOf(chosen.key));
  listNumbers(document.getElementById("weight-sum"), () => {
    const scores = attentionScores();
    const most = Math.max(...scores);
    const sum = scores.reduce((all, score) => all + Math.exp(score - most), 0);
    const score = scores[chosen.key];
    const rootOfK = `\u221a${width}`;
    const divisor = temperature() === 1 ? rootOfK : `(${temperatureSays(temperature())} \u00b7 ${rootOfK})`;
    const [share, off] = [Math.exp(score - most) / sum, factor() === 0];
    const lines = [
      ["q \u00b7 k", formatted(products().reduce((all, product) => all + product, 0))],
      [`attention score: q \u00b7 k / ${divisor}`, formatted(score)],
      ["largest attention score of this query", formatted(most)],
      ["exp(attention score \u2212 largest)", formatted(Math.exp(score - most), 4)],
      [`sum of exp over all ${tokens} keys`, formatted(sum)],
      [off ? "exp / sum" : "weight: exp / sum", percent(share)],
      ...(off ? [["weight: 0 \u00b7 exp / sum, because the head is off", percent(0)]] : []),
    ];
    return skippedSays(queryLayer(), "weights") ? [[`block ${chosen.layer} is skipped`, "no weights"]] : lines;
  });
  showText(document.getElementById("weight-says"), () => {
    const skipped = skippedSays(queryLayer(), "queries and no keys");
    if (skipped) return skipped;
    const [q, k] = [query()[chosen.number], key()[chosen.number]];
    const where = `Number ${chosen.number} of ${width} in block ${queryLayer()}, head ${chosen.head}`;
    return `${where}: ${formatted(q)} \u00b7 ${formatted(k)} = <b>${formatted(q * k)}</b>`;
  });
};
