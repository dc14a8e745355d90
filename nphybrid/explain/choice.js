// The current choice of the reader. All pictures of the page share this choice.
// When one picture changes the choice, all pictures are redrawn.
// A pointer that moves over a picture previews a choice. A click, a tap or a key makes a choice.
const chosen = { pixel: 0, channel: 0, at: 0, stage: 0, map: 0, place: [0.5, 0.5], dimension: 0, number: 0 };
Object.assign(chosen, { token: 0, key: 0, layer: 0, head: 0, depth: 0, unit: 0, unitMap: 0, tap: 0 });
const committed = { ...chosen };
const views = []; // functions that draw the current choice
let previewing = false;
let waiting = false;

function choose(change) {
  Object.assign(chosen, change);
  if (!previewing) Object.assign(committed, change);
  redraw();
}

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    views.forEach((view) => view());
  });
}

// `point(event)` makes a choice at the place of the pointer.
function onPointer(node, point) {
  const preview = (event) => {
    previewing = true;
    point(event);
    previewing = false;
  };
  const endPreview = () => {
    Object.assign(chosen, committed);
    redraw();
  };
  node.addEventListener("pointermove", (event) => event.pointerType === "mouse" && preview(event));
  node.addEventListener("pointerleave", endPreview);
  node.addEventListener("click", point);
}

// `move(down, right)` is called when the reader presses an arrow key, Home or End.
function onArrowKeys(target, move) {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  Object.assign(moves, { Home: [0, -Infinity], End: [0, Infinity] });
  target.addEventListener("keydown", (event) => {
    if (!(event.key in moves)) return;
    event.preventDefault();
    move(...moves[event.key]);
  });
}
