"""A slider through pictures that works with a kernel, without one, and in Colab.

Import this module when a widget is wanted: it imports ipywidgets.
"""

import html
from collections.abc import Mapping, Sequence

import ipywidgets as w

from splitlab.arguments import count, described, instance, instances, whole
from splitlab.show.pictures import Frame, img


def _figure(frame: Frame, label: str, caption: str) -> str:
    """A frame as HTML: a picture with alt text; the caption, and its place in the sequence."""
    words = " ".join([*([caption] if caption else []), f"({label} {frame.label})"])
    return (
        f'<figure class="splitlab">{img(frame.png, frame.alt)}'
        f"<figcaption>{html.escape(words)}</figcaption></figure>"
    )


class Scrubber(w.VBox):
    """A slider, with Play, through the frames of a run.

    With ipywidgets 8 all pictures are in the page and the browser alone swaps them, so that the
    rendered book needs no kernel. With ipywidgets 7, which has no `Stack`, Python swaps them.

    Args:
        frames: The pictures in order; the slider shows their labels.
        label: What the frames' labels count, such as "step"; the captions end with "(step 40)".
        interval: Milliseconds between two frames while playing.
        caption: A sentence or two under each picture: what to look at.
        start: The number of the frame that shows first, counted from 0, or from the end as -1, -2
            and so on. From the last one, Play begins at the first.

    Raises:
        TypeError: If the frames are none.
        ValueError: If there are no frames, no such frame to start at, or the interval is no whole
            number above 0.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        *,
        label: str = "step",
        interval: int = 400,
        caption: str = "",
        start: int = 0,
    ) -> None:
        frames = instances("frames", frames, Frame, "pass frames, such as sl.stepper.frames makes")
        if not frames:
            raise ValueError("A scrubber needs at least one frame; this run recorded none.")
        interval = count("interval", interval, least=1)
        if whole(start) is None or not -len(frames) <= start < len(frames):
            raise ValueError(
                f"start is {described(start)}, and there are {len(frames)} frames: pass the number "
                "of one, from 0, or -1 for the last"
            )
        start %= len(frames)
        figures = [_figure(frame, label, caption) for frame in frames]
        last = len(frames) - 1
        play = w.Play(min=0, max=last, value=start, interval=interval)
        # A selection slider, not a number slider: its readout is the frame's own label, in the
        # browser, too.
        slider = w.SelectionSlider(
            options=[(frame.label, number) for number, frame in enumerate(frames)],
            index=start,
            description=label,
            continuous_update=True,
            layout=w.Layout(width="min(32em, 100%)"),
        )
        if hasattr(w, "Stack"):
            # One layout and one style for all: in the page, each would take a kilobyte.
            first = w.HTML(figures[0])
            alike = {"layout": first.layout, "style": first.style}
            others = [w.HTML(figure, **alike) for figure in figures[1:]]
            view = w.Stack([first, *others], selected_index=start)
            w.jslink((play, "value"), (slider, "index"))
            w.jslink((slider, "index"), (view, "selected_index"))
        else:
            view = w.HTML(figures[start])
            w.link((play, "value"), (slider, "index"))
            slider.observe(lambda change: setattr(view, "value", figures[change["new"]]), "index")
        super().__init__([w.HBox([play, slider], layout=w.Layout(flex_flow="row wrap")), view])


class Choice(w.VBox):
    """Buttons that choose one of several scrubbers.

    Like them, it needs no kernel with ipywidgets 8, and works with ipywidgets 7.

    Args:
        scrubbers: Name -> scrubber; the first one shows.

    Raises:
        TypeError: If these are no scrubbers.
        ValueError: If there is nothing to choose from.
    """

    def __init__(self, scrubbers: Mapping[str, Scrubber]) -> None:
        if not isinstance(scrubbers, Mapping):
            raise TypeError(f"scrubbers is {described(scrubbers)}: pass name -> scrubber")
        for name, scrubber in scrubbers.items():
            instance(f"scrubbers[{name!r}]", scrubber, Scrubber, "pass a Scrubber")
        if not scrubbers:
            raise ValueError("A choice needs at least one scrubber; this one has none.")
        shown = list(scrubbers.values())
        buttons = w.ToggleButtons(
            options=[(name, number) for number, name in enumerate(scrubbers)],
            index=0,
            style={"button_width": "auto"},
        )
        if hasattr(w, "Stack"):
            view = w.Stack(shown, selected_index=0)
            w.jslink((buttons, "index"), (view, "selected_index"))
        else:
            view = w.VBox(shown[:1])
            buttons.observe(
                lambda change: setattr(view, "children", (shown[change["new"]],)), "index"
            )
        super().__init__([buttons, view])
