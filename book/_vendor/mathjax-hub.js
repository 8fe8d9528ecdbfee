// An HTML widget typesets itself through MathJax 2's Hub wherever it finds a MathJax; version 3 has no
// Hub, so it throws. Our widgets hold no formulas: an empty Hub is enough. It has to be there after
// MathJax has loaded and before the widgets are drawn; both wait for "load", and this listener is first.
window.addEventListener("load", () => {
  if (window.MathJax && !window.MathJax.Hub) {
    window.MathJax.Hub = { Queue() {} };
  }
});
