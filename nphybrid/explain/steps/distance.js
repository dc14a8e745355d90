steps.distance = () => {
  const { uniform } = stepFacts.distance;
  const distance = () => stepFacts.distance.distance;
  const [blocks, heads] = [distance().length, distance()[0].length];
  const node = document.getElementById("distance-chart");
  // The axis goes from the shortest to the longest distance. With a single cell, every distance is 0.
  const all = () => [uniform, ...distance().flat()];
  const range = () => Math.max(...all()) - Math.min(...all()) || 1;
  const step = () => [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200].find((size) => range() / size <= 6) || 500;
  const lowest = () => step() * Math.floor(Math.min(...all()) / step());
  const highest = () => Math.max(...all()) + range() / 9;
  const ticksBelow = () => Math.floor((highest() - lowest()) / step());
  let dots = [];
  chart(node, {
    ratio: 0.62,
    highest,
    lowest,
    ticks: () => Array.from({ length: ticksBelow() + 1 }, (_, i) => Number((lowest() + i * step()).toFixed(1))),
    count: blocks,
    offset: 0.5,
    axisName: "block",
    strong: () => chosen.layer,
    content(x, y, [left, right]) {
      const even = { x1: left, x2: right, y1: y(uniform), y2: y(uniform), stroke: MUTED, "stroke-dasharray": "5 4" };
      node.append(svg("line", { ...even, class: "uniform" }));
      // The dots of a block are side by side, in the order of the heads, so that no dot hides another dot.
      const apart = Math.min(((right - left) / blocks) * 0.6, 60) / heads;
      dots = distance().flatMap((row, layer) =>
        row.map((pixels, head) => ({ layer, head, cx: x(layer) + (head - (heads - 1) / 2) * apart, cy: y(pixels) })),
      );
      const here = ({ layer, head }) => layer === chosen.layer && head === chosen.head;
      for (const dot of [...dots.filter((other) => !here(other)), dots.find(here)]) {
        const r = here(dot) ? 7.5 : heads > 6 ? 3.5 : 5;
        const style = { r, fill: here(dot) ? MARK : ACCENT, stroke: "#ffffff", "stroke-width": heads > 6 ? 1 : 1.5 };
        node.append(svg("circle", { cx: dot.cx, cy: dot.cy, ...style, "data-head": `${dot.layer} ${dot.head}` }));
        // The number of the head, if there is room for two digits.
        const above = { x: dot.cx, y: dot.cy - r - 4, "text-anchor": "middle" };
        if (apart >= 15) node.append(svg("text", above, dot.head));
      }
      const pixels = Number(distance()[chosen.layer][chosen.head].toFixed(2));
      const current = `block ${chosen.layer}, head ${chosen.head}: ${pixels} pixels`;
      node.setAttribute("aria-label", `mean distance of ${heads} heads in each of ${blocks} blocks; ${current}`);
    },
  });
  onPointer(node, (event) => {
    const box = node.getBoundingClientRect();
    const away = ({ cx, cy }) => Math.hypot(event.clientX - box.left - cx, event.clientY - box.top - cy);
    const hit = dots.reduce((nearest, dot) => (away(dot) < away(nearest) ? dot : nearest));
    choose({ layer: hit.layer, head: hit.head });
  });
  // The keys Left and Right change the head. The keys Up and Down change the block.
  onArrowKeys(node, (down, right) => {
    const next = clamp(chosen.layer * heads + chosen.head + right + down * heads, 0, blocks * heads - 1);
    choose({ layer: Math.floor(next / heads), head: next % heads });
  });
  const isOff = (layer, head) => {
    const { factors, skipped } = stepFacts.weight;
    return skipped?.includes(layer) || factors?.[layer][head] === 0;
  };
  // Whether a head is far from uniform attention. With a single cell, every distance is 0.
  showText(document.getElementById("distance-far"), () => {
    const on = distance().flatMap((row, layer) => row.filter((_, head) => !isOff(layer, head)));
    if (!uniform || !on.length) return "";
    const [least, most] = [Math.min(...on), Math.max(...on)].map((pixels) => pixels / uniform);
    const verdict = least > 0.75 && most < 1.25 ? ", so no head is far from the line" : "";
    return `For this picture, the heads have ${percent(least)} to ${percent(most)} of its distance${verdict}.`;
  });
  showText(document.getElementById("distance-says"), () => {
    const head = `Block ${chosen.layer}, head ${chosen.head}`;
    if (isOff(chosen.layer, chosen.head)) return `${head} is off, so it has no distance`;
    const pixels = distance()[chosen.layer][chosen.head];
    const share = uniform ? `, ${percent(pixels / uniform)} of the distance of uniform attention` : "";
    return `${head}: mean distance <b>${pixels.toFixed(1)} pixels</b>${share}`;
  });
};
