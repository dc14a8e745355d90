steps.paint = () => {
  const [rows, columns] = stepFacts.photograph.shape;
  const [pad, slider, clear, width] = ["pad", "size", "clear", "width"].map((name) =>
    document.getElementById(`paint-${name}`),
  );
  let [paint, line] = [1, null]; // `line` are the pixels of the line that is being painted
  const size = () => Number(slider.value);
  const at = () => [Math.floor(chosen.pixel / columns), chosen.pixel % columns];
  const css = (code) => `rgb(${paints()[code - 1].map(Math.round)})`;
  const painted = () => line ?? changes.painted;

  for (let code = 1; code <= PAINTS.length; code++) {
    const pick = () => {
      paint = code;
      redraw();
    };
    const node = toggle(PAINTS[code - 1], "", () => paint === code, pick);
    const sample = element("i");
    sample.style.background = css(code);
    node.prepend(sample);
    document.getElementById("paint-colours").append(node);
  }

  // The square of the brush around a pixel: [first row, first column, end row, end column].
  const brush = (row, column) => {
    const [top, left] = [row, column].map((n) => n - Math.floor((size() - 1) / 2));
    return [Math.max(top, 0), Math.max(left, 0), Math.min(top + size(), rows), Math.min(left + size(), columns)];
  };
  function dab(row, column) {
    line ??= changes.painted ? changes.painted.slice() : new Uint8Array(rows * columns);
    const [top, left, end, right] = brush(row, column);
    for (let i = top; i < end; i++) line.fill(paint, i * columns + left, i * columns + right);
    choose({ pixel: row * columns + column });
  }
  // The pixels between two places of the pointer are painted too.
  function stroke(from, to) {
    const steps = Math.max(...to.map((n, i) => Math.abs(n - from[i])), 1);
    for (let s = 1; s <= steps; s++) dab(...from.map((n, i) => Math.round(n + ((to[i] - n) * s) / steps)));
  }
  function finish() {
    if (!line) return;
    const next = line;
    line = null;
    act({ painted: next });
  }

  board(pad, {
    cells: () => [rows, columns],
    where: at,
    touch: (row, column) => choose({ pixel: row * columns + column }),
    alt: () => `the input of the network; the brush is at row ${at()[0]}, column ${at()[1]}`,
    paint(context, w, h, [high, wide]) {
      drawImage(context, photographImage, 0, 0, w, h);
      const codes = painted();
      if (codes) {
        for (let i = 0; i < codes.length; i++) {
          if (!codes[i]) continue;
          context.fillStyle = css(codes[i]);
          context.fillRect((i % columns) * wide, Math.floor(i / columns) * high, wide + 0.5, high + 0.5);
        }
      }
      const [top, left, end, right] = brush(...at());
      const box = [(end - top) * high, (right - left) * wide];
      frame(context, (top * high) / box[0], (left * wide) / box[1], box);
    },
  });
  const place = (event) => {
    const box = pad.getBoundingClientRect();
    const part = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    return [clamp(Math.floor(part[0] * rows), 0, rows - 1), clamp(Math.floor(part[1] * columns), 0, columns - 1)];
  };
  let last = null;
  pad.style.touchAction = "none";
  pad.addEventListener("pointerdown", (event) => {
    if (event.button || !event.isPrimary) return;
    pad.setPointerCapture(event.pointerId);
    last = place(event);
    dab(...last);
  });
  pad.addEventListener("pointermove", (event) => {
    if (!last || !event.isPrimary) return;
    const next = place(event);
    stroke(last, next);
    last = next;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    pad.addEventListener(end, (event) => {
      if (!event.isPrimary) return;
      last = null;
      finish();
    });
  }
  pad.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    dab(...at());
  });
  pad.addEventListener("blur", finish);
  pad.addEventListener("keyup", (event) => event.key === " " && finish());

  slider.addEventListener("input", redraw);
  clear.addEventListener("click", () => act({ painted: null }));
  views.push(() => {
    clear.disabled = !changes.painted;
    width.textContent = `brush: ${plural(size(), "pixel")}`;
    slider.setAttribute("aria-valuetext", plural(size(), "pixel"));
  });
  showText(document.getElementById("paint-says"), () => {
    const count = paintedPixels({ painted: painted() });
    const share = percent(count / (rows * columns));
    return `The brush is at row ${at()[0]}, column ${at()[1]}. ${plural(count, "pixel")} painted, <b>${share}</b>`;
  });
};
