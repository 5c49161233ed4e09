"use strict";
(async () => {
  const element = (id) => document.getElementById(id);
  const trouble = (text) => { element("trouble").hidden = false; element("trouble").textContent = text; };
  if (!("DecompressionStream" in window)) {
    trouble("This browser is too old to draw the figures (it cannot decompress); the tables below are complete.");
    return;
  }

  async function unpacked(id) {
    const packed = await fetch(`data:application/gzip;base64,${element(id).textContent}`);
    return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).text();
  }

  const library = document.createElement("script");
  const [code, data] = await Promise.all([unpacked("plotly"), unpacked("payload")]);
  library.textContent = code;
  document.head.append(library);
  const page = JSON.parse(data);
  const chooser = page.chooser;

  // What the reader chose, kept over the reloads of a page that is being watched.
  const KEY = `explorer ${location.pathname}`;
  let state = { unit: page.units[0].key, scale: "log", at: chooser ? chooser.start : 0 };
  try { Object.assign(state, JSON.parse(sessionStorage.getItem(KEY) || "{}")); } catch { /* private mode */ }
  if (!page.units.some((unit) => unit.key === state.unit)) state.unit = page.units[0].key;
  if (chooser) state.at = Math.min(state.at, chooser.positions.length - 1);
  const remember = () => { try { sessionStorage.setItem(KEY, JSON.stringify(state)); } catch { /* private mode */ } };

  // Figures are made in the light colours; a dark page replaces each.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function themed(figure) {
    let text = JSON.stringify(figure);
    if (dark.matches) for (const [light, other] of Object.entries(page.dark)) text = text.replaceAll(light, other);
    return JSON.parse(text);
  }
  const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const draw = (id, figure) => {
    const shown = themed(figure);
    return Plotly.react(element(id), shown.data, shown.layout, CONFIG);
  };

  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}%`;
  const significant = (value, digits = 3) => Number(value.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits });
  const small = (value) => (value >= 0.01 || value === 0 ? significant(value, 3) : value.toExponential(1));
  const spread = ([, low, high]) => (low === null ? "no interval: one seed" : `95 % interval ${percent(low)} to ${percent(high)}`);

  // The frontier, in the chosen unit.
  let shown = null; // what the chooser shows: a position of the slider, or a run that was clicked
  function frontier() {
    const unit = page.units.find((each) => each.key === state.unit);
    const figure = structuredClone(page.figures.frontier);
    for (const trace of figure.data) trace.x = trace.meta.x[unit.key];
    const { title_text: title, ...ticks } = unit.axis;
    Object.assign(figure.layout.xaxis, ticks, { type: state.scale });
    figure.layout.xaxis.title.text = title;
    if (shown) {
      const line = { color: page.ink, width: 1, dash: "dash" };
      figure.layout.shapes = [{ type: "line", x0: shown.x[unit.key], x1: shown.x[unit.key], y0: 0, y1: 1, yref: "paper", line }];
    }
    return draw("frontier", figure);
  }

  // The schedule of the chosen budget.
  function cell(row, text, number = true) {
    const made = row.insertCell();
    made.textContent = text;
    if (number) made.className = "number";
  }

  function schedule() {
    const chosen = chooser.schedules[shown.schedule];
    const figure = structuredClone(page.figures.schedule);
    const [bars, rate] = figure.data;
    Object.assign(bars, { y: chosen.y, x: chosen.bars.x, base: chosen.bars.base, text: chosen.bars.text, customdata: chosen.bars.customdata });
    bars.marker.color = chosen.bars.color;
    bars.insidetextfont.color = chosen.bars.textcolor;
    rate.x = chooser.times;
    rate.y = chooser.factors.map((factor) => factor * chosen.learning_rate);
    draw("schedule", figure);

    const columns = ["stage", ...chosen.axes, "share of the budget", "epochs", "cost of a step", "learning rate"];
    element("stage-columns").replaceChildren(...columns.map((name) => {
      const head = document.createElement("th");
      head.textContent = name;
      head.className = "number";
      return head;
    }));
    const body = element("stage-rows");
    body.replaceChildren();
    chosen.stages.forEach((stage, number) => {
      const row = body.insertRow();
      cell(row, number + 1);
      stage.rates.forEach((value) => cell(row, value));
      cell(row, percent(stage.share, 0));
      cell(row, significant(stage.epochs * shown.cost, 3));
      cell(row, percent(stage.step, 0));
      cell(row, stage.factors.map((factor) => small(factor * chosen.learning_rate)).join(" > "));
    });
  }

  const fileName = (chosen) => `${page.name}-${chosen.id}.json`;

  function choice() {
    const chosen = chooser.schedules[shown.schedule];
    element("chosen").textContent = shown.label;
    element("basis").textContent = shown.basis;
    for (const kind of ["staged", "baseline"]) {
      const expected = shown.expected[kind];
      const known = expected && expected[0] !== null;
      element(`expect-${kind}`).textContent = known ? percent(expected[0]) : "not measured";
      element(`spread-${kind}`).textContent = known ? spread(expected) : "";
    }
    element("cost").textContent = `${significant(100 * shown.cost)}% of full training`;
    element("cost-more").textContent = page.units.slice(1)
      .map((unit) => (unit.key === "flops" ? `${shown.x.flops.toExponential(2)} FLOPs`
        : unit.key === "seconds" ? `${significant(shown.x.seconds)} device-seconds` : `${significant(shown.x[unit.key])} in money`)).join(", ");
    element("settings").textContent = `learning rate ${small(chosen.learning_rate)}, batch ${chosen.batch_size}`;
    element("settings-more").textContent = chosen.staging;
    const kind = chosen.kind === "staged" ? "staged schedule" : "the full model throughout";
    element("schedule-name").textContent = `${chosen.id}: ${kind}`;
    const budget = shown.label.includes(" ") ? `'${shown.label}'` : shown.label;
    element("command").textContent = `explorer train --schedule ${fileName(chosen)} --task ${page.name}.yaml --budget ${budget}`;
    document.querySelectorAll(".near").forEach((each) => { each.textContent = shown.near; });
    if (started) nearby();
    schedule();
    return frontier();
  }

  // The figures further down that follow the chosen budget; nothing to do while it moves between the same two.
  let started = false;
  let drawnNear = null;
  async function nearby() {
    if (drawnNear === shown.near) return;
    drawnNear = shown.near;
    for (const [id, figures] of Object.entries(page.byBudget)) {
      const figure = figures[shown.near];
      element(id).hidden = !figure;
      if (figure) await draw(id, figure);
    }
  }

  function atPosition(index) {
    const position = chooser.positions[index];
    const chosen = chooser.schedules[position.schedule];
    const seeds = chosen.seeds > 1 ? `mean of ${chosen.seeds} fresh seeds` : "one seed";
    const better = chosen.kind === "staged" ? "" : " Here the full model was the better choice on validation data.";
    const basis = position.measured
      ? `Measured at this budget, ${seeds}.${better}`
      : `Interpolated between measured budgets (monotone cubic over the logarithm of cost through means that do not fall); `
        + `the schedule is the one found at ${position.near}.${better}`;
    shown = { ...position, basis };
    state.at = index;
    element("budget").value = index;
    element("budget").setAttribute("aria-valuetext", position.label);
    remember();
    return choice();
  }

  function atRun(candidate, run) {
    const chosen = chooser.schedules[candidate];
    const near = chooser.positions.findIndex((position) => position.measured && position.label === chosen.budget);
    const position = chooser.positions[near];
    state.at = near;
    element("budget").value = near;
    const which = run && run !== candidate ? `${run} (a rerun of ${candidate})` : candidate;
    const basis = `The point you clicked: ${which}; its mean over ${chosen.seeds} seed${chosen.seeds > 1 ? "s" : ""}, `
      + `beside the best of the other kind at ${chosen.budget}.`;
    shown = { ...position, basis, schedule: candidate, expected: { ...position.expected, [chosen.kind]: chosen.test } };
    return choice();
  }

  function save(name, text, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const pause = () => new Promise((resolve) => setTimeout(resolve)); // the reader may act between two figures
  async function rest() {
    drawnNear = null;
    started = true;
    if (chooser) await nearby();
    for (const [id, figure] of Object.entries(page.figures)) {
      if (id === "frontier" || id === "schedule" || id === "parallel") continue;
      await pause();
      await draw(id, figure);
    }
    if (parallelSeen) await draw("parallel", page.figures.parallel);
  }

  // Parallel coordinates are drawn by WebGL, for seconds where there is no graphics card: only when the reader comes near.
  let parallelSeen = false;
  if (page.figures.parallel) {
    element("parallel").style.minHeight = `${page.figures.parallel.layout.height}px`;
    const near = () => {
      if (!parallelSeen) draw("parallel", page.figures.parallel);
      parallelSeen = true;
    };
    window.addEventListener("beforeprint", near);
    new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && near(), { rootMargin: "600px" })
      .observe(element("parallel"));
  }

  element("unit").value = state.unit;
  element("scale").value = state.scale;
  for (const id of ["unit", "scale"]) {
    element(id).addEventListener("change", (event) => { state[id] = event.target.value; remember(); frontier(); });
  }
  if (chooser) await atPosition(state.at); else await frontier();
  if (chooser) {
    element("budget").addEventListener("input", (event) => atPosition(Number(event.target.value)));
    element("frontier").on("plotly_click", (event) => {
      const [candidate, run] = event.points[0].customdata;
      atRun(candidate, run);
    });
    element("download").addEventListener("click", () => {
      const chosen = chooser.schedules[shown.schedule];
      save(fileName(chosen), JSON.stringify(chosen.file, null, 1), "application/json");
    });
    element("download-space").addEventListener("click", () => save(`${page.name}.yaml`, page.space, "application/yaml"));
    element("copy").addEventListener("click", async () => {
      await navigator.clipboard.writeText(element("command").textContent);
      element("copy").textContent = "Copied";
      setTimeout(() => { element("copy").textContent = "Copy the command"; }, 1500);
    });
  }
  dark.addEventListener("change", async () => { await (chooser ? choice() : frontier()); await rest(); });
  await pause();
  performance.mark("ready");
  await rest();
  if (page.watch) {
    setInterval(() => {
      const stamp = document.createElement("script"); // a page that was opened as a file cannot fetch
      stamp.src = `updated.js?${Date.now()}`;
      stamp.onload = () => { stamp.remove(); if (window.explorerUpdated !== page.watch.stamp) location.reload(); };
      document.head.append(stamp);
    }, 1000 * page.watch.seconds);
  }
  performance.mark("drawn");
  document.body.dataset.drawn = "yes";
})();
