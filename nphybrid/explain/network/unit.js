// The maps inside the residual unit that the page shows, as nphybrid/explain/unit.py defines it.

const UNIT_MAPS = 8;

// {name: (H, W, C)}
function unitMaps(states, { config, p }) {
  const s = config.used - 1;
  const u = config.plan[s].length - 1;
  const name = `stages.${s}.${u}`;
  const before = s ? `stages.${s - 1}.${config.plan[s - 1].length - 1}` : "stem";
  let shortcut = states[u ? `stages.${s}.${u - 1}` : before];
  let branch = states[`${name}.conv3`];
  if (config.plan[s][u].project) shortcut = states[`${name}.${config.unit === "bottleneck" ? "norm_proj" : "proj"}`];
  if (config.unit === "bottleneck") branch = group_norm(branch, p.stages[s][u].norm3, config.groups, config.gn_eps);
  const [conv1, conv2] = ["conv1", "conv2"].map((part) => states[`${name}.${part}`]);
  return { conv1, conv2, branch, shortcut, sum: states[name] };
}

// Puts the maps into `arrays`.  -> {name: the shown channels}; after an act, the channels `kept` of the untouched pass
function unitFacts(states, network, arrays, kept) {
  const maps = unitMaps(states, network);
  const chosen = (name) => kept?.[name] ?? mostVarying(maps[name]).slice(0, UNIT_MAPS);
  const facts = { conv1: chosen("conv1"), conv2: chosen("conv2"), channels: kept?.channels ?? chosen("sum") };
  for (const [name, map] of Object.entries(maps)) {
    arrays[`unit_${name}`] = channelsOf(map, facts[name] ?? facts.channels);
  }
  return facts;
}
