// Another picture on the page: the worker computes the network for it, and the page shows the new forward pass.
// Pages of large networks have no worker.

let posterImage = document.getElementById("poster"); // a small copy of the original picture
let worker = null;
let requests = 0; // the number of the last request to the worker

// The script of the worker stands in the page as text, because a page from a file cannot load other files.
function startWorker() {
  const text = (id) => document.getElementById(id).textContent;
  const address = URL.createObjectURL(new Blob([text("worker")], { type: "text/javascript" }));
  worker = new Worker(address);
  const { factor, mean, std } = stepFacts.photograph;
  const weights = { exact: text("weights-exact"), codes: text("weights-codes") };
  worker.postMessage({ network: { ...facts.network, photograph: { factor, mean, std } }, weights });
}

// Ask the worker for a forward pass. The answer to an old request is null.
function computePass(request) {
  const id = ++requests;
  return new Promise((resolve, reject) => {
    const listen = ({ data }) => {
      if (data.id !== id) return;
      worker.removeEventListener("message", listen);
      if (data.error) reject(new Error(data.error));
      else resolve(id === requests ? data : null);
    };
    worker.addEventListener("message", listen);
    worker.postMessage({ id, ...request });
  });
}

// What the page shows of a forward pass, so that it can be shown again.
const currentPass = () => ({
  name: facts.name,
  picture: facts.picture,
  poster: posterImage,
  stepFacts: structuredClone(stepFacts),
  numbers: { ...numbers },
});
function showPass(pass) {
  Object.assign(facts, { name: pass.name, picture: pass.picture });
  posterImage = pass.poster;
  Object.assign(stepFacts, structuredClone(pass.stepFacts));
  for (const name of Object.keys(numbers)) if (!(name in pass.numbers)) delete numbers[name];
  Object.assign(numbers, pass.numbers);
  passes += 1;
  photographImage = drawPhotograph();
  pixelValues = normalize();
  const best = stepFacts.answer?.labels[0];
  const words = { name: facts.name, label: best?.label, score: best?.score.toFixed(3) };
  document.querySelector(".lead").textContent = facts.lead.replace(/\{(\w+)\}/g, (_, word) => words[word]);
  document.title = `${facts.name}: ${document.title.slice(document.title.lastIndexOf("a forward pass"))}`;
  redraw();
}

// The pass that the worker has answered, with the facts that do not depend on the picture.
function passOf({ facts: changed, arrays, picture, poster, resized, states }, name) {
  const pass = { ...currentPass(), name, picture, poster };
  for (const [step, change] of Object.entries(changed)) {
    if (Array.isArray(change)) change.forEach((part, i) => Object.assign(pass.stepFacts[step][i], part));
    else Object.assign(pass.stepFacts[step], change);
  }
  Object.assign(pass.stepFacts.photograph, { resized });
  if (states["stem.conv"]) arrays.responses = states["stem.conv"];
  for (const [key, { data }] of Object.entries(arrays)) {
    const row = facts.arrays[key]?.row ?? 1;
    pass.numbers[key] = { at: (i) => data[i], row: (i) => Array.from(data.subarray(i * row, (i + 1) * row)) };
  }
  return pass;
}

function setUpPictures() {
  const [choose, back, says] = ["choose", "back", "says"].map((name) => document.getElementById(`picture-${name}`));
  const input = document.getElementById("picture-file");
  startWorker();
  const first = currentPass();

  async function open(file) {
    says.textContent = `${file.name} is computed \u2026`;
    try {
      const answer = await computePass({ file, keep: stepFacts.stem ? ["stem.conv"] : [] });
      if (!answer) return;
      showPass(passOf(answer, file.name));
      const { decode, prepare, network } = answer.milliseconds;
      const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(2)} s`;
      says.textContent =
        `${file.name}: this page decoded the picture in ${seconds(decode)} and computed the answer in ` +
        `${seconds(prepare + network)}.`;
      back.hidden = false;
    } catch (error) {
      says.textContent = `${file.name} cannot be opened: ${error.message}`;
    }
  }
  const openFirst = (files) => files.length && open(files[0]);

  choose.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    openFirst(input.files);
    input.value = ""; // so that the same file can be chosen again
  });
  addEventListener("paste", (event) => openFirst(event.clipboardData.files));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    openFirst(event.dataTransfer.files);
  });
  back.addEventListener("click", () => {
    requests += 1; // an answer that is still expected is not shown
    showPass(first);
    says.textContent = "";
    back.hidden = true;
    choose.focus();
  });
}
