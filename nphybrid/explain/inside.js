// The inside of the blocks. A page that computes its network has the inside of every block and token. Other pages store
// one block and, in arrays with a row for each token, one token: `facts.inside` says which.
const insideLayer = () => facts.inside.layer ?? chosen.layer;
const insideToken = () => facts.inside.token ?? chosen.token;

// What a step says about a skipped block, which has no `what`. The text is empty for all other blocks.
const skippedSays = (layer, what) =>
  stepFacts.weight.skipped?.includes(layer) ? `Block ${layer} is skipped, so it has no ${what}` : "";

// Row `row` of the chosen block in an array that has `rows` rows of `width` numbers for each block.
function rowOfBlock(name, width, row = 0, rows = 1) {
  const start = ((facts.inside.layer === null ? chosen.layer : 0) * rows + row) * width;
  return Array.from({ length: width }, (_, i) => numbers[name].at(start + i));
}

// The row of the chosen token and block in an array that has a row for each token.
const rowOfToken = (name, width) =>
  facts.inside.token === null
    ? rowOfBlock(name, width, chosen.token, stepFacts.tokens.shape[0])
    : rowOfBlock(name, width);

// Sets up a slider for the block, a button for the class token, and a picture for all other tokens. `token()` is the
// token that the step shows. If the page stores only one token, the picture only shows its place.
function tokenPicker(step, token = insideToken, layer = insideLayer) {
  const [slider, block, button, picture] = ["layer", "block", "class", "token"].map((part) =>
    document.getElementById(`${step}-${part}`),
  );
  const fixed = token === insideToken && facts.inside.token !== null;
  slider.parentElement.hidden = layer === insideLayer && facts.inside.layer !== null;
  slider.max = String(stepFacts.attention.blocks - 1);
  slider.addEventListener("input", () => choose({ layer: Number(slider.value) }));
  classButton(button, "token");
  if (fixed) button.hidden = true;
  views.push(() => {
    slider.value = String(layer());
    block.textContent = `block ${layer()}`;
  });
  // The text does not change with the choice: a longer text would move the picture under the pointer.
  picture.previousElementSibling.innerHTML = fixed ? `<b>The token</b>: ${nameOf(token())}` : "<b>Choose the token</b>";
  cellBoard(picture, fixed ? null : "token", {
    alt: () => `the picture; ${nameOf(token())} is chosen`,
    paint(context, w, h, cell) {
      drawPicture(context, w, h);
      if (token() >= first) frame(context, ...cellOf(token()), cell);
    },
  });
}

// Strips of numbers, with the ends of their scales. `panels` is [[id, name, values], ...]. The scale of a strip of
// shares is `options.ends`.
function strips(panels, options) {
  for (const [id, name, values] of panels) {
    strip(document.getElementById(id), { ...options, values, alt: () => name });
    showText(document.getElementById(`${id}-most`), () => {
      const most = largest(values());
      return options.ends ? percent(options.ends()[1]) : `\u00b1\u202f${formatted(most, most < 0.1 ? 4 : 2)}`;
    });
  }
}

// A list of names and numbers. `lines()` is [[name, text], ...]. A skipped block has no numbers.
function listNumbers(list, lines, layer = () => -1) {
  drawWhenVisible(list, () => {
    const shown = skippedSays(layer(), "") ? [[`block ${layer()} is skipped`, "no numbers"]] : lines();
    list.replaceChildren(...shown.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
  });
}
