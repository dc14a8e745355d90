steps.context = () => {
  const { heads, bits } = stepFacts.attention;
  const { width } = stepFacts.weight;
  const [tokens, D] = stepFacts.tokens.shape;
  // The weights that the chosen token gives to all tokens. If the page stores sums of weights, queries and keys give
  // the weights.
  const weights = () => {
    if (skippedSays(insideLayer(), "weights")) return new Array(tokens).fill(0);
    if (bits !== 16) return softmax(attentionScores()).map((weight) => weight * factor());
    const row = (chosen.layer * heads + chosen.head) * tokens + chosen.token;
    return [...(first ? [numbers.to_class.at(row)] : []), ...numbers.attention.row(row)];
  };
  const value = (token) => rowOfBlock("value", width, token * heads + chosen.head, tokens * heads);
  const part = () => {
    const weight = weights()[chosen.key];
    return value(chosen.key).map((number) => weight * number);
  };
  const sum = () => {
    const all = weights();
    const context = new Array(width).fill(0);
    for (let token = 0; token < tokens; token++) value(token).forEach((number, k) => (context[k] += all[token] * number));
    return context;
  };
  // The part of this head in the output projection, without the bias.
  const added = () => {
    const numbersAdded = new Array(D).fill(0);
    sum().forEach((number, k) => {
      rowOfBlock("out", D, chosen.head * width + k, D).forEach((weight, d) => (numbersAdded[d] += number * weight));
    });
    return numbersAdded;
  };

  classButton(document.getElementById("context-class"), "key");
  keyBoard(document.getElementById("context-key"));
  listNumbers(document.getElementById("context-numbers"), () => {
    const [k, weight] = [chosen.number, weights()[chosen.key]];
    return [
      ["weight of the key", percent(weight)],
      [`number ${k} of its value`, formatted(value(chosen.key)[k])],
      ["weight \u00b7 number", formatted(part()[k], 4)],
      [`sum over all ${tokens} tokens: number ${k} of the context`, formatted(sum()[k])],
    ];
  }, insideLayer);
  const ends = () => magnitudes(weights());
  strips([["context-weights", `the weights of ${tokens} tokens`, weights]], {
    length: tokens,
    lines: Math.ceil(tokens / 192),
    ends,
    choice: "key",
  });
  const panels = [
    ["context-value", `the value, ${width} numbers`, () => value(chosen.key)],
    ["context-part", `weight times value, ${width} numbers`, part],
    ["context-sum", `the context, ${width} numbers`, sum],
  ];
  strips(panels, { length: width, choice: "number" });
  strips([["context-added", `what the head adds, ${D} numbers`, added]], {
    length: D,
    lines: Math.ceil(D / 192),
    choice: "dimension",
  });
  showText(document.getElementById("context-says"), () => {
    const skipped = skippedSays(insideLayer(), "values");
    if (skipped) return skipped;
    const where = `Block ${insideLayer()}, head ${chosen.head}`;
    const d = chosen.dimension;
    return `${where} adds <b>${formatted(added()[d])}</b> to number ${d} of ${nameOf(chosen.token)}`;
  });
};
