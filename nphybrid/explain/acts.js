// The changes that are in force, for all steps that change something. They are replaced as a whole, so that earlier
// changes can come back.
//   off         heads, as "block.head"
//   skipped     blocks
//   hidden      cells, whose vectors become 0
//   blanked     channels, as "state:channel"
//   classToken  the start of the class token: "learned", "zeros" or "mean"
//   shuffled    "positions" of the tokens, "pieces" of the picture
//   painted     Uint8Array: for each pixel 0, or 1 + the number of a paint (paints.js); or null
const NO_CHANGES = {
  off: [],
  skipped: [],
  hidden: [],
  blanked: [],
  temperature: 1,
  classToken: "learned",
  shuffled: [],
  painted: null,
};
let changes = NO_CHANGES; // of the buttons
let shownChanges = NO_CHANGES; // of the pass that the page shows; a little later than `changes`
let earlier = []; // the changes before each change
let failure = ""; // why the last change could not be computed

// A copy of a list with an item that is added, or removed if the list has it.
const toggled = (list, item) => (list.includes(item) ? list.filter((other) => other !== item) : [...list, item]);

// An order of n things in which neighbours are far apart: np.argsort(np.sin(np.arange(n))) in Python.
const shuffledOrder = (n) => Array.from({ length: n }, (_, i) => i).sort((i, j) => Math.sin(i) - Math.sin(j));

// Whether the picture has all pixels of all cells.
const cellsFit = () => coverage(grid, stepFacts.tokens.cell).every((share) => share <= 1);

// The changes as the acts of network/model.js and network/pixels.js.
function actsOf({ off, skipped, hidden, blanked, temperature, classToken, shuffled, painted }) {
  const { blocks, heads } = stepFacts.attention;
  const [count, width] = stepFacts.tokens.shape;
  const factor = (layer, head) => (off.includes(`${layer}.${head}`) ? 0 : 1);
  const rows = Array.from({ length: blocks }, (_, l) => Array.from({ length: heads }, (_, a) => factor(l, a)));
  const channels = {};
  for (const name of blanked) (channels[name.split(":")[0]] ??= []).push(Number(name.split(":")[1]));
  const start = { learned: null, zeros: new Array(width).fill(0), mean: "mean" }[classToken];
  const order = shuffledOrder(count - first);
  const pieces = { grid, cell: stepFacts.tokens.cell, order };
  return {
    headMask: off.length ? rows : null,
    masked: hidden,
    skipped,
    blanked: channels,
    temperature,
    classToken: start,
    positions: shuffled.includes("positions") ? order : null,
    pieces: shuffled.includes("pieces") ? pieces : null,
    painted: painted && { codes: painted, colours: paints() },
  };
}

const paintedPixels = ({ painted }) => (painted ? painted.reduce((sum, code) => sum + (code > 0), 0) : 0);

const temperatureSays = (value) => (Number.isFinite(value) ? String(Number(value.toFixed(3))) : "\u221e");

// The changes as a phrase.
function changesSay({ off, skipped, hidden, blanked, temperature, classToken, shuffled, painted }) {
  const parts = [];
  if (off.length) parts.push(`${plural(off.length, "head")} off`);
  if (skipped.length) parts.push(`${plural(skipped.length, "block")} skipped`);
  if (hidden.length) parts.push(`${plural(hidden.length, "cell")} hidden`);
  if (blanked.length) parts.push(`${plural(blanked.length, "channel")} blanked`);
  if (temperature !== 1) parts.push(`temperature ${temperatureSays(temperature)}`);
  if (classToken === "zeros") parts.push("the class token starts with zeros");
  if (classToken === "mean") parts.push("the class token starts with the mean of the cells");
  if (shuffled.includes("positions")) parts.push("positions shuffled");
  if (shuffled.includes("pieces")) parts.push("pieces of the picture shuffled");
  if (painted) parts.push(`${plural(paintedPixels({ painted }), "pixel")} painted`);
  return parts.join(", ");
}

// Compute the network with other changes.
function change(next) {
  changes = next;
  redraw();
  return inOrder(async () => {
    if (changes !== next) return;
    try {
      const answer = await computePass({ acts: changesSay(next) ? actsOf(next) : null });
      [shownChanges, failure] = [next, ""];
      showPass(passOf(answer, facts.name));
    } catch (error) {
      [changes, failure] = [shownChanges, `The change cannot be computed: ${error.message}.`];
      redraw();
    }
  });
}
function act(part) {
  earlier.push(changes);
  return change({ ...changes, ...part });
}

// A button that is pressed while `isOn()`.
function toggle(name, description, isOn, press) {
  const node = element("button", { type: "button", ...(description && { "aria-label": description }) }, name);
  node.addEventListener("click", press);
  views.push(() => node.setAttribute("aria-pressed", String(isOn())));
  return node;
}

// The answer of the shown pass, and of the pass without changes.
function answerSays() {
  const { label, score } = leader();
  const [best] = stepFacts.answer.before ?? stepFacts.answer.labels;
  const without = `(without changes: ${best.label}, ${best.score.toFixed(4)})`;
  return `The best label is ${label}, ${score.toFixed(4)} ${without}.`;
}

// The bar at the lower edge of the window.
function setUpActs() {
  const [bar, says, link] = ["changed", "changed-says", "changed-link"].map((id) => document.getElementById(id));
  const title = document.getElementById("changes-title");
  title.tabIndex = -1; // gets the focus when the bar disappears
  // The bar does not cover an element that gets the focus or stays at the edge of the window (page.css, start.js).
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`);
  }).observe(bar);
  resetChanges = () => {
    [changes, shownChanges, earlier, failure] = [NO_CHANGES, NO_CHANGES, [], ""];
  };
  document.getElementById("changed-undo").addEventListener("click", () => change(earlier.pop() ?? NO_CHANGES));
  document.getElementById("changed-back").addEventListener("click", () => {
    earlier = [];
    change(NO_CHANGES);
  });
  views.push(() => {
    const text = changesSay(shownChanges);
    const hadFocus = bar.contains(document.activeElement);
    bar.hidden = !text && !failure;
    if (bar.hidden && hadFocus) title.focus({ preventScroll: true });
    says.textContent = failure || (text && `Changed: ${text}. ${answerSays()}`);
    link.href = linkOf(shownChanges);
    const isFirst = document.getElementById("picture-back").hidden;
    link.textContent = isFirst ? "Link to these changes" : "Link to these changes, without the picture";
  });
  openLink();
  addEventListener("hashchange", openLink);
  document.getElementById("acting").hidden = false;
}
