// What the steps share: the numbers, the colours, what is chosen, and pictures that can be touched.
"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);
const there = facts.steps;
const numbers = {};
const steps = {};

// ---------------------------------------------------------------- the numbers

async function unpacked(id, type) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const kinds = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, float32: Float32Array };
  return new kinds[type](await new Response(stream).arrayBuffer());
}

// One array: `at(i)` is its i-th number, `row(i)` the i-th run of numbers that share a scale.
async function loaded(name) {
  const { shape, type, row } = facts.arrays[name];
  const codes = await unpacked(`${name}-codes`, type);
  if (!document.getElementById(`${name}-scales`)) return { shape, at: (i) => codes[i] };
  const scales = await unpacked(`${name}-scales`, "float32");
  const most = { uint8: 255, int8: 127, uint16: 65535, int16: 32767 }[type];
  const at = (i) => (codes[i] * scales[Math.floor(i / row)]) / most;
  return { shape, at, row: (i) => Array.from({ length: row }, (_, j) => at(i * row + j)) };
}

// pixel_values, as the network gets them, channels last.
let pixelValues;
function normalized() {
  const {
    factor,
    mean,
    std,
    shape: [height, width, channels],
  } = there.photograph;
  return Float32Array.from(
    { length: height * width * channels },
    (_, i) => (numbers.pixels.at(i) * factor - mean[i % channels]) / std[i % channels],
  );
}
const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const shown = (value, digits = 3) => {
  const text = Math.abs(value) >= 0.0005 || value === 0 ? value.toFixed(digits) : value.toExponential(1);
  return text.replace("-", "\u2212");
};
const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 2 : 1)}\u202f%`;

// ---------------------------------------------------------------- the colours

const stops = (name) => facts.colours[name].map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
const scales = { sequential: stops("sequential"), diverging: stops("diverging") };

// Runs as colours.coloured in Python: linear between stops, the ends beyond low and high.
function colour(value, low, high, scale) {
  const place = Math.min(Math.max((value - low) / (high - low || 1), 0), 1) * (scale.length - 1);
  const i = Math.min(Math.floor(place), scale.length - 2);
  return scale[i].map((c, k) => Math.round(c + (place - i) * (scale[i + 1][k] - c)));
}

// Magnitudes go from dark to light, signed numbers from blue over white to orange, each as far as its largest.
function range(values, most = largest(values)) {
  return values.some((value) => value < 0) ? [-most, most, scales.diverging] : [0, most, scales.sequential];
}

// A little picture of numbers, one pixel each.
function raster(rows, columns, rgb) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) image.data.set([...rgb(i), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Pixels stay pixels where there is room for them, and are averaged where there is none.
function put(context, image, x, y, width, height) {
  context.imageSmoothingEnabled = image.width > width;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, x, y, width, height);
}

const heat = (values, rows, columns, [low, high, scale] = range(values)) =>
  raster(rows, columns, (i) => colour(values[i], low, high, scale));

let photo; // the picture as the model sees it, pixel for pixel
const photograph = () => {
  const [rows, columns, channels] = there.photograph.shape;
  const byte = (i, k) => numbers.pixels.at(i * channels + Math.min(k, channels - 1));
  return raster(rows, columns, (i) => [byte(i, 0), byte(i, 1), byte(i, 2)]);
};

// ---------------------------------------------------------------- what is chosen

// One choice for the whole page: whoever changes it, everyone draws it.
const chosen = {
  pixel: 0,
  channel: 0,
  at: 0,
  stage: 0,
  map: 0,
  place: 0,
  token: 0,
  key: 0,
  layer: 0,
  head: 0,
  depth: 0,
};
const views = [];
let waiting = false;
function choose(change) {
  Object.assign(chosen, change);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    views.forEach((view) => view());
  });
}

// ---------------------------------------------------------------- pictures that can be touched

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const SVG = "http://www.w3.org/2000/svg";
const svg = (tag, attributes = {}, content = "") => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = content;
  return made;
};

// A canvas of cells, as high as its width demands.
//   cells()                               [rows, columns] of them
//   paint(context, width, height, cell)   draws, in CSS pixels; cell = [height, width] of one
//   touch(row, column)                    a cell was pointed at, or reached by an arrow key
//   where()                               [row, column] of the chosen cell
//   alt()                                 the alternative text of what is drawn
function board(canvas, { cells, aspect = cells()[1] / cells()[0], paint, touch, where, alt }) {
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
    const [rows, columns] = cells();
    paint(context, width, height, [height / rows, width / columns]);
  };
  new ResizeObserver(() => {
    width = canvas.clientWidth;
    const dots = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * dots), Math.round((width / aspect) * dots)];
    draw();
  }).observe(canvas);
  views.push(draw);
  if (!touch) return;
  const within = (n, most) => Math.min(Math.max(n, 0), most - 1);
  const point = (event) => {
    const [box, [rows, columns]] = [canvas.getBoundingClientRect(), cells()];
    touch(
      within(Math.floor(((event.clientY - box.top) / box.height) * rows), rows),
      within(Math.floor(((event.clientX - box.left) / box.width) * columns), columns),
    );
  };
  canvas.tabIndex = 0;
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  arrows(canvas, (down, right) => {
    const [[row, column], [rows, columns]] = [where(), cells()];
    touch(within(row + down, rows), within(column + right, columns));
  });
}

function arrows(target, move) {
  const ways = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  target.addEventListener("keydown", (event) => {
    if (!(event.key in ways)) return;
    event.preventDefault();
    move(...ways[event.key]);
  });
}

// A frame around a cell, and around the middle of one that is too small for it.
function frame(context, row, column, cell, ink = "#ffffff") {
  const [height, width] = cell.map((side) => Math.max(side, 5));
  const [top, left] = [(row + 0.5) * cell[0] - height / 2, (column + 0.5) * cell[1] - width / 2];
  for (const [line, colour] of [
    [4, "#000000"],
    [2, ink],
  ]) {
    context.lineWidth = line;
    context.strokeStyle = colour;
    context.strokeRect(left, top, width, height);
  }
}

// The photograph under a veil that is lifted where the values are large.
function veiled(context, width, height, values, rows, columns, most = largest(values)) {
  put(context, photo, 0, 0, width, height);
  const [h, w] = [height / rows, width / columns];
  values.forEach((value, i) => {
    context.fillStyle = `rgba(12, 10, 8, ${0.9 * (1 - value / (most || 1))})`;
    context.fillRect((i % columns) * w, Math.floor(i / columns) * h, w, h);
  });
}

// Many small pictures in one canvas, `across` in a row; one of them is chosen.
function tiles(canvas, { count, across, aspect = 1, tile, touch, chosenTile, alt }) {
  const rows = Math.ceil(count / across);
  board(canvas, {
    cells: () => [rows, across],
    aspect: (across / rows) * aspect,
    alt,
    paint(context, width, height, [h, w]) {
      for (let i = 0; i < count; i++) {
        put(context, tile(i), (i % across) * w + 1, Math.floor(i / across) * h + 1, w - 2, h - 2);
      }
      frame(context, Math.floor(chosenTile() / across), chosenTile() % across, [h, w]);
    },
    touch: (row, column) => touch(Math.min(row * across + column, count - 1)),
    where: () => [Math.floor(chosenTile() / across), chosenTile() % across],
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

// ---------------------------------------------------------------- tokens, cells, regions

const grid = there.tokens ? there.tokens.grid : [1, 1];
const first = there.tokens ? there.tokens.class : 0; // the index of the first cell's token
const cellOf = (token) => [Math.floor((token - first) / grid[1]), (token - first) % grid[1]];
const tokenAt = (row, column) => first + row * grid[1] + column;
const nameOf = (token) => {
  if (token < first) return "the class token";
  const [row, column] = cellOf(token);
  return `token ${token} (row ${row}, column ${column})`;
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// ---------------------------------------------------------------- the walk, as pictures at the top

function card(step, name, shape, paint) {
  const canvas = element("canvas", { "aria-hidden": "true" });
  const link = element("a", { href: `#${step}` }, canvas, element("b", {}, name), element("span", {}, shape));
  document.getElementById("walk").append(link);
  board(canvas, { cells: () => [1, 1], aspect: 1.08, alt: () => name, paint });
  canvas.setAttribute("aria-hidden", "true");
}

