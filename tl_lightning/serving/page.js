// The page: sends images or a text, and shows what comes back. Names are put in as text, never as HTML.
"use strict";

const SHOWN = 5;
const PORTION = 32; // images in a request
const byId = (id) => document.getElementById(id);
const token = new URLSearchParams(location.hash.slice(1)).get("token");
let about;

function made(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

async function fetched(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(typeof body.detail === "string" ? body.detail : `refused (${response.status})`);
  return body;
}

function pictured(source, caption) {
  const figure = made("figure");
  const image = made("img");
  image.src = source;
  image.alt = caption;
  figure.append(image, made("figcaption", caption));
  return figure;
}

function words(explanation) {
  const line = made("p", "");
  for (const part of explanation.split(" ")) {
    const [word, weight] = [part.slice(0, part.lastIndexOf(":")), Number(part.slice(part.lastIndexOf(":") + 1))];
    const mark = made("mark", word, weight < 0 ? "against" : "");
    mark.title = `${weight > 0 ? "for" : "against"} the answer, ${Math.abs(weight)}`;
    line.append(mark, " ");
  }
  return line;
}

function numbers(answer) {
  const box = made("div");
  const pairs = Object.entries(answer.numbers);
  const probabilities = about.kind === "classes";
  if (probabilities) pairs.sort((a, b) => b[1] - a[1]);
  for (const [name, value] of probabilities ? pairs.slice(0, SHOWN) : pairs) {
    const row = made("div", "", "number");
    row.append(made("span", name), made("span", probabilities ? `${(100 * value).toFixed(1)} %` : String(value)));
    if (probabilities) {
      const meter = made("meter");
      meter.value = value;
      meter.setAttribute("aria-label", `probability of ${name}`);
      row.append(meter);
    }
    box.append(row);
  }
  return box;
}

function card(answer, picture) {
  const box = made("article", "", "answer");
  const left = made("div", "", "pictures");
  if (picture && !answer.error) left.append(pictured(picture, answer.source));
  if (answer.explanation?.startsWith("data:image/")) left.append(pictured(answer.explanation, "where the answer comes from"));
  const right = made("div");
  if (answer.error) {
    right.append(made("h2", answer.source), made("p", answer.error, "error"));
  } else {
    const said = Array.isArray(answer.answer) ? answer.answer.join(", ") || "none" : String(answer.answer);
    right.append(made("h2", said || "not sure enough to say"));
    if (answer.unknown) right.append(made("p", "Unlike most of what it was trained on: look twice.", "unknown"));
    right.append(numbers(answer));
    if (answer.unknown === false) right.append(made("p", "Like what it was trained on."));
    if (answer.explanation && !answer.explanation.startsWith("data:")) {
      right.append(made("p", "The words that weigh most:"), words(answer.explanation));
    }
    if (!picture) right.append(made("p", answer.source));
  }
  if (left.childElementCount) box.append(left);
  box.append(right);
  return box;
}

async function ask(request, pictures) {
  const began = performance.now();
  byId("state").textContent = "Asking ...";
  try {
    const answers = await request();
    const cards = answers.map((answer, i) => card(answer, pictures[i]));
    byId("answers").replaceChildren(...cards, ...byId("answers").children);
    byId("state").textContent = `${answers.length} answered in ${Math.round(performance.now() - began)} ms`;
  } catch (error) {
    byId("state").textContent = `No answer: ${error.message}`;
  }
}

function askForImages(files) {
  const chosen = [...files];
  if (!chosen.length || about.noun !== "images") return;
  const pictures = chosen.map((file) => URL.createObjectURL(file));
  ask(() => answersFor(chosen), pictures);
}

// In portions that a request may hold; a file that is too large has an answer that says so.
async function answersFor(files) {
  const answers = [];
  let portion = [];
  const most = about.max_mb * 0.9e6;
  const send = async () => {
    if (!portion.length) return;
    const body = new FormData();
    for (const file of portion) body.append("files", file);
    portion = [];
    answers.push(...(await fetched("predict_batch?explain=true", { method: "POST", body })));
  };
  for (const file of files) {
    if (file.size > most) {
      await send();
      answers.push({ source: file.name, error: `larger than ${about.max_mb} MB`, numbers: {} });
      continue;
    }
    const size = portion.reduce((sum, one) => sum + one.size, file.size);
    if (size > most || portion.length === PORTION) await send();
    portion.push(file);
  }
  await send();
  return answers;
}

function askForText() {
  const text = byId("text").value.trim();
  if (!text) return;
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text }) };
  ask(async () => [await fetched("predict?explain=true", options)], []);
}

function listen() {
  byId("files").addEventListener("change", (event) => askForImages(event.target.files));
  byId("texts").addEventListener("submit", (event) => { event.preventDefault(); askForText(); });
  byId("text").addEventListener("keydown", (event) => { if (event.ctrlKey && event.key === "Enter") askForText(); });
  const drop = document.querySelector(".drop");
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => { event.preventDefault(); askForImages(event.dataTransfer.files); });
  document.addEventListener("paste", (event) => askForImages(event.clipboardData.files));
}

async function begin() {
  about = await fetched("about");
  const most = about.outputs.slice(0, 12).join(", ") + (about.outputs.length > 12 ? " ..." : "");
  byId("about").textContent = `${about.kind}: ${most}`;
  listen();
  byId(about.noun).hidden = false;
}

begin().catch((error) => {
  byId("state").textContent = `${error.message}. The address that the server printed holds the token, if there is one.`;
});
