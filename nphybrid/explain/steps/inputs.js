steps.inputs = () => {
  const maps = [...(stepFacts.stem ? ["stem"] : []), ...(stepFacts.stages ?? []).map(({ name }) => name)];
  let state = maps.at(-1);
  const stage = () => stepFacts.stages.findIndex(({ name }) => name === state);
  const shownStage = () => Math.max(stage(), 0);
  const channel = () => (state === "stem" ? chosen.channel : stepFacts.stages[stage()].channels[chosen.map]);
  const title = (name, i) => (name === "stem" ? "stem" : `stage ${i - (maps[0] === "stem" ? 1 : 0)}`);

  document.getElementById("inputs-maps").hidden = !maps.length;
  maps.forEach((name, i) => {
    const pick = () => {
      state = name;
      redraw();
    };
    document.getElementById("inputs-states").append(toggle(title(name, i), "", () => state === name, pick));
  });
  if (maps.includes("stem")) {
    const { count, rows, columns, small } = convolution();
    const pictures = ofPass(() => Array.from({ length: count }, (_, i) => small(i)));
    tiles(document.getElementById("inputs-stem"), {
      count,
      across: Math.ceil(Math.sqrt(count)),
      aspect: columns / rows,
      tile: (i) => pictures()[i],
      touch: (i) => choose({ channel: i }),
      chosenTile: () => chosen.channel,
      alt: () => `${count} channels of the stem; channel ${chosen.channel} is chosen`,
    });
  }
  if (stepFacts.stages) {
    const { channels } = stepFacts.stages[0];
    const map = (i) => {
      const { name, shape } = stepFacts.stages[shownStage()];
      return heatMap(numbers[name].row(i), shape[0], shape[1]);
    };
    tiles(document.getElementById("inputs-stage"), {
      count: channels.length,
      across: Math.ceil(channels.length / 2),
      tile: map,
      touch: (i) => choose({ map: i }),
      chosenTile: () => chosen.map,
      alt: () => `${channels.length} channels of stage ${shownStage()}; channel ${channel()} is chosen`,
    });
  }
  const blank = document.getElementById("inputs-blank");
  const named = () => `${state}:${channel()}`;
  blank.addEventListener("click", () => act({ blanked: toggled(changes.blanked, named()) }));
  views.push(() => {
    if (!maps.length) return;
    document.getElementById("inputs-stem").hidden = state !== "stem";
    document.getElementById("inputs-stage").hidden = state === "stem";
    blank.textContent = `Blank channel ${channel()} of ${title(state, maps.indexOf(state))}`;
    blank.setAttribute("aria-pressed", String(changes.blanked.includes(named())));
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
    const pick = () => act({ shuffled: toggled(changes.shuffled, order) });
    document.getElementById("inputs-orders").append(toggle(name, "", () => changes.shuffled.includes(order), pick));
  }
};
