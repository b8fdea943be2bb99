// A rater without a browser: runs the script of a study's page on a document of the few parts that
// it uses, answers each pair as told, and prints what the page says and offers at its end.
//
//   node rate_study.js STUDY.html left,right,left,...      fewer answers than pairs: then stops
"use strict";
const { readFileSync } = require("fs");
const vm = require("vm");

class Element {
  constructor() {
    Object.assign(this, { listeners: {}, style: {}, classes: new Set(), clientWidth: 170 });
    Object.assign(this, { hidden: false, checked: false, naturalWidth: 32, naturalHeight: 32 });
    this.classList = {
      add: (name) => this.classes.add(name),
      remove: (name) => this.classes.delete(name),
    };
  }
  addEventListener(kind, listener) { this.listeners[kind] = listener; }
  querySelector(tag) {
    this[tag] ??= Object.assign(new Element(), { parentElement: this });
    return this[tag];
  }
  focus() { Element.focused = this; }
  decode() { return Promise.resolve(); }
  click() { Element.clicked = this; this.listeners.click?.(); }
}

const elements = new Proxy({}, { get: (known, id) => (known[id] ??= new Element()) });
const listeners = {};
const files = [];
const page = readFileSync(process.argv[2], "utf8");
const script = page.match(/<script>([\s\S]*)<\/script>/)[1];
vm.runInNewContext(script, {
  document: {
    getElementById: (id) => elements[id],
    createElement: () => new Element(),
  },
  addEventListener: (kind, listener) => { listeners[kind] = listener; },
  Blob: class { constructor(parts) { files.push(parts.join("")); } },
  URL: { createObjectURL: () => "blob:file" },
  performance, setTimeout, clearTimeout,
});

const settled = () => new Promise((resolve) => setImmediate(resolve));
const press = (key, more) => listeners.keydown({ key, preventDefault() {}, ...more });

async function rate(told) {
  press("ArrowLeft"); // before the start it means nothing
  elements.start.click();
  press("ArrowLeft"); // nor before the pictures are there
  for (const [number, side] of told.entries()) {
    await settled();
    press("ArrowLeft", { repeat: true }); // nor a key that is held down
    if (number % 2) elements[side].click();
    else press(side === "left" ? "ArrowLeft" : "ArrowRight");
  }
  if (elements.end.hidden) elements.stop.click();
  await settled();
  press("ArrowLeft");
  elements.save.click();
  console.log(JSON.stringify({
    result: elements.result.textContent,
    csv: files[0],
    text: elements.text.textContent,
    file: Element.clicked.download,
    width: elements.left.img.style.width,
    place: elements.place.textContent,
  }));
}

elements.end.hidden = elements.trial.hidden = true;
rate(process.argv[3].split(",").filter(Boolean));
