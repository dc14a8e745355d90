// Pictures that react to the pointer and to keys.

// Redraws a node after each choice.
// A node outside the window is drawn when it becomes visible, or when the page is printed.
const onVisibility = new Map();
const observer = new IntersectionObserver(
  (entries) => entries.forEach(({ target, isIntersecting }) => onVisibility.get(target)(isIntersecting)),
  { rootMargin: "200px" },
);
function drawWhenVisible(node, draw) {
  let [visible, waits] = [false, true];
  onVisibility.set(node, (isVisible) => {
    visible = isVisible;
    if (visible && waits) draw();
    waits = waits && !visible;
  });
  observer.observe(node);
  views.push(() => {
    if (visible) draw();
    else waits = true;
  });
  addEventListener("beforeprint", draw);
}

const HIGHEST = 720; // the height of a canvas is at most this number of pixels

// A canvas that is divided into cells.
//   cells()                               [rows, columns]
//   aspect                                width / height of the canvas, as a number or a function
//   span()                                [down, across]: the shares of the canvas that the cells cover
//                                         A share above 1 means that the edge of the canvas cuts the last cells.
//   paint(context, width, height, cell)   draws in CSS pixels; `cell` is the [height, width] of a cell
//   touch(row, column)                    is called when the pointer or a key reaches a cell
//   where()                               [row, column] of the chosen cell
//   alt()                                 the alternative text
function board(canvas, { cells, span = () => [1, 1], aspect = cells()[1] / cells()[0], paint, touch, where, alt }) {
  const ratio = typeof aspect === "function" ? aspect : () => aspect;
  let width = 0;
  const context = canvas.getContext("2d");
  canvas.setAttribute("role", touch ? "application" : "img");
  const draw = () => {
    canvas.setAttribute("aria-label", alt());
    canvas.style.aspectRatio = String(ratio());
    canvas.style.width = `min(100%, ${Math.round(HIGHEST * ratio())}px)`;
    if (!width) return;
    const height = width / ratio();
    context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
    context.clearRect(0, 0, width, height);
    const [[rows, columns], [down, across]] = [cells(), span()];
    paint(context, width, height, [(height * down) / rows, (width * across) / columns]);
  };
  new ResizeObserver(() => {
    width = canvas.clientWidth;
    const dots = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * dots), Math.round((width / ratio()) * dots)];
    draw();
  }).observe(canvas);
  drawWhenVisible(canvas, draw);
  draw();
  if (!touch) return;
  canvas.tabIndex = 0;
  onPointer(canvas, (event) => {
    const [box, [rows, columns], [down, across]] = [canvas.getBoundingClientRect(), cells(), span()];
    const row = Math.floor((((event.clientY - box.top) / box.height) * rows) / down);
    const column = Math.floor((((event.clientX - box.left) / box.width) * columns) / across);
    touch(clamp(row, 0, rows - 1), clamp(column, 0, columns - 1));
  });
  onArrowKeys(canvas, (down, right) => {
    const [[row, column], [rows, columns]] = [where(), cells()];
    touch(clamp(row + down, 0, rows - 1), clamp(column + right, 0, columns - 1));
  });
}

// An enlarged image shows its pixels as squares. The pixels of a reduced image are averaged.
function drawImage(context, image, x, y, width, height) {
  context.imageSmoothingEnabled = image.width > width;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, x, y, width, height);
}

// Draws an image over the cells, with one pixel of the image for each cell.
const drawCells = (context, image, [height, width]) =>
  drawImage(context, image, 0, 0, image.width * width, image.height * height);

