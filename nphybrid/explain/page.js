// What the steps share: the numbers, the colours, what is chosen, and pictures that can be touched.
"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);
const there = facts.steps;
const numbers = {};
const steps = {};

// ---------------------------------------------------------------- the numbers

async function unpacked(id, type) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const kinds = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, float32: Float32Array };
  return new kinds[type](await new Response(stream).arrayBuffer());
}

// One array: `at(i)` is its i-th number, `row(i)` the i-th run of numbers that share a scale.
async function loaded(name) {
  const { shape, type, row } = facts.arrays[name];
  const codes = await unpacked(`${name}-codes`, type);
  const exact = !document.getElementById(`${name}-scales`);
  const scales = exact ? null : await unpacked(`${name}-scales`, "float32");
  const most = { uint8: 255, int8: 127, uint16: 65535, int16: 32767 }[type];
  const at = exact ? (i) => codes[i] : (i) => (codes[i] * scales[Math.floor(i / row)]) / most;
  return { shape, at, row: (i) => Array.from({ length: row }, (_, j) => at(i * row + j)) };
}

// pixel_values, as the network gets them, channels last.
let pixelValues;
function normalized() {
  const { factor, mean, std, shape } = there.photograph;
  const values = new Float32Array(shape[0] * shape[1] * shape[2]);
  for (let i = 0; i < values.length; i++) {
    const channel = i % shape[2];
    values[i] = (numbers.pixels.at(i) * factor - mean[channel]) / std[channel];
  }
  return values;
}

