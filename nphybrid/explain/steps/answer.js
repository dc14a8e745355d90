steps.answer = () => {
  showRows(document.getElementById("answer-labels"), () =>
    shownLabels().map(({ label, score, logit }) =>
      labelRow(label, `logit ${formatted(logit, 2)}`, score, label === leader().label),
    ),
  );
};
