// How far the pass of the page is from the pass without changes, at each step.
// For each step, the state whose difference the step shows. Steps that are not in the table show no difference.
const STATE_OF_STEP = {
  photograph: () => "pixel_values",
  stem: () => "stem.conv",
  norms: () => "stem.norm",
  stages: () => stepFacts.stages[chosen.stage].name,
  tokens: () => "tokens",
  attention: () => `blocks.${chosen.layer}.weights`,
  weight: () => `blocks.${chosen.layer}.query`,
  context: () => `blocks.${chosen.layer}.context`,
  layer_norm: () => `blocks.${chosen.layer}.norm1`,
  mlp: () => `blocks.${chosen.layer}.fc1`,
  residual: () => `blocks.${chosen.layer}`,
  distance: () => `blocks.${chosen.layer}.weights`,
  rollout: () => (chosen.depth ? `blocks.${chosen.depth - 1}.weights` : null), // before the first block: no state
  logit_lens: () => (chosen.depth ? `blocks.${chosen.depth - 1}` : "tokens"),
  answer: () => "logits",
};

// The states of the data path, in the order of the forward pass.
function mainStates() {
  const { blocks } = stepFacts.attention;
  const maps = stepFacts.stem ? ["stem", ...(stepFacts.stages ?? []).map(({ name }) => name)] : [];
  const encoder = Array.from({ length: blocks }, (_, l) => `blocks.${l}`);
  return ["pixel_values", ...maps, "tokens", ...encoder, "norm", "logits"];
}

// The words for a state, whose name is that of a trace in Python.
const INNER_STATES = {
  conv: "the convolution",
  norm: "the norm",
  norm1: "the first layer norm",
  query: "the queries",
  weights: "the attention weights",
  context: "the contexts",
  fc1: "the hidden units",
};
function stateSays(name) {
  const [part, ...rest] = name.split(".");
  const parts = { pixel_values: "the input", blocks: `block ${rest[0]}`, stages: `stage ${rest[0]}` };
  const outer = { ...parts, norm: "the last layer norm" }[part] ?? `the ${part}`;
  const inner = INNER_STATES[rest.at(-1)];
  return inner ? `${inner} of ${outer}` : outer;
}

// The first step of the page that shows a difference, or undefined.
function firstChangedStep() {
  const changed = (step) => STATE_OF_STEP[step]() && differences[STATE_OF_STEP[step]()] !== 0;
  return Object.keys(stepFacts).find((step) => step in STATE_OF_STEP && changed(step));
}

function differenceSays(far) {
  if (far === undefined) return "not computed, because the block is skipped";
  if (far === 0) return "the same as in the run without changes";
  return `<a href="#differences">a difference</a> of ${percent(far)} to the run without changes`;
}

// Puts a line under the shapes of each step. The line is hidden while nothing is changed.
function showDifferences() {
  for (const [step, state] of Object.entries(STATE_OF_STEP)) {
    const shapes = document.querySelector(`#${step} .shapes`);
    if (!shapes) continue;
    const line = element("p", { class: "differs" });
    shapes.after(line);
    showText(line, () => {
      line.hidden = !state() || !Object.keys(differences).length;
      return line.hidden ? "" : `${capitalized(stateSays(state()))}: ${differenceSays(differences[state()])}`;
    });
  }
}
