// The network in JavaScript: the functions of nphybrid's Python files, under the same names.
// The page starts these files as a worker, one after another. No file of this folder reads the page.
//
// An array is { shape, data } with the numbers in a Float32Array, channels last. The network computes one picture at a
// time, so a map has the shape (H, W, C) and tokens have the shape (T, D). A kernel has its output channels first:
// (O, KH, KW, C) or (O, C). All weights of an output channel are then neighbours in memory. The column at the right of
// the code has the shapes of the bundled network.
"use strict";

const sizeOf = (shape) => shape.reduce((product, n) => product * n, 1);
const array = (shape, data = new Float32Array(sizeOf(shape))) => ({ shape, data });
const reshape = ({ data }, shape) => ({ shape, data });

// The array with its axes in another order: axis k of the result is axis axes[k] of x.
function transpose(x, axes) {
  const shape = axes.map((axis) => x.shape[axis]);
  const steps = axes.map((axis) => sizeOf(x.shape.slice(axis + 1)));
  const from = (i) => {
    let place = 0;
    for (let k = shape.length - 1; k >= 0; k--, i = Math.floor(i / shape[k + 1])) place += (i % shape[k]) * steps[k];
    return place;
  };
  return array(shape, new Float32Array(x.data.length).map((_, i) => x.data[from(i)]));
}

// Records the states of a forward pass by name, as nphybrid/trace.py does. `keep` is a Set of names, or null for all.
// `record` returns the state, so a function can record a result and go on with it.
class Trace {
  constructor(keep = null, states = {}, scope = "") {
    Object.assign(this, { keep, states, scope });
  }
  record(name, state) {
    if (this.wants(name)) this.states[this.scope + name] = state;
    return state;
  }
  wants(name) {
    return !this.keep || this.keep.has(this.scope + name);
  }
  // A view of the trace that puts `scope` and a dot before every name.
  at(scope) {
    return new Trace(this.keep, this.states, `${this.scope}${scope}.`);
  }
}
