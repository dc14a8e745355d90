steps.distance = () => {
  const { distance, uniform } = there.distance;
  const [blocks, heads] = [distance.length, distance[0].length];
  const chart = document.getElementById("distance-chart");
  const top = 1.08 * Math.max(uniform, ...distance.flat()) || 1; // one cell looks nowhere else: 0 pixels
  let dots = [];
  const draw = () => {
    const [width, height] = [chart.clientWidth, Math.min(360, Math.max(240, chart.clientWidth * 0.62))];
    if (!width) return;
    const [left, right, upper, lower] = [38, 12, 12, 44];
    const x = (layer) => left + ((layer + 0.5) / blocks) * (width - left - right);
    const y = (pixels) => height - lower - (pixels / top) * (height - upper - lower);
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    chart.style.height = `${height}px`;
    chart.replaceChildren();
    const step = [1, 2, 5, 10, 20, 50, 100, 200].find((size) => top / size <= 6) || 500;
    for (let tick = 0; tick <= top; tick += step) {
      chart.append(
        svg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), stroke: "#e4dfd4" }),
        svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick),
      );
    }
    for (let layer = 0; layer < blocks; layer++) {
      chart.append(svg("text", { x: x(layer), y: height - lower + 18, "text-anchor": "middle" }, layer));
    }
    chart.append(svg("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, "block"));
    chart.append(
      svg("line", {
        x1: left,
        x2: width - right,
        y1: y(uniform),
        y2: y(uniform),
        stroke: "#5d5952",
        "stroke-dasharray": "5 4",
      }),
    );
    dots = distance.flatMap((row, layer) =>
      row.map((pixels, head) => {
        // Heads of a block stand a little apart, in their order, so that none hides another.
        const apart = ((head - (heads - 1) / 2) / heads) * Math.min(((width - left - right) / blocks) * 0.6, 60);
        return { layer, head, cx: x(layer) + apart, cy: y(pixels) };
      }),
    );
    const here = ({ layer, head }) => layer === chosen.layer && head === chosen.head;
    for (const dot of [...dots.filter((other) => !here(other)), dots.find(here)]) {
      const r = here(dot) ? 7.5 : heads > 6 ? 3.5 : 5;
      const look = {
        r,
        fill: here(dot) ? "#b34a00" : "#00578a",
        stroke: "#ffffff",
        "stroke-width": heads > 6 ? 1 : 1.5,
      };
      chart.append(svg("circle", { cx: dot.cx, cy: dot.cy, ...look, "data-head": `${dot.layer} ${dot.head}` }));
    }
    chart.setAttribute(
      "aria-label",
      `mean attention distance of ${heads} heads in each of ${blocks} blocks; ` +
        `block ${chosen.layer}, head ${chosen.head}: ${distance[chosen.layer][chosen.head]} pixels`,
    );
  };
  new ResizeObserver(draw).observe(chart);
  views.push(draw);
  const nearest = (event) => {
    const box = chart.getBoundingClientRect();
    const far = ({ cx, cy }) => Math.hypot(event.clientX - box.left - cx, event.clientY - box.top - cy);
    const best = dots.reduce((near, dot) => (far(dot) < far(near) ? dot : near));
    if (far(best) < 24) choose({ layer: best.layer, head: best.head });
  };
  chart.addEventListener("pointermove", nearest);
  chart.addEventListener("pointerdown", nearest);
  arrows(chart, (down, right) =>
    choose({
      layer: clamp(chosen.layer + right, 0, blocks - 1),
      head: clamp(chosen.head + down, 0, heads - 1),
    }),
  );
  tell(
    document.getElementById("distance-says"),
    () =>
      `Block ${chosen.layer}, head ${chosen.head} looks ` +
      `<b>${distance[chosen.layer][chosen.head].toFixed(1)} pixels</b> far on average`,
  );
};
