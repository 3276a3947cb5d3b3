// The hover card: one floating box that every chart, table and diagram of the page shares.

const card = html("div", "card", document.body);
card.hidden = true;

// Shows `content` near a point of the page (client coordinates), on the side where there is room.
function showCard(content, clientX, clientY, pinned = false) {
  card.replaceChildren(...content);
  card.classList.toggle("pinned", pinned);
  card.hidden = false;
  card.style.left = "0";
  card.style.top = "0";
  const { width, height } = card.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  let x = clientX + 16;
  if (x + width > room - 8) x = clientX - 16 - width;
  let y = clientY - height / 2;
  if (x < 8) {
    x = Math.max(8, Math.min(clientX - width / 2, room - width - 8));
    y = clientY + 18;
  }
  y = Math.max(8, Math.min(y, window.innerHeight - height - 8));
  card.style.left = `${x + window.scrollX}px`;
  card.style.top = `${y + window.scrollY}px`;
}

function hideCard() {
  card.hidden = true;
}

// A two-column table of [name, value] pairs; a value is text or nodes.
function cardTable(rows) {
  const table = html("table");
  for (const [name, value] of rows) {
    const row = html("tr", "", table);
    html("th", "", row, name);
    const cell = html("td", "", row);
    cell.append(...(Array.isArray(value) ? value : [value]));
  }
  return table;
}

function swatch(color) {
  const node = html("span", "swatch");
  node.style.background = color;
  return node;
}
