"use strict";
(() => {
  const data = JSON.parse(document.getElementById("payload").textContent);
  const byId = (id) => document.getElementById(id);
  const records = new Map(data.records.map((r) => [r.id, r]));
  const rows = data.rows;

  const make = (tag, text, attributes = {}) => {
    const node = document.createElement(tag);
    if (text !== undefined && text !== null) node.textContent = String(text);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  // Plotly reads a few HTML tags and entities in labels; names must not be read so.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  /* ---- the table: sort and filter ---- */
  const table = byId("candidates");
  const state = { column: -1, down: false, engines: new Set(), precisions: new Set() };
  const lines = table ? [...table.tBodies[0].rows] : [];
  const heads = table ? [...table.tHead.rows[0].cells].filter((th) => th.querySelector("button")) : [];

  function compare(a, b) {
    const x = a.cells[state.column].dataset.sort, y = b.cells[state.column].dataset.sort;
    const none = (v) => v === undefined || v === "";
    if (none(x) || none(y)) return none(x) - none(y);
    const order = Number.isNaN(Number(x)) || Number.isNaN(Number(y)) ? x.localeCompare(y) : Number(x) - Number(y);
    return state.down ? -order : order;
  }
  function sortBy(column, down) {
    Object.assign(state, { column, down });
    heads.forEach((th, i) => th.setAttribute("aria-sort", i !== column ? "none" : down ? "descending" : "ascending"));
    const original = (line) => Number(line.dataset.row);
    const ordered = [...lines].sort((a, b) => (column < 0 ? 0 : compare(a, b)) || original(a) - original(b));
    table.tBodies[0].append(...ordered);
  }
  function filter() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const line of lines) {
      const row = rows[Number(line.dataset.row)];
      const fits = words.every((w) => line.dataset.words.includes(w))
        && (!state.engines.size || state.engines.has(row.engine))
        && (!state.precisions.size || state.precisions.has(row.precision))
        && (!byId("measured").checked || row.figures.throughput !== undefined);
      line.hidden = !fits;
      shown += fits;
    }
    byId("count").textContent = `${shown} of ${lines.length} shown`;
    drawSpeed();
  }
  function toggles(name, chosen) {
    const values = [...new Set(rows.map((r) => r[name]).filter(Boolean))];
    if (values.length < 2 || values.length > 12) return;
    for (const value of values) {
      const button = make("button", value, { type: "button", class: "toggle", "aria-pressed": "false" });
      button.addEventListener("click", () => {
        chosen.has(value) ? chosen.delete(value) : chosen.add(value);
        button.setAttribute("aria-pressed", chosen.has(value));
        filter();
      });
      byId("chips").append(button);
    }
  }
  function startTable() {
    if (!table) return;
    document.querySelectorAll(".controls").forEach((c) => { c.hidden = false; });
    heads.forEach((th, i) => {
      const label = th.textContent;
      th.querySelector("button").addEventListener("click", () => {
        const numbers = lines.some((l) => l.cells[i].dataset.sort && !Number.isNaN(Number(l.cells[i].dataset.sort)));
        sortBy(i, state.column === i ? !state.down : numbers && !/^p\d|latency/.test(label));
      });
      byId("sort").append(make("option", `sort by ${label}`, { value: String(i) }));
    });
    byId("sort").addEventListener("change", (e) => heads[Number(e.target.value)].querySelector("button").click());
    toggles("engine", state.engines);
    toggles("precision", state.precisions);
    byId("filter").addEventListener("input", filter);
    byId("measured").addEventListener("change", filter);
  }

  /* ---- the drawer: raw records ---- */
  const drawer = byId("drawer");
  const pairs = (object) => {
    const made = make("table", null, { class: "pairs" });
    for (const [name, value] of Object.entries(object)) {
      if (value === null || value === undefined || value === "") continue;
      const line = make("tr");
      line.append(make("th", name), make("td", typeof value === "object" ? JSON.stringify(value) : value));
      made.append(line);
    }
    return made;
  };
  const copyButton = (text) => {
    const button = make("button", "copy", { type: "button" });
    button.addEventListener("click", () => copy(text, button));
    return button;
  };
  function copy(text, button) {
    const done = () => { button.textContent = "copied"; setTimeout(() => { button.textContent = "copy"; }, 1500); };
    const byHand = () => {
      const area = make("textarea", text);
      (drawer.open ? drawer : document.body).append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      done();
    };
    if (navigator.clipboard && window.isSecureContext) navigator.clipboard.writeText(text).then(done, byHand);
    else byHand();
  }
  const whole = (record) => ({ ...record, texts: undefined, environment: data.environments[record.environment] });
  function recordView(record, open) {
    const box = make("details");
    box.open = open;
    const title = make("summary");
    const of = [record.subject.engine, record.subject.precision, record.conditions.batch ? `batch ${record.conditions.batch}` : "", record.conditions.scenario].filter(Boolean).join(" · ");
    title.append(make("strong", record.kind), make("span", of));
    if (record.label) title.append(make("span", record.label, { class: `chip ${record.label === "stable" ? "good" : "warn"}` }));
    if (record.status !== "ok") title.append(make("span", record.status, { class: "chip bad" }));
    box.append(title);
    box.append(pairs({ id: record.id, reason: record.reason, created: record.created, warnings: record.warnings.join("; ") || null }));
    box.append(make("h3", "Figures"), pairs(record.texts));
    if (record.raw) box.append(make("h3", "Raw values"), pairs(record.raw));
    box.append(make("h3", "Conditions"), pairs(record.conditions));
    box.append(make("h3", "The record as it stands in records.jsonl"));
    const text = JSON.stringify(whole(record), null, 2);
    box.append(copyButton(text), make("pre", text));
    return box;
  }
  function show(title, ids, extra) {
    byId("drawer-title").textContent = title;
    const body = byId("drawer-body");
    body.replaceChildren();
    if (extra) body.append(...extra);
    const found = [...new Set(ids)].map((id) => records.get(id)).filter(Boolean);
    found.forEach((r) => body.append(recordView(r, found.length === 1)));
    if (!found.length) body.append(make("p", "No record stands behind this.", { class: "empty" }));
    if (!drawer.open) drawer.showModal();
    drawer.scrollTop = 0;
  }
  function showRow(row) {
    const extra = [];
    if (row.reason) extra.push(make("p", `${row.status}: ${row.reason}`));
    if (row.warnings.length) extra.push(make("p", row.warnings.join("; "), { class: "hint" }));
    extra.push(make("h3", "Measure this row again"));
    if (row.command) {
      const box = make("div", null, { class: "command" });
      box.append(make("code", row.command), copyButton(row.command));
      extra.push(box);
    } else extra.push(make("p", "There is no command for this row alone.", { class: "empty" }));
    extra.push(make("h3", "Records behind it"));
    show(row.title, row.records, extra);
  }
  function fromHash() {
    const id = decodeURIComponent(location.hash.slice(1)).replace(/^record-/, "");
    if (location.hash.startsWith("#record-") && records.has(id)) show(`record ${id}`, [id]);
  }
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    if (target.closest("sup a")) return;
    const copying = target.closest("[data-copy]");
    if (copying) return copy(byId(copying.dataset.copy).textContent, copying);
    const button = target.closest("button[data-row]");
    if (button) return showRow(rows[Number(button.dataset.row)]);
    const cell = target.closest("[data-record]");
    if (cell && cell.dataset.record) {
      event.preventDefault();
      show(cell.dataset.label || `record ${cell.dataset.record}`, [cell.dataset.record]);
    }
  });
  byId("drawer-close").addEventListener("click", () => drawer.close());
  drawer.addEventListener("click", (event) => { if (event.target === drawer) drawer.close(); });
  window.addEventListener("hashchange", fromHash);

  /* ---- plots ---- */
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const engines = [...new Set(rows.map((r) => r.engine))];
  const precisions = [...new Set(rows.map((r) => r.precision))];
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
  const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "cross", "x"];
  const color = (row) => css(`--c${(Math.max(0, engines.indexOf(row.engine)) % 8) + 1}`);
  const dash = (row) => DASHES[Math.max(0, precisions.indexOf(row.precision)) % DASHES.length];
  const symbol = (row) => SYMBOLS[Math.max(0, precisions.indexOf(row.precision)) % SYMBOLS.length];
  const measured = () => rows.filter((r) => r.figures.throughput && !(lines[r.place] && lines[r.place].hidden));

  function layout(x, y, more = {}) {
    const axis = (title, extra) => ({
      title: { text: title, font: { size: 12, color: css("--soft") }, standoff: 8 }, automargin: true, gridcolor: css("--grid"),
      zerolinecolor: css("--line"), linecolor: css("--line"), tickfont: { size: 11, color: css("--soft") }, ...extra,
    });
    const { xaxis, yaxis, ...rest } = more;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 10, r: 12, t: 10, b: 10 },
      font: { family: "system-ui, sans-serif", size: 12, color: css("--ink") }, hovermode: "closest",
      hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink"), size: 12 } },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--line"), activecolor: css("--accent") },
      legend: { orientation: "h", y: -0.22, font: { size: 11, color: css("--soft") } },
      xaxis: axis(x, xaxis), yaxis: axis(y, yaxis), ...rest,
    };
  }
  // The library would offer to send the data to its makers' server: never from here.
  const CONFIG = { showSendToCloud: false, showEditInChartStudio: false, plotlyServerURL: "", displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"], displayModeBar: "hover", showTips: false };
  function draw(id, traces, shape, why) {
    const node = byId(id);
    const empty = !traces.length;
    node.classList.toggle("none", empty);
    if (empty) {
      Plotly.purge(node);
      node.textContent = why;
      return;
    }
    if (!node.classList.contains("js-plotly-plot")) node.textContent = "";
    Plotly.react(node, traces, shape, CONFIG);
    if (!node.dataset.bound) {
      node.dataset.bound = "1";
      node.on("plotly_click", (event) => {
        const place = event.points[0].customdata;
        if (typeof place === "number" && rows[place]) showRow(rows[place]);
      });
    }
  }
  const hover = (row, names) => [`<b>${plain(row.title)}</b>`, ...names.filter((n) => row.figures[n]).map((n) => `${plain(n)} ${plain(row.figures[n].text)}`),
    row.accuracy_state === "checked" ? "" : `accuracy ${plain(row.accuracy_state)}`, row.label ? `trust: ${plain(row.label)}` : ""].filter(Boolean).join("<br>");
  const spread = (figures) => {
    if (!figures.some((f) => f && f.lo != null && f.hi != null)) return undefined;
    return { type: "data", symmetric: false, array: figures.map((f) => (f && f.hi != null ? f.hi - f.v : 0)), arrayminus: figures.map((f) => (f && f.lo != null ? f.v - f.lo : 0)), thickness: 1.2, width: 3 };
  };
  const grouped = (list) => {
    const groups = new Map();
    for (const row of list) {
      const key = `${row.name}\u0000${row.scenario || ""}`;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(row);
    }
    return [...groups.values()];
  };
  const MOST = 40;

  function drawSpeedup(list) {
    const name = (r) => plain(`${r.name}${r.batch ? ` · b${r.batch}` : ""}${r.scenario ? ` · ${r.scenario}` : ""}`);
    const found = list.filter((r) => r.figures["speedup.eager"]).sort((a, b) => a.figures["speedup.eager"].v - b.figures["speedup.eager"].v).slice(-MOST);
    const figures = found.map((r) => r.figures["speedup.eager"]);
    const traces = found.length ? [{
      type: "bar", orientation: "h", x: figures.map((f) => f.v), y: found.map((r) => `${name(r)}\u2002`), width: 0.62, customdata: found.map((r) => r.place),
      marker: { color: found.map(color), opacity: found.map((r) => (r.chosen ? 1 : 0.72)), cornerradius: 4 }, error_x: { ...spread(figures), color: css("--soft") },
      hovertemplate: "%{text}<extra></extra>", text: found.map((r) => hover(r, ["speedup.eager", "throughput"])), textposition: "none",
    }] : [];
    const one = { type: "line", x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1, line: { color: css("--faint"), dash: "dot", width: 1.5 } };
    draw("plot-speedup", traces, layout(`${plain(data.speedup)}, times as fast`, "", { shapes: [one], showlegend: false, yaxis: { title: undefined, tickfont: { size: found.length > 20 ? 9 : 11, color: css("--soft") } }, xaxis: { rangemode: "tozero" } }),
      "No speed-up: the reference was not measured under the same conditions.");
  }
  function lineOf(group, x, y, names, extra = {}) {
    const first = group[0];
    return {
      type: "scatter", mode: group.length > 1 ? "lines+markers" : "markers", name: plain(`${first.name}${first.scenario ? ` · ${first.scenario}` : ""}`),
      x: group.map(x), y: group.map(y), customdata: group.map((r) => r.place), text: group.map((r) => hover(r, names)), hovertemplate: "%{text}<extra></extra>",
      line: { color: color(first), dash: dash(first), width: 2 },
      marker: { color: color(first), symbol: symbol(first), size: group.map((r) => (r.chosen ? 14 : 8)), line: { color: css("--card"), width: 1.5 } }, ...extra,
    };
  }
  function drawBatch(list) {
    const groups = grouped(list.filter((r) => r.batch));
    groups.forEach((g) => g.sort((a, b) => a.batch - b.batch));
    const traces = groups.map((g) => lineOf(g, (r) => r.batch, (r) => r.figures.throughput.v, ["throughput", "latency.p50"], { error_y: { ...spread(g.map((r) => r.figures.throughput)), color: color(g[0]) } }));
    const ticks = [...new Set(list.map((r) => r.batch).filter(Boolean))].sort((a, b) => a - b);
    draw("plot-batch", traces, layout("batch size", "samples/s", { xaxis: { type: "log", tickvals: ticks, ticktext: ticks.map(String) }, yaxis: { rangemode: "tozero" }, showlegend: groups.length <= 24 }), "No throughput was measured.");
  }
  const frontOf = (name, x, y) => {
    const points = (data.fronts[name] || []).map((p) => rows[p]).filter((r) => r && !(lines[r.place] && lines[r.place].hidden)).sort((a, b) => x(a) - x(b));
    return points.length > 1 ? [{ type: "scatter", mode: "lines", name: "front", x: points.map(x), y: points.map(y), line: { color: css("--faint"), width: 8, shape: "linear" }, opacity: 0.28, hoverinfo: "skip" }] : [];
  };
  function drawFront(id, list, figure, front, title, scale, more, why) {
    const x = (r) => r.figures.throughput.v, y = (r) => r.figures[figure].v * scale;
    const found = list.filter((r) => r.figures[figure]);
    const groups = grouped(found);
    groups.forEach((g) => g.sort((a, b) => (a.batch || 0) - (b.batch || 0)));
    const line = figure === "accuracy" ? { mode: "markers" } : {};
    const traces = groups.map((g) => lineOf(g, x, y, ["throughput", figure, "latency.p50"], line));
    draw(id, traces.length ? [...frontOf(front, x, y), ...traces] : [], layout("samples/s", title, { ...more, showlegend: groups.length <= 24 }), why);
  }
  function drawSpeed() {
    const list = measured();
    drawSpeedup(list);
    drawBatch(list);
    drawFront("plot-latency", list, "latency.p50", "latency", "p50, ms", 1000, { yaxis: { type: "log", dtick: "D2" } }, "No latency was measured.");
    const sample = list.find((r) => r.figures.accuracy);
    const share = sample && sample.figures.accuracy.unit === "fraction";
    drawFront("plot-accuracy", list, "accuracy", "accuracy", sample ? plain(`${sample.accuracy_name}${share ? ", %" : ""}`) : "", share ? 100 : 1, {}, "No accuracy was checked: there is no front to show.");
  }

  const cases = new Map();
  for (const record of data.records) {
    if (!["measure", "confirm"].includes(record.kind) || !data.series[record.id]) continue;
    const key = `${record.conditions.scenario || "measured"}, batch ${record.conditions.batch}`;
    if (!cases.has(key)) cases.set(key, []);
    cases.get(key).push(record);
  }
  const like = (record) => ({ engine: record.subject.engine || "", precision: record.subject.precision || "" });
  const titled = (record) => plain(`${[record.subject.engine, record.subject.precision].filter(Boolean).join(" ")}${record.kind === "confirm" ? " (fresh run)" : ""}`);
  function drawSeries() {
    const list = cases.get(byId("series-case").value) || [];
    const good = list.filter((r) => !data.series[r.id].reason).slice(0, 16);
    const histograms = good.map((r) => {
      const s = data.series[r.id];
      return {
        type: "scatter", mode: "lines", name: titled(r), line: { color: color(like(r)), dash: dash(like(r)), width: 2, shape: "hv" }, fill: good.length <= 6 ? "tozeroy" : "none", fillcolor: `${color(like(r))}1c`,
        x: s.edges.map((e) => e * 1000), y: [...s.counts.map((c) => (100 * c) / s.n), 0], hovertemplate: "%{y:.2f} % at %{x:.4g} ms<extra>%{fullData.name}</extra>",
      };
    });
    draw("plot-histogram", histograms, layout("time of one call, ms", "% of calls", { xaxis: { type: "log", nticks: 8 }, yaxis: { rangemode: "tozero" } }), "The raw timings are not in this report.");
    const lanes = good.flatMap((r) => {
      const t = data.series[r.id].timeline, shade = color(like(r));
      const at = t.map((p) => p[0]);
      const band = { type: "scatter", mode: "lines", x: [...at, ...[...at].reverse()], y: [...t.map((p) => p[3] * 1000), ...t.map((p) => p[1] * 1000).reverse()], fill: "toself", fillcolor: `${shade}24`, line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: r.id };
      const median = { type: "scatter", mode: "lines", name: titled(r), legendgroup: r.id, x: at, y: t.map((p) => p[2] * 1000), line: { color: shade, dash: dash(like(r)), width: 1.8 }, hovertemplate: "call %{x}: %{y:.4g} ms<extra>%{fullData.name}</extra>" };
      return good.length <= 6 ? [band, median] : [median];
    });
    draw("plot-timeline", lanes, layout("call", "time of one call, ms", { yaxis: { type: "log", nticks: 8 } }), "The raw timings are not in this report.");
    const left = list.filter((r) => data.series[r.id].reason).map((r) => `${[r.subject.engine, r.subject.precision].join(" ")}: ${data.series[r.id].reason}`);
    const more = list.length - left.length - good.length;
    byId("series-note").textContent = [...left, more > 0 ? `${more} more series are not drawn` : "", "Warm-up calls are left out. The largest call of each stretch is drawn, so no stall is smoothed away."].filter(Boolean).join(" · ");
  }
  function drawNumerics() {
    const found = data.records.filter((r) => r.kind === "verify" && r.figures["numeric.relative_rms"] && r.figures["numeric.relative_rms"].value > 0);
    const name = (r) => plain(`${r.subject.engine} ${r.subject.precision}`) + "\u2002";
    const limits = found.filter((r) => r.details.tolerance && r.details.tolerance.max_relative_rms > 0);
    const traces = found.length ? [
      { type: "scatter", mode: "markers", name: "error", y: found.map(name), x: found.map((r) => r.figures["numeric.relative_rms"].value), marker: { size: 12, color: found.map((r) => color(like(r))), symbol: found.map((r) => symbol(like(r))) }, hovertemplate: "%{y}: relative rms error %{x:.2g}<extra></extra>" },
      { type: "scatter", mode: "markers", name: "limit", y: limits.map(name), x: limits.map((r) => r.details.tolerance.max_relative_rms), marker: { size: 18, symbol: "line-ns-open", color: css("--bad"), line: { width: 3, color: css("--bad") } }, hovertemplate: "limit %{x:.2g}<extra></extra>" },
    ] : [];
    draw("plot-numerics", traces, layout("relative rms error", "", { xaxis: { type: "log", exponentformat: "power", nticks: 8 }, yaxis: { title: undefined } }), "No comparison gave an error above zero.");
  }
  function drawDrop() {
    const seen = new Map(data.records.filter((r) => r.kind === "evaluate" && r.figures["accuracy.drop"] && r.figures["accuracy.drop"].value !== null).map((r) => [`${r.subject.candidate}`, r]));
    const found = [...seen.values()];
    const figures = found.map((r) => { const f = r.figures["accuracy.drop"]; return { v: 100 * f.value, lo: f.low == null ? null : 100 * f.low, hi: f.high == null ? null : 100 * f.high }; });
    const traces = found.length ? [{
      type: "scatter", mode: "markers", x: figures.map((f) => f.v), y: found.map((r) => plain(`${r.subject.engine} ${r.subject.precision}`) + "\u2002"), error_x: { ...spread(figures), color: css("--soft") },
      marker: { size: 12, color: found.map((r) => color(like(r))), symbol: found.map((r) => symbol(like(r))) }, text: found.map((r) => plain(r.texts["accuracy.drop"])), hovertemplate: "%{y}: drop %{text}<extra></extra>",
    }] : [];
    const zero = { type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, line: { color: css("--faint"), dash: "dot", width: 1.5 } };
    draw("plot-drop", traces, layout("points lost (left of the line: gained)", "", { shapes: [zero], yaxis: { title: undefined }, showlegend: false }), "No candidate was compared with the reference sample by sample.");
  }
  const others = [];
  function drawAll() {
    drawSpeed();
    drawSeries();
    drawNumerics();
    drawDrop();
    others.forEach((drawOther) => drawOther());
  }
  // What evidence.js draws with, and where it has itself called again when the colours change.
  window.assayReport = { data, byId, make, plain, css, color, dash, layout, draw, show, others };
  function startSeries() {
    const select = byId("series-case");
    for (const key of cases.keys()) select.append(make("option", key, { value: key }));
    if (!cases.size) select.closest(".controls").hidden = true;
    select.addEventListener("change", drawSeries);
  }

  startTable();
  startSeries();
  if (table) filter();
  drawAll();
  fromHash();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  const closed = [];
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("main details:not([open])").forEach((d) => { if (!d.closest("#records")) { d.open = true; closed.push(d); } });
    drawAll();
  });
  window.addEventListener("afterprint", () => { closed.splice(0).forEach((d) => { d.open = false; }); drawAll(); });
})();
