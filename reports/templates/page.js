"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const make = (inside) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...inside.childNodes);
    inside.append(button);
    return button;
  };
  const table = find("results");
  const rows = [...table.tBodies]; // one a line, its details with it
  const heads = [...table.tHead.rows[0].cells];
  const keys = heads.map((head) => head.dataset.c);
  const filters = ["tier", "pair", "method", "verdict"].map(find).filter(Boolean);
  const boxes = [...find("columns").querySelectorAll("input")];
  const styles = document.head.appendChild(document.createElement("style"));
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const state = { sort: "", up: true, hidden: new Set(), open: new Set(), theme: "" };

  const matches = (row) =>
    filters.every(({ id, value }) => !value || row.dataset[id].split({ method: " ", verdict: "|" }[id]).includes(value));

  const showRows = () => {
    for (const row of rows) row.hidden = !matches(row);
    const shown = rows.filter((row) => !row.hidden);
    find("count").textContent = shown.length ? `${shown.length} of ${rows.length} rows` : "No row fits: reset, or choose less";
    find("all").textContent = shown.every((row) => state.open.has(row.dataset.key)) ? "Close all" : "Open all";
    find("all").disabled = !shown.length;
  };

  const openRows = () => {
    for (const row of rows) {
      const open = state.open.has(row.dataset.key);
      row.classList.toggle("open", open);
      row.querySelector("details").open = open;
      row.querySelector(".line > th button").setAttribute("aria-expanded", open);
    }
  };

  const sortRows = () => {
    const head = heads[keys.indexOf(state.sort)];
    for (const other of heads) other.removeAttribute("aria-sort");
    if (!head) return table.append(...rows);
    head.setAttribute("aria-sort", state.up ? "ascending" : "descending");
    const value = (row) => row.querySelector(`.line > [data-c="${state.sort}"]`).dataset.v;
    const compare = head.classList.contains("number") ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en");
    const known = rows.filter((row) => value(row) !== undefined);
    const unknown = rows.filter((row) => value(row) === undefined); // last, whichever way
    known.sort((one, other) => compare(value(one), value(other)) * (state.up ? 1 : -1));
    table.append(...known, ...unknown);
  };

  const hideColumns = () => {
    styles.textContent = [...state.hidden].map((key) => `[data-c="${key}"] { display: none !important; }`).join("\n");
    for (const box of boxes) box.checked = !state.hidden.has(box.value);
  };

  const colour = () => {
    document.documentElement.dataset.theme = state.theme;
    const dark = state.theme ? state.theme === "dark" : prefersDark.matches;
    find("theme").textContent = dark ? "Light" : "Dark";
    return dark;
  };

  const write = () => {
    const parameters = new URLSearchParams();
    for (const { id, value } of filters) if (value) parameters.set(id, value);
    if (state.sort) parameters.set("sort", (state.up ? "" : "-") + state.sort);
    for (const [name, chosen] of [["hide", state.hidden], ["open", state.open]]) {
      if (chosen.size) parameters.set(name, [...chosen].join(","));
    }
    if (state.theme) parameters.set("theme", state.theme);
    history.replaceState(null, "", `#${parameters}`);
  };

  // Nothing of the address is believed that the page does not know.
  const read = () => {
    if (location.hash && !location.hash.includes("=")) return; // a link to a section
    const parameters = new URLSearchParams(location.hash.slice(1));
    const list = (name, known) => new Set((parameters.get(name) || "").split(",").filter((item) => known.includes(item)));
    for (const filter of filters) {
      const value = parameters.get(filter.id) || "";
      filter.value = [...filter.options].some((option) => option.value === value) ? value : "";
    }
    const sort = parameters.get("sort") || "";
    state.up = !sort.startsWith("-");
    state.sort = keys.includes(sort.replace("-", "")) ? sort.replace("-", "") : "";
    state.hidden = list("hide", boxes.map((box) => box.value));
    state.open = list("open", rows.map((row) => row.dataset.key));
    state.theme = ["dark", "light"].find((theme) => theme === parameters.get("theme")) || "";
    for (const update of [sortRows, hideColumns, openRows, showRows, colour]) update();
  };

  const listen = (target, event, change, ...updates) =>
    target.addEventListener(event, () => {
      change();
      for (const update of [...updates, write]) update();
    });

  for (const head of heads) {
    const first = !head.classList.contains("number"); // words from A, figures from the highest; the third click undoes
    const next = () => {
      const again = state.sort === head.dataset.c;
      state.sort = again && state.up !== first ? "" : head.dataset.c;
      state.up = again ? !state.up : first;
    };
    listen(make(head), "click", next, sortRows);
  }
  for (const row of rows) {
    const { key } = row.dataset;
    const button = make(row.querySelector(".line > th"));
    button.setAttribute("aria-controls", `more-${key}`);
    listen(button, "click", () => state.open.delete(key) || state.open.add(key), openRows, showRows);
  }
  for (const box of boxes) listen(box, "change", () => state.hidden.delete(box.value) || state.hidden.add(box.value), hideColumns);
  for (const filter of filters) listen(filter, "change", () => {}, showRows);
  listen(find("theme"), "click", () => (state.theme = colour() ? "light" : "dark"), colour);
  const openAll = () => {
    const shown = rows.filter((row) => !row.hidden).map((row) => row.dataset.key);
    const closing = shown.every((key) => state.open.has(key));
    for (const key of shown) closing ? state.open.delete(key) : state.open.add(key);
  };
  listen(find("all"), "click", openAll, openRows, showRows);
  find("reset").addEventListener("click", () => {
    history.replaceState(null, "", "#");
    read();
  });
  find("controls").addEventListener("submit", (event) => event.preventDefault());

  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const command = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(command); // no clipboard here: ready for Ctrl+C
        button.textContent = "Selected";
      }
    });
  }
  // A head that stays in sight needs a table that does not scroll sideways.
  const frame = table.parentElement;
  const fit = new ResizeObserver(() => frame.classList.toggle("fits", table.offsetWidth <= frame.clientWidth));
  for (const box of [table, frame]) fit.observe(box);
  prefersDark.addEventListener("change", colour);
  addEventListener("hashchange", read);
  read();
  if (!location.hash.includes("=")) for (const update of [openRows, showRows, colour]) update();
})();
