// What every page needs of the browser and Streamlit has no setting for. Loaded with each page, set up once.
if (!window.hindcastPage) {
  window.hindcastPage = true;

  // An address without any state is only on its way to the one with the page's state: it gets no entry of its own,
  // so that one step back leads to what was seen before.
  const push = history.pushState.bind(history);
  history.pushState = (state, title, url) => {
    const next = new URL(url, location.href);
    const completes = next.pathname === location.pathname && !location.search;
    if (completes) history.replaceState(state, title, url);
    else push(state, title, url);
  };

  // Escape closes the panel beside a table, unless something above the page is open that it closes first. The key goes
  // no further then: a table would clear its selection too, and the run of the page that this starts would still carry
  // the address with the panel open and so open it again.
  const OPEN = '[data-testid="stPopoverBody"], [role="dialog"], [role="listbox"], [role="menu"]';
  window.addEventListener(
    "keydown",
    (event) => {
      const close = event.key === "Escape" && !document.querySelector(OPEN) && document.querySelector(".st-key-close-panel button");
      if (!close) return;
      event.stopPropagation();
      close.click();
    },
    true,
  );

  // An icon is drawn by a word ("bookmarks"), which is not to be read out; a button that is an icon alone gets a name.
  const name = () => {
    for (const icon of document.querySelectorAll('[data-testid="stIconMaterial"]:not([aria-hidden])')) {
      icon.setAttribute("aria-hidden", "true");
    }
    for (const button of document.querySelectorAll('[class*="st-key-"] button:not([aria-label])')) {
      const text = [...button.querySelectorAll("p")].map((part) => part.textContent.trim()).join("");
      const key = [...button.closest('[class*="st-key-"]').classList].find((part) => part.startsWith("st-key-"));
      if (!text && key && button.querySelector('[data-testid="stIconMaterial"]')) {
        button.setAttribute("aria-label", key.slice(7).replaceAll("-", " "));
      }
    }
  };
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  name();
}
