// The facts and arrays of the page for one forward pass, as nphybrid/explain/scene.py collects them. The names of the
// facts and of the arrays are those of the page. What does not depend on the picture is left out.

const MAPS = 16;
const LABELS = 5;

// `states` are all states of the pass, and `pixels` the bytes of the picture. `network` has config, p and labels.
// `acts` are the acts of the pass. `kept` are the facts of the untouched pass, or null: after an act, the page shows
// the channels and labels of the untouched pass.
function scene(states, pixels, network, acts, kept) {
  const { config, p, labels, score, cell } = network;
  const facts = { photograph: { shape: pixels.shape } };
  const arrays = { pixels };
  if (config.used) {
    facts.stages = [];
    for (let s = 0; s < config.used; s++) {
      const name = `stages.${s}.${config.plan[s].length - 1}`;
      const channels = kept ? kept.stages[s].channels : mostVarying(states[name]);
      arrays[name] = channelsOf(states[name], channels);
      facts.stages.push({ channels });
    }
    facts.unit = unitFacts(states, network, arrays, kept?.unit);
  }
  if (config.blocks) Object.assign(facts, encoderFacts(states, network, acts, arrays));
  if (p.head) {
    const scores = scoresOf(states.logits.data, score);
    const best = kept ? kept.answer.best : order(Array.from(scores, (value) => -value)).slice(0, LABELS);
    const row = (i) => ({ label: labels[i], score: scores[i], logit: states.logits.data[i] });
    facts.answer = { best, labels: best.map(row), leader: row(scores.indexOf(Math.max(...scores))) };
    if (config.blocks) facts.logit_lens = lensFacts(states, network, best);
  }
  return { facts, arrays };
}

// The stored states of the encoder, the distances of the heads, and the rollout.
function encoderFacts(states, network, acts, arrays) {
  const { config, p, cell } = network;
  const [T, first] = [config.tokens, Number(config.class_token)];
  const [N, D] = [T - first, config.width];
  const contents = array([T, D]);
  const patches = states["tokens.masked"] ?? states["tokens.proj"];
  if (first) contents.data.set(class_token(patches, p.tokens, acts));
  contents.data.set(patches.data, first * D);
  arrays.contents = contents;
  arrays.positions = permuted(p.tokens.positions, acts.positions);
  const blocks = Array.from({ length: config.blocks }, (_, l) => l);
  const weights = blocks.map((l) => states[`blocks.${l}.weights`]);
  const rows = config.blocks * config.heads * T;
  arrays.attention = array([config.blocks, config.heads, T, N]);
  arrays.to_class = array([config.blocks, config.heads, T, 1]);
  for (let i = 0; i < rows; i++) {
    const heads = weights[Math.floor(i / (config.heads * T))];
    if (!heads) continue; // a skipped block has no weights
    const start = (i % (config.heads * T)) * T;
    arrays.attention.data.set(heads.data.subarray(start + first, start + T), i * N);
    if (first) arrays.to_class.data[i] = heads.data[start];
  }
  for (const name of ["query", "key"]) {
    arrays[name] = array([config.blocks, T, D]);
    blocks.forEach((l) => arrays[name].data.set(states[`blocks.${l}.${name}`]?.data ?? [], l * T * D));
  }
  Object.assign(arrays, insideArrays(states, network), (network.kernels ??= insideKernels(network)));
  arrays.rollout = rollout(weights, config);
  const last = Array.from(arrays.rollout.data.subarray(config.blocks * T + first));
  return {
    weight: { temperature: acts.temperature, factors: acts.headMask, skipped: acts.skipped },
    distance: { distance: weights.map((heads) => attention_distance(heads, config, cell)) },
    rollout: { brightest: last.indexOf(Math.max(...last)) + first },
  };
}

// The scores of the best labels, and the best label, before the first block and after each block.
function lensFacts(states, { config, p, labels, score }, best) {
  const depths = [states.tokens, ...Array.from({ length: config.blocks }, (_, l) => states[`blocks.${l}`])];
  const rows = depths.map((x) => scoresOf(logit_lens(x, p, config).data, score));
  const leader = (row) => row.indexOf(Math.max(...row));
  return {
    scores: rows.map((row) => best.map((i) => row[i])),
    leaders: rows.map((row) => ({ label: labels[leader(row)], score: row[leader(row)] })),
  };
}

// Softmax, sigmoid, or the logits themselves, as nphybrid/api/scores.py chooses it.
function scoresOf(logits, score) {
  const values = Float64Array.from(logits);
  if (score === "softmax") return softmax(values);
  return score === "sigmoid" ? values.map((x) => 1 / (1 + Math.exp(-x))) : values;
}

// The indices that sort the values. Equal values keep their order.
const order = (values) => values.map((_, i) => i).sort((i, j) => values[i] - values[j]);

// The channels of a map that vary most over the picture, at most MAPS.
function mostVarying({ shape: [rows, columns, C], data }) {
  const [means, variances] = [new Array(C).fill(0), new Array(C).fill(0)];
  const count = rows * columns;
  data.forEach((value, i) => (means[i % C] += value / count));
  data.forEach((value, i) => (variances[i % C] -= (value - means[i % C]) ** 2 / count));
  return order(variances).slice(0, MAPS);
}

// Some channels of a map, channels first.  (H, W, C) -> (channels, H, W)
function channelsOf({ shape: [rows, columns, C], data }, channels) {
  const cells = rows * columns;
  const values = Float32Array.from(
    { length: channels.length * cells },
    (_, i) => data[(i % cells) * C + channels[Math.floor(i / cells)]],
  );
  return array([channels.length, rows, columns], values);
}
