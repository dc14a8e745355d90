// The JavaScript twins of the Python functions on the page. A twin has the same name, and this page runs it.
// Its text is cut out of the script of the worker, so the page does not hold it twice.
function setUpTwins() {
  const script = document.getElementById("worker").textContent;
  for (const source of document.querySelectorAll(".source[data-function]")) {
    const text = functionText(script, source.dataset.function);
    if (text) addTwin(source, text);
  }
}

// The text of a function, with the comment above it, or undefined.
function functionText(script, name) {
  const lines = `^(?://.*\\n)*(?:function ${name}\\([^]*?^\\}|const ${name} = [^]*?;)$`;
  return script.match(new RegExp(lines, "m"))?.[0];
}

// Adds a twin behind the Python source, and a button that shows and hides the twin.
function addTwin(source, text) {
  const name = source.dataset.function;
  const python = source.querySelector("pre");
  const title = element("p", {}, `${name} `, element("span", {}, "as this page computes it"));
  const shapes = Array.from(python.querySelectorAll(".shape"), (node) => node.textContent).filter(
    (text) => text === "" || text.startsWith("("),
  );
  const code = element("pre", {}, element("code", {}, ...twinLines(text, shapes)));
  const id = `twin-${document.querySelectorAll(".twin").length}`;
  const twin = element("div", { class: "twin", id, hidden: "" }, title, code);
  const open = { "aria-expanded": "false", "aria-controls": id, "aria-label": `${name} in JavaScript` };
  const button = element("button", { type: "button", class: "twin-button", ...open }, "JavaScript");
  button.addEventListener("click", () => {
    const before = button.getBoundingClientRect().top;
    twin.hidden = !source.classList.toggle("twins");
    button.setAttribute("aria-expanded", String(!twin.hidden));
    // The button stays where it is when the code moves below the pictures or back.
    scrollBy({ top: button.getBoundingClientRect().top - before, behavior: "instant" });
  });
  const both = element("div", { class: "both" });
  python.replaceWith(both);
  both.append(python, button, twin);
}

// The lines of a function as elements. A shape in a comment at the right becomes the shape of the same statement in
// Python, without the axis of the pictures. `shapes` are the shapes of the Python statements, in their order. A
// statement that the pass did not run has the shape "".
function twinLines(text, shapes) {
  let next = 0;
  return joinedComments(text.split("\n")).map((line) => {
    const [, code, shape] = line.match(/^(.*?\S) +\/\/ \((.*)\)$/) ?? [null, line];
    return codeLine(code, shape && withoutPictures(shapes[next++], shape.split(", ").length));
  });
}

// The last axes of a shape.  "(1, 65, 192)", 2 -> "(65, 192)"
const withoutPictures = (shape, axes) => shape && `(${shape.match(/[^(), ]+/g).slice(-axes).join(", ")})`;

// Join the lines of a sentence: a comment goes on in the next line if the next word does not fit into 120 characters.
function joinedComments(lines) {
  const word = (line) => line.match(/^\/\/ (\S+)/)?.[1];
  const goesOn = (before, line) => word(before) && word(line) && `${before} ${word(line)}`.length > 120;
  const joined = [];
  lines.forEach((line, i) => {
    if (i && goesOn(lines[i - 1], line)) joined.push(`${joined.pop()} ${line.slice(3)}`);
    else joined.push(line);
  });
  return joined;
}

// A line of the listing, as `line_html` in source.py makes it.
function codeLine(code, shape) {
  const begins = code.search(/\S|$/) + (code.startsWith("//") ? 3 : 4);
  const span = element("span", { style: `padding-left: ${begins}ch; text-indent: -${begins}ch` }, ...marked(code));
  return element("span", { class: "line" }, span, ...(shape ? [element("span", { class: "shape" }, shape)] : []));
}

// A line of JavaScript, in which keywords, strings and comments are marked.
const TOKEN = /(\/\/.*|"[^"]*"|`[^`]*`|\b(?:const|continue|else|for|function|if|let|new|of|return)\b)/;
const KINDS = { "/": "comment", '"': "string", "`": "string" };
const marked = (code) =>
  code
    .split(TOKEN)
    .map((part, i) => (i % 2 ? element("i", { class: KINDS[part[0]] ?? "keyword" }, part) : part));
