steps.changes = () => {
  const { blocks, heads } = stepFacts.attention;
  const [hide, tau] = ["changes-hide", "changes-tau"].map((id) => document.getElementById(id));
  const slider = document.getElementById("changes-temperature");

  // A button for each block and each head. A pressed button is off.
  for (let l = 0; l < blocks; l++) {
    const row = element("div", { class: "choices" });
    const skip = () => act({ skipped: toggled(changes.skipped, l) });
    row.append(toggle(`block ${l}`, `skip block ${l}`, () => changes.skipped.includes(l), skip));
    for (let a = 0; a < heads; a++) {
      const name = `${l}.${a}`;
      const off = () => act({ off: toggled(changes.off, name) });
      row.append(toggle(`head ${a}`, `switch off head ${a} of block ${l}`, () => changes.off.includes(name), off));
    }
    document.getElementById("changes-blocks").append(row);
  }

  const cell = () => Math.max(chosen.token, first) - first;
  cellBoard(document.getElementById("changes-cells"), "token", {
    alt: () => `the picture; ${nameOf(cell() + first)} is chosen; ${plural(changes.hidden.length, "cell")} hidden`,
    paint(context, w, h, size) {
      drawPicture(context, w, h, changes.hidden);
      frame(context, ...cellOf(cell() + first), size);
    },
  });
  hide.addEventListener("click", () => act({ hidden: toggled(changes.hidden, cell()) }));
  views.push(() => (hide.textContent = changes.hidden.includes(cell()) ? "Show this cell again" : "Hide this cell"));

  let dragging = false; // while the pointer moves the slider, no view moves it
  slider.addEventListener("pointerdown", () => (dragging = true));
  for (const end of ["pointerup", "pointercancel"]) {
    addEventListener(end, () => {
      if (dragging) redraw();
      dragging = false;
    });
  }
  slider.addEventListener("change", () => act({ temperature: 2 ** Number(slider.value) }));
  slider.addEventListener("input", () => (tau.textContent = `temperature ${temperatureSays(2 ** Number(slider.value))}`));
  views.push(() => {
    if (dragging) return;
    const place = Math.log2(changes.temperature);
    const beyond = Math.abs(place) > 3 ? ", beyond the end of the slider" : "";
    const text = temperatureSays(changes.temperature) + beyond;
    slider.value = String(clamp(place, -3, 3));
    slider.setAttribute("aria-valuetext", text);
    tau.textContent = `temperature ${text}`;
  });

  showRows(document.getElementById("changes-labels"), () =>
    shownLabels().map(({ label, score, was = score }) => {
      const row = labelRow(label, `was ${was.toFixed(4)}`, score, label === leader().label);
      const mark = element("s");
      mark.style.left = `${100 * was}%`;
      row.lastChild.append(mark);
      return row;
    }),
  );
};
