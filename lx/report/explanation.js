"use strict";
(() => {
  const holder = document.getElementById("attention-data");
  if (!holder) return;
  const { tokens, layers } = JSON.parse(holder.textContent);
  const SVG = "http://www.w3.org/2000/svg", CELL = 18, LONGEST = 14;
  const element = (id) => document.getElementById(id);
  const percent = (weight) => (100 * weight).toFixed(1) + " %";
  const shorten = (token) => (token.length > LONGEST ? token.slice(0, LONGEST - 1) + "…" : token);
  const chosen = { layer: layers.length - 1, head: 0, query: 0 };

  for (const layer of layers) {
    const bytes = Uint8Array.from(atob(layer.weights), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const [, numQueries, numKeys] = layer.shape;
    layer.queries = layer.query === null ? tokens.slice(0, numQueries) : [layer.query];
    layer.weight = (head, query, key) => view.getUint16(2 * ((head * numQueries + query) * numKeys + key), true) / 65535;
    layer.row = (head, query) => tokens.map((_, key) => layer.weight(head, query, key));
  }

  function drawSmall(canvas, layer, head) {
    const height = layer.queries.length;
    [canvas.width, canvas.height] = [tokens.length, height];
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--s0");
    for (let query = 0; query < height; query++)
      layer.row(head, query).forEach((weight, key) => {
        context.globalAlpha = weight;
        context.fillRect(key, query, 1, 1);
      });
  }

  function drawHeads() {
    layers.forEach((layer, number) => {
      const row = document.createElement("div");
      row.className = "row";
      const name = document.createElement("span");
      name.textContent = layer.name;
      row.append(name);
      for (let head = 0; head < layer.shape[0]; head++) {
        const button = document.createElement("button");
        button.type = "button";
        button.title = `${layer.name}, head ${head + 1}`;
        button.setAttribute("aria-label", button.title);
        const canvas = document.createElement("canvas");
        button.append(canvas);
        button.addEventListener("click", () => choose({ layer: number, head }));
        row.append(button);
        drawSmall(canvas, layer, head);
      }
      element("heads").append(row);
    });
  }

  function shape(name, attributes, content) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (content !== undefined) node.textContent = content;
    return node;
  }

  function drawMatrix(layer) {
    const width = (text) => [...text].reduce((sum, character) => sum + (character > "\u2e80" ? 13 : 7.6), 0);
    const left = Math.max(...layer.queries.map((token) => width(shorten(token)))) + 10;
    const top = Math.max(...tokens.map((token) => width(shorten(token)))) + 10;
    const size = [left + CELL * tokens.length + 4, top + CELL * layer.queries.length + 4];
    const matrix = element("matrix");
    matrix.replaceChildren();
    matrix.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
    matrix.setAttribute("width", size[0]);
    matrix.setAttribute("height", size[1]);
    matrix.setAttribute("aria-label", `weights of ${layer.name}, head ${chosen.head + 1}: a row for each query`);
    matrix.append(shape("rect", { class: "ground", x: left, y: top, width: CELL * tokens.length, height: CELL * layer.queries.length }));
    tokens.forEach((token, key) => {
      const x = left + CELL * key + CELL / 2 + 4;
      matrix.append(shape("text", { x, y: top - 5, transform: `rotate(-90 ${x} ${top - 5})` }, shorten(token)));
    });
    layer.queries.forEach((token, query) => {
      const y = top + CELL * query, mark = query === chosen.query ? { class: "chosen" } : {};
      matrix.append(shape("text", { x: left - 6, y: y + 13, "text-anchor": "end", ...mark }, shorten(token)));
      layer.row(chosen.head, query).forEach((weight, key) => {
        if (weight < 0.004) return;
        const x = left + CELL * key;
        matrix.append(shape("rect", { class: "cell", x, y, width: CELL - 1, height: CELL - 1, "fill-opacity": weight }));
      });
      const target = shape("rect", { class: "target", x: 0, y, width: size[0], height: CELL });
      target.addEventListener("click", () => choose({ query }));
      matrix.append(target);
    });
    matrix.append(shape("rect", { class: "row", x: left - 1, y: top + CELL * chosen.query - 1, width: CELL * tokens.length + 1, height: CELL + 1 }));
  }

  function drawReading(row) {
    const reading = element("reading");
    reading.replaceChildren();
    const largest = Math.max(...row);
    tokens.forEach((token, key) => {
      const mark = document.createElement("mark");
      mark.style.setProperty("--strength", `${Math.round((70 * row[key]) / largest)}%`);
      if (row[key] < largest / 40) mark.className = "none";
      mark.title = percent(row[key]);
      mark.textContent = token;
      reading.append(mark, " ");
    });
  }

  function drawSoftmax(row) {
    const table = element("softmax");
    table.replaceChildren();
    const caption = table.createCaption();
    const largest = Math.max(...row), sum = row.reduce((total, weight) => total + weight / largest, 0);
    caption.textContent = `softmax of this row: each weight is an exponential over their sum, ${sum.toFixed(3)}`;
    const head = table.insertRow();
    for (const heading of ["key", "score − highest", "exp", "weight", ""]) {
      const cell = document.createElement("th");
      cell.textContent = heading;
      head.append(cell);
    }
    const order = row.map((_, key) => key).sort((a, b) => row[b] - row[a]).slice(0, 8);
    for (const key of order) {
      const line = table.insertRow(), name = document.createElement("th");
      name.scope = "row";
      name.textContent = tokens[key];
      line.append(name);
      const ratio = row[key] / largest;
      for (const text of [row[key] > 0 ? Math.log(ratio).toFixed(2) : "< −11", ratio.toFixed(3), percent(row[key])])
        line.insertCell().textContent = text;
      const bar = line.insertCell(), fill = document.createElement("i");
      bar.className = "bar";
      fill.style.width = `${100 * row[key]}%`;
      bar.append(fill);
    }
  }

  function choose(change) {
    Object.assign(chosen, change);
    const layer = layers[chosen.layer];
    chosen.query = Math.min(chosen.query, layer.queries.length - 1);
    document.querySelectorAll("#heads .row").forEach((row, number) =>
      row.querySelectorAll("button").forEach((button, head) =>
        button.setAttribute("aria-pressed", number === chosen.layer && head === chosen.head)));
    element("head-name").textContent = `${layer.name}, head ${chosen.head + 1}`;
    const select = element("query");
    select.replaceChildren(...layer.queries.map((token, query) => new Option(`${query + 1}. ${token}`, query)));
    select.value = chosen.query;
    drawMatrix(layer);
    const row = layer.row(chosen.head, chosen.query);
    drawReading(row);
    drawSoftmax(row);
  }

  element("query").addEventListener("change", (event) => choose({ query: Number(event.target.value) }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.querySelectorAll("#heads .row").forEach((row, number) =>
      row.querySelectorAll("canvas").forEach((canvas, head) => drawSmall(canvas, layers[number], head)));
  });
  drawHeads();
  choose({ layer: 0 });
})();
