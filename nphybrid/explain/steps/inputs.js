steps.inputs = () => {
  const { stem, stages = [] } = stepFacts;
  let onStem = !stages.length; // whether the chosen map is of the stem; otherwise, it is of the chosen stage
  const state = () => (onStem ? "stem" : stages[chosen.stage].name);
  const channel = () => (onStem ? chosen.channel : stages[chosen.stage].channels[chosen.map]);
  const pick = (isStem, stage) => {
    onStem = isStem;
    choose({ stage, map: Math.min(chosen.map, stages[stage].channels.length - 1) });
  };
  const states = document.getElementById("inputs-states");
  document.getElementById("inputs-maps").hidden = !stem;
  const addState = (name, isOn, press) => states.append(toggle(name, "", isOn, press));
  if (stages.length) addState("stem", () => onStem, () => pick(true, chosen.stage));
  stages.forEach((_, s) => addState(`stage ${s}`, () => !onStem && chosen.stage === s, () => pick(false, s)));
  if (stem) {
    mapTiles(
      document.getElementById("inputs-stem"),
      () => `${convolution().count} channels of the stem; channel ${chosen.channel} is chosen`,
    );
  }
  if (stages.length) {
    const now = () => stages[chosen.stage];
    const count = () => now().channels.length;
    const map = (i) => {
      const { name, shape } = now();
      return heatMap(numbers[name].row(i), shape[0], shape[1]);
    };
    tiles(document.getElementById("inputs-stage"), {
      count,
      across: () => Math.ceil(count() / 2),
      aspect: () => now().shape[1] / now().shape[0],
      tile: map,
      touch: (i) => choose({ map: i }),
      chosenTile: () => chosen.map,
      alt: () => `${count()} channels of stage ${chosen.stage}; channel ${channel()} is chosen`,
    });
  }
  const blank = document.getElementById("inputs-blank");
  const named = () => `${state()}:${channel()}`;
  blank.addEventListener("click", () => act({ blanked: toggled(changes.blanked, named()) }));
  views.push(() => {
    if (!stem) return;
    document.getElementById("inputs-stem").hidden = !onStem;
    document.getElementById("inputs-stage").hidden = onStem;
    const which = `channel ${channel()} of ${onStem ? "the stem" : `stage ${chosen.stage}`}`;
    blank.textContent = changes.blanked.includes(named()) ? `Use ${which} again` : `Blank ${which}`;
  });

  document.getElementById("inputs-class").hidden = !first;
  for (const [start, name] of [
    ["learned", "the learned start"],
    ["zeros", "zeros"],
    ["mean", "the mean of the cells"],
  ]) {
    const pick = () => changes.classToken !== start && act({ classToken: start });
    document.getElementById("inputs-starts").append(toggle(name, "", () => changes.classToken === start, pick));
  }
  for (const [order, name] of [
    ["positions", "Shuffle the positions"],
    ["pieces", "Shuffle the pieces of the picture"],
  ]) {
    if (order === "pieces" && !cellsFit()) continue;
    const pick = () => act({ shuffled: toggled(changes.shuffled, order) });
    document.getElementById("inputs-orders").append(toggle(name, "", () => changes.shuffled.includes(order), pick));
  }
  const says = document.getElementById("inputs-says");
  views.push(() => {
    if (says.textContent !== answerSays()) says.textContent = answerSays();
  });
};
