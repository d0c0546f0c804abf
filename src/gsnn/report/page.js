"use strict";
// A drawing as PNG (its light colours, on white, at three times its size), its numbers as CSV, a command to the clipboard.
const figureOf = (button) => button.closest("figure, .gallery");

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function csv(figure) {
  const columns = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const cell = (v) => (v === null || v === undefined ? "" : /[",\n\r]/.test(v) ? `"${String(v).replaceAll('"', '""')}"` : String(v));
  const names = Object.keys(columns);
  const rows = [names.map(cell).join(",")];
  for (let i = 0; i < (names.length ? columns[names[0]].length : 0); i++) rows.push(names.map((n) => cell(columns[n][i])).join(","));
  return new Blob([rows.join("\r\n") + "\r\n"], { type: "text/csv" });
}

const loaded = (address) => new Promise((done, failed) => {
  const image = new Image();
  image.onload = () => done(image);
  image.onerror = failed;
  image.src = address;
});

function sheet(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, width, height);
  return [canvas, pen];
}

async function png(figure) {
  let canvas, pen;
  const drawing = figure.querySelector("svg[role='img']");
  if (drawing) {
    const box = drawing.viewBox.baseVal, copy = drawing.cloneNode(true);
    copy.setAttribute("width", 3 * box.width);
    copy.setAttribute("height", 3 * box.height);
    const text = new XMLSerializer().serializeToString(copy);
    const image = await loaded("data:image/svg+xml;charset=utf-8," + encodeURIComponent(text));
    [canvas, pen] = sheet(3 * box.width, 3 * box.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  } else {
    const cards = [...figure.querySelectorAll(".object")], side = 240, gap = 16, line = 44;
    const across = Math.min(6, cards.length), down = Math.ceil(cards.length / across);
    const wide = Math.max(...cards.map((c) => c.querySelectorAll("img").length)) * side;
    [canvas, pen] = sheet(across * (wide + gap) + gap, down * (side + line + gap) + gap);
    pen.imageSmoothingEnabled = false;
    pen.font = "15px sans-serif";
    pen.fillStyle = "#1d222b";
    cards.forEach((card, i) => {
      const left = gap + (i % across) * (wide + gap), top = gap + Math.floor(i / across) * (side + line + gap);
      card.querySelectorAll("img").forEach((image, j) => pen.drawImage(image, left + j * side, top, side, side));
      pen.fillText(card.querySelector(".name").textContent, left, top + side + 18, wide);
      pen.fillText(card.dataset.says || "", left, top + side + 37, wide);
    });
  }
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.save) {
    const figure = figureOf(button), kind = button.dataset.save;
    save(kind === "csv" ? csv(figure) : await png(figure), `${figure.dataset.name}.${kind}`);
  } else if (button.dataset.text) {
    const text = document.getElementById(button.dataset.text).textContent;
    save(new Blob([text], { type: "text/plain" }), button.dataset.file);
  } else if (button.dataset.copy !== undefined) {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1600);
  }
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
