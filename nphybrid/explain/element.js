// Functions that make elements of a page.
const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

// Fills a table with rows, and fills it again for each forward pass.
function showRows(table, compute) {
  const rows = ofPass(compute);
  views.push(() => {
    if (table.firstChild !== rows()[0]) table.replaceChildren(...rows());
  });
}

// The labels of the page: those that are best without changes, and those that are best now.
const shownLabels = () => [...stepFacts.answer.labels, ...(stepFacts.answer.more ?? [])];

// The name of a label, a note, the score, and a bar as long as the score.
const labelRow = (label, note, score, isBest) => {
  const bar = element("i");
  bar.style.width = `${Math.max(0.4, 100 * score)}%`;
  const cells = [
    element("b", {}, label),
    element("span", {}, note),
    element("span", {}, score.toFixed(4)),
    element("div", {}, bar),
  ];
  return element("div", { class: isBest ? "answer best" : "answer" }, ...cells);
};
