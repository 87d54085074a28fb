"use strict";
/* Sorting, filtering, hovering, and from a figure to its examples. The page is whole without it. */
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  /* Sortable tables: a header becomes a button. */
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    all("th[data-sort]", table).forEach((header) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const up = header.getAttribute("aria-sort") !== "ascending";
        for (const other of all("th", table.tHead)) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", up ? "ascending" : "descending");
        const place = header.cellIndex;
        const number = header.dataset.sort === "number";
        const key = (row) => {
          const cell = row.cells[place];
          const text = cell.dataset.value ?? cell.textContent.trim();
          return number ? Number.parseFloat(text.replace("−", "-").replaceAll(",", "")) : text;
        };
        const compare = (a, b) => number
          ? (Number.isNaN(a) ? Infinity : a) - (Number.isNaN(b) ? Infinity : b)
          : a.localeCompare(b, undefined, { numeric: true });
        body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b))));
      });
    });
  }

  /* Filter boxes: every word must occur in a row. */
  for (const box of all("[data-filters]")) {
    const table = document.getElementById(box.dataset.filters);
    const input = box.querySelector("input");
    const count = box.querySelector("output");
    box.hidden = false;
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = words.length ? `${shown} of ${table.tBodies[0].rows.length}` : "";
    });
  }

  /* Hovering: what the browser would show late, shown at once, for a finger too. */
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  for (const title of all(".drawing title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest("[data-tip]");
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const place = mark.getBoundingClientRect();
    const left = place.left + place.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(8, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
    const above = Math.max(place.top, 0) - tip.offsetHeight - 8;
    tip.style.top = `${above > 8 ? above : place.bottom + 8}px`;
  });
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  /* From a figure to its examples: the gallery shows those alone, until all are asked for again. */
  const choose = (gallery, wanted) => {
    const items = all("[data-tag]", gallery);
    const fits = (tag) => wanted.endsWith(" → ") ? tag.startsWith(wanted) : tag === wanted;
    const some = items.some((item) => fits(item.dataset.tag));
    for (const item of items) item.hidden = Boolean(wanted) && some && !fits(item.dataset.tag);
    gallery.querySelector(".chosen")?.remove();
    if (!wanted) return;
    const line = document.createElement("p");
    line.className = "chosen";
    line.append(some ? `Only ${wanted.endsWith(" → ") ? wanted + "anything" : wanted} is shown. ` : `${wanted} is not among the pictures shown. `);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Show all";
    button.addEventListener("click", () => choose(gallery, ""));
    line.append(button);
    gallery.querySelector(".strips").before(line);
  };
  for (const link of all("a[data-find]")) {
    link.addEventListener("click", () => {
      const gallery = document.querySelector(link.getAttribute("href"));
      if (gallery) choose(gallery, link.dataset.find);
    });
  }

  /* Contents: open beside the page, closed after a choice on a phone; a link opens what it leads into. */
  const contents = document.querySelector("nav.contents details");
  const wide = matchMedia("(min-width: 72rem)");
  const arrange = () => { if (contents) contents.open = wide.matches; };
  wide.addEventListener("change", arrange);
  arrange();
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
  for (const link of all("nav.contents a")) link.addEventListener("click", arrange);
  const links = new Map(all("nav.contents a").map((link) => [link.getAttribute("href").slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "0px 0px -80% 0px" });
  for (const id of links.keys()) {
    const target = document.getElementById(id);
    if (target) seen.observe(target);
  }
  addEventListener("beforeprint", () => { for (const part of all("main details")) part.open = true; });
})();
