steps.answer = () => {
  const table = document.getElementById("answer-labels");
  there.answer.labels.forEach(({ label, score, logit }, i) => {
    const bar = element("i", { style: `width: ${Math.max(0.4, 100 * score)}%` });
    const told = [element("b", {}, label), element("span", {}, `logit ${shown(logit, 2)}`)];
    const row = [...told, element("span", {}, score.toFixed(4)), element("div", {}, bar)];
    table.append(element("div", { class: i ? "answer" : "answer best" }, ...row));
  });
};
