// Another picture on the page: the worker computes the network for it, and the page shows the new forward pass.
// Pages of large networks have no worker.

let posterImage = document.getElementById("poster"); // a small copy of the original picture
let worker = null;
let workerHasPicture = false; // whether the picture of the worker is the picture of the page
let pictures = 0; // the number of pictures that the page has opened
let differences = {}; // of each state of the pass to the pass without changes (network/measures.js)
let resetChanges = () => {}; // acts.js replaces this function
let jobs = Promise.resolve(); // the last job; a job begins after the job before it

const inOrder = (job) => (jobs = jobs.then(job, job));

// The script of the worker stands in the page as text, because a page from a file cannot load other files.
function startWorker() {
  const text = (id) => document.getElementById(id).textContent;
  worker = new Worker(URL.createObjectURL(new Blob([text("worker")], { type: "text/javascript" })));
  const { factor, mean, std } = stepFacts.photograph;
  const weights = { exact: text("weights-exact"), codes: text("weights-codes") };
  worker.postMessage({ network: { ...facts.network, photograph: { factor, mean, std } }, weights });
}

// Ask the worker for a forward pass of a file, of prepared pixels, or of the picture of the page. `keep` are the names
// of states.
async function computePass({ file, pixels, acts, keep = [] }) {
  const { shape } = stepFacts.photograph;
  const stored = () => ({
    shape,
    data: Uint8Array.from({ length: shape[0] * shape[1] * shape[2] }, (_, i) => numbers.pixels.at(i)),
  });
  pixels ??= file || workerHasPicture ? null : stored();
  const answer = await new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = () => reject(new Error("this browser cannot start the worker"));
    worker.postMessage({ file, pixels, acts, keep: stepFacts.stem ? ["stem.conv", ...keep] : keep });
  });
  if (answer.error) throw new Error(answer.error);
  workerHasPicture = true;
  return answer;
}

// What the page shows, so that the page can show it again.
const currentPass = () => ({
  name: facts.name,
  picture: facts.picture,
  poster: posterImage,
  stepFacts: structuredClone(stepFacts),
  numbers: { ...numbers },
  differences,
});
function showPass({ name, picture, poster, stepFacts: shown, numbers: arrays, differences: far }) {
  Object.assign(facts, { name, picture });
  [posterImage, differences] = [poster, far];
  for (const step of Object.keys(shown)) stepFacts[step] = structuredClone(shown[step]);
  for (const key of Object.keys(numbers)) if (!(key in arrays)) delete numbers[key];
  Object.assign(numbers, arrays);
  passes += 1;
  photographImage = drawPhotograph();
  pixelValues = normalize();
  const words = { name, label: leader()?.label, score: leader()?.score.toFixed(3) };
  document.querySelector(".lead").textContent = facts.lead.replace(/\{(\w+)\}/g, (_, word) => words[word]);
  document.title = `${name}: ${document.title.slice(document.title.lastIndexOf("a forward pass"))}`;
  redraw();
}

// An answer of the worker as a pass. What does not depend on the picture is taken from the current pass.
function passOf(answer, name) {
  const pass = { ...currentPass(), name, differences: answer.differences };
  for (const [step, change] of Object.entries(answer.facts)) {
    if (Array.isArray(change)) change.forEach((part, i) => Object.assign(pass.stepFacts[step][i], part));
    else Object.assign(pass.stepFacts[step], change);
  }
  if (pass.stepFacts.answer) pass.stepFacts.answer.before = answer.untouched.answer.labels;
  if (answer.poster) {
    Object.assign(pass, { picture: answer.picture, poster: answer.poster });
    pass.stepFacts.photograph.resized = answer.resized;
  }
  const arrays = { ...answer.arrays, ...(answer.states["stem.conv"] && { responses: answer.states["stem.conv"] }) };
  for (const [key, { data }] of Object.entries(arrays)) pass.numbers[key] = arrayOf(key, data);
  return pass;
}

// An array of the worker, with the functions of loadArray.
function arrayOf(name, data) {
  const row = facts.arrays[name]?.row ?? 1;
  return { at: (i) => data[i], row: (i) => Array.from(data.subarray(i * row, (i + 1) * row)) };
}

// Compute the arrays that the page does not store, for the first picture.
async function completePass() {
  const { arrays } = await computePass({});
  for (const [name, { data }] of Object.entries(arrays)) numbers[name] ??= arrayOf(name, data);
}

function setUpPictures() {
  const [choose, back, says] = ["choose", "back", "says"].map((name) => document.getElementById(`picture-${name}`));
  const input = document.getElementById("picture-file");
  const first = currentPass();

  // `request` is a request of computePass. `details` is what the worker finds out only about a file.
  async function open(name, request, details) {
    says.textContent = `Computing the network for ${name} \u2026`;
    try {
      const answer = { ...(await computePass(request)), ...details };
      resetChanges();
      pictures += 1;
      showPass(passOf(answer, name));
      const { decode, prepare = 0, network } = answer.milliseconds;
      const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(2)} s`;
      const decoded = request.file ? `decoded the picture in ${seconds(decode)} and ` : "";
      says.textContent = `${name}: this page ${decoded}computed the answer in ${seconds(prepare + network)}.`;
      back.hidden = false;
    } catch (error) {
      says.textContent = `${name} cannot be opened: ${error.message}`;
    }
  }
  const openFirst = (files) => files.length && inOrder(() => open(files[0].name, { file: files[0] }));
  setUpCamera((file) => openFirst([file]));

  choose.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // so that the same file can be chosen again
    openFirst(files);
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
  const goBack = () => {
    resetChanges();
    pictures += 1;
    showPass(first);
    workerHasPicture = false;
    says.textContent = "";
    back.hidden = true;
  };
  back.addEventListener("click", () => inOrder(goBack).then(() => choose.focus()));
  setUpGallery(open, goBack);
}
