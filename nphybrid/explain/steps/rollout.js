steps.rollout = () => {
  const tokens = there.tokens.shape[0];
  const count = grid[0] * grid[1];
  const aspect = there.photograph.shape[1] / there.photograph.shape[0];
  const layer = () => Math.max(chosen.depth - 1, 0);
  const at = (token) => numbers.rollout.at(layer() * tokens + token);
  const values = () => Array.from({ length: count }, (_, i) => at(first + i));
  const key = () => Math.max(chosen.key, first);
  const reader = there.rollout.reads === "token" ? "the class token" : "the mean of the tokens";

  const slider = document.getElementById("rollout-depth");
  slider.addEventListener("input", () => choose({ depth: Number(slider.value) + 1 }));
  views.push(() => {
    slider.value = String(layer());
    document.getElementById("rollout-block").textContent = String(layer());
  });
  for (const [id, paint] of [
    ["rollout-photo", (context, w, h) => veiled(context, w, h, values(), ...grid)],
    [
      "rollout-map",
      (context, w, h) => put(context, heat(values(), ...grid, [0, largest(values()), scales.sequential]), 0, 0, w, h),
    ],
  ]) {
    board(document.getElementById(id), {
      cells: () => grid,
      aspect,
      where: () => cellOf(key()),
      touch: (row, column) => choose({ key: tokenAt(row, column) }),
      alt: () => `how much of each cell is in ${reader} after block ${layer()}`,
      paint(context, w, h, cell) {
        paint(context, w, h);
        frame(context, ...cellOf(key()), cell, "#ffd166");
      },
    });
  }
  legend(document.getElementById("rollout-legend"), () => [0, largest(values()), scales.sequential], percent);
  tell(
    document.getElementById("rollout-says"),
    () =>
      `After block ${layer()}, <b>${percent(at(key()))}</b> of ${reader} comes from ${nameOf(key())}` +
      (first ? `, and ${percent(at(0))} from the class token's own beginning` : ""),
  );
};