const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const shown = (value, digits = 3) => {
  const text = Math.abs(value) >= 0.0005 || value === 0 ? value.toFixed(digits) : value.toExponential(1);
  return text.replace("-", "\u2212");
};
const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 2 : 1)}\u202f%`;
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

// ---------------------------------------------------------------- the colours

const [INK, PAPER, MUTED, LINE, ACCENT, MARK] = ["ink", "paper", "muted", "line", "accent", "mark"].map((name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(),
);
const KEY = "#ffd166"; // frames what is looked at; white frames what looks

const stops = (name) => facts.colours[name].map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
const scales = { sequential: stops("sequential"), diverging: stops("diverging") };

// Runs as colours.coloured in Python: linear between stops, the ends beyond low and high.
function colour(value, low, high, scale) {
  const place = clamp((value - low) / (high - low || 1), 0, 1) * (scale.length - 1);
  const i = Math.min(Math.floor(place), scale.length - 2);
  return scale[i].map((c, k) => Math.round(c + (place - i) * (scale[i + 1][k] - c)));
}

// The same from a table of 1,024 colours, as four bytes each, for whole maps.
const tables = new Map();
const packed = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;
function tableOf(scale) {
  if (!tables.has(scale)) {
    tables.set(
      scale,
      Int32Array.from({ length: 1024 }, (_, i) => packed(colour(i, 0, 1023, scale))),
    );
  }
  return tables.get(scale);
}

// Magnitudes go from dark to light, signed numbers from blue over white to orange, each as far as its largest.
const magnitudes = (values) => [0, largest(values), scales.sequential];
const signed = (most) => [-most, most, scales.diverging];
const range = (values) => (values.some((value) => value < 0) ? signed(largest(values)) : magnitudes(values));

// A little picture, one pixel for each number: `four(i)` packs the bytes of the i-th.
function raster(rows, columns, four) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(columns, rows);
  const pixels = new Int32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = four(i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function heat(values, rows, columns, [low, high, scale] = range(values)) {
  const table = tableOf(scale);
  const factor = 1023 / (high - low || 1);
  return raster(rows, columns, (i) => table[clamp(Math.round((values[i] - low) * factor), 0, 1023)]);
}

let photo; // the picture as the model sees it, pixel for pixel
function photograph() {
  const [rows, columns, channels] = there.photograph.shape;
  const byte = (i, k) => clamp(Math.round(numbers.pixels.at(i * channels + Math.min(k, channels - 1))), 0, 255);
  return raster(rows, columns, (i) => packed([byte(i, 0), byte(i, 1), byte(i, 2)]));
}

// ---------------------------------------------------------------- what is chosen

// One choice for the whole page: whoever changes it, everyone draws it. The pointer that passes over a picture only
// previews a choice; a click, a tap or a key makes it.
const chosen = { pixel: 0, channel: 0, at: 0, stage: 0, map: 0, place: [0.5, 0.5], dimension: 0, number: 0 };
Object.assign(chosen, { token: 0, key: 0, layer: 0, head: 0, depth: 0 });
const made = { ...chosen };
const views = [];
let previewing = false;
let waiting = false;

function choose(change) {
  Object.assign(chosen, change);
  if (!previewing) Object.assign(made, change);
  redraw();
}

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    views.forEach((view) => view());
  });
}

// point(event) chooses what lies under the pointer.
function touchable(node, point) {
  const preview = (event) => {
    previewing = true;
    point(event);
    previewing = false;
  };
  const back = () => {
    Object.assign(chosen, made);
    redraw();
  };
  node.addEventListener("pointermove", (event) => event.pointerType === "mouse" && preview(event));
  node.addEventListener("pointerleave", back);
  node.addEventListener("click", point);
}

function arrows(target, move) {
  const ways = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  Object.assign(ways, { Home: [0, -Infinity], End: [0, Infinity] });
  target.addEventListener("keydown", (event) => {
    if (!(event.key in ways)) return;
    event.preventDefault();
    move(...ways[event.key]);
  });
}

// ---------------------------------------------------------------- pictures that can be touched

const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

// Draws when something was chosen; what is out of sight waits until it is seen, or printed.
const sight = new Map();
const watch = new IntersectionObserver(
  (entries) => entries.forEach(({ target, isIntersecting }) => sight.get(target)(isIntersecting)),
  { rootMargin: "200px" },
);
function seenOf(node, draw) {
  let [inSight, waits] = [false, true];
  sight.set(node, (now) => {
    inSight = now;
    if (now && waits) draw();
    waits = waits && !now;
  });
  watch.observe(node);
  views.push(() => {
    if (inSight) draw();
    else waits = true;
  });
  addEventListener("beforeprint", draw);
}

// A canvas of cells, as high as its width demands.
//   cells()                               [rows, columns] of them
//   span()                                the share of the canvas that they cover; more than 1 where it cuts the last
//   paint(context, width, height, cell)   draws, in CSS pixels; cell = [height, width] of one
//   touch(row, column)                    a cell was pointed at, or reached by a key
//   where()                               [row, column] of the chosen cell
//   alt()                                 the alternative text of what is drawn
function board(canvas, { cells, span = () => [1, 1], aspect = cells()[1] / cells()[0], paint, touch, where, alt }) {
  let width = 0;
  const context = canvas.getContext("2d");
  canvas.style.aspectRatio = String(aspect);
  canvas.setAttribute("role", touch ? "application" : "img");
  const draw = () => {
    canvas.setAttribute("aria-label", alt());
    if (!width) return;
    const height = width / aspect;
    context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
    context.clearRect(0, 0, width, height);
    const [[rows, columns], [down, across]] = [cells(), span()];
    paint(context, width, height, [(height * down) / rows, (width * across) / columns]);
  };
  new ResizeObserver(() => {
    width = canvas.clientWidth;
    const dots = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * dots), Math.round((width / aspect) * dots)];
    draw();
  }).observe(canvas);
  seenOf(canvas, draw);
  canvas.setAttribute("aria-label", alt());
  if (!touch) return;
  canvas.tabIndex = 0;
  touchable(canvas, (event) => {
    const [box, [rows, columns], [down, across]] = [canvas.getBoundingClientRect(), cells(), span()];
    const row = Math.floor((((event.clientY - box.top) / box.height) * rows) / down);
    const column = Math.floor((((event.clientX - box.left) / box.width) * columns) / across);
    touch(clamp(row, 0, rows - 1), clamp(column, 0, columns - 1));
  });
  arrows(canvas, (down, right) => {
    const [[row, column], [rows, columns]] = [where(), cells()];
    touch(clamp(row + down, 0, rows - 1), clamp(column + right, 0, columns - 1));
  });
}

// Pixels stay pixels where there is room for them, and are averaged where there is none.
function put(context, image, x, y, width, height) {
  context.imageSmoothingEnabled = image.width > width;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, x, y, width, height);
}

// A picture of one pixel a cell, over the cells.
const lay = (context, image, [height, width]) =>
  put(context, image, 0, 0, image.width * width, image.height * height);

// A frame around a cell, and around the middle of one that is too small for it; dashed in another ink than white.
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

// The photograph under a veil that is lifted where a cell's value is large, and gone where it is the largest.
function veiled(context, width, height, values, columns, cell) {
  put(context, photo, 0, 0, width, height);
  const most = largest(values) || 1;
  values.forEach((value, i) => {
    context.fillStyle = `rgba(12, 10, 8, ${0.9 * (1 - value / most)})`;
    context.fillRect((i % columns) * cell[1], Math.floor(i / columns) * cell[0], cell[1], cell[0]);
  });
}

// Many small pictures in one canvas, `across` in a row; one of them, or none (-1), is chosen.
function tiles(canvas, { count, across, aspect = 1, tile, touch, chosenTile, alt }) {
  const rows = Math.ceil(count / across);
  const place = (i) => [Math.floor(i / across), i % across];
  board(canvas, {
    cells: () => [rows, across],
    aspect: (across / rows) * aspect,
    alt,
    paint(context, width, height, [h, w]) {
      for (let i = 0; i < count; i++) put(context, tile(i), place(i)[1] * w + 1, place(i)[0] * h + 1, w - 2, h - 2);
      if (chosenTile() >= 0) frame(context, ...place(chosenTile()), [h, w]);
    },
    touch: (row, column) => touch(Math.min(row * across + column, count - 1)),
    where: () => place(Math.max(chosenTile(), 0)),
  });
}

// A line of numbers as a strip; one of them is chosen, under the name `choice`.
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
      put(context, heat(padded, lines, across, ends()), 0, 0, width, height);
      frame(context, ...place(), cell);
    },
  });
}

// A scale with the numbers of its ends: legend(node, () => [low, high, scale]).
function legend(node, ends, unit = (value) => shown(value)) {
  const [left, bar, right] = [element("span"), element("i"), element("span")];
  node.append(left, bar, right);
  views.push(() => {
    const [low, high, scale] = ends();
    [left.textContent, right.textContent] = [unit(low), unit(high)];
    bar.style.background = `linear-gradient(90deg, ${scale.map((rgb) => `rgb(${rgb})`).join(", ")})`;
  });
}

// What is touched, in words.  `text` may mark a number as <b>; it holds nothing that comes from a file.
function tell(node, text) {
  let told = "";
  views.push(() => {
    const now = text();
    if (now !== told) node.innerHTML = told = now; // what says the same is not read out again
  });
}

// ---------------------------------------------------------------- charts

const SVG = "http://www.w3.org/2000/svg";
const svg = (tag, attributes = {}, content = "") => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = content;
  return node;
};

// Axes in an <svg>, drawn again when it changes its width.
//   ratio, highest    of its height to its width; the value at the top
//   ticks             values with a line and a number
//   count, first      of the steps to the right; whether they begin at the edge (0) or half a step in (0.5)
//   along, strong()   the name of the horizontal axis; the step whose number is bold
//   content(x, y)     draws into the axes
function chart(node, { ratio, highest, ticks, count, first, along, strong, content }) {
  const draw = () => {
    const width = node.clientWidth;
    const height = clamp(width * ratio, 230, 360);
    if (!width) return;
    const [left, right, upper, lower] = [40, 12, 12, 44];
    const x = (step) => left + ((step + first) / (count - 1 + 2 * first || 1)) * (width - left - right);
    const y = (value) => height - lower - (value / highest) * (height - upper - lower);
    node.setAttribute("viewBox", `0 0 ${width} ${height}`);
    node.style.height = `${height}px`;
    node.replaceChildren();
    for (const tick of ticks) {
      const level = { x1: left, x2: width - right, y1: y(tick), y2: y(tick), stroke: LINE };
      node.append(svg("line", level), svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick));
    }
    for (let step = 0; step < count; step++) {
      const look = { x: x(step), y: height - lower + 18, "text-anchor": "middle" };
      node.append(svg("text", { ...look, class: strong() === step ? "strong" : "" }, step));
    }
    node.append(svg("text", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, along));
    content(x, y, [left, width - right, upper, height - lower]);
  };
  new ResizeObserver(draw).observe(node);
  seenOf(node, draw);
}

// ---------------------------------------------------------------- tokens and their cells

const grid = there.tokens ? there.tokens.grid : [1, 1];
const first = there.tokens ? there.tokens.class : 0; // the index of the first cell's token
const cellOf = (token) => [Math.floor((token - first) / grid[1]), (token - first) % grid[1]];
const tokenAt = (row, column) => first + row * grid[1] + column;
const nameOf = (token) => {
  if (token < first) return "the class token";
  const [row, column] = cellOf(token);
  return `token ${token} (row ${row}, column ${column})`;
};

// What share of the picture rows x columns of cells cover: a rest may be left over, and padding adds to the last.
const covers = ([rows, columns], [height, width]) => [
  (rows * height) / there.photograph.shape[0],
  (columns * width) / there.photograph.shape[1],
];

// A board of all cells over the picture, on which a token or a key is chosen.
function cellBoard(canvas, choice, { paint, alt }) {
  const at = () => cellOf(Math.max(chosen[choice], first));
  board(canvas, {
    cells: () => grid,
    span: () => covers(grid, there.tokens.cell),
    aspect: there.photograph.shape[1] / there.photograph.shape[0],
    where: at,
    touch: (row, column) => choose({ [choice]: tokenAt(row, column) }),
    paint,
    alt,
  });
}

// ---------------------------------------------------------------- from here on, it lives

async function start() {
  for (const name of Object.keys(facts.arrays)) numbers[name] = await loaded(name);
  photo = photograph();
  pixelValues = normalized();
  const [height, width] = there.photograph.shape;
  chosen.pixel = Math.floor(height / 2) * width + Math.floor(width / 2);
  if (there.tokens) {
    chosen.token = chosen.key = there.rollout.brightest;
    chosen.layer = there.attention.blocks - 1;
    chosen.depth = there.attention.blocks;
  }
  overview();
  for (const step of Object.values(steps)) step();
  Object.assign(made, chosen);
  views.forEach((view) => view());
  // Beside a long text the picture stays in sight, down to its lower edge.
  for (const shows of document.querySelectorAll(".shows")) {
    new ResizeObserver(() => {
      shows.style.top = `${Math.min(24, innerHeight - shows.offsetHeight - 24)}px`;
    }).observe(shows);
  }
  // Where there is one column, the source waits until it is asked for.
  if (innerWidth < 861) document.querySelectorAll("details").forEach((node) => node.removeAttribute("open"));
  // Only what one works with is read out.
  document.addEventListener("focusin", ({ target }) => {
    for (const output of document.querySelectorAll("output")) {
      output.setAttribute("aria-live", output.closest("section") === target.closest("section") ? "polite" : "off");
    }
  });
  document.documentElement.dataset.ready = "true";
}
