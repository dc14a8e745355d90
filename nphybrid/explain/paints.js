// The paints of the drawing pad. The network reads the first paint, a grey, as 0 in every channel.
const PAINTS = ["grey", "black", "white", "red", "orange", "yellow", "green", "blue"];
const BYTES = ["", "#000000", "#ffffff", "#c62020", "#e07b1a", "#f0c419", "#2f8f3a", "#2458c0"];
function paints() {
  const { mean, factor } = stepFacts.photograph;
  const bytes = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return BYTES.map((hex) => (hex ? bytes(hex) : mean.map((value) => value / factor)));
}
