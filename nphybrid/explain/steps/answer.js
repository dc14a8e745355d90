steps.answer = () => {
  const table = document.getElementById("answer-labels");
  const rows = ofPass(() =>
    stepFacts.answer.labels.map(({ label, score, logit }) =>
      labelRow(label, `logit ${formatted(logit, 2)}`, score, label === leader().label),
    ),
  );
  views.push(() => {
    if (table.firstChild !== rows()[0]) table.replaceChildren(...rows());
  });
};
