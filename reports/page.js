// Tables sort and filter, a method is switched off in all figures, sections fold. Without this the page is complete.
"use strict";
(() => {
  const MANY_TO_SORT = 3, MANY_TO_FILTER = 12; // rows: more than these
  const NUMBER = /^[-−]?[\d,]*\.?\d+(e[-+]?\d+)?(?=$|[\s%×÷†[(,;–])/i;
  const ORDERS = ["none", "ascending", "descending"];
  const byText = new Intl.Collator("en", { numeric: true }).compare;

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // Moves what an element shows into a button within it.
  function asButton(element, onclick) {
    const button = make("button", { type: "button", onclick }, ...element.childNodes);
    element.append(button);
    return button;
  }

  // The rows of a table body, cut where a row of one wide cell is their heading.
  function groupsOf(body) {
    const groups = [{ heading: null, rows: [] }];
    for (const row of body.rows) {
      if (row.cells.length === 1 && row.cells[0].colSpan > 1) groups.push({ heading: row, rows: [] });
      else groups.at(-1).rows.push(row);
    }
    return groups;
  }

  // What a cell says, without an interval or a note below it.
  function textOf(cell) {
    const parts = [...(cell?.childNodes ?? [])].filter((n) => n.nodeName !== "SMALL" && n.className !== "note");
    const text = parts.map((part) => part.textContent).join(" ").trim();
    return text === "—" ? "" : text;
  }

  const numberOf = (text) => Number(text.match(NUMBER)?.[0].replaceAll(",", "").replace("−", "-") ?? NaN);

  // Compares rows by number where half of a column's cells are numbers; what is none, or empty, comes last.
  function comparison(rows, column, sign) {
    const texts = new Map(rows.map((row) => [row, textOf(row.cells[column])]));
    const said = [...texts.values()].filter(Boolean);
    const numeric = 2 * said.filter((text) => !isNaN(numberOf(text))).length >= said.length;
    const missing = (text) => (numeric ? isNaN(numberOf(text)) : !text);
    const inOrder = numeric ? (a, b) => numberOf(a) - numberOf(b) : byText;
    return (one, other) => {
      const [a, b] = [texts.get(one), texts.get(other)];
      return missing(a) || missing(b) ? missing(a) - missing(b) : sign * inOrder(a, b);
    };
  }

  function sort(bodies, column, order) {
    const rows = [...bodies.values()].flat().flatMap((group) => group.rows);
    const compare = comparison(rows, column, order === "ascending" ? 1 : -1);
    for (const [body, groups] of bodies) {
      const ordered = (group) => (order === "none" ? group.rows : group.rows.toSorted(compare));
      body.append(...groups.flatMap((group) => [group.heading, ...ordered(group)]).filter(Boolean));
    }
  }

  // Headings become buttons: ascending, descending, as it was.
  function sortable(headings, bodies) {
    for (const th of headings.filter((heading) => heading.textContent.trim())) {
      th.ariaSort = "none";
      asButton(th, () => {
        const order = ORDERS[(ORDERS.indexOf(th.ariaSort) + 1) % 3];
        for (const other of headings) if (other.ariaSort) other.ariaSort = "none";
        th.ariaSort = order;
        sort(bodies, th.cellIndex, order);
      });
    }
  }

  // A field above the table hides the rows that do not hold its text; the heading of a group counts as theirs.
  function filterable(table, groups, count) {
    const words = (row) => [...(row?.cells ?? [])].map((cell) => cell.textContent).join(" ");
    const input = make("input", { type: "search", autocomplete: "off" }), status = make("span", { role: "status" });
    input.oninput = () => {
      const wanted = input.value.trim().toLowerCase();
      let seen = 0;
      for (const { heading, rows } of groups) {
        for (const row of rows) {
          row.hidden = !`${words(heading)} ${words(row)}`.replace(/\s+/g, " ").toLowerCase().includes(wanted);
          seen += !row.hidden;
        }
        if (heading) heading.hidden = rows.every((row) => row.hidden);
      }
      status.textContent = wanted ? `${seen} of ${count} rows` : "";
    };
    const field = make("div", { className: "tool" }, make("label", {}, "Filter rows", input), " ", status);
    (table.closest(".wide") ?? table).before(field);
  }

  for (const table of document.querySelectorAll("table:has(> thead)")) {
    const bodies = new Map([...table.tBodies].map((body) => [body, groupsOf(body)]));
    const groups = [...bodies.values()].flat(), count = groups.reduce((sum, group) => sum + group.rows.length, 0);
    if (table.tHead.rows.length > 1 || table.querySelector("[rowspan], thead [colspan]")) continue;
    if (count > MANY_TO_SORT) sortable([...table.tHead.rows[0].cells], bodies);
    if (count > MANY_TO_FILTER) filterable(table, groups, count);
  }

  // A method is its colour: in figures, movies, legends, and the dots of tables. On paper all are shown.
  const nav = document.querySelector("nav"), sheet = make("style"), off = new Set();
  const hiding = (colour) => `@media screen {
    svg [style*="${colour}"], svg [stroke="${colour}"] { visibility: hidden; }
    [id*="-legend_"] > g:has([style*="${colour}"]) + [id*="-text_"], tr:has(.dot[style*="${colour}"]) { opacity: 0.3; }
  }`;
  const named = { className: "tool methods", role: "group", ariaLabel: "Methods shown" };
  const switches = make("div", named, "Methods shown:");
  for (const [colour, label] of JSON.parse(nav?.dataset.series ?? "[]")) {
    if (!document.querySelector(`svg [style*="${colour}"], .dot[style*="${colour}"]`)) continue;
    const input = make("input", { type: "checkbox", checked: true, autocomplete: "off" });
    input.onchange = () => {
      off[input.checked ? "delete" : "add"](colour);
      sheet.textContent = [...off].map(hiding).join("\n");
    };
    const dot = make("i", { className: "dot", style: `background:${colour}` });
    switches.append(make("label", {}, input, " ", dot, label));
  }
  document.head.append(sheet);
  if (switches.querySelector("input")) nav.after(switches);

  // Sections fold; a link into one unfolds it.
  const folds = new Map();
  for (const heading of document.querySelectorAll("section > h2")) {
    const section = heading.parentElement, fold = (folded) => {
      section.classList.toggle("folded", folded);
      button.ariaExpanded = String(!folded);
    };
    const button = asButton(heading, () => fold(!section.classList.contains("folded")));
    section.id ||= `section-${folds.size}`;
    button.setAttribute("aria-controls", section.id);
    folds.set(section, fold);
    fold(false);
  }
  for (const [text, folded] of [["Fold all", true], ["Unfold all", false]]) {
    const onclick = () => folds.forEach((fold) => fold(folded));
    nav?.append(make("button", { type: "button", className: "tool", onclick }, text));
  }
  function reveal() {
    const target = document.querySelector(":target"), section = target?.closest(".folded");
    if (!section) return;
    folds.get(section)(false);
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => event.target.closest('a[href^="#"]') && setTimeout(reveal));
})();
