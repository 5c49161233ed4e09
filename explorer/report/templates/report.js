"use strict";
// Draws the figures and lets the reader choose a budget. The fields of the payload are documented in payload.py; all wording
// comes from there or from the templates.
(async () => {
  const PAYLOAD_VERSION = 3;
  const element = (id) => document.getElementById(id);
  const show = (id) => { element(id).hidden = false; };
  if (!("DecompressionStream" in window)) {
    show("old-browser");
    return;
  }

  async function unpacked(id) {
    const packed = await fetch(`data:application/gzip;base64,${element(id).textContent}`);
    return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).text();
  }

  const library = document.createElement("script");
  const [code, data] = await Promise.all([unpacked("plotly"), unpacked("payload")]);
  const page = JSON.parse(data);
  if (page.version !== PAYLOAD_VERSION) {
    show("other-version");
    return;
  }
  library.textContent = code;
  document.head.append(library);
  const chooser = page.chooser;
  const figures = new Map(page.figures.map((each) => [each.name, each]));

  // What the reader chose, kept when a page that follows its sweep reloads.
  const KEY = `explorer ${location.pathname}`;
  let state = { unit: page.units[0].key, scale: "log", label: null, cost: null };
  try { Object.assign(state, JSON.parse(sessionStorage.getItem(KEY) || "{}")); } catch { /* private mode */ }
  if (!page.units.some((unit) => unit.key === state.unit)) state.unit = page.units[0].key;
  function kept() { // a newer page may have more budgets: the same one, or the nearest
    if (state.cost === null) return chooser.start;
    const same = chooser.positions.findIndex((position) => position.label === state.label);
    if (same >= 0) return same;
    const distances = chooser.positions.map((position) => Math.abs(Math.log(position.cost / state.cost)));
    return distances.indexOf(Math.min(...distances));
  }
  const remember = () => { try { sessionStorage.setItem(KEY, JSON.stringify(state)); } catch { /* private mode */ } };

  // Figures come in the light colors; a dark page replaces each.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function themed(figure) {
    let text = JSON.stringify(figure);
    if (dark.matches) for (const [light, other] of Object.entries(page.dark)) text = text.replaceAll(light, other);
    return JSON.parse(text);
  }
  const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const NARROW = 720; // pixels; below, the labels of parallel coordinates collide unless they are slanted
  function fitted(figure, width) {
    if (width >= NARROW || figure.data[0]?.type !== "parcoords") return figure;
    const [lines] = figure.data;
    Object.assign(lines, { labelangle: -40, labelside: "top" });
    Object.assign(lines.labelfont, { size: 11 });
    Object.assign(lines.tickfont, { size: 10 });
    lines.line.showscale = false; // the last axis has the same numbers
    Object.assign(figure.layout.margin, { l: 24, r: 56, t: 96 });
    return figure;
  }
  const isHidden = (id) => element(id).closest("details:not([open])") !== null; // and so has no width
  const draw = (id, figure) => {
    const colored = fitted(themed(figure), element(id).clientWidth);
    return Plotly.react(element(id), colored.data, colored.layout, CONFIG);
  };

  const significant = (value) => Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
  const filled = (template, values) => template.replace(/\{(\w+)\}/g, (_, name) => values[name]);

  // The frontier, in the chosen unit.
  let shown = null; // what the chooser shows: a position of the slider, or a run that was clicked
  function frontier() {
    const unit = page.units.find((each) => each.key === state.unit);
    const figure = structuredClone(figures.get("frontier").figure);
    for (const trace of figure.data) trace.x = trace.meta.x[unit.key];
    const { title_text: title, ...ticks } = unit.axis;
    Object.assign(figure.layout.xaxis, ticks, { type: state.scale });
    figure.layout.xaxis.title.text = title;
    const costs = figure.data.flatMap((trace) => trace.x);
    const [low, high] = [Math.min(...costs), Math.max(...costs)];
    if (high < 1.5 * low) { // one budget: the plans differ by a step or two, which is not to fill the axis
      const range = [low / 2, 2 * high];
      figure.layout.xaxis.range = state.scale === "log" ? range.map(Math.log10) : range;
    }
    if (shown && chooser.positions.length > 1) {
      const line = { color: page.marker_color, width: 1, dash: "dash" };
      figure.layout.shapes = [{ type: "line", x0: shown.x[unit.key], x1: shown.x[unit.key], y0: 0, y1: 1, yref: "paper", line }];
    }
    return draw("frontier", figure);
  }

  // The schedule of the chosen budget.
  function schedule(chosen) {
    const figure = structuredClone(figures.get("schedule").figure);
    const [bars, rate] = figure.data;
    Object.assign(bars, { y: chosen.y, x: chosen.bars.x, base: chosen.bars.base, text: chosen.bars.text, customdata: chosen.bars.customdata });
    bars.marker.color = chosen.bars.color;
    bars.insidetextfont.color = chosen.bars.textcolor;
    rate.x = chooser.times;
    rate.y = (chosen.factors ?? chooser.factors).map((factor) => factor * chosen.learning_rate);
    draw("schedule", figure);

    const cell = (tag, text, column) => {
      const made = document.createElement(tag);
      made.textContent = text;
      made.dataset.title = column;
      made.className = "number";
      return made;
    };
    element("stage-columns").replaceChildren(...chosen.columns.map((title) => cell("th", title, "")));
    element("stage-rows").replaceChildren(...chosen.stages.map((stage) => {
      const row = document.createElement("tr");
      const epochs = significant(stage.epochs * shown.cost);
      row.append(...stage.cells.map((text, place) => cell("td", filled(text, { epochs }), chosen.columns[place])));
      return row;
    }));
  }

  function choice() {
    const chosen = chooser.schedules[shown.schedule];
    const texts = {
      chosen: shown.label,
      basis: shown.basis,
      cost: shown.cost_text,
      "cost-more": shown.other_costs,
      settings: chosen.settings,
      "settings-more": chosen.other_settings,
      "schedule-name": chosen.title,
      command: filled(chooser.command, { file: chosen.file_name, budget: shown.argument }),
    };
    for (const [kind, result] of Object.entries(shown.result)) {
      texts[`expect-${kind}`] = result.value;
      texts[`interval-${kind}`] = result.interval;
    }
    for (const [id, text] of Object.entries(texts)) element(id).textContent = text;
    document.querySelectorAll(".near").forEach((each) => { each.textContent = shown.near; });
    if (started) nearby();
    schedule(chosen);
    return frontier();
  }

  // The figures that follow the chosen budget; nothing to do while the slider moves near the same measured budget.
  let started = false;
  let drawnNear = null;
  async function nearby() {
    if (drawnNear === shown.near) return;
    drawnNear = shown.near;
    for (const { name, by_budget: byBudget } of page.figures) {
      if (!byBudget || isHidden(name)) continue;
      const figure = byBudget[shown.near];
      element(`panel-${name}`).hidden = !figure;
      if (figure) await draw(name, figure);
    }
  }

  function move(index) {
    const { label, cost } = chooser.positions[index];
    Object.assign(state, { label, cost });
    element("budget").value = index;
    element("budget").setAttribute("aria-valuetext", label);
  }

  function atPosition(index) {
    shown = chooser.positions[index];
    move(index);
    remember();
    return choice();
  }

  function atRun(candidate, run) {
    const chosen = chooser.schedules[candidate];
    const near = chooser.positions.findIndex((position) => position.measured && position.label === chosen.budget);
    const position = chooser.positions[near];
    const which = run && run !== candidate ? filled(chooser.rerun, { run, candidate }) : candidate;
    const result = { ...position.result, [chosen.kind]: chosen.result };
    shown = { ...position, basis: filled(chosen.when_clicked, { run: which }), schedule: candidate, result, prediction: null };
    move(near);
    return choice();
  }

  function save(name, text, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // The other figures. Lazy ones take seconds to draw: only when the reader scrolls near, or prints.
  const pause = () => new Promise((resolve) => setTimeout(resolve)); // lets the reader act between two figures
  const others = page.figures.filter((each) => each.figure && each.name !== "frontier" && each.name !== "schedule");
  const seen = new Set();
  for (const { name, figure, lazy } of others) {
    if (!lazy) {
      seen.add(name);
      continue;
    }
    element(name).style.minHeight = `${figure.layout.height}px`;
    const near = () => {
      if (isHidden(name)) return;
      if (!seen.has(name)) draw(name, figure);
      seen.add(name);
    };
    window.addEventListener("beforeprint", near);
    new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && near(), { rootMargin: "600px" })
      .observe(element(name));
  }
  async function rest() {
    drawnNear = null;
    started = true;
    if (chooser) await nearby();
    for (const { name, figure } of others) {
      if (!seen.has(name)) continue;
      if (isHidden(name)) {
        seen.delete(name); // drawn again when it is opened
        continue;
      }
      await pause();
      await draw(name, figure);
    }
  }

  element("unit").value = state.unit;
  element("scale").value = state.scale;
  for (const id of ["unit", "scale"]) {
    element(id).addEventListener("change", (event) => { state[id] = event.target.value; remember(); frontier(); });
  }
  if (chooser) await atPosition(kept()); else await frontier();
  if (chooser) {
    element("budget").addEventListener("input", (event) => atPosition(Number(event.target.value)));
    element("frontier").on("plotly_click", (event) => {
      if (!event.points[0].customdata) return; // a prediction
      const [candidate, run] = event.points[0].customdata;
      atRun(candidate, run);
    });
    element("download").addEventListener("click", () => {
      const chosen = chooser.schedules[shown.schedule];
      const { prediction } = shown;
      const file = prediction ? { ...chosen.file, provenance: { ...chosen.file.provenance, prediction } } : chosen.file;
      save(chosen.file_name, JSON.stringify(file, null, 1), "application/json");
    });
    element("download-space").addEventListener("click", () => save(`${page.name}.yaml`, page.space, "application/yaml"));
    const copy = element("copy");
    const copyText = copy.textContent;
    copy.addEventListener("click", async () => {
      const command = element("command");
      try {
        await navigator.clipboard.writeText(command.textContent);
      } catch { // not allowed, or a page served without encryption, which has no clipboard
        getSelection().selectAllChildren(command);
        if (!document.execCommand("copy")) return; // the command is selected, to be copied by hand
      }
      copy.textContent = copy.dataset.copied;
      setTimeout(() => { copy.textContent = copyText; }, 1500);
    });
  }
  for (const folded of document.querySelectorAll("details")) {
    folded.addEventListener("toggle", () => {
      if (!folded.open || !chooser) return;
      drawnNear = null;
      nearby();
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
