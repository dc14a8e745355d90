steps.road = () => {
  const { scores, leaders } = there.road;
  const labels = there.answer.labels.map(({ label }) => label);
  const inks = facts.colours.categories.map((hex) => `#${hex}`);
  const dashes = ["none", "7 3", "2 3", "9 3 2 3", "12 4"];
  const last = scores.length - 1;
  const chart = document.getElementById("road-chart");
  const bars = document.getElementById("road-bars");
  let x;

  const draw = () => {
    const [width, height] = [chart.clientWidth, Math.min(300, Math.max(220, chart.clientWidth * 0.5))];
    if (!width) return;
    const [left, right, upper, lower] = [38, 12, 10, 42];
    x = (depth) => left + (depth / last) * (width - left - right);
    const y = (score) => height - lower - score * (height - upper - lower);
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    chart.style.height = `${height}px`;
    chart.replaceChildren();
    for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
      chart.append(
        svg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), stroke: "#e4dfd4" }),
        svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick),
      );
    }
    for (let depth = 0; depth <= last; depth++) {
      chart.append(
        svg(
          "text",
          {
            x: x(depth),
            y: height - lower + 18,
            "text-anchor": "middle",
            class: depth === chosen.depth ? "strong" : "",
          },
          depth,
        ),
      );
    }
    chart.append(
      svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "blocks behind it"),
    );
    chart.append(
      svg("line", { x1: x(chosen.depth), x2: x(chosen.depth), y1: upper, y2: height - lower, stroke: "#b34a00" }),
    );
    labels.forEach((_, i) => {
      chart.append(
        svg("polyline", {
          points: scores.map((row, depth) => `${x(depth)},${y(row[i])}`).join(" "),
          fill: "none",
          stroke: inks[i],
          "stroke-width": i ? 1.75 : 2.75,
          "stroke-dasharray": dashes[i],
        }),
      );
      chart.append(
        svg("circle", {
          cx: x(chosen.depth),
          cy: y(scores[chosen.depth][i]),
          r: 4.5,
          fill: inks[i],
          stroke: "#ffffff",
        }),
      );
    });
    chart.setAttribute(
      "aria-label",
      `scores of ${labels.join(", ")} after 0 to ${last} blocks; ${chosen.depth} are chosen`,
    );
    rows();
  };

  // The same labels as bars, which are the legend of the lines, too.
  const rows = () => {
    const [width, line] = [bars.clientWidth, 26];
    bars.style.height = `${labels.length * line}px`;
    bars.setAttribute("viewBox", `0 0 ${width} ${labels.length * line}`);
    bars.setAttribute(
      "aria-label",
      labels.map((label, i) => `${label} ${scores[chosen.depth][i].toFixed(4)}`).join(", "),
    );
    bars.replaceChildren(
      ...labels.flatMap((label, i) => {
        const [middle, from, to] = [i * line + line / 2, Math.min(190, 0.45 * width), width - 62];
        const short = label.length > 22 ? `${label.slice(0, 21)}\u2026` : label;
        return [
          svg("line", {
            x1: 0,
            x2: 26,
            y1: middle,
            y2: middle,
            stroke: inks[i],
            "stroke-width": i ? 1.75 : 2.75,
            "stroke-dasharray": dashes[i],
          }),
          svg("text", { x: 36, y: middle + 4, class: "strong" }, short),
          svg("rect", {
            x: from,
            y: middle - 6,
            height: 12,
            width: Math.max(1, scores[chosen.depth][i] * (to - from)),
            fill: inks[i],
          }),
          svg("text", { x: width, y: middle + 4, "text-anchor": "end" }, scores[chosen.depth][i].toFixed(4)),
        ];
      }),
    );
  };
  new ResizeObserver(draw).observe(chart);
  views.push(draw);
  const point = (event) => {
    const place = event.clientX - chart.getBoundingClientRect().left;
    choose({ depth: clamp(Math.round(((place - x(0)) / (x(last) - x(0))) * last), 0, last) });
  };
  chart.addEventListener("pointermove", point);
  chart.addEventListener("pointerdown", point);
  arrows(chart, (down, right) => choose({ depth: clamp(chosen.depth + right - down, 0, last) }));
  const says = document.getElementById("road-says");
  views.push(() => {
    const { label, score } = leaders[chosen.depth];
    const when = chosen.depth === 0 ? "Before the first block" : `After block ${chosen.depth - 1}`;
    says.replaceChildren(
      `${when} the best of ${there.answer.classes.toLocaleString("en")} labels is `,
      element("b", {}, label),
      `, with ${score.toFixed(4)}`,
    );
  });
};
