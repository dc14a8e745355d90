// A link that holds the changes, for example "#changes;off=2.1,2.2;temperature=0.5". The picture is not in the link.
const HOLDS = "#changes";

// How each change is written. `read` returns undefined if the text has no meaning on this page.
const LINKED = {
  off: listed((name) => {
    const [layer, head, more] = name.split(".").map(whole);
    return more === undefined && layer < stepFacts.attention.blocks && head < stepFacts.attention.heads;
  }),
  skipped: listed((number) => whole(number) < stepFacts.attention.blocks, Number),
  hidden: listed((number) => whole(number) < grid[0] * grid[1], Number),
  blanked: listed((name) => {
    const [state, channel, more] = name.split(":");
    return more === undefined && whole(channel) < channelsOf(state);
  }),
  temperature: {
    write: (value) => (value === 1 ? "" : String(value)),
    read: (text) => (Number(text) >= 0.001 ? Number(text) : undefined),
  },
  classToken: {
    write: (value) => (value === "learned" ? "" : value),
    read: (text) => (first && ["zeros", "mean"].includes(text) ? text : undefined),
  },
  shuffled: listed((name) => name === "positions" || (name === "pieces" && cellsFit())),
  painted: { write: writePainted, read: readPainted },
};

function listed(known, value = (item) => item) {
  return {
    write: (list) => list.join(","),
    read: (text) => (text.split(",").every(known) ? [...new Set(text.split(","))].map(value) : undefined),
  };
}
function whole(text) {
  return /^(0|[1-9]\d{0,5})$/.test(text) ? Number(text) : NaN;
}

// The number of channels of a map that can be blanked, or 0.
function channelsOf(state) {
  if (state === "stem") return stepFacts.stem?.shape.at(-1) ?? 0;
  return stepFacts.stages?.find(({ name }) => name === state)?.shape.at(-1) ?? 0;
}

// Runs of pixels with one paint: "start-length-paint", joined by commas.
function writePainted(painted) {
  const runs = [];
  for (let i = 0, end; painted && i < painted.length; i = end) {
    for (end = i + 1; end < painted.length && painted[end] === painted[i];) end++;
    if (painted[i]) runs.push(`${i}-${end - i}-${painted[i]}`);
  }
  return runs.join(",");
}
function readPainted(text) {
  const [rows, columns] = stepFacts.photograph.shape;
  const painted = new Uint8Array(rows * columns);
  for (const run of text.split(",")) {
    const [start, length, code, more] = run.split("-").map(whole);
    const fits = more === undefined && start + length <= painted.length && length > 0;
    if (!fits || !(code > 0 && code <= PAINTS.length)) return undefined;
    painted.fill(code, start, start + length);
  }
  return painted;
}

function linkOf(state) {
  const texts = Object.entries(LINKED).map(([name, { write }]) => [name, write(state[name])]);
  return [HOLDS, ...texts.filter(([, text]) => text).map((pair) => pair.join("="))].join(";");
}

// Read the changes from a link.  -> [changes, the parts that have no meaning on this page]
function changesOf(link) {
  const [found, unknown] = [{}, []];
  for (const part of link.slice(HOLDS.length + 1).split(";")) {
    const [name, text, more] = part.split("=");
    const known = Object.hasOwn(LINKED, name) && text && more === undefined;
    const value = known ? LINKED[name].read(text) : undefined;
    if (value === undefined) unknown.push(part);
    else found[name] = value;
  }
  return [{ ...NO_CHANGES, ...found }, unknown];
}

// Make the changes of the address of the page.
function openLink() {
  const link = decodedLink();
  if (!link.startsWith(`${HOLDS};`) || link === linkOf(changes)) return;
  const [next, unknown] = changesOf(link);
  if (unknown.length) {
    document.getElementById("picture-says").textContent =
      `This page does not understand a part of its link, and ignores this part: ${unknown.join("; ").slice(0, 200)}`;
  }
  if (linkOf(next) !== linkOf(changes)) act(next);
}
function decodedLink() {
  try {
    return decodeURIComponent(location.hash);
  } catch {
    return location.hash;
  }
}
