// How much of each cell is in what the head reads, after so many blocks.
function rolled(depth) {
  const start = depth * there.tokens.shape[0] + first;
  return Array.from({ length: grid[0] * grid[1] }, (_, i) => numbers.rollout.at(start + i));
}

const after = (depth) => (depth ? `after ${plural(depth, "block")}` : "before the first block");

steps.rollout = () => {
  const at = (token) => numbers.rollout.at(chosen.depth * there.tokens.shape[0] + token);
  const values = () => rolled(chosen.depth);
  const key = () => Math.max(chosen.key, first);
  const reader = there.rollout.reads === "token" ? "the class token" : "the mean of the tokens";

  const slider = document.getElementById("rollout-depth");
  slider.addEventListener("input", () => choose({ depth: Number(slider.value) }));
  views.push(() => {
    slider.value = String(chosen.depth);
    slider.setAttribute("aria-valuetext", after(chosen.depth));
    document.getElementById("rollout-block").textContent = after(chosen.depth);
  });
  for (const [id, paint] of [
    ["rollout-photo", (context, w, h, cell) => veiled(context, w, h, values(), grid[1], cell)],
    ["rollout-map", (context, w, h, cell) => lay(context, heat(values(), ...grid, magnitudes(values())), cell)],
  ]) {
    cellBoard(document.getElementById(id), "key", {
      alt: () => `how much of each cell is in ${reader} ${after(chosen.depth)}`,
      paint(context, w, h, cell) {
        paint(context, w, h, cell);
        frame(context, ...cellOf(key()), cell, KEY);
      },
    });
  }
  legend(document.getElementById("rollout-legend"), () => magnitudes(values()), percent);
  tell(document.getElementById("rollout-says"), () => {
    const when = after(chosen.depth);
    const own = first ? `, and ${percent(at(0))} from the class token's own beginning` : "";
    const told = `<b>${percent(at(key()))}</b> of ${reader} comes from ${nameOf(key())}${own}`;
    return `${when[0].toUpperCase()}${when.slice(1)}, ${told}`;
  });
};
