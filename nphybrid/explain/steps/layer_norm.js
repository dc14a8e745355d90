steps.layer_norm = () => {
  const width = stepFacts.tokens.shape[1];
  const before = () => rowOfToken("before", width);
  // The mean, and the square root of variance + eps.
  const moments = (x) => {
    const mean = x.reduce((sum, value) => sum + value, 0) / width;
    const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / width;
    return { mean, deviation: Math.sqrt(variance + stepFacts.layer_norm.eps) };
  };
  const normal = () => {
    const { mean, deviation } = moments(before());
    return before().map((value) => (value - mean) / deviation);
  };
  const after = () => {
    const [scale, bias] = ["norm_scale", "norm_bias"].map((name) => rowOfBlock(name, width));
    const skipped = skippedSays(insideLayer(), "numbers");
    return normal().map((value, i) => (skipped ? 0 : value * scale[i] + bias[i]));
  };

  tokenPicker("layer_norm");
  listNumbers(document.getElementById("layer_norm-numbers"), () => {
    const { mean, deviation } = moments(before());
    const [i, x] = [chosen.dimension, before()[chosen.dimension]];
    return [
      [`mean of the ${width} numbers`, formatted(mean)],
      ["deviation: \u221a(variance + \u03b5)", formatted(deviation)],
      [`number ${i}`, formatted(x)],
      ["minus the mean, / deviation", formatted(normal()[i])],
      [`scale ${i}`, formatted(rowOfBlock("norm_scale", width)[i])],
      [`bias ${i}`, formatted(rowOfBlock("norm_bias", width)[i])],
      ["after the norm", formatted(after()[i])],
    ];
  }, insideLayer);
  const panels = [
    ["layer_norm-before", `${width} numbers before the norm`, before],
    ["layer_norm-normal", `${width} numbers with mean 0 and variance 1`, normal],
    ["layer_norm-after", `${width} numbers after the norm`, after],
  ];
  strips(panels, { length: width, lines: Math.ceil(width / 192), choice: "dimension" });
  showText(document.getElementById("layer_norm-says"), () => {
    const skipped = skippedSays(insideLayer(), "layer norm");
    if (skipped) return skipped;
    const i = chosen.dimension;
    const [z, scale, bias] = [normal()[i], rowOfBlock("norm_scale", width)[i], rowOfBlock("norm_bias", width)[i]];
    const where = `Number ${i} of ${nameOf(insideToken())} before block ${insideLayer()}`;
    const numbersOf = [z, scale, bias].map((value) => formatted(value, 5));
    return `${where}: ${numbersOf[0]} \u00b7 ${numbersOf[1]} + ${numbersOf[2]} = <b>${formatted(after()[i])}</b>`;
  });
};