// Draws a frame around a cell. The frame is at least 5 pixels wide and high.
// A white frame has solid lines. A frame in any other colour has dashed lines.
function frame(context, row, column, cell, ink = "#ffffff") {
  const [height, width] = cell.map((side) => Math.max(side, 5));
  const [top, left] = [(row + 0.5) * cell[0] - height / 2, (column + 0.5) * cell[1] - width / 2];
  context.lineWidth = 4;
  context.strokeStyle = "#000000";
  context.strokeRect(left, top, width, height);
  context.lineWidth = 2;
  context.strokeStyle = ink;
  context.setLineDash(ink === "#ffffff" ? [] : [4, 3]);
  context.strokeRect(left, top, width, height);
  context.setLineDash([]);
}

// Draws the photograph, and darkens the cells that have small values.
// The cell with the largest value is not darkened.
function drawDimmed(context, width, height, values, columns, cell) {
  drawPicture(context, width, height);
  const most = largest(values) || 1;
  values.forEach((value, i) => {
    context.fillStyle = `rgba(12, 10, 8, ${0.9 * (1 - value / most)})`;
    context.fillRect((i % columns) * cell[1], Math.floor(i / columns) * cell[0], cell[1], cell[0]);
  });
}

// Many small pictures in one canvas, with `across` pictures in each row.
// `chosenTile()` is the index of the chosen picture, or -1 if no picture is chosen. Without `touch`, the reader cannot
// choose a picture.
// `count`, `across` and `aspect` are numbers or functions.
function tiles(canvas, { tile, touch, chosenTile = () => -1, alt, aspect = 1, ...numbers }) {
  const valueOf = (value) => (typeof value === "function" ? value() : value);
  const [count, across] = [() => valueOf(numbers.count), () => valueOf(numbers.across)];
  const rows = () => Math.ceil(count() / across());
  const place = (i) => [Math.floor(i / across()), i % across()];
  board(canvas, {
    cells: () => [rows(), across()],
    aspect: () => (across() / rows()) * valueOf(aspect),
    alt,
    paint(context, width, height, [h, w]) {
      for (let i = 0; i < count(); i++) {
        const [row, column] = place(i);
        drawImage(context, tile(i), column * w + 1, row * h + 1, w - 2, h - 2);
      }
      if (chosenTile() >= 0) frame(context, ...place(chosenTile()), [h, w]);
    },
    touch: touch && ((row, column) => touch(Math.min(row * across() + column, count() - 1))),
    where: () => place(Math.max(chosenTile(), 0)),
  });
}

// Numbers as a strip of colours. `chosen[choice]` is the index of the chosen number.
function strip(canvas, { length, lines = 1, values, ends = () => signed(largest(values())), choice, alt }) {
  const across = Math.ceil(length / lines);
  const place = () => [Math.floor(chosen[choice] / across), chosen[choice] % across];
  board(canvas, {
    cells: () => [lines, across],
    aspect: 14 / Math.min(lines, 3),
    alt,
    where: place,
    touch: (row, column) => choose({ [choice]: Math.min(row * across + column, length - 1) }),
    paint(context, width, height, cell) {
      const all = values();
      const padded = Array.from({ length: lines * across }, (_, i) => all[i] || 0);
      drawImage(context, heatMap(padded, lines, across, ends()), 0, 0, width, height);
      frame(context, ...place(), cell);
    },
  });
}

// A colour bar with a number at each end. `ends()` returns [low, high, scale].
function legend(node, ends, unit = (value) => formatted(value)) {
  const [left, bar, right] = [element("span"), element("i"), element("span")];
  node.append(left, bar, right);
  views.push(() => {
    const [low, high, scale] = ends();
    [left.textContent, right.textContent] = [unit(low), unit(high)];
    bar.style.background = `linear-gradient(90deg, ${scale.map((rgb) => `rgb(${rgb})`).join(", ")})`;
  });
}

// Updates the text of a node after each choice.
// `text()` returns HTML, so the result must not contain text from a file.
function showText(node, text) {
  let current = "";
  views.push(() => {
    const next = text();
    if (next === current) return; // otherwise a screen reader would repeat an unchanged text
    node.innerHTML = current = next;
  });
}
