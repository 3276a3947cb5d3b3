// The training page: one line chart for each group of curves, with a legend that hides and shows them.

const NUM_COLORS = 6;
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

function seriesStyle(number) {
  const dash = DASHES[Math.floor(number / NUM_COLORS) % DASHES.length];
  return { color: `var(--series${number % NUM_COLORS})`, dash: dash ? `; stroke-dasharray: ${dash}` : "" };
}

function quantityOf(group, values) {
  const share = /accuracy/i.test(group.name) && values.every((value) => value >= 0 && value <= 1);
  if (share) return { ...QUANTITIES.accuracy, label: "%" };
  const least = values.every(Number.isInteger) ? 1 : 0; // counts have no halves
  return { label: "", tick: plainTick, exact: formatPlain, least };
}

const notFinite = (lost) => (lost === 1 ? "1 value is not finite." : `${lost} values are not finite.`);

// A line where each phase of the training begins after the first, and the names of all.
function drawPhases(phases, frame, [low, high]) {
  phases.forEach(([after, name], i) => {
    const next = i + 1 < phases.length ? phases[i + 1][0] : high;
    if (next <= low || after >= high) return;
    const x = frame.toX(Math.max(after, low));
    if (after > low) svg("path", { class: "crosshair", d: `M${x} ${frame.box.top}V${frame.box.bottom}` }, frame.plot);
    const room = frame.toX(Math.min(next, high)) - x - 8;
    const text = svg("text", { x: x + 5, y: frame.box.top + 4, class: "phase" }, frame.over, name);
    if (text.getComputedTextLength() > room) text.remove();
  });
}

