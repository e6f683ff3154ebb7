// Keeps the parts of a page current. Everything is there without it.
"use strict";
(() => {
  const state = document.getElementById("live");
  if (!state || !state.dataset.events) return;
  const say = (text) => { if (state.textContent !== text) state.textContent = text; };
  let stream = null;

  function replace(text) {
    const made = new DOMParser().parseFromString(text, "text/html").body.firstElementChild;
    const old = made && document.getElementById(made.id);
    const chosen = document.getSelection();
    if (!old || old.contains(document.activeElement)) return;
    if (chosen && !chosen.isCollapsed && chosen.containsNode(old, true)) return;
    made.querySelectorAll("details[id]").forEach((each) => {
      const before = document.getElementById(each.id);
      if (before) each.open = before.open;
    });
    old.replaceWith(document.adoptNode(made));
  }

  function open() {
    if (stream || document.hidden) return;
    stream = new EventSource(state.dataset.events);
    stream.addEventListener("part", (event) => { replace(event.data); });
    stream.addEventListener("as-of", (event) => { say("live, as of " + event.data); });
    stream.addEventListener("error", () => { say("not live, connecting again"); });
  }

  function close() {
    if (stream) stream.close();
    stream = null;
  }

  document.addEventListener("visibilitychange", () => { document.hidden ? close() : open(); });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
})();
