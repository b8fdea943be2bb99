"use strict";
const every = (selector, within = document) => [...within.querySelectorAll(selector)];
const made = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

// What is shown: a select with data-choose="metric" shows the elements whose data-metric is its
// value, and hides the others; selects of one key go together.
const selects = every("select[data-choose]");
const keys = [...new Set(selects.map((select) => select.dataset.choose))];
const chosen = Object.fromEntries(keys.map((key) => [key, selects.find((s) => s.dataset.choose === key).value]));

function showChosen() {
  const parts = every(keys.map((key) => `[data-${key}]`).join() || "nothing");
  const fits = (part, key, value) => !(key in part.dataset) || part.dataset[key] === value;
  for (const key of keys.filter((name) => name !== "source")) {
    // A source that lacks the chosen metric shows the first that it has.
    const here = parts.filter((part) => key in part.dataset && fits(part, "source", chosen.source ?? part.dataset.source));
    const known = new Set(here.map((part) => part.dataset[key]));
    for (const select of selects.filter((each) => each.dataset.choose === key)) {
      for (const option of select.options) option.disabled = !known.has(option.value);
      if (!known.has(chosen[key])) chosen[key] = [...select.options].find((option) => !option.disabled)?.value ?? chosen[key];
    }
  }
  for (const select of selects) select.value = chosen[select.dataset.choose];
  for (const part of parts) part.hidden = keys.some((key) => !fits(part, key, chosen[key]));
}

for (const select of selects) {
  select.addEventListener("change", () => {
    chosen[select.dataset.choose] = select.value;
    showChosen();
  });
}
showChosen();

// Tables: every head becomes a button that sorts by its column, numbers by value, blanks last.
for (const table of every("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, place) => {
    const button = made("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.better === "1" ? "descending" : "ascending";
      const turned = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? turned : first;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => row.cells[place].dataset.v;
      const compare = (a, b) => {
        if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
        const difference = Number(a) - Number(b);
        return sign * (Number.isNaN(difference) ? a.localeCompare(b, "en", { numeric: true }) : difference);
      };
      body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
    });
  });
}

// The filter of clips.
const filter = document.getElementById("filter");
function showFiltered() {
  const wanted = filter.value.trim().toLowerCase();
  const rows = every("table.clips tbody tr");
  for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  const seen = rows.filter((row) => !row.closest("[data-source]").hidden);
  const left = seen.filter((row) => !row.hidden).length;
  document.querySelector("output[for=filter]").value = wanted ? `${left} of ${seen.length} clips` : "";
}
filter.addEventListener("input", showFiltered);
for (const select of selects) select.addEventListener("change", showFiltered);

// The gallery: one clip at a time, and its slider.
const exhibits = every(".exhibit");
const thumbs = every(".thumbs button");
const show = (id) => {
  for (const exhibit of exhibits) exhibit.hidden = exhibit.id !== id;
  for (const thumb of thumbs) thumb.setAttribute("aria-pressed", thumb.dataset.show === id);
};
for (const thumb of thumbs) {
  const still = document.querySelector(`#${thumb.dataset.show} .stills img`);
  thumb.prepend(made("img", { src: still.src, alt: "", loading: "lazy", decoding: "async" }));
  thumb.addEventListener("click", () => show(thumb.dataset.show));
}
if (thumbs.length > 0) show(thumbs[0].dataset.show);

for (const exhibit of exhibits) {
  const stills = every(".stills img", exhibit);
  const [view, divider] = [exhibit.querySelector(".view"), exhibit.querySelector("input[type=range]")];
  exhibit.querySelector(".stills").parentElement.open = false;
  const strips = every("figure[data-output]", exhibit);
  const sides = every("select[data-side]", exhibit);
  const move = () => view.style.setProperty("--at", `${divider.value}%`);
  for (const side of ["right", "left"]) {
    const picture = made("img", { className: side, draggable: false });
    const tag = made("span", { className: side });
    const select = exhibit.querySelector(`select[data-side=${side}]`);
    const choose = () => {
      picture.src = stills[select.value].src;
      picture.alt = `${side}: ${stills[select.value].alt}`;
      tag.textContent = select.selectedOptions[0].textContent;
      const shown = ["always", ...sides.map((each) => each.value)];
      for (const strip of strips) strip.hidden = !shown.includes(strip.dataset.output);
    };
    select.addEventListener("change", choose);
    choose();
    view.append(picture, tag);
  }
  const drag = (event) => {
    const box = view.getBoundingClientRect();
    divider.value = (100 * (event.clientX - box.left)) / box.width;
    move();
  };
  view.addEventListener("pointerdown", (event) => {
    view.setPointerCapture(event.pointerId);
    drag(event);
  });
  view.addEventListener("pointermove", (event) => {
    if (view.hasPointerCapture(event.pointerId)) drag(event);
  });
  divider.addEventListener("input", move);
  move();
}

// Enlarged pictures keep their pixels; reduced ones, of which pixels would be dropped, are smoothed.
const fit = (picture) => {
  const reduced = picture.clientWidth * devicePixelRatio < picture.naturalWidth;
  picture.style.imageRendering = reduced ? "auto" : "";
};
const sizes = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));
for (const picture of every(".exhibit .view img, .stills img, .film img, .thumbs img")) {
  sizes.observe(picture);
  picture.addEventListener("load", () => fit(picture));
}

// The theme: the system's, until one is chosen.
const theme = document.getElementById("theme");
const themes = ["auto", "light", "dark"];
const say = () => { theme.textContent = `Theme: ${document.documentElement.dataset.theme}`; };
theme.addEventListener("click", () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
  document.documentElement.dataset.theme = next;
  try { localStorage.setItem("unlossy-theme", next); } catch { /* no storage, no memory */ }
  say();
});
say();
