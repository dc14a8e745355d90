steps.answer = () => {
  const table = document.getElementById("answer-labels");
  const rows = ofPass(() =>
    stepFacts.answer.labels.map(({ label, score, logit }, i) =>
      labelRow(label, `logit ${formatted(logit, 2)}`, score, i === 0),
    ),
  );
  views.push(() => {
    if (table.firstChild !== rows()[0]) table.replaceChildren(...rows());
  });
};
