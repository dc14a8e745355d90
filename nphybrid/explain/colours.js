// Colour scales, and small pictures that show numbers as colours.
const themed = () =>
  ["muted", "line", "accent", "mark", "sheet", "sheet-behind"].map((name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(),
  );
let [MUTED, LINE, ACCENT, MARK, SHEET, SHEET_BEHIND] = themed();
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => dark.matches && !document.documentElement.classList.contains("printing");
const readTheme = () => ([MUTED, LINE, ACCENT, MARK, SHEET, SHEET_BEHIND] = themed());
dark.addEventListener("change", () => {
  readTheme();
  redraw();
});
// A page is printed in its light colours. The pictures are drawn at once, because the browser does not wait.
for (const event of ["beforeprint", "afterprint"]) {
  addEventListener(event, () => {
    document.documentElement.classList.toggle("printing", event === "beforeprint");
    readTheme();
    views.forEach((view) => view());
  });
}
const KEY = "#ffd166"; // the colour of the frame around a key; a query has a white frame

// The colours of the lines of a chart.
const inks = () => facts.colours[isDark() ? "categories_on_dark" : "categories"].map((hex) => `#${hex}`);

const stops = (name) => facts.colours[name].map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
const scales = { sequential: stops("sequential"), diverging: stops("diverging") };

// The colour of a number, as `coloured` in colours.py computes it.
// Between two stops of the scale, the colour is interpolated.
// A number below `low` gets the first colour of the scale. A number above `high` gets the last colour.
function colour(value, low, high, scale) {
  const place = clamp((value - low) / (high - low || 1), 0, 1) * (scale.length - 1);
  const i = Math.min(Math.floor(place), scale.length - 2);
  return scale[i].map((c, k) => Math.round(c + (place - i) * (scale[i + 1][k] - c)));
}

// A table with 1,024 colours of a scale, for whole maps. Each colour takes four bytes.
const tables = new Map();
const packColour = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;
function tableOf(scale) {
  if (!tables.has(scale)) {
    tables.set(
      scale,
      Int32Array.from({ length: 1024 }, (_, i) => packColour(colour(i, 0, 1023, scale))),
    );
  }
  return tables.get(scale);
}

// Each of the next three functions returns [low, high, scale]. The scale ends at the largest absolute value.
// Magnitudes get colours from dark to light. Signed numbers get colours from blue over white to orange.
const magnitudes = (values) => [0, largest(values), scales.sequential];
const signed = (most) => [-most, most, scales.diverging];
const range = (values) => (values.some((value) => value < 0) ? signed(largest(values)) : magnitudes(values));

// A canvas with one pixel per number. `colourAt(i)` is the packed colour of number i.
function raster(rows, columns, colourAt) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(columns, rows);
  const pixels = new Int32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colourAt(i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function heatMap(values, rows, columns, [low, high, scale] = range(values)) {
  const table = tableOf(scale);
  // If all numbers are 0, the ends of the scale are 0 too. Among signed numbers, 0 has the colour in the middle.
  const [start, length] = low === high && scale === scales.diverging ? [-1, 2] : [low, high - low || 1];
  return raster(rows, columns, (i) => table[clamp(Math.round(((values[i] - start) * 1023) / length), 0, 1023)]);
}

let photographImage; // the picture that the model gets, pixel for pixel
function drawPhotograph() {
  const [rows, columns, channels] = stepFacts.photograph.shape;
  const byte = (i, k) => clamp(Math.round(numbers.pixels.at(i * channels + Math.min(k, channels - 1))), 0, 255);
  return raster(rows, columns, (i) => packColour([byte(i, 0), byte(i, 1), byte(i, 2)]));
}
