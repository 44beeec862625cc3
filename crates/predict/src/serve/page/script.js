"use strict";
// Sends the chosen image to the server and shows what it answers. Texts of the answer become text, never HTML.
const at = (id) => document.getElementById(id);
const words = (name) => name.split("_").map((word) => word[0].toUpperCase() + word.slice(1)).join(" ");
const png = (base64) => `data:image/png;base64,${base64}`;
const three = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
let file = null;
let asking = null;

function fail(message) {
  at("status").textContent = "No answer.";
  at("problem").textContent = message;
  at("problem").hidden = false;
}

// The box [left, top, right, bottom] of a square of `size` px, in percent.
function place(element, [left, top, right, bottom], size) {
  const percent = (value) => `${(100 * value) / size}%`;
  Object.assign(element.style, {
    left: percent(left), top: percent(top), width: percent(right - left), height: percent(bottom - top),
  });
}

function cell(row, text, kind) {
  const td = row.insertCell();
  td.textContent = text;
  if (kind) td.className = kind;
  return td;
}

function fillTable(answer) {
  const rows = at("rows");
  rows.replaceChildren();
  at("verdicthead").hidden = !answer.verdicts;
  for (const finding of answer.findings) {
    const row = rows.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = words(finding);
    row.append(head);
    const calibrated = answer.calibrated[finding];
    const threshold = answer.thresholds[finding];
    cell(row, three(calibrated));
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.setAttribute("aria-hidden", "true");
    const length = document.createElement("i");
    length.style.width = `${100 * calibrated}%`;
    bar.append(length);
    if (threshold !== null) {
      const mark = document.createElement("b");
      mark.style.left = `${100 * threshold}%`;
      bar.append(mark);
    }
    cell(row, "").append(bar);
    const call = answer.calls[finding];
    row.className = call ? "called" : "";
    cell(row, call === null ? "no threshold" : call ? "called" : "not called", "text");
    cell(row, three(threshold));
    for (const branch of ["global", "local", "fusion"]) cell(row, three(answer.probabilities[branch][finding]));
    if (answer.verdicts) cell(row, answer.verdicts[finding] ?? "no verdict", "text");
  }
}

function summary(answer) {
  if (!answer.probabilities) return "The model was not asked about this image.";
  const called = answer.findings
    .filter((finding) => finding !== "no_finding" && answer.calls[finding])
    .sort((a, b) => answer.calibrated[b] - answer.calibrated[a]);
  if (!called.length) return "No finding is called.";
  return `Called: ${called.map((finding) => `${words(finding)} ${answer.calibrated[finding].toFixed(2)}`).join(", ")}.`;
}

function show(name, answer) {
  const { pictures, refused } = answer;
  const seen = answer.probabilities !== null;
  at("heading").textContent = `Answer for ${name}`;
  at("refused").hidden = !refused;
  at("refused").textContent = refused ? `Refused: ${refused.why}.${seen ? " Asked all the same; what is said below means nothing." : ""}` : "";
  at("summary").textContent = summary(answer);
  at("novelty").textContent = answer.novelty === null ? ""
    : `Novelty ${answer.novelty.toFixed(1)}: ${answer.novelty.toFixed(1)} % of the validation images are nearer to the training images.`;
  at("radiograph").src = png(pictures.radiograph);
  for (const id of ["heat", "box", "layers", "cropfigure", "tablehint", "tablebox"]) at(id).hidden = !seen;
  at("caption").textContent = "The radiograph as the model is shown it";
  if (seen) {
    const [left, top, right, bottom] = answer.box_px.map(Math.round);
    at("caption").textContent += `; attended region: x ${left} to ${right}, y ${top} to ${bottom} px of the image`;
    at("heat").src = png(pictures.heat_map);
    at("crop").src = png(pictures.crop);
    place(at("heat"), pictures.heat_frame_px, pictures.size_px);
    place(at("box"), pictures.box_px, pictures.size_px);
    layers();
    fillTable(answer);
  }
  at("result").hidden = false;
  const called = document.querySelectorAll("#rows .called").length;
  at("status").textContent = `Answered: ${refused ? "refused" : `${called} of ${answer.findings.length} called`}.`;
  at("result").focus({ preventScroll: true });
}

function layers() {
  const opacity = at("opacity");
  at("heat").style.opacity = opacity.value / 100;
  opacity.setAttribute("aria-valuetext", `${opacity.value} %`);
  at("box").hidden = !at("showbox").checked;
}

async function ask() {
  if (!file) return;
  asking?.abort();
  const mine = (asking = new AbortController());
  const name = file.name;
  at("result").hidden = true;
  at("problem").hidden = true;
  at("status").textContent = `Asking about ${name} …`;
  const query = new URLSearchParams({ pictures: "true", no_gate: at("nogate").checked });
  if (at("abstain").value) query.set("abstain", at("abstain").value);
  try {
    const response = await fetch(`/v1/predict?${query}`, { method: "POST", body: file, signal: mine.signal });
    const answer = await response.json();
    if (mine !== asking) return;
    if (response.ok) show(name, answer);
    else fail(`${name} has no answer: ${answer.error.message} (${answer.error.status}, ${answer.error.reason})`);
  } catch (error) {
    if (mine === asking) fail(`${name} has no answer: the server cannot be reached, or the file cannot be read (${error.message})`);
  }
}

function take(files) {
  if (!files?.length) return;
  file = files[0];
  ask();
}

at("form").addEventListener("submit", (event) => event.preventDefault());
at("file").addEventListener("change", (event) => take(event.target.files));
for (const id of ["nogate", "abstain"]) at(id).addEventListener("change", ask);
for (const id of ["opacity", "showbox"]) at(id).addEventListener("input", layers);
addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) at("drop").classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (event.dataTransfer.files.length) at("file").files = event.dataTransfer.files;
  take(event.dataTransfer.files);
});
fetch("/v1/model").then((response) => response.json()).then((about) => {
  at("model").textContent = about.model.slice(0, 16);
}).catch(() => {});
