steps.experiments = () => {
  showText(document.getElementById("experiments-python"), () => escaped(pythonNames()));
  const all = document.getElementById("experiments-all");
  for (const question of questions()) all.append(experiment(question));
};

const escaped = (text) => text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);

// One question with its options, and with its result after a prediction.
function experiment({ id, question, says, options, run, python, square }) {
  const list = element("fieldset", {}, element("legend", {}, "Your prediction"));
  const button = element("button", { type: "button" }, "Show the result");
  const [verdict, bars] = [element("p", { class: "verdict", role: "status" }), element("div", { class: "bars" })];
  const code = element("code");
  const source = element("div", { class: "source python" }, element("pre", {}, code));
  const show = element("button", { type: "button" }, "Show this change in all steps");
  const [name, text] = [element("h3", {}, question), element("p")];
  const left = element("div", {}, name, text, list, button);
  const article = element("article", { id: `experiment-${id}` }, left, element("div", {}, verdict, bars, show, source));
  let [picture, chosenOption, part] = [-1, null, null];
  show.addEventListener("click", async () => {
    await act({ ...NO_CHANGES, ...part });
    const title = document.getElementById(`${firstChangedStep() ?? "changes"}-title`);
    title.tabIndex = -1;
    title.focus();
  });

  if (square) {
    const canvas = element("canvas");
    text.before(canvas);
    cellBoard(canvas, null, {
      alt: () => {
        const [row, column] = square().square;
        return `the picture; a frame marks rows ${row} to ${row + 1}, columns ${column} to ${column + 1}`;
      },
      paint(context, w, h, [high, wide]) {
        const { image, square: place } = square();
        drawImage(context, image, 0, 0, w, h);
        frame(context, ...place.map((n) => n / 2), [2 * high, 2 * wide]);
      },
    });
  }
  // Each picture begins without predictions.
  views.push(() => {
    if (picture === pictures) return;
    [picture, chosenOption] = [pictures, null];
    text.textContent = says();
    list.replaceChildren(list.firstChild);
    list.firstChild.textContent = "Your prediction";
    options().forEach((option, i) => {
      const input = element("input", { type: "radio", name: id });
      input.addEventListener("change", () => {
        chosenOption = i;
        button.disabled = false;
      });
      list.append(element("label", {}, input, option));
    });
    [list.disabled, button.disabled, source.hidden, show.hidden] = [false, true, true, true];
    verdict.textContent = "The result appears here after your prediction.";
    bars.replaceChildren();
  });

  button.addEventListener("click", () => {
    [list.disabled, button.disabled, verdict.textContent] = [true, true, "Computing \u2026"];
    const before = pictures;
    inOrder(async () => {
      if (pictures !== before) return;
      let result;
      try {
        result = await run();
      } catch (error) {
        verdict.textContent = `The result cannot be computed: ${error.message}`;
        [list.disabled, button.disabled] = [false, false];
        return;
      }
      if (pictures !== before) return;
      const { right, rows, because, ...more } = result;
      part = more.part;
      const names = options();
      const first =
        right === chosenOption ? "As you predicted: " : `You predicted “${names[chosenOption]}” The result: `;
      verdict.replaceChildren(first, element("b", {}, names[right]), ` ${because}`);
      const most = Math.max(1, ...rows.map(([, value]) => value));
      bars.replaceChildren(
        ...rows.flatMap(([what, value, shown]) => {
          const bar = element("i");
          bar.style.width = `${(100 * Math.max(value, 0)) / most}%`;
          return [element("b", {}, what), element("div", {}, bar), element("span", {}, shown)];
        }),
      );
      list.firstChild.textContent = "Your prediction, which stays because the result is known";
      code.textContent = python();
      [source.hidden, show.hidden] = [false, false];
    });
  });
  return article;
}
