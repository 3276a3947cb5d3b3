// Tables: a click on a heading sorts, a click on a row finds its point in the chart.

function sortableTables(onRow) {
  for (const table of document.querySelectorAll("main table")) {
    const [headings, body] = [[...table.tHead.rows[0].cells], table.tBodies[0]];
    headings.forEach((heading, column) => {
      heading.querySelector("button")?.addEventListener("click", () => {
        const falling = heading.ariaSort === "ascending";
        const key = (row) => Number(row.cells[column].dataset.value);
        const rows = [...body.rows].sort((a, b) => {
          // What was not measured goes last in either direction.
          if (Number.isNaN(key(a)) || Number.isNaN(key(b))) return Number.isNaN(key(a)) - Number.isNaN(key(b));
          return falling ? key(b) - key(a) : key(a) - key(b);
        });
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
        body.append(...rows);
      });
    });
    body.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-index]");
      if (row) onRow(Number(row.dataset.index));
    });
  }
}
