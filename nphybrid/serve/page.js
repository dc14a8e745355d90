// Sends pictures to the server one by one, and shows their labels.
"use strict";

const results = document.getElementById("results");
const drop = document.getElementById("drop");
const waiting = []; // [{file, item}] of the pictures that have no result yet
const count = { all: 0, done: 0, refused: 0 };
let isSending = false;

// A picture as a form. The browser adds the name of the file.
function formOf(file) {
  const form = new FormData();
  form.append("picture", file);
  return form;
}

// The row of a picture. Throws an Error with the message of the server if the request is refused.
async function classify(file) {
  let response;
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Error("the browser cannot read this file; expected a picture file, not a folder");
  }
  try {
    response = await fetch("classify", { method: "POST", body: formOf(file) });
  } catch {
    throw new Error("the server does not answer");
  }
  const answer = await response.json();
  const row = Array.isArray(answer) ? answer[0] : answer;
  // The name of the file is shown above the message.
  if (row.error) throw new Error(row.error.replace(`${file.name}: `, ""));
  return row;
}

// A form with the picture. Its button opens the explain page in a new tab. The server does not keep the picture, so the
// form sends the picture again.
function explainForm(file) {
  const input = element("input", { type: "file", name: "picture", hidden: "" });
  const files = new DataTransfer();
  files.items.add(file);
  input.files = files.files;
  const button = element("button", { type: "submit", "aria-label": `Explain ${file.name}` }, "Explain this answer");
  const attributes = { method: "post", action: "explain", enctype: "multipart/form-data", target: "_blank" };
  return element("form", attributes, input, button);
}

function showLabels(item, file, labels) {
  const picture = element("img", { alt: "", src: URL.createObjectURL(file) });
  // A browser cannot show every format that the server reads.
  picture.addEventListener("error", () => picture.replaceWith(element("div", { class: "blank" })));
  const rows = labels.map(({ label, score }, i) => labelRow(label, "", score, i === 0));
  item.replaceChildren(picture, element("h2", {}, file.name), element("div", {}, ...rows), explainForm(file));
}

function showError(item, file, message) {
  const blank = element("div", { class: "blank" });
  item.replaceChildren(blank, element("h2", {}, file.name), element("p", { class: "error" }, message));
}

function showProgress() {
  const { all, done, refused } = count;
  const pictures = all === 1 ? "1 picture" : `${all} pictures`;
  document.getElementById("progress").textContent =
    (done < all ? `${done} of ${pictures} done` : `${pictures} done`) + (refused ? `, ${refused} refused` : "");
}

async function sendAll() {
  if (isSending) return;
  isSending = true;
  while (waiting.length) {
    const { file, item } = waiting.shift();
    try {
      showLabels(item, file, (await classify(file)).labels);
    } catch (error) {
      count.refused += 1;
      showError(item, file, error.message);
    }
    count.done += 1;
    showProgress();
  }
  isSending = false;
}

// The newest pictures are at the top, in the order in which they were chosen.
function add(files) {
  const added = [...files].map((file) => ({ file, item: element("li", { class: "result" }) }));
  for (const { file, item } of added) {
    const blank = element("div", { class: "blank" });
    item.append(blank, element("h2", {}, file.name), element("p", {}, "waiting for the labels"));
  }
  results.prepend(...added.map(({ item }) => item));
  waiting.push(...added);
  count.all += added.length;
  showProgress();
  sendAll();
}

document.getElementById("files").addEventListener("change", ({ target }) => {
  add(target.files);
  target.value = ""; // so that the same file can be chosen again
});
// Without these listeners, the browser would leave the page and open a dropped file.
for (const event of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(event, (happened) => {
    happened.preventDefault();
    drop.classList.toggle("over", event === "dragenter" || event === "dragover");
    if (event === "drop") add(happened.dataTransfer.files);
  });
}
fetch("health")
  .then((response) => response.json())
  .then(({ model, classes, formats }) => {
    document.getElementById("formats").textContent = `The formats are ${formats.join(", ")}.`;
    document.getElementById("model").textContent =
      `The model is ${model}. It has ${classes.toLocaleString("en")} classes.`;
  });
