steps.logit_lens = () => {
  const scores = () => stepFacts.logit_lens.scores;
  const labels = () => stepFacts.answer.labels.map(({ label }) => label);
  const dashes = ["none", "7 3", "2 3", "9 3 2 3", "12 4"];
  const style = (i) => ({ stroke: inks()[i], "stroke-width": i ? 1.75 : 2.75, "stroke-dasharray": dashes[i] });
  const last = scores().length - 1;
  const node = document.getElementById("logit_lens-chart");
  chart(node, {
    ratio: 0.5,
    highest: () => 1,
    ticks: () => [0, 0.25, 0.5, 0.75, 1],
    count: last + 1,
    offset: 0,
    axisName: "number of blocks",
    strong: () => chosen.depth,
    touch: (depth) => choose({ depth }),
    content(x, y, [, , upper, lower]) {
      const now = x(chosen.depth);
      node.append(svg("line", { x1: now, x2: now, y1: upper, y2: lower, stroke: MARK }));
      labels().forEach((_, i) => {
        const points = scores()
          .map((row, depth) => `${x(depth)},${y(row[i])}`)
          .join(" ");
        const dot = { cx: now, cy: y(scores()[chosen.depth][i]), r: 4.5, fill: inks()[i], stroke: "#ffffff" };
        node.append(svg("polyline", { points, fill: "none", ...style(i) }), svg("circle", dot));
      });
      const content = `scores of ${labels().join(", ")} after 0 to ${plural(last, "block")}`;
      node.setAttribute("aria-label", `${content}; a line marks the scores ${afterBlocks(chosen.depth)}`);
    },
  });

  // The bars show the scores at the chosen depth. The bars are also the legend of the lines.
  const bars = document.getElementById("logit_lens-bars");
  const draw = () => {
    const [width, line] = [bars.clientWidth, 26];
    const now = scores()[chosen.depth];
    bars.style.height = `${labels().length * line}px`;
    bars.setAttribute("viewBox", `0 0 ${width} ${labels().length * line}`);
    bars.setAttribute(
      "aria-label",
      labels()
        .map((label, i) => `${label} ${now[i].toFixed(4)}`)
        .join(", "),
    );
    const row = (label, i) => {
      const [y, from, to] = [i * line + line / 2, Math.min(190, 0.45 * width), width - 62];
      const short = label.length > 22 ? `${label.slice(0, 21)}\u2026` : label;
      return [
        svg("line", { x1: 0, x2: 26, y1: y, y2: y, ...style(i) }),
        svg("text", { x: 36, y: y + 4, class: "strong" }, short),
        svg("rect", { x: from, y: y - 6, height: 12, width: Math.max(1, now[i] * (to - from)), fill: inks()[i] }),
        svg("text", { x: width, y: y + 4, "text-anchor": "end" }, now[i].toFixed(4)),
      ];
    };
    bars.replaceChildren(...labels().flatMap(row));
  };
  new ResizeObserver(draw).observe(bars);
  drawWhenVisible(bars, draw);

  // A label comes from a file, so the page inserts the label as text and not as HTML.
  const says = document.getElementById("logit_lens-says");
  const [when, best, rest] = [element("span"), element("b"), element("span")];
  says.append(when, best, rest);
  views.push(() => {
    const { label, score } = stepFacts.logit_lens.leaders[chosen.depth];
    const readsPicture = chosen.depth || stepFacts.rollout.reads !== "token" || shownChanges.classToken === "mean";
    const classes = plural(stepFacts.answer.classes, "label");
    const parts = [
      `${capitalized(afterBlocks(chosen.depth))}, the best of ${classes} is `,
      label,
      `, with a score of ${score.toFixed(4)}${readsPicture ? "" : ". Every picture has these scores here"}`,
    ];
    [when, best, rest].forEach((span, i) => {
      if (span.textContent !== parts[i]) span.textContent = parts[i];
    });
  });
};
