// The facts and arrays of the page for one forward pass, as nphybrid/explain/scene.py collects them. The names of the
// facts and of the arrays are those of the page. What does not depend on the picture is left out.

const MAPS = 16;
const LABELS = 5;

// `states` are all states of the pass, and `pixels` the bytes of the picture. `network` has config, p and labels.
// `acts` are the acts of the pass. `kept` are the facts of the untouched pass, or null: after an act, the page shows
// the channels and labels of the untouched pass, and `more` labels that are among the best after the act.
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
    const now = order(Array.from(scores, (value) => -value)).slice(0, LABELS);
    const [best, was] = kept ? [kept.answer.best, kept.answer.scores] : [now, scores];
    const row = (i) => ({ label: labels[i], score: scores[i], logit: states.logits.data[i], was: was[i] });
    const more = now.filter((i) => !best.includes(i));
    facts.answer = { scores, best, labels: best.map(row), more: more.map(row), leader: row(now[0]) };
    if (config.blocks) facts.logit_lens = lensFacts(states, network, best);
  }
  return { facts, arrays };
}

// The stored states of the encoder, the distances of the heads, and the rollout.
function encoderFacts(states, network, acts, arrays) {
  const { config, p, cell } = network;
  const [L, A, T, D, first] = [config.blocks, config.heads, config.tokens, config.width, Number(config.class_token)];
  const N = T - first;
  const contents = array([T, D]);
  const patches = states["tokens.masked"] ?? states["tokens.proj"];
  if (first) contents.data.set(class_token(patches, p.tokens, acts));
  contents.data.set(patches.data, first * D);
  arrays.contents = contents;
  arrays.positions = permuted(p.tokens.positions, acts.positions);
  // The arrays that do not depend on the picture.
  network.fixed ??= { ...insideKernels(network), similarity: position_similarity(p.tokens.positions, config.grid) };
  // The states of all blocks in one array. A skipped block has only zeros.
  const ofBlocks = (name, shape) => {
    const all = array([L, ...shape]);
    for (let l = 0; l < L; l++) all.data.set(states[`blocks.${l}.${name}`]?.data ?? [], l * sizeOf(shape));
    return all;
  };
  const weights = ofBlocks("weights", [A, T, T]);
  for (const name of ["query", "key"]) arrays[name] = ofBlocks(name, [T, D]);
  arrays.attention = array([L, A, T, N]);
  arrays.to_class = array([L, A, T, 1]);
  for (let i = 0; i < L * A * T; i++) {
    const row = weights.data.subarray(i * T, (i + 1) * T);
    arrays.attention.data.set(row.subarray(first), i * N);
    if (first) arrays.to_class.data[i] = row[0];
  }
  Object.assign(arrays, insideArrays(states, network), network.fixed);
  arrays.rollout = readShares(weights, config);
  const last = Array.from(arrays.rollout.data.subarray(L * T + first));
  return {
    weight: { temperature: acts.temperature, factors: acts.headMask, skipped: acts.skipped },
    distance: { distance: attention_distance(weights, config.grid, cell) },
    rollout: { brightest: last.indexOf(Math.max(...last)) + first },
  };
}

// The share that each input token contributes to the input of the classifier, before the first block and after each.
// (L, A, T, T) -> (L + 1, T)
function readShares(weights, config) {
  const [L, , T] = weights.shape;
  const first = Number(config.class_token);
  const reads = config.pool === "token" ? [0] : Array.from({ length: T - first }, (_, i) => first + i);
  const share = (mixed, t) => reads.reduce((sum, i) => sum + mixed[i * T + t], 0) / reads.length;
  const shares = array([L + 1, T]);
  [eye(T), ...rollout(weights)].forEach((mixed, depth) => {
    for (let t = 0; t < T; t++) shares.data[depth * T + t] = share(mixed, t);
  });
  return shares;
}

// The scores of the best labels, and the best label, before the first block and after each block.
function lensFacts(states, { config, p, labels, score }, best) {
  const depths = [states.tokens, ...Array.from({ length: config.blocks }, (_, l) => states[`blocks.${l}`])];
  const rows = logit_lens(depths, p, config).map((logits) => scoresOf(logits.data, score));
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
