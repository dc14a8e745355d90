steps.differences = () => {
  const table = document.getElementById("differences-bars");
  const rows = mainStates().map((name) => {
    const [number, bar] = [element("span"), element("i")];
    table.append(element("b", { "data-state": name }, capitalized(stateSays(name))), element("div", {}, bar), number);
    return { name, number, bar };
  });
  views.push(() => {
    const most = Math.max(...rows.map(({ name }) => differences[name] ?? 0), 1);
    document.getElementById("differences-most").textContent = percent(most);
    for (const { name, number, bar } of rows) {
      const far = differences[name] ?? 0;
      number.textContent = percent(far);
      bar.style.width = `${(100 * far) / most}%`;
    }
  });
  showText(document.getElementById("differences-says"), () => {
    const begin = rows.find(({ name }) => differences[name] > 0);
    if (!begin) return "Nothing is changed. Switch off a head, hide a cell or paint a pixel to see its reach.";
    const far = percent(differences.logits);
    const stays = leader().label === untouched()[0].label;
    const effect = stays ? "the best label stays" : "the best label changes";
    return `The first state that differs is ${stateSays(begin.name)}. The logits differ by <b>${far}</b>, and ${effect}`;
  });
  showDifferences();
};
