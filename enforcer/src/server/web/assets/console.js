// Keeps a page fresh and takes keys. The pages work without it.
"use strict";
(() => {
  const start = Date.now();

  // Ages and countdowns, by the server's time.
  const span = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    const two = (n) => String(n).padStart(2, "0");
    if (s < 60) return s + "s";
    if (s < 3600) return Math.floor(s / 60) + "m" + two(s % 60) + "s";
    if (s < 86400) return Math.floor(s / 3600) + "h" + two(Math.floor(s / 60) % 60) + "m";
    return Math.floor(s / 86400) + "d" + two(Math.floor(s / 3600) % 24) + "h";
  };
  const tick = () => {
    for (const clock of document.querySelectorAll(".clock")) {
      const born = Number(clock.dataset.born || (clock.dataset.born = String(Date.now())));
      const now = Number(clock.dataset.now) + (Date.now() - born);
      if (clock.dataset.until) {
        const left = Number(clock.dataset.until) - now;
        clock.textContent = span(left);
        clock.classList.toggle("soon", left < 60000);
      } else {
        clock.textContent = span(now - Number(clock.dataset.since));
      }
    }
  };
  tick();
  setInterval(tick, 1000);

  // Keys: none of them decides, they lead to the button that does.
  const rows = () => Array.from(document.querySelectorAll("[data-row]"));
  const step = (by) => {
    const all = rows();
    const at = all.indexOf(document.activeElement);
    const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
    if (next) next.focus();
  };
  const lead = (key) => {
    const button = document.querySelector('[data-key="' + key + '"]');
    if (!button) return false;
    button.scrollIntoView({ block: "center" });
    button.focus();
    return true;
  };
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    switch (event.key) {
      case "j": step(1); break;
      case "k": step(-1); break;
      case "a": if (!lead("approve")) return; break;
      case "d": if (!lead("deny")) return; break;
      case "q": location.assign("/"); break;
      default: return;
    }
    event.preventDefault();
  });

  // News.
  const live = document.body.dataset.live;
  if (!live || !window.EventSource) return;
  const link = document.getElementById("link");
  const tell = (on) => {
    if (!link) return;
    link.dataset.state = on ? "on" : "off";
    link.textContent = on ? "live" : "not live";
  };
  let asking = false;
  let again = false;
  const refresh = async () => {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (answer.redirected || !answer.ok) { location.reload(); return; }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
      const old = document.getElementById("live");
      if (fresh && old) {
        const kept = document.activeElement && document.activeElement.getAttribute("href");
        old.replaceWith(fresh);
        if (kept) {
          const row = rows().find((one) => one.getAttribute("href") === kept);
          if (row) row.focus({ preventScroll: true });
        }
        tick();
      }
    } catch { tell(false); } finally {
      asking = false;
      if (again) { again = false; refresh(); }
    }
  };
  // What somebody reads is not changed under their eyes: they are told, and the buttons go.
  const changed = () => {
    if (document.querySelector(".changed")) return;
    const bar = document.createElement("div");
    bar.className = "changed";
    bar.setAttribute("role", "status");
    bar.append("What is shown here has changed.");
    const again = document.createElement("button");
    again.type = "button";
    again.textContent = "Show it again";
    again.addEventListener("click", () => location.reload());
    bar.append(again);
    document.getElementById("main").prepend(bar);
    for (const button of document.querySelectorAll('.decide button[type="submit"]')) button.disabled = true;
  };
  const [kind, ...shown] = live.split(" ");
  const known = new Map(shown.map((one) => one.split(":")));
  const news = new EventSource("/live");
  let opened = false;
  news.addEventListener("hello", () => {
    tell(true);
    // Something may have happened since the page was made, or while the link was down.
    if (kind === "list" && (opened || Date.now() - start > 1000)) refresh();
    opened = true;
  });
  news.addEventListener("change", (event) => {
    const [which, now] = event.data.split(" ");
    if (kind === "list") refresh();
    else if (which === "*" || Number(now) > Number(known.get(which))) changed();
  });
  news.addEventListener("bye", () => { news.close(); location.reload(); });
  news.addEventListener("error", () => tell(false));
  if (kind === "list") setInterval(refresh, 30000);
})();
