// Tokens, and the cells of the picture that the tokens represent.
const grid = stepFacts.tokens ? stepFacts.tokens.grid : [1, 1];
const first = stepFacts.tokens ? stepFacts.tokens.class : 0; // the index of the first cell's token
const cellOf = (token) => [Math.floor((token - first) / grid[1]), (token - first) % grid[1]];
const tokenAt = (row, column) => first + row * grid[1] + column;
const nameOf = (token) => {
  if (token < first) return "the class token";
  const [row, column] = cellOf(token);
  return `token ${token} (row ${row}, column ${column})`;
};

// The [down, across] shares of the picture that rows x columns of cells cover.
// A share is below 1 if no cell covers the last pixels.
// A share is above 1 if the last cells reach into the padding.
const coverage = ([rows, columns], [height, width]) => [
  (rows * height) / stepFacts.photograph.shape[0],
  (columns * width) / stepFacts.photograph.shape[1],
];

// Draws the photograph. The hidden cells are grey.
function drawPicture(context, width, height, hidden = shownChanges.hidden) {
  drawImage(context, photographImage, 0, 0, width, height);
  const [down, across] = coverage(grid, stepFacts.tokens.cell);
  const [high, wide] = [(height * down) / grid[0], (width * across) / grid[1]];
  context.fillStyle = "#808080";
  for (const n of hidden) {
    const [row, column] = cellOf(n + first);
    context.fillRect(column * wide, row * high, wide, high);
  }
}

// Makes a board that divides the picture into the cells of the tokens.
// `chosen[choice]` is the token of the chosen cell. If `choice` is null, the reader cannot choose a cell.
function cellBoard(canvas, choice, { paint, alt }) {
  const at = () => cellOf(Math.max(chosen[choice], first));
  board(canvas, {
    cells: () => grid,
    span: () => coverage(grid, stepFacts.tokens.cell),
    aspect: stepFacts.photograph.shape[1] / stepFacts.photograph.shape[0],
    where: at,
    touch: choice && ((row, column) => choose({ [choice]: tokenAt(row, column) })),
    paint,
    alt,
  });
}

// A button that chooses the class token. The button is hidden if the network has no class token.
function classButton(button, choice) {
  button.hidden = !first;
  button.addEventListener("click", () => choose({ [choice]: 0 }));
  views.push(() => button.setAttribute("aria-pressed", String(chosen[choice] < first)));
}

// The picture with frames around the chosen query and key. The reader chooses the key.
function keyBoard(canvas) {
  cellBoard(canvas, "key", {
    alt: () => `the picture; the query is ${nameOf(chosen.token)}, the key is ${nameOf(chosen.key)}`,
    paint(context, w, h, cell) {
      drawPicture(context, w, h);
      if (chosen.token >= first) frame(context, ...cellOf(chosen.token), cell);
      if (chosen.key >= first) frame(context, ...cellOf(chosen.key), cell, KEY);
    },
  });
}
