"""How the gallery looks: plain, in light and dark, on a phone and on paper.

Every color of a text has a contrast of at least 4.5 to 1 to its ground, in both schemes.
"""

CSS = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --text: #1c1e21; --quiet: #565c66; --line: #d5d8dd; --link: #0b57a4;
  --done: #e2f3e6; --done-text: #14532d; --failed: #fde4e1; --failed-text: #8c1d18;
  --idle: #eef0f2; --side: #edf1f5; --dot: #1f6f43; --miss: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #16181c; --text: #e4e6ea; --quiet: #a9b0bb; --line: #3a3f47; --link: #8ab8f0;
    --done: #12351f; --done-text: #b4e6c2; --failed: #4a1a17; --failed-text: #ffc9c3;
    --idle: #25282e; --side: #22272e; --dot: #6fcf97; --miss: #ff8a80;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 80rem;
  background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: anywhere;
}
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p, ul { margin: .5rem 0; max-width: 46rem; }
ul { padding-left: 1.25rem; }
a { color: var(--link); text-decoration: underline; text-underline-offset: .2em; }
a:focus-visible, [tabindex]:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
code { font: .9em ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
section { margin-top: 3rem; }
section.notebook { border-top: 1px solid var(--line); padding-top: 1.25rem; }
.quiet { color: var(--quiet); font-size: .9rem; }

dl.totals { display: flex; flex-wrap: wrap; gap: .75rem 2.25rem; margin: 0 0 1rem; }
dl.totals div { display: flex; flex-direction: column-reverse; }
dl.totals dt { color: var(--quiet); font-size: .85rem; }
dl.totals dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
dl.totals .done dd { color: var(--dot); }
dl.totals .failed dd { color: var(--miss); }

.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: separate; border-spacing: 3px; font-size: .85rem; }
caption { text-align: left; color: var(--quiet); padding: 0 3px .35rem; }
th { font-weight: 600; text-align: left; vertical-align: bottom; padding: .2rem .4rem; }
thead th { min-width: 4.5rem; }
thead th span { white-space: nowrap; }
tbody th {
  position: sticky; left: 0; background: var(--ground); vertical-align: middle;
  min-width: 7rem; max-width: 17rem; font-weight: 400;
}
td { padding: .3rem .5rem; white-space: nowrap; line-height: 1.35; border-radius: 3px; }
td span { display: block; font-variant-numeric: tabular-nums; }
td.done { background: var(--done); color: var(--done-text); }
td.failed { background: var(--failed); color: var(--failed-text); }
td.failed span:first-child { font-weight: 600; }
td.idle { background: var(--idle); color: var(--text); }
td a { color: inherit; }

.plots {
  display: grid; gap: 1.5rem 2rem; margin: .75rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr));
}
figure { margin: 0; }
.plots figcaption { font-size: .9rem; margin-bottom: .35rem; }
.plots figcaption span { display: block; }
.plots p { margin: .25rem 0 0; font-size: .85rem; }
.miss { color: var(--miss); }
svg { display: block; width: 100%; max-width: 22rem; height: auto; }
svg text { font-size: 11px; fill: var(--quiet); }
svg .true { fill: var(--side); }
svg .bar { stroke: var(--text); stroke-width: 1.5; }
svg .axis { stroke: var(--quiet); stroke-width: 1; }
svg rect, svg line { shape-rendering: crispEdges; }
svg .holds { fill: var(--dot); }
svg .misses { fill: var(--ground); stroke: var(--miss); stroke-width: 2; }

.row { display: flex; gap: 1rem; padding-bottom: .5rem; }
.row figure { flex: 0 0 min(20rem, 80vw); }
.row img { display: block; width: 100%; height: auto; background: #ffffff; border-radius: 3px; }
.row figcaption { font-size: .85rem; margin-top: .25rem; }

@media (max-width: 40rem) {
  tbody th { max-width: 9rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; }
  .row { flex-wrap: wrap; }
  .row figure { flex-basis: 30%; }
  figure, tr, h2, h3 { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  td, svg, .row img { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
