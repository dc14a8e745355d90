// The questions of the experiments. Each question has
//   says(), options()   the text, and the predictions to choose from
//   run()               -> { right: the number of the true option, part: the changes that all steps can show,
//                            rows: [[name, number, text]], because: text }
//   python()            lines of Python. The last line is an expression: the numbers of the rows
const untouched = () => stepFacts.answer.before ?? stepFacts.answer.labels;
const bestLabel = () => untouched()[0].label;

// The names that the lines of Python use.
function pythonNames() {
  const { model, path } = facts;
  const { shape } = stepFacts.photograph;
  const score = {
    softmax: "(np.exp(y) / np.exp(y).sum())[best]",
    sigmoid: "1 / (1 + np.exp(-y[best]))",
    none: "y[best]",
  }[facts.network.score];
  const other = `${JSON.stringify(path || "model")})    # the path of the model`;
  return `import numpy as np
from nphybrid import ${model}${path === null ? ", default_model" : ""}

model = ${model}.from_pretrained(${path === null ? "default_model())" : other}
x = model.prepared(${JSON.stringify(facts.name)})    # (1, ${shape[2]}, ${shape[0]}, ${shape[1]})
best = model(x).logits[0].argmax()

def score(x, network=model, **options):
    y = network(x, **options).logits[0]
    return ${score}

def changed(change):
    arrays = model.state_dict()
    arrays = {name: change(name, arrays[name]) for name in arrays}
    return type(model)(model.config, state_dict=arrays)`;
}

// The answer of the network after some changes of the untouched network.
async function answerAfter(part, keep) {
  const answer = await computePass({ acts: actsOf({ ...NO_CHANGES, ...part }), keep: ["logits", ...(keep ?? [])] });
  const { labels, leader: top } = answer.facts.answer;
  return { score: labels[0].score, top: top.label, logits: answer.states.logits.data, ...answer };
}
function scoreRow(name, { score, top }) {
  const more = top === bestLabel() ? "" : `, best: ${top}`;
  return [name, score, score.toFixed(4) + more];
}
const unchangedRow = () => scoreRow("without changes", { score: untouched()[0].score, top: bestLabel() });

// The options of a question about one change, and its result.
const effects = () => [
  `The score of ${bestLabel()} changes by less than 0.1, and it stays the best label.`,
  `The score of ${bestLabel()} changes by at least 0.1, and it stays the best label.`,
  "Another label becomes the best label.",
];
// `reason(answer, isSmall)` is a sentence that begins with a space, or "".
async function effectOf(name, part, reason) {
  const answer = await answerAfter(part);
  const { score, top, differences: by } = answer;
  const stays = top === bestLabel();
  const small = stays && Math.abs(score - untouched()[0].score) < 0.1;
  const far = by.tokens
    ? `The tokens before block 0 differ by ${percent(by.tokens)}, and the logits by ${percent(by.logits)}.`
    : `The logits differ by ${percent(by.logits)}.`;
  return {
    right: stays ? Number(!small) : 2,
    part,
    rows: [unchangedRow(), scoreRow(name, answer)],
    because: far + (await reason(answer, small)),
  };
}

