// The accuracy-cost scatter: two sets of points, the Pareto front as steps, limits, hover and pin.

function starPath(x, y, radius) {
  const corner = (i) => {
    const reach = i % 2 ? radius * 0.45 : radius;
    const angle = (Math.PI * i) / 5 - Math.PI / 2;
    return `${(x + reach * Math.cos(angle)).toFixed(1)} ${(y + reach * Math.sin(angle)).toFixed(1)}`;
  };
  return `M${Array.from({ length: 10 }, (_, i) => corner(i)).join("L")}Z`;
}

const squarePath = (x, y, r) => `M${(x - r).toFixed(1)} ${(y - r).toFixed(1)}h${2 * r}v${2 * r}h${-2 * r}Z`;

const crossPath = (x, y, r) => `M${(x - r).toFixed(1)} ${(y - r).toFixed(1)}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`;

function scatterChart(data, candidates) {
  const host = document.getElementById("scatter");
  const note = document.getElementById("scatter-note");
  const state = { cost: data.cost, metric: data.metric, everything: false, pinned: null };
  let frame = null;
  let points = [];
  let front = new Set();
  let ring = null;

  const place = (set, index) => ({
    set, index, x: candidates.value(set, index, state.cost), y: candidates.value(set, index, state.metric),
  });

  function collect() {
    points = [];
    for (const set of ["original", "baseline", "candidates"]) {
      for (let index = 0; index < candidates.size(set); index += 1) {
        const point = place(set, index);
        if (point.x !== null && point.y !== null) points.push(point);
      }
    }
  }

  // The worst few candidates may lie so far off that the rest becomes one blob: they can be left outside.
  function yView() {
    const values = points.map((point) => point.y).sort((a, b) => a - b);
    let [low, high] = [values[0], values.at(-1)];
    const [near, far] = [quantile(values, 0.05), quantile(values, 0.95)];
    const reach = 1.2 * (far - near);
    if (reach > 0 && state.metric === "accuracy") low = values.find((value) => value >= near - reach);
    if (reach > 0 && state.metric === "loss") high = values.findLast((value) => value <= far + reach);
    const hidden = values.filter((value) => value < low || value > high).length;
    return state.everything ? { low: values[0], high: values.at(-1), hidden } : { low, high, hidden };
  }

  function withLimit(low, high, quantity) {
    const near = data.limits.filter((limit) => limit.quantity === quantity).map((limit) => limit.value);
    const span = high - low || Math.abs(high) * 0.1;
    const close = near.filter((value) => value > low - span && value < high + span);
    return [Math.min(low, ...close), Math.max(high, ...close)];
  }

  function drawLimits() {
    const { box, toX, toY } = frame;
    for (const { bound, quantity, value } of data.limits) {
      const text = `${bound === "max" ? "at most" : "at least"} ${QUANTITIES[quantity].exact(value)}`;
      if (quantity === state.cost) {
        const x = toX(value);
        if (x < box.left || x > box.right) continue;
        const [from, to] = bound === "max" ? [x, box.right + 10] : [box.left, x];
        svg("rect", { class: "beyond", x: from, y: box.top - 8, width: to - from, height: box.bottom - box.top + 8 }, frame.plot);
        svg("path", { class: "limitline", d: `M${x} ${box.top - 8}V${box.bottom}` }, frame.plot);
        const anchor = x > box.left + 170 ? "end" : "start";
        svg("text", { class: "limit", x: x + (anchor === "end" ? -7 : 7), y: box.top + 6, "text-anchor": anchor }, frame.over, text);
      } else if (quantity === state.metric) {
        const y = toY(value);
        if (y < box.top || y > box.bottom) continue;
        svg("path", { class: "limitline", d: `M${box.left} ${y}H${box.right}` }, frame.plot);
        svg("text", { class: "limit", x: box.left + 8, y: y - 6 }, frame.over, text);
      }
    }
  }

  // One path for each colour keeps thousands of points as cheap as seven: a dot is a line of no length.
  function drawPoints() {
    const many = points.length > 1500;
    const dots = new Map();
    const crosses = { false: "", true: "" };
    for (const point of points) {
      const [x, y] = [frame.toX(point.x), frame.toY(point.y)];
      const over = candidates.isOver(point.set, point.index);
      if (point.set === "original") continue;
      if (point.set === "baseline") {
        crosses[over] += crossPath(x, y, many ? 2 : 2.7);
      } else {
        const key = `${over}|${candidates.color(point.set, point.index)}`;
        dots.set(key, (dots.get(key) || "") + `M${x.toFixed(1)} ${y.toFixed(1)}h0`);
      }
    }
    for (const over of [true, false]) svg("path", { class: `crosses${over ? " over" : ""}`, d: crosses[over] }, frame.plot);
    for (const [key, d] of dots) {
      const [over, stroke] = key.split("|");
      const style = `stroke: ${stroke}; stroke-width: ${many ? 5 : 7.5}`;
      svg("path", { class: `points${over === "true" ? " over" : ""}`, d, style }, frame.plot);
    }
  }

  function drawFront() {
    const steps = data.fronts[state.cost][state.metric].map((index) => place("candidates", index));
    const spots = steps.filter((point) => point.y !== null).map((point) => [frame.toX(point.x), frame.toY(point.y)]);
    front = new Set(steps.map((point) => point.index));
    if (spots.length === 0) return;
    const line = spots.map(([x, y], i) => (i ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`));
    svg("path", { class: "front", d: line.join("") }, frame.plot);
    for (const [cx, cy] of spots) svg("circle", { class: "frontpoint", cx, cy, r: 5 }, frame.plot);
  }

  function drawBest() {
    const rival = data.progress.baseline.at(-1);
    if (rival !== undefined && rival !== null) {
      const { x, y } = place("baseline", rival);
      if (x !== null && y !== null) {
        const d = crossPath(frame.toX(x), frame.toY(y), 5);
        svg("path", { class: "halo", d }, frame.plot);
        svg("path", { class: "crosses rival", d }, frame.plot);
      }
    }
    const best = place("candidates", data.best);
    if (best.x === null || best.y === null) return;
    const [x, y] = [frame.toX(best.x), frame.toY(best.y)];
    svg("path", { class: "star", d: starPath(x, y, 11) }, frame.plot);
    const anchor = x > frame.width * 0.6 ? "end" : "start";
    const text = `best ${QUANTITIES[state.metric].exact(best.y)}`;
    const under = y < frame.box.top + 26 ? 24 : -14;
    svg("text", { class: "label", x: x + (anchor === "end" ? -4 : 4), y: y + under, "text-anchor": anchor }, frame.over, text);
  }

  function drawOriginal() {
    for (const point of points.filter(({ set }) => set === "original")) {
      const [x, y] = [frame.toX(point.x), frame.toY(point.y)];
      svg("path", { class: "square", d: squarePath(x, y, 6) }, frame.plot);
      const anchor = x > frame.width * 0.6 ? "end" : "start";
      svg("text", { class: "label", x: x + (anchor === "end" ? -10 : 10), y: y + 4, "text-anchor": anchor }, frame.over, "original");
    }
  }

  function draw() {
    collect();
    const height = Math.round(Math.min(560, Math.max(360, host.clientWidth * 0.46)));
    const [cost, metric] = [QUANTITIES[state.cost], QUANTITIES[state.metric]];
    const xs = points.map((point) => point.x);
    const view = yView();
    const xDomain = padded(...withLimit(Math.min(...xs), Math.max(...xs), state.cost), cost, 0.04);
    const yDomain = padded(...withLimit(view.low, view.high, state.metric), metric);
    const title = `${metric.name} against ${cost.name} of ${points.filter(({ set }) => set !== "original").length} candidates`;
    frame = plotFrame(host, { height, xDomain, yDomain, xQuantity: cost, yQuantity: metric, title });
    drawLimits();
    drawPoints();
    drawFront();
    drawOriginal();
    drawBest();
    ring = svg("circle", { class: "ring", r: 8, visibility: "hidden" }, frame.over);
    tellHidden(view.hidden);
    if (state.pinned) show(state.pinned, true);
  }

  function tellHidden(hidden) {
    note.replaceChildren();
    if (hidden === 0) return;
    const noun = hidden === 1 ? "candidate lies" : "candidates lie";
    note.append(state.everything ? "The axis shows every candidate. " : `${hidden} ${noun} outside this view. `);
    addZoom(note, state.everything, () => {
      state.everything = !state.everything;
      draw();
    });
  }

  function show(point, pinned) {
    const here = place(point.set, point.index);
    if (here.x === null || here.y === null) return;
    const [x, y] = [frame.toX(here.x), frame.toY(here.y)];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    ring.setAttribute("visibility", "visible");
    ring.setAttribute("class", pinned ? "ring pinned" : "ring");
    const bounds = frame.root.getBoundingClientRect();
    const zoom = bounds.width / frame.width;
    const content = candidates.describe(point.set, point.index, point.set === "candidates" && front.has(point.index));
    showCard(content, bounds.left + x * zoom, bounds.top + y * zoom, pinned);
  }

  function pin(point) {
    state.pinned = point;
    for (const row of document.querySelectorAll("tr[data-index]")) {
      row.classList.toggle("pinned", point !== null && point.set === "candidates" && Number(row.dataset.index) === point.index);
    }
    if (point) return show(point, true);
    ring.setAttribute("visibility", "hidden");
    return hideCard();
  }

  host.addEventListener("pointermove", (event) => {
    const point = nearestPoint(frame, event, points);
    if (point && !state.pinned) show(point, false);
    if (!point && !state.pinned) pin(null);
  });
  host.addEventListener("pointerleave", () => state.pinned || pin(null));
  host.addEventListener("click", (event) => pin(nearestPoint(frame, event, points)));
  document.addEventListener("keydown", (event) => event.key === "Escape" && pin(null));
  keepDrawn(host, draw);

  return {
    choose(change) {
      Object.assign(state, change, { everything: false });
      if (state.pinned) pin(null);
      draw();
    },
    find(index) {
      host.scrollIntoView({ block: "center" });
      pin({ set: "candidates", index });
    },
    state,
  };
}
