// The theme's Font Awesome script replaces every <i> icon by an <svg>. The Play widget looks its <i>
// up again on each step, does not find it, and throws; the links behind it (slider, picture) then
// stop, too. "nest" puts the <svg> inside the <i> instead; widgets.css hides that second icon.
// This file must load before the theme's script.
window.FontAwesomeConfig = { autoReplaceSvg: "nest" };