function questions() {
  const { blocks, heads } = stepFacts.attention;
  const { cell } = stepFacts.tokens;
  const [height, width] = stepFacts.photograph.shape;
  const N = grid[0] * grid[1];
  const everyHead = (l) => Array.from({ length: heads }, (_, a) => `${l}.${a}`);
  const layers = Array.from({ length: blocks }, (_, l) => l);
  const offs = (keep) => layers.filter((l) => l !== keep).flatMap(everyHead);
  const tiled = grid[0] * cell[0] === height && grid[1] * cell[1] === width;
  const order = `order = np.argsort(np.sin(np.arange(${N})))`;
  const reads = first ? "the class token" : "the mean of the cells";

  // The picture without changes, and the square of 2 x 2 cells with the largest share of its rollout: the first row and
  // column of the square.
  let unchanged;
  const withoutChanges = ofPass(() => {
    if (!unchanged || !changesSay(shownChanges)) unchanged = { image: photographImage, square: brightestSquare() };
    return unchanged;
  });
  const hasSquare = first && Math.min(...grid) > 1;
  if (hasSquare) views.push(withoutChanges); // before the reader changes something
  const square = () => withoutChanges().square;
  function brightestSquare() {
    const shares = rolloutAfter(blocks);
    const places = Array.from({ length: N }, (_, i) => [Math.floor(i / grid[1]), i % grid[1]]);
    const share = (r, c) => shares[r * grid[1] + c];
    const sum = ([r, c]) => share(r, c) + share(r, c + 1) + share(r + 1, c) + share(r + 1, c + 1);
    const inside = places.filter(([r, c]) => r + 1 < grid[0] && c + 1 < grid[1]);
    return inside.reduce((a, b) => (sum(b) > sum(a) ? b : a));
  }
  // The square as rows and columns of pixels: [top, left, end, right].
  const box = () => [0, 1, 2, 3].map((i) => (square()[i % 2] + (i < 2 ? 0 : 2)) * cell[i % 2]);

  const convolutions = {
    id: "convolutions",
    question: "Do the convolutions alone give the answer?",
    says: () =>
      "Switch off all heads. The convolutions, the MLPs and the classifier stay as they are. The classifier reads " +
      `${reads}.`,
    options: () => [
      `${bestLabel()} stays the best label, and the scores depend on the picture.`,
      "Another label becomes the best label, and the scores depend on the picture.",
      "Every picture gets the same scores.",
    ],
    async run() {
      const none = await answerAfter({ off: offs() });
      const grey = await answerAfter({ off: offs(), painted: new Uint8Array(height * width).fill(1) });
      const one = await answerAfter({ off: offs(0) });
      const apart = none.logits.reduce((most, y, i) => Math.max(most, Math.abs(y - grey.logits[i])), 0);
      const pictures = "Without heads, the logits of this picture and of a grey picture ";
      const why = first ? " Only the heads bring numbers from the cells to the class token." : "";
      const stays = " Its learned start, the biases of attention and the MLPs are the same for every picture.";
      return {
        right: apart < 1e-6 ? 2 : Number(none.top !== bestLabel()),
        part: { off: offs() },
        rows: [
          ...[unchangedRow(), scoreRow("no heads", none), scoreRow("no heads, a grey picture", grey)],
          scoreRow("the heads of block 0 alone", one),
        ],
        because: `${pictures}${apart ? `differ by at most ${formatted(apart)}` : "are equal"}.${why}${first && !apart ? stays : ""}`,
      };
    },
    python: () => `none = np.zeros((${blocks}, ${heads}))
alone = none + np.eye(${blocks})[:, :1]    # block 0
[score(x), score(x, head_mask=none),
 score(0 * x, head_mask=none), score(x, head_mask=alone)]`,
  };

  // The numbers of all cells in an array with a row for each token.
  const D = stepFacts.tokens.shape[1];
  const ofCells = ({ data }) => data.subarray(first * D);
  const positions = {
    id: "positions",
    question: "Does the answer need the positions?",
    says: () => "Shuffle the positions: each cell keeps its vector, but gets the learned position of another cell.",
    options: effects,
    run: () =>
      effectOf("positions shuffled", { shuffled: ["positions"] }, ({ arrays }, isSmall) => {
        const [cells, places] = [arrays.contents, arrays.positions].map((vectors) => rms(ofCells(vectors)));
        const sizes = `root mean square ${formatted(places)} against ${formatted(cells)}`;
        const mixed = stepFacts.stem ? ", and the convolutions have already mixed neighbouring pixels" : "";
        const compared = `small compared with the vectors of the cells (${sizes})`;
        const why = ` A likely reason for this picture: the position vectors are ${compared}${mixed}.`;
        return isSmall && places < cells / 2 ? why : "";
      }),
    python: () => `${order}
places = ${first ? "np.r_[0, 1 + order]    # the class token keeps its position" : "order"}
shuffled = changed(
    lambda name, v: v[:, places] if "position" in name else v)
[score(x), score(x, shuffled)]`,
  };

  const pieces = {
    id: "pieces",
    question: "Does the answer need the pieces of the picture in their order?",
    says: () =>
      `The picture is cut into one piece of ${cell[0]} \u00d7 ${cell[1]} pixels for each cell. The pieces are put ` +
      "into the order of the experiment before, and the positions stay.",
    options: effects,
    // Each cell is compared with the cell of the same piece.
    run: () =>
      effectOf("pieces shuffled", { shuffled: ["pieces"] }, async ({ arrays }) => {
        if (!stepFacts.stem) return " The cells keep their vectors, in another order.";
        const before = ofCells((await computePass({ acts: null })).arrays.contents);
        const moved = shuffledOrder(N).flatMap((n) => Array.from(before.subarray(n * D, (n + 1) * D)));
        const far = rms(ofCells(arrays.contents).map((value, i) => value - moved[i])) / rms(before);
        const edges = "The convolutions also read across the new edges between the pieces";
        return ` ${edges}: apart from their order, the vectors of the cells differ by ${percent(far)}.`;
      }),
    python: () => `${order}
cut = x.reshape(3, ${grid[0]}, ${cell[0]}, ${grid[1]}, ${cell[1]}).transpose(1, 3, 0, 2, 4)
cut = cut.reshape(${N}, 3, ${cell[0]}, ${cell[1]})[order].reshape(cut.shape)
[score(x), score(cut.transpose(2, 0, 3, 1, 4).reshape(x.shape))]`,
  };

  const skipping = {
    id: "block",
    question: "Which block does the answer need most?",
    says: () => "Skip one block at a time. A skipped block returns its input.",
    options: () => layers.map((l) => `Without block ${l}, the score of ${bestLabel()} is lowest.`),
    async run() {
      const answers = [];
      for (const l of layers) answers.push(await answerAfter({ skipped: [l] }));
      const scores = answers.map(({ score }) => score);
      const right = scores.indexOf(Math.min(...scores));
      const { score, top } = answers[right];
      return {
        right,
        part: { skipped: [right] },
        rows: [unchangedRow(), ...answers.map((answer, l) => scoreRow(`without block ${l}`, answer))],
        because: `The score is ${score.toFixed(4)}, and the best label is ${top}.`,
      };
    },
    python: () => `def without(l):
    parts = f"layer.{l}.", "output.dense"
    return changed(
        lambda name, v: 0 * v if all(p in name for p in parts) else v)
[score(x), *[score(x, without(l)) for l in range(${blocks})]]`,
  };

  const eye = {
    id: "square",
    question: "Which heads depend on the square with the largest share?",
    says: () =>
      "Of all squares of 2 \u00d7 2 cells, the framed square has the largest share of the rollout. Make its pixels " +
      "grey. In which block is the head whose weights change most? Compare the weights that the class token gives.",
    options: () => layers.map((l) => `A head of block ${l} changes most.`),
    square: withoutChanges,
    async run() {
      const names = layers.map((l) => `blocks.${l}.weights`);
      const before = await computePass({ acts: null, keep: names });
      const painted = new Uint8Array(height * width);
      const [top, left, end, right] = box();
      for (let row = top; row < end; row++) painted.fill(1, row * width + left, row * width + right);
      const after = await answerAfter({ painted }, names);
      // Half of the sum of all differences: the share of the weight that moves from some tokens to others.
      const T = N + first;
      const moved = names.flatMap((name) =>
        Array.from({ length: heads }, (_, a) => {
          const row = ({ states }) => states[name].data.subarray(a * T * T, a * T * T + T);
          const now = row(after);
          return row(before).reduce((sum, weight, j) => sum + Math.abs(weight - now[j]) / 2, 0);
        }),
      );
      const most = moved.indexOf(Math.max(...moved));
      const name = (i) => `block ${Math.floor(i / heads)}, head ${i % heads}`;
      return {
        right: Math.floor(most / heads),
        part: { painted },
        rows: moved.map((value, i) => [name(i), value, percent(value)]),
        because:
          `In ${name(most)}, ${percent(moved[most])} of the weight moves from some tokens to others: half the sum of the ` +
          `absolute differences. The score of ${bestLabel()} is ${after.score.toFixed(4)} (${untouched()[0].score.toFixed(4)} without changes).`,
      };
    },
    python: () => `hidden = x.copy()
hidden[..., ${box()[0]}:${box()[2]}, ${box()[1]}:${box()[3]}] = 0
def weights(x):    # of the class token
    trace = model.trace(x)
    rows = [trace[f"blocks.{l}.weights"][0, :, 0] for l in range(${blocks})]
    return np.stack(rows)
abs(weights(hidden) - weights(x)).sum(-1) / 2`,
  };

  const start = {
    id: "start",
    question: "Is the start of the class token important?",
    says: () =>
      "Before the first block, the class token is a learned vector, which is the same for every picture. Replace it " +
      "by zeros, and then by the mean of the projected cells.",
    options: () => [
      "Both starts change the best label.",
      "Only the zeros change the best label.",
      "Only the mean of the cells changes the best label.",
      "The best label stays.",
    ],
    async run() {
      const keep = ["blocks.0"];
      const [zeros, mean] = [
        await answerAfter({ classToken: "zeros" }, keep),
        await answerAfter({ classToken: "mean" }, keep),
      ];
      const before = await computePass({ acts: null, keep });
      const sizeOf = ({ arrays }) => formatted(rms(arrays.contents.data.subarray(0, D)));
      const after = ({ states }) => states["blocks.0"].data.subarray(0, D);
      const farFrom = (other) => percent(rms(after(other).map((x, i) => x - after(before)[i])) / rms(after(before)));
      const changes = [zeros, mean].map(({ top }) => top !== bestLabel());
      return {
        right: changes[0] ? (changes[1] ? 0 : 1) : changes[1] ? 2 : 3,
        part: { classToken: "mean" },
        rows: [unchangedRow(), scoreRow("zeros", zeros), scoreRow("the mean of the cells", mean)],
        because:
          `The root mean square of the learned start is ${sizeOf(before)}, and that of the mean of the cells is ` +
          `${sizeOf(mean)}. After block 0, the class token differs by ${farFrom(zeros)} with the zeros, and by ` +
          `${farFrom(mean)} with the mean.`,
      };
    },
    python: () => `mean = model.trace(x)["tokens.proj"].mean(1, keepdims=True)
def starts_with(start):
    return changed(
        lambda name, v: 0 * v + start if "cls_token" in name else v)
[score(x), score(x, starts_with(0)), score(x, starts_with(mean))]`,
  };

  const equal = {
    id: "equal",
    question: "Does it matter to which tokens a head attends?",
    says: () =>
      `Give the softmax of all heads an infinite temperature. Then each head gives the same weight, 1/${N + first}, to all ` +
      "tokens, and its output is the mean of all values.",
    options: effects,
    run: () =>
      effectOf(
        "equal weights",
        { temperature: Infinity },
        () => " Attention then adds the same vector to every token: every head reads all tokens with the same weight.",
      ),
    python: () => `# A query of zeros has equal scores.
equal = changed(lambda name, v: 0 * v if "query" in name else v)
[score(x), score(x, equal)]`,
  };
  const ofClassToken = [...(hasSquare ? [eye] : []), ...(first ? [start] : [])];
  return [convolutions, positions, ...(tiled ? [pieces] : []), skipping, ...ofClassToken, equal];
}
