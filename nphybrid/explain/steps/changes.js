// The changes that are in force. They are replaced as a whole, so that earlier changes can come back.
const NO_CHANGES = { off: [], skipped: [], hidden: [], temperature: 1 };
let changes = NO_CHANGES; // of the buttons
let shownChanges = NO_CHANGES; // of the pass that the page shows; a little later than `changes`
let earlier = []; // the changes before each change

// A copy of a list with an item that is added, or removed if the list has it.
const toggled = (list, item) => (list.includes(item) ? list.filter((other) => other !== item) : [...list, item]);

// The changes as the acts of network/model.js.
function actsOf({ off, skipped, hidden, temperature }) {
  const { blocks, heads } = stepFacts.attention;
  const factor = (layer, head) => (off.includes(`${layer}.${head}`) ? 0 : 1);
  const rows = Array.from({ length: blocks }, (_, l) => Array.from({ length: heads }, (_, a) => factor(l, a)));
  return { headMask: off.length ? rows : null, masked: hidden, skipped, blanked: {}, temperature, classToken: null };
}

// The changes as a sentence.
function changesSay({ off, skipped, hidden, temperature }) {
  const parts = [];
  if (off.length) parts.push(`${plural(off.length, "head")} off`);
  if (skipped.length) parts.push(`${plural(skipped.length, "block")} skipped`);
  if (hidden.length) parts.push(`${plural(hidden.length, "cell")} hidden`);
  if (temperature !== 1) parts.push(`temperature ${formatted(temperature, 2)}`);
  return parts.join(", ");
}

steps.changes = () => {
  const { blocks, heads } = stepFacts.attention;
  const [bar, says, hide, tau] = ["changed", "changed-says", "changes-hide", "changes-tau"].map((id) =>
    document.getElementById(id),
  );
  const slider = document.getElementById("changes-temperature");
  const before = () => stepFacts.answer.before ?? stepFacts.answer.labels; // without changes

  // Compute the network with other changes.
  function change(next) {
    changes = next;
    redraw();
    inOrder(async () => {
      if (changes !== next) return;
      const answer = await computePass({ acts: actsOf(next) });
      shownChanges = next;
      showPass(passOf(answer, facts.name));
    });
  }
  resetChanges = () => {
    [changes, shownChanges, earlier] = [NO_CHANGES, NO_CHANGES, []];
  };
  const act = (part) => {
    earlier.push(changes);
    change({ ...changes, ...part });
  };
  document.getElementById("changed-undo").addEventListener("click", () => change(earlier.pop() ?? NO_CHANGES));
  document.getElementById("changed-back").addEventListener("click", () => {
    earlier = [];
    change(NO_CHANGES);
  });

  // A button for each block and each head. A pressed button is off.
  const button = (name, description, isOff, press) => {
    const node = element("button", { type: "button", "aria-label": description }, name);
    node.addEventListener("click", press);
    views.push(() => node.setAttribute("aria-pressed", String(isOff())));
    return node;
  };
  for (let l = 0; l < blocks; l++) {
    const row = element("div", { class: "choices" });
    const skip = () => act({ skipped: toggled(changes.skipped, l) });
    row.append(button(`block ${l}`, `skip block ${l}`, () => changes.skipped.includes(l), skip));
    for (let a = 0; a < heads; a++) {
      const name = `${l}.${a}`;
      const off = () => act({ off: toggled(changes.off, name) });
      row.append(button(`head ${a}`, `switch off head ${a} of block ${l}`, () => changes.off.includes(name), off));
    }
    document.getElementById("changes-blocks").append(row);
  }

  const cell = () => Math.max(chosen.token, first) - first;
  cellBoard(document.getElementById("changes-cells"), "token", {
    alt: () => `the picture; ${nameOf(cell() + first)} is chosen; ${plural(changes.hidden.length, "cell")} hidden`,
    paint(context, w, h, [high, wide]) {
      drawImage(context, photographImage, 0, 0, w, h);
      context.fillStyle = "#808080";
      for (const n of changes.hidden) {
        const [row, column] = cellOf(n + first);
        context.fillRect(column * wide, row * high, wide, high);
      }
      frame(context, ...cellOf(cell() + first), [high, wide]);
    },
  });
  hide.addEventListener("click", () => act({ hidden: toggled(changes.hidden, cell()) }));
  views.push(() => hide.setAttribute("aria-pressed", String(changes.hidden.includes(cell()))));

  slider.addEventListener("change", () => act({ temperature: 2 ** Number(slider.value) }));
  slider.addEventListener("input", () => (tau.textContent = `temperature ${formatted(2 ** Number(slider.value), 2)}`));
  views.push(() => {
    slider.value = String(Math.log2(changes.temperature));
    slider.setAttribute("aria-valuetext", formatted(changes.temperature, 2));
    tau.textContent = `temperature ${formatted(changes.temperature, 2)}`;
  });

  const table = document.getElementById("changes-labels");
  const rows = ofPass(() =>
    stepFacts.answer.labels.map(({ label, score }, i) => {
      const was = before()[i].score;
      const row = labelRow(label, `${was.toFixed(4)} without changes`, score, label === leader().label);
      const mark = element("s");
      mark.style.left = `${100 * was}%`;
      row.lastChild.append(mark);
      return row;
    }),
  );
  views.push(() => {
    if (table.firstChild !== rows()[0]) table.replaceChildren(...rows());
    const text = changesSay(shownChanges);
    bar.hidden = !text;
    const { label, score } = leader();
    const [best] = before();
    const result = `The best label is ${label}, ${score.toFixed(4)}`;
    says.textContent =
      text && `Changed: ${text}. ${result} (without changes: ${best.label}, ${best.score.toFixed(4)}).`;
  });
};