// A stack of sheets, one for every doubling of the channels; the front one shows a map.
function sheets(channels, size, front) {
  const count = Math.max(1, Math.round(Math.log2(channels)));
  return (context, width, height) => {
    const shift = width / 36;
    const side = size * (width - 11 * shift);
    for (let i = count; i >= 0; i--) {
      const [x, y] = [i * shift, height - side - 1 - i * shift];
      context.fillStyle = i % 2 ? "#efeadf" : "#e2dccd";
      context.fillRect(x, y, side, side);
      context.lineWidth = 0.75;
      context.strokeStyle = "#8a8375";
      context.strokeRect(x, y, side, side);
      if (i === 0) put(context, front(), x, y, side, side);
    }
  };
}

function overview() {
  const shape = (numbers) => numbers.join(" \u00d7 ");
  const [rows, columns] = there.photograph.shape;
  const share = (n) => 0.26 + 0.74 * (Math.log2(n + 1) / Math.log2(rows + 1));
  card(
    "photograph",
    "photograph",
    shape(there.photograph.shape),
    sheets(2, 1, () => photo),
  );
  if (there.stem) {
    card(
      "stem",
      "stem",
      shape(there.stem.shape),
      sheets(there.stem.shape[2], share(there.stem.shape[0]), () => filters().picture(chosen.channel)),
    );
  }
  (there.stages || []).forEach(({ name, shape: size }, s) => {
    card(
      "stages",
      `stage ${s}`,
      shape(size),
      sheets(size[2], share(size[0]), () =>
        heat(numbers[name].row(s === chosen.stage ? chosen.map : 0), size[0], size[1]),
      ),
    );
  });
  if (there.tokens) {
    const [tokens, width] = there.tokens.shape;
    const values = Array.from({ length: tokens * width }, (_, i) => numbers.contents.at(i) + numbers.positions.at(i));
    const bars = heat(values, tokens, width, range(values, largest(values) / 3));
    card("tokens", "tokens", shape(there.tokens.shape), (context, w, h) =>
      put(context, bars, 0, 0.3 * h, 0.92 * w, 0.7 * h),
    );
  }
  if (there.rollout) {
    card("attention", `${there.attention.blocks} blocks`, shape(there.tokens.shape), (context, w, h) => {
      const last = there.attention.blocks - 1;
      const values = Array.from({ length: grid[0] * grid[1] }, (_, i) =>
        numbers.rollout.at(last * there.tokens.shape[0] + first + i),
      );
      const [high, wide] = [rows, columns].map((side) => (0.69 * w * side) / Math.max(rows, columns));
      context.translate(0, h - high);
      veiled(context, wide, high, values, ...grid);
    });
  }
  if (there.answer) {
    card(
      "answer",
      there.answer.labels[0].label,
      `1 of ${there.answer.classes.toLocaleString("en")}`,
      (context, w, h) => {
        there.answer.labels.forEach(({ score }, i) => {
          context.fillStyle = i ? "#b9b2a3" : "#00578a";
          context.fillRect(0, h * (0.34 + 0.14 * i), Math.max(2, 0.92 * score * w), 0.1 * h);
        });
      },
    );
  }
}

async function start() {
  for (const name of Object.keys(facts.arrays)) numbers[name] = await loaded(name);
  photo = photograph();
  pixelValues = normalized();
  const [height, width] = there.photograph.shape;
  if (there.tokens)
    Object.assign(chosen, {
      token: there.rollout.brightest,
      key: there.rollout.brightest,
      layer: there.attention.blocks - 1,
      depth: there.attention.blocks,
    });
  chosen.pixel = Math.floor(height / 2) * width + Math.floor(width / 2);
  overview();
  for (const [name, step] of Object.entries(steps)) step(document.getElementById(name));
  views.forEach((view) => view());
  // Beside a long text the picture stays in sight, down to its lower edge.
  for (const shows of document.querySelectorAll(".shows")) {
    new ResizeObserver(() => {
      shows.style.top = `${Math.min(24, innerHeight - shows.offsetHeight - 24)}px`;
    }).observe(shows);
  }
  document.documentElement.dataset.ready = "true";
}
