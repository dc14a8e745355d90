steps.answer = () => {
  const table = document.getElementById("answer-labels");
  stepFacts.answer.labels.forEach(({ label, score, logit }, i) => {
    table.append(labelRow(label, `logit ${formatted(logit, 2)}`, score, i === 0));
  });
};
