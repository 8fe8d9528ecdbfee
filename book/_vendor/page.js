// What theme and widgets leave out of a page: names and states that a screen reader can say, a wide
// equation that the keyboard can scroll, and a print of every scrubber's last frame.

const ICONS = { play: "Play", pause: "Pause", stop: "Stop", retweet: "Repeat" };

function set(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

function nameWidgets() {
  for (const button of document.querySelectorAll(".widget-play button")) {
    const icon = button.innerHTML.match(/fa-(play|pause|stop|retweet)/);
    if (icon) set(button, "aria-label", ICONS[icon[1]]);
    if (icon && icon[1] === "retweet") pressed(button);
  }
  document.querySelectorAll(".widget-toggle-button").forEach(pressed);
  for (const handle of document.querySelectorAll(".widget-slider .noUi-handle")) {
    const widget = handle.closest(".widget-slider");
    set(handle, "aria-label", widget.querySelector(".widget-label").textContent);
    set(handle, "aria-valuetext", widget.querySelector(".widget-readout").textContent);
  }
}

function pressed(button) {
  set(button, "aria-pressed", button.classList.contains("mod-active"));
}

function watchWidgets() {
  let waiting = false;
  const later = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; nameWidgets(); });
  };
  const what = { childList: true, subtree: true, characterData: true, attributes: true };
  const watched = { ...what, attributeFilter: ["class", "aria-valuetext"] };
  for (const output of document.querySelectorAll(".cell_output:has(script[type*=widget-view])")) {
    new MutationObserver(later).observe(output, watched);
  }
}

// A browser has one frame of a scrubber in the page, the one that shows. Paper gets the last one.
function printLastFrames() {
  const source = document.querySelector('script[type="application/vnd.jupyter.widget-state+json"]');
  if (!source) return;
  const models = JSON.parse(source.textContent).state;
  const of = (name) => models[name.replace("IPY_MODEL_", "")];
  const lastFrames = (model, title) => {
    const children = (model.state.children || []).map(of);
    if (model.model_name !== "StackModel") {
      const names = children.find((child) => child.model_name === "ToggleButtonsModel");
      return children.flatMap((child) => lastFrames(child, names || title));
    }
    if (children.every((child) => child.model_name === "HTMLModel")) {
      return [children.at(-1).state.value];
    }
    const names = title ? title.state._options_labels : [];
    return children.flatMap((child, i) => [`<p>${names[i] || ""}</p>`, ...lastFrames(child)]);
  };
  for (const view of document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')) {
    const frames = lastFrames(of(JSON.parse(view.textContent).model_id));
    if (!frames.length) continue;
    const print = document.createElement("div");
    print.className = "splitlab-print";
    print.innerHTML = frames.join("");
    view.parentElement.classList.add("splitlab-printed");
    view.parentElement.append(print);
  }
}

function nameTheRest() {
  for (const summary of document.querySelectorAll(".bd-sidenav summary")) {
    const page = summary.closest("li").querySelector("a").textContent.trim();
    set(summary, "aria-label", `Pages below ${page}`);
  }
  for (const link of document.querySelectorAll(".btn-download-source-button")) {
    link.setAttribute("download", "");
    link.removeAttribute("target");
  }
}

window.addEventListener("load", () => {
  nameTheRest();
  watchWidgets();
  nameWidgets();
  printLastFrames();
});
