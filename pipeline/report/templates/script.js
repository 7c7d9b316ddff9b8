(function () {
  "use strict";
  var root = document.documentElement;
  var all = function (query, inside) { return Array.prototype.slice.call((inside || document).querySelectorAll(query)); };

  // Theme: the system's, until the reader chooses.
  var theme = document.getElementById("theme");
  var dark = function () {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  var name = function () { theme.textContent = dark() ? "Light theme" : "Dark theme"; };
  theme.addEventListener("click", function () { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  name();

  // Tables: a click on a heading sorts, a second one turns the order round; what has no value stays last.
  all("table.sortable th button").forEach(function (button) {
    button.addEventListener("click", function () {
      var heading = button.parentNode, column = heading.cellIndex, body = heading.closest("table").tBodies[0];
      var first = heading.classList.contains("num") ? "descending" : "ascending";
      var other = first === "descending" ? "ascending" : "descending";
      var order = heading.getAttribute("aria-sort") === first ? other : first;
      all("th", heading.parentNode).forEach(function (th) { th.removeAttribute("aria-sort"); });
      heading.setAttribute("aria-sort", order);
      var key = function (row) {
        var cell = row.cells[column], raw = cell.dataset.sort;
        if (raw === undefined) return heading.classList.contains("num") ? null : cell.textContent.trim().toLowerCase();
        return raw !== "" && isFinite(raw) ? Number(raw) : raw.toLowerCase();
      };
      all("tr", body).map(function (row, index) { return { row: row, key: key(row), index: index }; }).sort(function (a, b) {
        if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.index - b.index;
        var sign = typeof a.key === "number" && typeof b.key === "number" ? a.key - b.key : String(a.key).localeCompare(String(b.key));
        return (order === "ascending" ? sign : -sign) || a.index - b.index;
      }).forEach(function (item) { body.appendChild(item.row); });
    });
  });

  // Filters: one pressed button shows the rows that carry its value, "" shows all.
  all("[data-filter]").forEach(function (group) {
    var table = document.getElementById(group.dataset.filter);
    var apply = function () {
      var pressed = group.querySelector("[aria-pressed=true]");
      var value = pressed ? pressed.dataset.value : "";
      all("tbody tr", table).forEach(function (row) { row.hidden = value !== "" && row.dataset[group.dataset.key] !== value; });
    };
    group.addEventListener("click", function (event) {
      var button = event.target.closest("button");
      if (!button) return;
      all("button", group).forEach(function (b) { b.setAttribute("aria-pressed", String(b === button)); });
      apply();
    });
    apply();
  });

  // Switches: one pressed button puts its class on an element.
  all("[data-switch]").forEach(function (group) {
    var target = document.getElementById(group.dataset.of);
    group.addEventListener("click", function (event) {
      var button = event.target.closest("button");
      if (!button) return;
      all("button", group).forEach(function (b) { b.setAttribute("aria-pressed", String(b === button)); });
      target.classList.toggle(group.dataset.switch, button.dataset.value !== "");
    });
  });

  // Legends: pointing at a name, or focusing it, brings its lines out within the section.
  all(".pick").forEach(function (button) {
    var section = button.closest("figure") || button.closest("section");
    var focus = function (on) {
      section.classList.toggle("focus", on);
      all(".series", section).forEach(function (series) {
        series.classList.toggle("focused", on && series.dataset.series === button.dataset.pick);
      });
    };
    var named = function () { return all(".series", section).some(function (s) { return s.dataset.series === button.dataset.pick; }); };
    ["pointerenter", "focus"].forEach(function (kind) { button.addEventListener(kind, function () { focus(named()); }); });
    ["pointerleave", "blur"].forEach(function (kind) { button.addEventListener(kind, function () { focus(false); }); });
  });

  // Tooltips: the title of a mark, shown at once instead of after the browser's delay.
  var tip = document.getElementById("tip");
  var words = function (target) {
    for (var mark = target; mark && mark.nodeName !== "svg"; mark = mark.parentNode) {
      var title = mark.dataset && mark.dataset.tip ? null : mark.querySelector && mark.querySelector(":scope > title");
      if (title) { mark.dataset.tip = title.textContent; mark.setAttribute("aria-label", title.textContent); title.remove(); }
      if (mark.dataset && mark.dataset.tip) return mark.dataset.tip;
    }
    return "";
  };
  document.addEventListener("pointermove", function (event) {
    var shown = event.target.closest && event.target.closest("svg.chart") ? words(event.target) : "";
    tip.hidden = !shown;
    if (!shown) return;
    tip.textContent = shown;
    var x = event.clientX + 14, y = event.clientY + 14;
    tip.style.left = Math.max(4, Math.min(x, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = (y + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 8 : y) + "px";
  });

  all(".copy").forEach(function (button) {
    button.addEventListener("click", function () {
      var source = document.getElementById(button.dataset.copy);
      var done = function () { button.textContent = "Copied"; setTimeout(function () { button.textContent = "Copy"; }, 1500); };
      var select = function () {
        // Files opened from disk may not reach the clipboard API.
        var range = document.createRange();
        range.selectNodeContents(source);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        if (document.execCommand("copy")) done();
      };
      if (navigator.clipboard && isSecureContext) navigator.clipboard.writeText(source.textContent).then(done, select);
      else select();
    });
  });

  // The list of sections marks the one being read.
  if ("IntersectionObserver" in window) {
    var links = {};
    all("nav.side li a").forEach(function (link) { links[link.hash.slice(1)] = link; });
    var watch = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) {
        if (!entry.isIntersecting || !links[entry.target.id]) return;
        Object.keys(links).forEach(function (key) { links[key].classList.toggle("here", key === entry.target.id); });
      });
    }, { rootMargin: "-10% 0px -80% 0px" });
    all("main > section[id]").forEach(function (section) { watch.observe(section); });
  }
})();
