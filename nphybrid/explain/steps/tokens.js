// The input of the first block: the content of each token plus the position of the token.
function tokenValues() {
  const [count, width] = stepFacts.tokens.shape;
  return Array.from({ length: count * width }, (_, i) => numbers.contents.at(i) + numbers.positions.at(i));
}

steps.tokens = () => {
  const [count, width] = stepFacts.tokens.shape;
  cellBoard(document.getElementById("tokens-grid"), "token", {
    alt: () => `the picture as ${grid[0]} by ${grid[1]} cells; ${nameOf(chosen.token)} is chosen`,
    paint(context, w, h, cell) {
      drawPicture(context, w, h);
      context.strokeStyle = "rgba(255, 255, 255, 0.55)";
      context.lineWidth = 1;
      for (let row = 0; row <= grid[0]; row++) context.strokeRect(0, row * cell[0], grid[1] * cell[1], 0);
      for (let column = 0; column <= grid[1]; column++) context.strokeRect(column * cell[1], 0, 0, grid[0] * cell[0]);
      if (chosen.token >= first) frame(context, ...cellOf(chosen.token), cell);
    },
  });

  classButton(document.getElementById("tokens-class"), "token");

  const all = ofPass(tokenValues);
  const lines = ofPass(() => heatMap(all(), count, width, signed(largest(all()) / 2)));
  board(document.getElementById("tokens-all"), {
    cells: () => [count, 1],
    aspect: stepFacts.photograph.shape[1] / stepFacts.photograph.shape[0],
    where: () => [chosen.token, 0],
    alt: () => `${count} tokens of ${width} numbers; ${nameOf(chosen.token)} is chosen`,
    touch: (row) => choose({ token: row }),
    paint(context, w, h, cell) {
      drawImage(context, lines(), 0, 0, w, h);
      frame(context, chosen.token, 0, cell);
    },
  });

  const parts = {
    content: (i) => numbers.contents.at(i),
    position: (i) => numbers.positions.at(i),
    sum: (i) => all()[i],
  };
  const panels = Object.entries(parts).map(([name, part]) => {
    const values = () => Array.from({ length: width }, (_, i) => part(chosen.token * width + i));
    return [`tokens-${name}`, `the ${name} of the token, ${width} numbers`, values];
  });
  strips(panels, { length: width, lines: Math.ceil(width / 192), choice: "dimension" });
  showText(document.getElementById("tokens-says"), () => {
    const i = chosen.token * width + chosen.dimension;
    const [a, b] = [parts.content, parts.position].map((part) => rounded(part(i)));
    const sum = `${formatted(a)} + ${formatted(b)} = <b>${formatted(rounded(a + b))}</b>`;
    return `Number ${chosen.dimension} of ${nameOf(chosen.token)}: ${sum}`;
  });
};
