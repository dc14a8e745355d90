// The share that each cell contributes to the input of the classifier, after `depth` blocks.
function rolloutAfter(depth) {
  const start = depth * stepFacts.tokens.shape[0] + first;
  return Array.from({ length: grid[0] * grid[1] }, (_, i) => numbers.rollout.at(start + i));
}

const afterBlocks = (depth) => (depth ? `after ${plural(depth, "block")}` : "before the first block");

steps.rollout = () => {
  const at = (token) => numbers.rollout.at(chosen.depth * stepFacts.tokens.shape[0] + token);
  const values = () => rolloutAfter(chosen.depth);
  const picture = () => heatMap(values(), ...grid, magnitudes(values()));
  const key = () => Math.max(chosen.key, first);
  const reader = stepFacts.rollout.reads === "token" ? "the class token" : "the mean of the tokens";

  const slider = document.getElementById("rollout-depth");
  slider.addEventListener("input", () => choose({ depth: Number(slider.value) }));
  views.push(() => {
    slider.value = String(chosen.depth);
    slider.setAttribute("aria-valuetext", afterBlocks(chosen.depth));
    document.getElementById("rollout-block").textContent = afterBlocks(chosen.depth);
  });
  for (const [id, paint] of [
    ["rollout-photo", (context, w, h, cell) => drawDimmed(context, w, h, values(), grid[1], cell)],
    ["rollout-map", (context, w, h, cell) => drawCells(context, picture(), cell)],
  ]) {
    cellBoard(document.getElementById(id), "key", {
      alt: () => `the share that each cell contributes to ${reader} ${afterBlocks(chosen.depth)}`,
      paint(context, w, h, cell) {
        paint(context, w, h, cell);
        frame(context, ...cellOf(key()), cell, KEY);
      },
    });
  }
  legend(document.getElementById("rollout-legend"), () => magnitudes(values()), percent);
  showText(document.getElementById("rollout-says"), () => {
    const own = first ? `, and ${percent(at(0))} from the initial class token` : "";
    const share = `<b>${percent(at(key()))}</b> of ${reader} comes from ${nameOf(key())}${own}, by this estimate`;
    const equal = percent(values().reduce((sum, value) => sum + value) / values().length);
    const all = first ? `(100\u202f% \u2212 ${percent(at(0))})` : "100\u202f%";
    const isMixed = chosen.depth > 0 && values().length > 1;
    const compare = isMixed ? `. With equal shares, each cell would have ${all} / ${values().length} = ${equal}` : "";
    return `${capitalized(afterBlocks(chosen.depth))}, ${share}${compare}`;
  });
};
