(() => {
  const { data, byId, make, plain, css, color, dash, layout, draw, show, others } = window.assayReport;
  const STAGE_COLORS = ["--c7", "--c3", "--c1", "--c4", "--c6"];

  // A select over the cases of one part; its controls stay hidden while there is only one.
  function choose(id, names, redraw) {
    const select = byId(id);
    names.forEach((name, i) => select.append(make("option", name, { value: String(i) })));
    select.closest(".controls").hidden = names.length < 2;
    select.addEventListener("change", redraw);
    return () => Number(select.value) || 0;
  }
  const onRecord = (id) => {
    const node = byId(id);
    if (node.dataset.bound === "record" || !node.on) return;
    node.dataset.bound = "record";
    node.on("plotly_click", (event) => {
      const record = event.points[0].customdata;
      if (typeof record === "string") show(`record ${record}`, [record]);
    });
  };

  function startWaterfall() {
    if (!data.pipelines.length) return;
    const titles = data.pipelines.map((p) => p.title);
    const which = choose("pipeline-case", titles, drawWaterfall);
    function drawWaterfall() {
      const found = data.pipelines[which()];
      const stages = found.stages;
      const traces = [{
        type: "bar", orientation: "h", width: 0.6, y: stages.map((s) => `${plain(s.name)}\u2002`), x: stages.map((s) => 1000 * s.busy), base: stages.map((s) => 1000 * s.start),
        marker: { color: stages.map((s, i) => css(STAGE_COLORS[i % STAGE_COLORS.length])), cornerradius: 4 }, customdata: stages.map(() => found.record),
        text: stages.map((s) => s.text.map(plain).join("<br>")), textposition: "none", hovertemplate: "<b>%{y}</b><br>%{text}<extra></extra>",
      }];
      draw("plot-waterfall", traces, layout("ms of work on one sample", "", { showlegend: false, yaxis: { title: undefined, autorange: "reversed" }, xaxis: { rangemode: "tozero" } }), "");
      onRecord("plot-waterfall");
      byId("pipeline-note").textContent = found.note;
    }
    others.push(drawWaterfall);
  }

  function startErrors() {
    const cases = [...new Set(data.errors.map((e) => e.case))];
    const which = choose("errors-case", cases, drawErrors);
    function drawErrors() {
      const list = data.errors.filter((e) => e.case === cases[which()]);
      const some = list.filter((e) => e.counts.length).slice(0, 16);
      const traces = some.map((e) => {
        const known = new Map(e.counts);
        const low = e.counts[0][0], high = e.counts[e.counts.length - 1][0];
        const places = Array.from({ length: high - low + 1 }, (_, i) => low + i);
        return {
          type: "scatter", mode: "lines", name: plain(e.title), line: { color: color(e), dash: dash(e), width: 2, shape: "hv" }, customdata: [...places, high].map(() => e.record),
          fill: some.length <= 4 ? "tozeroy" : "none", fillcolor: `${color(e)}1c`, x: [...places.map((p) => 2 ** p), 2 ** (high + 1)], y: [...places.map((p) => (100 * (known.get(p) || 0)) / e.n), 0],
          hovertemplate: "%{y:.3g} % of the elements from %{x:.2g} to twice that<extra>%{fullData.name}</extra>",
        };
      });
      draw("plot-errors", traces, layout("absolute error of an element", "% of elements", { xaxis: { type: "log", exponentformat: "power", nticks: 10 }, yaxis: { rangemode: "tozero" } }), list.length ? "Every element is equal." : "No comparison kept the errors of its elements.");
      onRecord("plot-errors");
      byId("errors-note").textContent = list.map((e) => `${e.title}: ${((100 * e.equal) / e.n).toFixed(e.equal && e.equal < e.n ? 2 : 0)} % of ${e.n.toLocaleString("en")} elements equal`).join(" · ");
    }
    others.push(drawErrors);
  }

  function startOperators() {
    if (!data.divergences.length) return;
    const which = choose("divergence-case", data.divergences.map((d) => d.title), drawOperators);
    function drawOperators() {
      const found = data.divergences[which()];
      const list = found.operators;
      const at = list.map((_, i) => i + 1);
      const said = list.map((o) => [`<b>${plain(o.tensor)}</b>`, plain(o.nodes), plain(o.origin)].filter(Boolean).join("<br>"));
      const line = (name, key, shade, extra = {}) => ({
        type: "scatter", mode: list.length > 1 ? "lines+markers" : "markers", name, x: at, y: list.map((o) => (o[key] > 0 ? o[key] : null)), text: said, customdata: at.map(() => found.record),
        line: { color: shade, width: 1.6 }, marker: { color: shade, size: 6 }, hovertemplate: `%{text}<br>${name} %{y:.2g}<extra></extra>`, ...extra,
      });
      const some = (key) => list.some((o) => o[key] > 0);
      const traces = [];
      if (some("accumulated")) traces.push(line("accumulated", "accumulated", css("--c1")));
      if (some("local")) traces.push(line("alone", "local", css("--c3"), { mode: "markers", marker: { size: list.map((o) => (o.guilty ? 13 : 7)), symbol: list.map((o) => (o.guilty ? "x" : "circle")), color: list.map((o) => css(o.guilty ? "--bad" : "--c3")) } }));
      if (some("due")) traces.push(line("its due", "due", css("--faint"), { mode: "lines", line: { color: css("--faint"), dash: "dot", width: 1.5 } }));
      draw("plot-operators", some("local") || some("accumulated") ? traces : [], layout("operators in the order of the graph", "relative rms error", { yaxis: { type: "log", exponentformat: "power", nticks: 8 }, xaxis: { rangemode: "tozero", tickformat: "d" } }), "No operator was compared: every stage is within its due.");
      onRecord("plot-operators");
    }
    others.push(drawOperators);
  }

  startWaterfall();
  startErrors();
  startOperators();
  others.forEach((drawOther) => drawOther());
  document.documentElement.dataset.ready = "1";
})();
