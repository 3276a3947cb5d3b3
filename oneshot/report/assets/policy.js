// The heat map of a sampling policy: the card that reads out the cell under the pointer.

const policy = JSON.parse(document.getElementById("report-data").textContent).policy;

function formatProbability(hundredths) {
  if (hundredths === null) return "inactive";
  if (hundredths > 0 && hundredths < 5) return `<0.1${NO_BREAK}%`;
  return `${(hundredths / 100).toFixed(1)}${NO_BREAK}%`;
}

for (const cells of document.querySelectorAll(".policy .cells")) {
  const rows = policy.panels[Number(cells.dataset.panel)];
  const mark = svg("rect", { class: "ring", width: 1, height: policy.row, visibility: "hidden" }, cells);

  function hide() {
    mark.setAttribute("visibility", "hidden");
    hideCard();
  }
  cells.addEventListener("pointermove", (event) => {
    const bounds = cells.getBoundingClientRect();
    const column = Math.floor(((event.clientX - bounds.left) / bounds.width) * policy.steps.length);
    const down = event.clientY - bounds.top;
    const row = rows.find(({ top }) => down >= top && down < top + policy.row);
    if (!row || column < 0 || column >= policy.steps.length) {
      hide();
      return;
    }
    mark.setAttribute("x", column);
    mark.setAttribute("y", row.top);
    mark.setAttribute("visibility", "visible");
    const lines = [
      ["option", row.option],
      ["step", policy.steps[column].toLocaleString("en")],
      ["probability", formatProbability(row.values[column])],
    ];
    showCard([html("h3", "", null, row.choice), cardTable(lines)], event.clientX, event.clientY);
  });
  cells.addEventListener("pointerleave", hide);
}
