// Loads the arrays, sets up all steps, and draws all pictures.
async function start() {
  for (const name of Object.keys(facts.arrays)) numbers[name] = await loadArray(name);
  if (facts.network) {
    startWorker();
    await completePass();
  }
  photographImage = drawPhotograph();
  pixelValues = normalize();
  const [height, width] = stepFacts.photograph.shape;
  chosen.pixel = Math.floor(height / 2) * width + Math.floor(width / 2);
  if (stepFacts.tokens) {
    // The page opens on what the classifier reads, in the last block.
    const { reads, brightest } = stepFacts.rollout;
    [chosen.token, chosen.key] = [reads === "token" ? 0 : brightest, brightest];
    [chosen.layer, chosen.head] = [stepFacts.attention.blocks - 1, stepFacts.attention.head];
    chosen.depth = stepFacts.attention.blocks;
  }
  overview();
  if (facts.network) {
    setUpPictures();
    setUpTwins();
  }
  for (const step of Object.values(steps)) step();
  if (steps.changes) setUpActs();
  Object.assign(committed, chosen);
  views.forEach((view) => view());
  // The pictures of a step stay visible beside a long text.
  // If the pictures are higher than the window, their lower edge stays visible, above the bar of the changes.
  for (const shows of document.querySelectorAll(".shows")) {
    new ResizeObserver(() => {
      shows.style.top = `min(24px, calc(100vh - var(--bar, 0px) - ${shows.offsetHeight + 24}px))`;
    }).observe(shows);
  }
  // If the page has a single column, the Python source is folded at the start.
  if (innerWidth < 861) document.querySelectorAll("details").forEach((node) => node.removeAttribute("open"));
  // A screen reader reads only the output of the step that has the focus.
  document.addEventListener("focusin", ({ target }) => {
    for (const output of document.querySelectorAll("output")) {
      output.setAttribute("aria-live", output.closest("section") === target.closest("section") ? "polite" : "off");
    }
  });
  document.documentElement.dataset.ready = "true";
}
