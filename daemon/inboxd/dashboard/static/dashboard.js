// Keeps a page live: what is marked data-live is fetched anew when something happens, and now and then.
"use strict";
(() => {
  const QUIET_MS = 600;
  const showTimes = (root) => {
    const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
    const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
    const today = new Date().toDateString();
    for (const time of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime);
      const isShort = moment.toDateString() === today && time.closest(".side, .stamp");
      time.title = time.dateTime;
      time.textContent = (isShort ? clock : exact).format(moment);
    }
  };

  const isFilledIn = (part) => [...part.querySelectorAll("textarea")].some((field) => field.value);

  const replace = (fresh) => {
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      const inUse = part.contains(document.activeElement) || part.matches(":active") || isFilledIn(part) || String(document.getSelection());
      if (!other || inUse || part.dataset.was === other.innerHTML) continue;
      part.dataset.was = other.innerHTML;
      const atEnd = part.id === "thread" && innerHeight + scrollY >= document.body.scrollHeight - 40;
      part.replaceChildren(...other.childNodes);
      showTimes(part);
      if (atEnd) scrollTo(0, document.body.scrollHeight);
    }
  };

  let busy = false;
  let again = false;
  const refresh = async () => {
    if (document.hidden) return;
    if (busy) { again = true; return; }
    busy = true;
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (response.redirected) location.reload();
      else if (response.ok) replace(new DOMParser().parseFromString(await response.text(), "text/html"));
    } catch { /* the daemon restarts: the next time it is there again */ } finally {
      busy = false;
      if (again) { again = false; setTimeout(refresh, QUIET_MS); }
    }
  };

  const live = () => {
    const kinds = document.body.dataset.events.split(" ").filter(Boolean);
    const every = Number(document.body.dataset.every) * 1000;
    let timer = 0;
    const soon = () => { clearTimeout(timer); timer = setTimeout(refresh, QUIET_MS); };
    // Browsers open six connections to a host: only a page that is looked at keeps one.
    let source = null;
    const listen = () => {
      source?.close();
      source = document.hidden ? null : new EventSource("/api/events/stream?types=" + kinds.join(","));
      if (source) for (const kind of [...kinds, "gap"]) source.addEventListener(kind, soon);
    };
    if (kinds.length) {
      listen();
      document.addEventListener("visibilitychange", listen);
      addEventListener("pagehide", () => source?.close());
      addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
    }
    if (every) setInterval(refresh, every);
    if (kinds.length || every) document.addEventListener("visibilitychange", refresh);
  };

  addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) event.target.form.requestSubmit();
  });
  showTimes(document);
  if (document.getElementById("thread")) scrollTo(0, document.body.scrollHeight);
  live();
})();
