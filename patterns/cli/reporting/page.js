"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const plots = [];
  const KEY = "keras-patterns report " + location.pathname;
  const kept = read();
  let zoom = kept.zoom || null;
  let busy = false;

  // What must outlive a reload of the page: the zoom, logarithmic axes, hidden series, the place.
  function read() {
    try {
      return JSON.parse(sessionStorage.getItem(KEY)) || {};
    } catch {
      return {};
    }
  }

  function keep() {
    try {
      const logs = plots.filter((one) => one.isLog).map((one) => one.id);
      const hidden = {};
      for (const one of plots) {
        hidden[one.id] = one.u.series.flatMap((series, i) => (series.show ? [] : [i]));
      }
      sessionStorage.setItem(KEY, JSON.stringify({ zoom, logs, hidden, at: window.scrollY }));
    } catch {
      // A browser may refuse to keep anything for a file.
    }
  }

  const color = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const count = new Intl.NumberFormat("en");
  const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });

  function number(value) {
    if (value === null || value === undefined) return "";
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 1e7) return count.format(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3);
    return value.toPrecision(5).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  }

  function tick(value) {
    if (value === null) return "";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential().replace("e+", "e");
    return fine.format(value);
  }

  function element(tag, kind, text) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const CLASSES = { resumed: "resumed", "rolled back": "rolled-back", thawed: "thawed", stopped: "stopped" };
  const markColor = (kind) => color(CLASSES[kind] || "other");
  const DASHES = { resumed: [4, 4], "rolled back": [8, 3, 2, 3], thawed: [2, 2], stopped: [] };

  const several = data.runs.length > 1;
  const WORDS = { training: "training", running: "inside epochs", validation: "validation", rate: "at ends of epochs", momentum: "at ends of epochs" };

  function look(series) {
    // What fills the chart hides what lies below it.
    const isDense = series.x.length > 1000;
    const single = { running: "running", training: "c0", validation: "c1", rate: "c6", momentum: "c2" };
    const name = several ? "c" + (series.run % 7) : single[series.kind];
    const dash = several && series.kind === "training" ? [7, 4] : [];
    const width = series.kind === "running" || isDense ? 1 : 2;
    return { width, name, dash, alpha: several && series.kind === "running" ? 0.45 : isDense ? 0.75 : 1 };
  }

  // Each series at its own value that is nearest to the cursor.
  function nearest(u, i, place) {
    const values = u.data[i];
    if (i === 0 || values[place] != null) return place;
    for (let d = 1; d < values.length; d++) {
      if (values[place - d] != null) return place - d;
      if (values[place + d] != null) return place + d;
    }
    return place;
  }

  class Plot {
    constructor(id, host, spec) {
      this.id = id;
      this.spec = spec;
      this.isLog = (kept.logs || []).includes(id);
      this.box = element("div", "plot");
      this.tip = element("div", "tip");
      this.tip.hidden = true;
      const head = element("div", "chart-head");
      head.append(element("h3", "grow", spec.title));
      this.button = element("button", "", "log");
      this.button.type = "button";
      this.button.title = "a logarithmic axis";
      this.button.addEventListener("click", () => {
        this.isLog = !this.isLog;
        this.draw();
        keep();
      });
      const back = element("button", "", "reset zoom");
      back.type = "button";
      back.addEventListener("click", () => this.zoomTo(null));
      head.append(this.button, back);
      host.append(head, this.box);
      this.hidden = (kept.hidden || {})[id] || [];
      this.draw();
    }

    table() {
      const positive = (y) => (this.isLog ? y.map((value) => (value > 0 ? value : null)) : y);
      return uPlot.join(this.spec.series.map((one) => [one.x, positive(one.y)]));
    }

    draw() {
      if (this.u) {
        this.hidden = this.u.series.flatMap((series, i) => (series.show ? [] : [i]));
        this.u.destroy();
      }
      this.button.setAttribute("aria-pressed", String(this.isLog));
      busy = true;
      this.u = new uPlot(this.options(), this.table(), this.box);
      this.box.append(this.tip);
      busy = false;
      if (this.spec.isOfSteps && zoom) this.setRange(zoom);
      this.tip.hidden = true;
    }

    setRange(range) {
      busy = true;
      this.u.setScale("x", range ? { min: range[0], max: range[1] } : { min: this.spec.from, max: this.spec.to });
      busy = false;
    }

    zoomTo(range) {
      if (!this.spec.isOfSteps) return this.setRange(range);
      zoom = range;
      for (const one of plots) if (one.spec.isOfSteps) one.setRange(range);
      keep();
    }

    options() {
      const grid = { stroke: color("grid"), width: 1 };
      const axis = { stroke: color("quiet"), grid, ticks: { stroke: color("rule"), width: 1, size: 4 }, font: "11.5px system-ui, sans-serif" };
      const spec = this.spec;
      return {
        width: Math.max(200, this.box.clientWidth),
        height: spec.height || 250,
        legend: { live: false, markers: { fill: (u, i) => color(this.styles()[i - 1].name), stroke: "transparent" } },
        scales: {
          x: { time: false, distr: spec.logX ? 3 : 1, min: spec.from, max: spec.to, range: (u, low, high) => (low === null ? [spec.from, spec.to] : [low, high]) },
          y: { distr: this.isLog ? 3 : 1 },
        },
        axes: [
          { ...axis, values: (u, all) => all.map(tick), size: 30 },
          { ...axis, values: (u, all) => all.map(tick), size: (u, all) => Math.max(34, 14 + 6.6 * Math.max(0, ...(all || []).map((one) => String(one).length))) },
        ],
        series: [{}, ...spec.series.map((one, i) => this.line(one, i))],
        cursor: {
          y: false,
          dataIdx: nearest,
          points: { size: 7 },
          drag: { x: true, y: false, setScale: true },
          focus: { prox: -1 },
          sync: spec.isOfSteps ? { key: "steps", setSeries: false, scales: ["x", null], filters: { pub: (kind) => kind === "mousemove" || kind === "mouseleave" } } : undefined,
          bind: { dblclick: () => () => this.zoomTo(null) },
        },
        hooks: {
          drawAxes: [(u) => this.drawMarks(u)],
          draw: [(u) => this.drawBest(u)],
          setCursor: [(u) => this.showTip(u)],
          setScale: [
            (u, name) => {
              if (name === "x" && !busy) this.zoomTo([u.scales.x.min, u.scales.x.max]);
            },
          ],
          setSeries: [() => !busy && keep()],
          ready: [
            (u) => {
              u.over.addEventListener("mouseenter", () => (this.isActive = true));
              u.over.addEventListener("mouseleave", () => {
                this.isActive = false;
                this.tip.hidden = true;
              });
            },
          ],
        },
      };
    }

    styles() {
      return this.spec.series.map((one) => one.style || look(one));
    }

    label(one) {
      if (one.label) return one.label;
      return several ? data.runs[one.run].label + ", " + WORDS[one.kind] : WORDS[one.kind];
    }

    line(one, i) {
      const style = this.styles()[i];
      return {
        label: this.label(one),
        stroke: color(style.name),
        width: style.width,
        dash: style.dash,
        alpha: style.alpha,
        show: !this.hidden.includes(i + 1),
        points: one.x.length === 1 ? { show: true, size: 6 } : one.x.length > 60 ? { show: false } : { size: 4.5 },
      };
    }

    marks() {
      return this.spec.marks || [];
    }

    drawMarks(u) {
      const { ctx } = u;
      ctx.save();
      for (const mark of this.marks()) {
        if (mark.x < u.scales.x.min || mark.x > u.scales.x.max) continue;
        const x = Math.round(u.valToPos(mark.x, "x", true));
        ctx.strokeStyle = ctx.fillStyle = mark.color ? color(mark.color) : markColor(mark.kind);
        ctx.lineWidth = 1.4 * devicePixelRatio;
        ctx.setLineDash((DASHES[mark.kind] || [6, 3]).map((one) => one * devicePixelRatio));
        ctx.beginPath();
        ctx.moveTo(x, u.bbox.top);
        ctx.lineTo(x, u.bbox.top + u.bbox.height);
        ctx.stroke();
        const size = 4.5 * devicePixelRatio;
        ctx.beginPath();
        ctx.moveTo(x - size, u.bbox.top - size);
        ctx.lineTo(x + size, u.bbox.top - size);
        ctx.lineTo(x, u.bbox.top + size * 0.6);
        ctx.fill();
      }
      ctx.restore();
    }

    drawBest(u) {
      const { ctx } = u;
      ctx.save();
      for (const one of this.spec.best || []) {
        if (one.x < u.scales.x.min || one.x > u.scales.x.max) continue;
        star(ctx, u.valToPos(one.x, "x", true), u.valToPos(one.y, "y", true), 7.5 * devicePixelRatio);
        ctx.fillStyle = color("best");
        ctx.strokeStyle = color("card");
        ctx.lineWidth = 1.2 * devicePixelRatio;
        ctx.fill();
        ctx.stroke();
      }
      ctx.fillStyle = color("stopped");
      for (const one of this.spec.series) {
        for (const [step] of one.odd || []) {
          if (step < u.scales.x.min || step > u.scales.x.max) continue;
          const x = u.valToPos(step, "x", true);
          cross(ctx, x, u.bbox.top + u.bbox.height - 6 * devicePixelRatio, 3.5 * devicePixelRatio, color("stopped"));
        }
      }
      ctx.restore();
    }

    showTip(u) {
      const { left, top, idx, idxs } = u.cursor;
      if (!this.isActive || left < 0 || idx === null) {
        this.tip.hidden = true;
        return;
      }
      const at = u.posToVal(left, "x");
      const step = u.data[0][u.valToIdx(at)];
      const lines = [element("b", "", this.spec.x + " " + number(step))];
      this.spec.series.forEach((one, i) => {
        const place = idxs[i + 1];
        if (!u.series[i + 1].show || place == null || u.data[i + 1][place] == null) return;
        const line = element("div");
        const dot = element("i");
        dot.style.background = color(this.styles()[i].name);
        const own = u.data[0][place];
        const where = own === step ? "" : " (at " + number(own) + ")";
        line.append(dot, element("span", "", this.label(one) + where), element("em", "", number(u.data[i + 1][place])));
        lines.push(line);
      });
      for (const one of this.spec.series) {
        for (const [where, what] of one.odd || []) {
          if (where === step) lines.push(element("p", "", this.label(one) + ": " + what));
        }
      }
      const reach = Math.abs(u.posToVal(left + 7, "x") - at);
      for (const mark of this.marks()) {
        if (Math.abs(mark.x - at) <= reach) lines.push(element("p", "", mark.text));
      }
      for (const one of this.spec.best || []) {
        if (Math.abs(one.x - at) <= reach) {
          const whose = several ? data.runs[one.run].label + ": " : "";
          lines.push(element("p", "", whose + "best " + WORDS[one.kind] + " " + number(one.y) + " at step " + number(one.x)));
        }
      }
      this.tip.replaceChildren(...lines);
      this.tip.hidden = false;
      const room = this.box.clientWidth;
      const x = left + u.over.offsetLeft;
      const width = this.tip.offsetWidth;
      const beside = x + 16 + width <= room ? x + 16 : x - 16 - width;
      this.tip.style.left = Math.max(0, Math.min(beside, room - width)) + "px";
    }
  }

  function star(ctx, x, y, size) {
    ctx.beginPath();
    for (let i = 0; i < 10; i++) {
      const angle = (Math.PI * i) / 5 - Math.PI / 2;
      const radius = i % 2 ? size * 0.45 : size;
      ctx.lineTo(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
    }
    ctx.closePath();
  }

  function cross(ctx, x, y, size, stroke) {
    ctx.strokeStyle = stroke;
    ctx.lineWidth = 1.6 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x - size, y - size);
    ctx.lineTo(x + size, y + size);
    ctx.moveTo(x - size, y + size);
    ctx.lineTo(x + size, y - size);
    ctx.stroke();
  }

  function span(specs) {
    const ends = specs.flatMap((spec) => spec.series.flatMap((one) => [one.x[0], one.x[one.x.length - 1]]));
    const low = Math.min(0, ...ends);
    return [low, Math.max(low + 1, ...ends, ...data.runs.map((run) => run.step))];
  }

  function show(place, specs) {
    const host = document.getElementById(place);
    if (!host) return;
    // All of them first: the columns of the grid are as wide as their number lets them be.
    const figures = specs.map(() => element("div", "chart"));
    host.append(...figures);
    specs.forEach((spec, i) => plots.push(new Plot(place + " " + i, figures[i], spec)));
  }

  const ofSteps = [...data.metrics, ...data.rates];
  const [from, to] = span(ofSteps);
  const marks = data.marks.filter((mark) => mark.x >= from);
  for (const spec of ofSteps) Object.assign(spec, { isOfSteps: true, x: "step", from, to, marks });
  show("metrics", data.metrics);
  show("rates", data.rates);
  for (const spec of data.sweeps) {
    const xs = spec.series[0].x;
    Object.assign(spec, { x: "rate", logX: true, from: xs[0], to: xs[xs.length - 1], height: 300 });
    spec.series[0].style = { name: "running", width: 1, dash: [], alpha: 1 };
    spec.series[1].style = { name: "c0", width: 2, dash: [], alpha: 1 };
    spec.marks.forEach((mark, i) => (mark.color = "c" + ((i + 1) % 7)));
  }
  data.sweeps.forEach((spec, i) => show("sweep-" + i, [spec]));

  function again() {
    for (const one of plots) one.draw();
  }
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    again();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  if (kept.at) window.scrollTo(0, kept.at);

  if (data.reload) {
    let isHeld = false;
    window.addEventListener("pointerdown", () => (isHeld = true));
    window.addEventListener("pointerup", () => (isHeld = false));
    setInterval(() => {
      if (isHeld || document.hidden) return;
      keep();
      location.reload();
    }, 1000 * data.reload);
  }
  root.dataset.drawn = String(plots.length);
})();
