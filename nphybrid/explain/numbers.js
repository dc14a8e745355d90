// The facts and arrays of the page, and functions that write numbers as text.
// The page joins all .js files into one script.
"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);
const stepFacts = facts.steps; // {step: the facts of the step}
const numbers = {}; // {name: an array from loadArray}
const steps = {}; // {step: the function that sets up the step}

async function decompress(id, type) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const kinds = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, float32: Float32Array };
  return new kinds[type](await new Response(stream).arrayBuffer());
}

// An array of the page. `at(i)` is number i of the array. The numbers of a row share a scale, and `row(i)` is row i.
async function loadArray(name) {
  const { shape, type, row } = facts.arrays[name];
  const codes = await decompress(`${name}-codes`, type);
  const exact = !document.getElementById(`${name}-scales`);
  const scales = exact ? null : await decompress(`${name}-scales`, "float32");
  const most = { uint8: 255, int8: 127, uint16: 65535, int16: 32767 }[type];
  const at = exact ? (i) => codes[i] : (i) => (codes[i] * scales[Math.floor(i / row)]) / most;
  return { shape, at, row: (i) => Array.from({ length: row }, (_, j) => at(i * row + j)) };
}

// A value that depends on the forward pass. It is computed when it is read for the first time, and again after the page
// shows another forward pass.
let passes = 0; // the number of forward passes that the page has shown
function ofPass(compute) {
  let [value, pass] = [null, -1];
  return () => {
    if (pass !== passes) [value, pass] = [compute(), passes];
    return value;
  };
}

let pixelValues; // the normalized input of the network, channels last
function normalize() {
  const { factor, mean, std, shape } = stepFacts.photograph;
  const values = new Float32Array(shape[0] * shape[1] * shape[2]);
  for (let i = 0; i < values.length; i++) {
    const channel = i % shape[2];
    values[i] = (numbers.pixels.at(i) * factor - mean[channel]) / std[channel];
  }
  return values;
}

const rms = (values) => Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);
const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const formatted = (value, digits = 3) => {
  const text = Math.abs(value) >= 0.0005 || value === 0 ? value.toFixed(digits) : value.toExponential(1);
  return text.replaceAll("-", "\u2212");
};
// A number as `formatted` shows it, so that sums of shown numbers are right.
const rounded = (value, digits = 3) => Number(value.toFixed(digits));
const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 2 : 1)}\u202f%`;
const capitalized = (text) => text[0].toUpperCase() + text.slice(1);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
