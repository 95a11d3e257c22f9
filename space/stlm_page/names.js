// Names for screen readers that Gradio 6.31 leaves out, leaves untranslated or sets against the visible text. Elements come and go, so every
// change of the page is looked at, once a frame.
(() => {
  const words = (element) => element.innerText.replace(/\s+/g, " ").trim();
  const name = (element, label) => {
    if (label && element.getAttribute("aria-label") !== label) element.setAttribute("aria-label", label);
  };
  const repair = () => {
    for (const button of document.querySelectorAll("button.upload-container, button.thumbnail-item")) name(button, words(button));
    for (const element of document.querySelectorAll("[aria-label^='common.']")) {
      const label = element.getAttribute("aria-label").slice("common.".length);
      element.title = label[0].toUpperCase() + label.slice(1);
      name(element, element.title);
    }
    for (const picture of document.querySelectorAll(".compared img:not([alt]), .compared img[alt='']")) {
      picture.alt = picture.matches(".fixed, .preview") ? "Anomaly map over the photograph" : "Photograph";
    }
  };
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      repair();
    });
  }).observe(document, { childList: true, subtree: true });
})();
