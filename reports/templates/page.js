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
  const rows = [...table.tBodies]; // a pair's heading, or a line with its details
  const heads = [...table.tHead.rows[0].cells];
  const keys = heads.map((head) => head.dataset.c);
  const groups = [...table.querySelectorAll("tbody.group")];
  const lines = rows.filter((row) => !row.classList.contains("group"));
  const charts = [...document.querySelectorAll("[data-for]")];
  const frames = [...document.querySelectorAll(".forest, .multiples")];
  const filters = ["tier", "pair", "verdict"].map(find).filter(Boolean);
  const search = find("search");
  const untuned = find("untuned"); // none where nothing was tuned
  const methods = [...find("methods").querySelectorAll("input")];
  const boxes = [...find("columns").querySelectorAll("input")];
  const styles = document.head.appendChild(document.createElement("style"));
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const state = { sort: "", up: true, methods: new Set(), hidden: new Set(), open: new Set(), theme: "" };

  const matches = (row) =>
    filters.every(({ id, value }) => !value || row.dataset[id].split(id === "verdict" ? "|" : " ").includes(value)) &&
    (!state.methods.size || row.dataset.method.split(" ").some((part) => state.methods.has(part))) &&
    search.value.toLowerCase().split(/\s+/).every((word) => row.dataset.words.includes(word)) &&
    !(untuned?.checked && "tuned" in row.dataset);

  const showRows = () => {
    for (const row of lines) row.hidden = !matches(row);
    const shown = lines.filter((row) => !row.hidden);
    const keys = new Set(shown.map((row) => row.dataset.key));
    const inGroups = new Set(shown.map((row) => row.dataset.group));
    for (const group of groups) group.hidden = !inGroups.has(group.dataset.group);
    for (const chart of charts) chart.hidden = !keys.has(chart.dataset.for);
    for (const frame of frames) frame.hidden = ![...frame.querySelectorAll("[data-for]")].some((chart) => !chart.hidden);
    for (const box of methods) box.checked = state.methods.has(box.value);
    find("chosen").textContent = state.methods.size ? `${state.methods.size} of ${methods.length}` : "all";
    find("download").disabled = !shown.length;
    find("count").textContent = shown.length ? `${shown.length} of ${lines.length} rows` : "No row fits: reset, or choose less";
    find("all").textContent = shown.every((row) => state.open.has(row.dataset.key)) ? "Close all" : "Open all";
    find("all").disabled = !shown.length;
  };

  const openRows = () => {
    for (const row of lines) {
      const open = state.open.has(row.dataset.key);
      row.classList.toggle("open", open);
      row.querySelector("details").open = open;
      row.querySelector(".line > th button").setAttribute("aria-expanded", open);
    }
  };

  const sortRows = () => {
    const head = heads[keys.indexOf(state.sort)];
    for (const other of heads) other.removeAttribute("aria-sort");
    if (!head) return table.append(...rows); // as they came: a pair's heading before its rows
    head.setAttribute("aria-sort", state.up ? "ascending" : "descending");
    const value = (row) => row.querySelector(`.line > [data-c="${state.sort}"]`).dataset.v;
    const compare = head.classList.contains("number") ? (a, b) => a - b : (a, b) => a.localeCompare(b, "en");
    for (const group of groups) {
      const own = lines.filter((row) => row.dataset.group === group.dataset.group);
      const known = own.filter((row) => value(row) !== undefined);
      const unknown = own.filter((row) => value(row) === undefined); // last, whichever way
      known.sort((one, other) => compare(value(one), value(other)) * (state.up ? 1 : -1));
      table.append(group, ...known, ...unknown);
    }
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
    if (search.value) parameters.set("search", search.value);
    if (untuned?.checked) parameters.set("untuned", "1");
    for (const [name, chosen] of [["method", state.methods], ["hide", state.hidden], ["open", state.open]]) {
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
    search.value = parameters.get("search") || "";
    if (untuned) untuned.checked = parameters.get("untuned") === "1";
    state.methods = list("method", methods.map((box) => box.value));
    state.hidden = list("hide", boxes.map((box) => box.value));
    state.open = list("open", lines.map((row) => row.dataset.key));
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
  for (const row of lines) {
    const { key } = row.dataset;
    const button = make(row.querySelector(".line > th"));
    button.setAttribute("aria-controls", `more-${key}`);
    listen(button, "click", () => state.open.delete(key) || state.open.add(key), openRows, showRows);
  }
  for (const box of boxes) listen(box, "change", () => state.hidden.delete(box.value) || state.hidden.add(box.value), hideColumns);
  for (const box of methods) listen(box, "change", () => state.methods.delete(box.value) || state.methods.add(box.value), showRows);
  for (const filter of filters) listen(filter, "change", () => {}, showRows);
  listen(search, "input", () => {}, showRows);
  if (untuned) listen(untuned, "change", () => {}, showRows);
  // A choice that is open closes with a click beside it, or Escape.
  const choices = [...document.querySelectorAll(".choice")];
  addEventListener("click", ({ target }) => {
    for (const choice of choices) if (!choice.contains(target)) choice.open = false;
  });
  addEventListener("keydown", ({ key }) => {
    if (key !== "Escape") return;
    for (const choice of choices.filter(({ open }) => open)) {
      choice.open = false;
      choice.querySelector("summary").focus();
    }
  });
  // A link of the gains opens its row.
  for (const link of document.querySelectorAll(".gain a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const row = find(link.hash.slice(1));
      state.open.add(row.dataset.key);
      for (const update of [openRows, showRows, write]) update();
      row.scrollIntoView({ block: "start" });
      row.querySelector(".line > th button").focus({ preventScroll: true });
    });
  }
  find("download").addEventListener("click", () => {
    const shown = keys.filter((key) => !state.hidden.has(key));
    const quoted = (text) => `"${text.replaceAll('"', '""').trim()}"`;
    const words = (row, key) => row.querySelector(`.line > [data-c="${key}"]`);
    const text = (row, key) => (key === "method" || key === "verdict" ? words(row, key).dataset.v : words(row, key).textContent);
    const content = [
      ["pair", ...shown],
      ...[...table.tBodies].filter((row) => !row.hidden && row.dataset.key)
        .map((row) => [row.dataset.title, ...shown.map((key) => text(row, key))]),
    ].map((line) => line.map(quoted).join(",")).join("\r\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", content, "\r\n"], { type: "text/csv" }));
    link.download = "leaderboard-shown.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  listen(find("theme"), "click", () => (state.theme = colour() ? "light" : "dark"), colour);
  const openAll = () => {
    const shown = lines.filter((row) => !row.hidden).map((row) => row.dataset.key);
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
  // The head stays below the controls, where these stay in sight.
  const bar = find("controls");
  const measure = () => {
    const height = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
    document.documentElement.style.setProperty("--bar", `${height}px`);
  };
  new ResizeObserver(measure).observe(bar);
  addEventListener("resize", measure);
  prefersDark.addEventListener("change", colour);
  addEventListener("hashchange", read);
  read();
  if (!location.hash.includes("=")) for (const update of [openRows, showRows, colour]) update();
})();
