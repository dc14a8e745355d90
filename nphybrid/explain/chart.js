// Axes for the charts.
const SVG = "http://www.w3.org/2000/svg";
const svg = (tag, attributes = {}, content = "") => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = content;
  return node;
};

// Draws axes in an <svg>, and redraws the axes when the width of the <svg> changes.
//   ratio                 height / width
//   highest()             the value at the top
//   lowest()              the value at the bottom
//   ticks()               values that get a line and a number
//   count                 the number of steps on the horizontal axis
//   offset                the distance between the edge and the first step, in steps
//   axisName              the text below the horizontal axis
//   strong()              the step whose number is bold
//   content(x, y, edges)  draws between the axes; `edges` are [left, right, upper, lower]
//   touch(step)           is called when the pointer or a key reaches a step
function chart(node, { ratio, highest, lowest = () => 0, ticks, count, offset, axisName, strong, content, touch }) {
  let ends = [0, 1]; // the places of the first and the last step
  const draw = () => {
    const width = node.clientWidth;
    const height = clamp(width * ratio, 230, 360);
    if (!width) return;
    const [left, right, upper, lower] = [40, 12, 12, 44];
    const x = (step) => left + ((step + offset) / (count - 1 + 2 * offset || 1)) * (width - left - right);
    const y = (value) => height - lower - ((value - lowest()) / (highest() - lowest())) * (height - upper - lower);
    ends = [x(0), x(count - 1)];
    node.setAttribute("viewBox", `0 0 ${width} ${height}`);
    node.style.height = `${height}px`;
    node.replaceChildren();
    for (const tick of ticks()) {
      const level = { x1: left, x2: width - right, y1: y(tick), y2: y(tick), stroke: LINE };
      node.append(svg("line", level), svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick));
    }
    for (let step = 0; step < count; step++) {
      const place = { x: x(step), y: height - lower + 18, "text-anchor": "middle" };
      node.append(svg("text", { ...place, class: strong() === step ? "strong" : "" }, step));
    }
    const below = { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" };
    node.append(svg("text", below, axisName));
    content(x, y, [left, width - right, upper, height - lower]);
  };
  new ResizeObserver(draw).observe(node);
  drawWhenVisible(node, draw);
  if (!touch) return;
  const reach = (step) => touch(clamp(step, 0, count - 1));
  onPointer(node, (event) => {
    const place = event.clientX - node.getBoundingClientRect().left;
    reach(Math.round(((place - ends[0]) / (ends[1] - ends[0])) * (count - 1)));
  });
  onArrowKeys(node, (down, right) => reach(strong() + right - down));
}