function lineChart(group, number, phases) {
  const host = document.getElementById(`lines-${number}`);
  const legend = document.getElementById(`lines-legend-${number}`);
  const note = document.getElementById(`lines-note-${number}`);
  const hidden = new Set();
  const all = group.curves.flatMap((curve) => curve.values).filter((value) => value !== null);
  const quantity = quantityOf(group, all);
  let frame = null;
  let marks = null;

  const shown = () => group.curves.map((curve, i) => ({ ...curve, i })).filter(({ i }) => !hidden.has(i));

  // A few spikes or the steep start may take the whole height: then they are cut, and the note says so.
  function view(curves) {
    const values = curves.flatMap((curve) => curve.values).filter((value) => value !== null).sort((a, b) => a - b);
    let [low, high] = [values[0], values.at(-1)];
    const [near, far] = [quantile(values, 0.01), quantile(values, 0.99)];
    if (values.length > 100 && far > near && high - low > 1.8 * (far - near)) {
      low = Math.max(low, near - 0.1 * (far - near));
      high = Math.min(high, far + 0.1 * (far - near));
    }
    const outside = values.filter((value) => value < low || value > high).length;
    return { low, high, outside };
  }

  function path(curve, values) {
    let d = "";
    let pen = "M";
    curve.steps.forEach((step, i) => {
      if (values[i] === null) {
        pen = "M";
        return;
      }
      d += `${pen}${frame.toX(step).toFixed(1)} ${frame.toY(values[i]).toFixed(1)}`;
      pen = "L";
    });
    return d;
  }

  function draw() {
    const curves = shown().filter((curve) => curve.values.some((value) => value !== null));
    const lost = group.curves.reduce((sum, curve) => sum + curve.lost, 0);
    if (curves.length === 0) {
      frame = null;
      host.replaceChildren(html("p", "caption", null, group.curves.length ? "No curve to show." : "Nothing was recorded."));
      note.textContent = lost ? notFinite(lost) : "";
      return;
    }
    const steps = curves.flatMap((curve) => [curve.steps[0], curve.steps.at(-1)]);
    const { low, high, outside } = view(curves);
    const xDomain = [Math.min(...steps), Math.max(...steps)];
    if (xDomain[0] === xDomain[1]) xDomain.splice(0, 2, xDomain[0] - 0.5, xDomain[1] + 0.5);
    const height = Math.round(Math.min(320, Math.max(240, host.clientWidth * 0.5)));
    const xQuantity = { label: "step", tick: countTick };
    const yDomain = padded(low, high, quantity, 0.05);
    frame = plotFrame(host, { height, xDomain, yDomain, xQuantity, yQuantity: quantity, integerX: true, title: group.name });
    drawPhases(phases, frame, xDomain);
    for (const curve of curves.filter(({ trend }) => trend)) {
      svg("path", { class: "curve faint", d: path(curve, curve.values), style: `stroke: ${seriesStyle(curve.i).color}` }, frame.plot);
    }
    for (const curve of curves) {
      const { color, dash } = seriesStyle(curve.i);
      svg("path", { class: "curve", d: path(curve, curve.trend || curve.values), style: `stroke: ${color}${dash}` }, frame.plot);
      if (curve.values.length > 1) continue;
      const at = { cx: frame.toX(curve.steps[0]), cy: frame.toY(curve.values[0]), r: 5 };
      svg("circle", { class: "dot", ...at, style: `fill: ${color}` }, frame.plot);
    }
    marks = svg("g", {}, frame.over);
    const words = [];
    if (curves.some(({ trend }) => trend)) words.push("Bold: running mean.");
    if (outside) words.push(outside === 1 ? "1 point lies outside this view." : `${outside} points lie outside this view.`);
    if (lost) words.push(notFinite(lost));
    note.textContent = words.join(" ");
  }

  function nearestAt(curve, x) {
    let [low, high] = [0, curve.steps.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (frame.toX(curve.steps[middle]) < x) low = middle;
      else high = middle;
    }
    return Math.abs(frame.toX(curve.steps[low]) - x) <= Math.abs(frame.toX(curve.steps[high]) - x) ? low : high;
  }

  function hover(event) {
    if (!frame) return;
    const { x } = pointerIn(frame, event);
    const rows = [];
    let at = null;
    marks.replaceChildren();
    for (const curve of shown().filter(({ steps }) => steps.length)) {
      const i = nearestAt(curve, x);
      const away = Math.abs(frame.toX(curve.steps[i]) - x);
      if (at === null || away < at.away) at = { step: curve.steps[i], away };
      rows.push({ curve, i });
    }
    if (!at) return;
    svg("path", { class: "crosshair", d: `M${frame.toX(at.step)} ${frame.box.top}V${frame.box.bottom}` }, marks);
    const table = html("table");
    for (const { curve, i } of rows) {
      const { color } = seriesStyle(curve.i);
      const value = (curve.trend || curve.values)[i];
      const row = html("tr", "", table);
      html("th", "", row).append(swatch(color), curve.name);
      html("td", "", row, curve.values[i] === null ? "not finite" : quantity.exact(curve.values[i]));
      if (curve.trend) html("td", "soft", row, value === null ? "" : `mean ${quantity.exact(value)}`);
      if (curve.steps[i] !== at.step) html("td", "soft", row, `at step ${curve.steps[i].toLocaleString("en")}`);
      if (value === null) continue;
      const spot = { cx: frame.toX(curve.steps[i]), cy: frame.toY(value), r: 4 };
      svg("circle", { class: "dot", ...spot, style: `fill: ${color}` }, marks);
    }
    showCard([html("h3", "", null, `step ${at.step.toLocaleString("en")}`), table], event.clientX, event.clientY);
  }

  group.curves.forEach((curve, i) => {
    const button = html("button", "", legend);
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const picture = svg("svg", { width: 22, height: 10 }, button);
    const { color, dash } = seriesStyle(i);
    svg("path", { class: "curve", d: "M0 5h22", style: `stroke: ${color}${dash}` }, picture);
    button.append(curve.name);
    const last = curve.values.findLast((value) => value !== null);
    if (last !== undefined) html("b", "", button, quantity.exact(last));
    button.addEventListener("click", () => {
      if (!hidden.delete(i)) hidden.add(i);
      button.setAttribute("aria-pressed", String(!hidden.has(i)));
      draw();
    });
  });
  host.addEventListener("pointermove", hover);
  host.addEventListener("pointerleave", () => {
    marks?.replaceChildren();
    hideCard();
  });
  keepDrawn(host, draw);
}

const { groups, phases } = JSON.parse(document.getElementById("report-data").textContent);
groups.forEach((group, number) => lineChart(group, number, phases));
