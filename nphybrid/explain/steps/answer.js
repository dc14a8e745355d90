steps.answer = () => {
  showRows(document.getElementById("answer-labels"), () =>
    stepFacts.answer.labels.map(({ label, score, logit }) =>
      labelRow(label, `logit ${formatted(logit, 2)}`, score, label === leader().label),
    ),
  );
};
