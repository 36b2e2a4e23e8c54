"use strict";
// Keys, lists that keep themselves up to date, and the countdown of an undo. The pages
// work without it: everything it does is a link or a form on the page.

const typing = (target) =>
  target.closest("input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable]");

function opens(button) {
  const target = document.getElementById(button.dataset.opens);
  if (target.tagName === "DIALOG") {
    target.showModal();
    return;
  }
  const panels = button.closest(".decide").querySelectorAll("form.panel[id]");
  const show = target.hidden;
  for (const panel of panels) panel.hidden = panel !== target || !show;
  for (const one of button.parentElement.querySelectorAll("[data-opens]")) {
    one.setAttribute("aria-expanded", String(one === button && show));
  }
  if (show) target.querySelector("input[type=radio]:checked, select, textarea, input:not([type=hidden])").focus();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-opens]");
  if (button) return opens(button);
  const outline = event.target.closest("#outline");
  if (outline) {
    const off = document.querySelector(".outlines").classList.toggle("off");
    outline.setAttribute("aria-pressed", String(!off));
    return;
  }
  const row = event.target.closest("tr[data-href]");
  if (row && !event.target.closest("a, button") && !String(getSelection())) location.href = row.dataset.href;
});

document.addEventListener("submit", (event) => {
  // A second click must not send a decision twice.
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});

// Back brings a page as it was, with its forms marked as sent: load it anew.
addEventListener("pageshow", (event) => event.persisted && location.reload());

function step(by) {
  const rows = [...document.querySelectorAll("tr[data-href]")];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains("here"));
  const next = Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by));
  if (at >= 0) rows[at].classList.remove("here");
  rows[next].classList.add("here");
  rows[next].querySelector("a").focus({ preventScroll: true });
  rows[next].scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape" && typing(event.target)) return event.target.blur();
  if (typing(event.target) || document.querySelector("dialog[open]")) return;
  if (event.repeat && event.key !== "j" && event.key !== "k") return;
  const search = document.getElementById("search");
  if (event.key === "/" && search) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "?") document.getElementById("keys")?.showModal();
  else if (/^[a-z]$/.test(event.key)) {
    // Of a control in a closed <details> nothing is seen: its key does nothing either.
    const found = [...document.querySelectorAll(`[data-key="${event.key}"]`)].find((one) => one.checkVisibility());
    if (found) {
      event.preventDefault();
      found.click();
    }
  }
});

// -- what keeps itself up to date ---------------------------------------------------

const busy = (part) =>
  document.hidden || part.contains(document.activeElement?.closest("input, select, textarea")) || document.querySelector("dialog[open]");

async function refresh(part) {
  const answer = await fetch(part.dataset.source, { headers: { "X-Fragment": "yes" }, credentials: "same-origin" });
  if (answer.status === 401) return location.reload();
  if (!answer.ok) return;
  const text = await answer.text();
  if (busy(part) || text === part.dataset.last) return;
  part.dataset.last = text;
  const here = part.querySelector("tr.here")?.dataset.href;
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  part.innerHTML = text;
  const row = here && part.querySelector(`tr[data-href="${CSS.escape(here)}"]`);
  if (row) row.classList.add("here");
  if (focused) part.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  startCountdown(part);
  // A decision that has arrived is looked at no more.
  const kind = part.querySelector(".decision")?.dataset.kind;
  if (kind && kind !== "undo" && kind !== "moving") clearInterval(Number(part.dataset.timer));
}

function startCountdown(part) {
  const shown = part.querySelector(".countdown");
  if (!shown) return;
  const end = performance.now() + 1000 * Number(shown.dataset.seconds);
  const tick = () => {
    if (!shown.isConnected) return;
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    shown.textContent = String(left);
    if (left) setTimeout(tick, 200);
  };
  tick();
}

for (const part of document.querySelectorAll("[data-source]")) {
  startCountdown(part);
  part.dataset.timer = setInterval(() => refresh(part).catch(() => {}), Number(part.dataset.every));
}
