steps.answer = () => {
  const table = document.getElementById("answer-labels");
  stepFacts.answer.labels.forEach(({ label, score, logit }, i) => {
    const bar = element("i", { style: `width: ${Math.max(0.4, 100 * score)}%` });
    const row = [
      element("b", {}, label),
      element("span", {}, `logit ${formatted(logit, 2)}`),
      element("span", {}, score.toFixed(4)),
      element("div", {}, bar),
    ];
    table.append(element("div", { class: i ? "answer" : "answer best" }, ...row));
  });
};
