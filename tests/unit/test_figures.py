import io
import itertools
import re

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from splitlab.show import figures
from splitlab.show.figures import PARTY, Frame, Picture


@pytest.fixture
def fig():
    figure, ax = plt.subplots(figsize=(4, 3))
    for party, style in PARTY.items():
        ax.plot(np.arange(10), np.arange(10) * len(party), label=party, **style)
    ax.legend()
    yield figure
    plt.close(figure)


def test_png_is_small_deterministic_and_leaves_the_figure_open(fig):
    first = figures.png(fig)
    assert first == figures.png(fig)
    assert plt.fignum_exists(fig.number)
    picture = Image.open(io.BytesIO(first))
    assert picture.mode == "P"
    assert len(picture.getcolors()) <= 64
    plain = io.BytesIO()
    fig.savefig(plain, format="png", dpi=picture.info["dpi"][0])
    assert len(first) < len(plain.getvalue()) / 2


def test_png_keeps_the_parties_colors(fig):
    picture = Image.open(io.BytesIO(figures.png(fig))).convert("RGB")
    pixels = np.asarray(picture).reshape(-1, 3).astype(float)
    for party, style in PARTY.items():
        wanted = 255 * np.array(to_rgb(style["color"]))
        assert np.abs(pixels - wanted).max(axis=1).min() <= 16, party


def test_png_is_white_where_the_style_asks_for_none(fig):
    fig.set_facecolor("none")
    assert Image.open(io.BytesIO(figures.png(fig))).convert("RGB").getpixel((0, 0)) == (
        255,
        255,
        255,
    )


def test_png_cuts_no_label_off():
    figure, ax = plt.subplots(figsize=(3, 1))
    ax.set_xlabel("step")
    pixels = np.asarray(Image.open(io.BytesIO(figures.png(figure))).convert("L"))
    plt.close(figure)
    assert pixels[-1].min() == 255, "the lowest row of pixels is empty"


def test_a_thin_line_keeps_its_color_in_a_small_palette():
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(4, 3))
    top.imshow(np.linspace(0, 1, 400).reshape(20, 20), cmap="gray")
    bottom.plot([0, 1], [0, 1], **figures.PARTY["attacker"])
    pixels = Image.open(io.BytesIO(figures.png(figure, colors=24))).convert("RGB")
    plt.close(figure)
    wanted = to_rgb(figures.PARTY["attacker"]["color"])
    colors = [color for _, color in pixels.getcolors()]
    nearest = min(
        max(abs(c / 255 - w) for c, w in zip(color, wanted, strict=True)) for color in colors
    )
    assert nearest < 0.05


def test_a_png_s_dots_do_not_change_its_size_on_the_page(fig):
    sizes = [
        re.search(r'width="(\d+)" height="(\d+)"', figures.img(figures.png(fig, dpi=dpi), "x"))
        for dpi in (96, 144)
    ]
    assert sizes[0].groups() == sizes[1].groups()
    with pytest.raises(ValueError, match="dpi is 0"):
        figures.png(fig, dpi=0)


def test_a_legend_fits_into_the_figure():
    label = "a label that is far too long for two columns of a narrow figure"
    series = {f"{label}, {n}"[-55:]: ([0, 1], [n, 2], "") for n in range(3)}
    figure = figures.curves(series, xlabel="step", ylabel="error")
    figure.canvas.draw()
    (legend,) = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width
    plt.close(figure)


@pytest.mark.parametrize("colors", [1, 257])
def test_png_refuses_an_impossible_palette(fig, colors):
    with pytest.raises(ValueError, match="2 to 256"):
        figures.png(fig, colors=colors)


def test_show_renders_a_figure_with_alt_text_and_closes_it(fig):
    picture = figures.show(fig, alt='Lines for "a" & b.', caption="Rise < fall.", record="ab12")
    assert not plt.fignum_exists(fig.number)
    page = picture._repr_html_()
    assert 'alt="Lines for &quot;a&quot; &amp; b."' in page
    assert re.search(r"<figcaption>Rise &lt; fall\..*ab12.*</figcaption></figure>$", page)
    assert 'src="data:image/png;base64,' in page
    assert 'width="384" height="288"' in page, "4 x 3 inches, in CSS pixels"


def test_show_without_caption_has_none(fig):
    assert "figcaption" not in figures.show(fig, alt="Lines.")._repr_html_()


def test_alt_text_is_required(fig):
    with pytest.raises(TypeError, match="alt"):
        figures.show(fig)
    with pytest.raises(ValueError, match="alt text"):
        figures.show(fig, alt="  ")
    assert plt.fignum_exists(fig.number), "a refused figure is still the caller's"
    data = figures.png(fig)
    for make in (lambda: Frame(data, "", "1"), lambda: Picture(data, "\n")):
        with pytest.raises(ValueError, match="alt text"):
            make()


def test_pictures_are_png():
    with pytest.raises(ValueError, match="PNG"):
        Frame(b"GIF89a", "A picture.", "1")


# What protan, deutan and tritan readers see (Machado, Oliveira and Fernandes 2009, severity 1.0),
# on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(color):
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_the_parties_differ_for_every_eye(deficiency):
    matrix = np.array(DEFICIENCIES[deficiency])
    seen = {
        party: np.clip(matrix @ linear(style["color"]), 0, 1) ** (1 / 2.2)
        for party, style in PARTY.items()
    }
    # Tritan readers (one in ten thousand) see blue and green as near; line styles help them.
    least = 0.1 if deficiency == "tritan" else 0.2
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > least, (a, b)


def test_the_parties_differ_without_color_and_stand_out_on_white():
    assert list(PARTY) == ["client", "server", "attacker", "defender"]
    assert len({style["linestyle"] for style in PARTY.values()}) == len(PARTY)
    for party, style in PARTY.items():
        luminance = linear(style["color"]) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) >= 3, party  # WCAG's contrast for graphics


def axis_of(figure):
    (axis,) = figure.axes
    return axis


def test_points_are_circles_on_the_lines_and_no_line_of_their_own():
    series = {"whole": ([1, 2, 3], [3, 2, 1], "server"), "split": ([1, 3], [3, 1], "client")}
    figure = figures.curves(series, xlabel="step", ylabel="loss", points=["split"], log_x=True)
    axis = axis_of(figure)
    whole, split = axis.lines
    plt.close(figure)
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "linear")
    assert (whole.get_linestyle(), whole.get_marker()) == ("--", "None")
    assert (split.get_linestyle(), split.get_marker()) == ("None", "o")
    assert (split.get_fillstyle(), split.get_color()) == ("none", PARTY["client"]["color"])
    assert split.get_zorder() > whole.get_zorder()
    with pytest.raises(ValueError, match="'spilt', which is none of whole, split"):
        figures.curves(series, xlabel="step", ylabel="loss", points=["spilt"])


def test_bands_show_the_median_and_the_range_of_the_runs():
    runs = [[0.1, 0.5, 0.9], [0.2, 0.4, 1.0], [0.6, 0.3, 0.8]]
    figure = figures.bands(
        {"digit": ([1, 2, 3], runs, "attacker")}, xlabel="step", ylabel="share", floors={"one": 0.7}
    )
    axis = axis_of(figure)
    middle, floor = axis.lines
    (band,) = axis.collections
    corners = {tuple(round(float(v), 3) for v in point) for point in band.get_paths()[0].vertices}
    plt.close(figure)
    assert list(middle.get_ydata()) == [0.2, 0.4, 0.9]
    assert middle.get_color() == PARTY["attacker"]["color"]
    assert set(floor.get_ydata()) == {0.7}
    assert corners == {(1, 0.1), (2, 0.3), (3, 0.8), (1, 0.6), (2, 0.5), (3, 1.0)}
    for wrong in ([], [[0.1]]):
        with pytest.raises(ValueError, match="at least one run, each with 3 values"):
            figures.bands({"digit": ([1, 2, 3], wrong, "")}, xlabel="step", ylabel="share")


def test_rows_of_a_strip_are_drawn_on_the_given_scale_or_each_on_its_own():
    rows = {"x": torch.tensor([-1.0, 1.0]), "z": torch.tensor([5.0, 9.0])}
    rows = {label: values.view(2, 1, 1, 1).expand(2, 1, 4, 4) for label, values in rows.items()}

    def drawn(**options):
        figure = figures.strip(rows, **options)
        pixels = [axis.images[0].get_array() for axis in figure.axes]
        plt.close(figure)
        return [(float(row[0, 1]), float(row[0, -2])) for row in pixels]  # first and last image

    assert drawn() == [(0, 1), (0, 1)]
    assert drawn(value_range=(-7, 9)) == [(3 / 8, 1 / 2), (3 / 4, 1)]


def test_a_strip_has_room_for_its_labels_and_draws_no_blanks_after_them():
    images = torch.zeros(6, 1, 16, 16)
    rows = {"private": images}
    for number, label in enumerate(("all", "negatives", "photographs of flowers")):
        rows |= {label: images, "drawn" + number * " ": images}
    drawn = figures.strip(rows)
    drawn.canvas.draw()
    labels = [axis.yaxis.label for axis in drawn.axes]
    assert min(label.get_window_extent().x0 for label in labels) >= 0
    assert [label.get_text() for label in labels].count("drawn") == 3
    assert len({round(label.get_window_extent().x1) for label in labels}) == 1
    plt.close(drawn)


def test_strips_are_frames_one_for_each_view():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    views = {
        str(n): {"private": torch.rand(3, 1, 4, 4), "shown": torch.rand(3, 1, 4, 4)} for n in (1, 2)
    }
    frames = figures.strips(views, alts={"1": "one", "2": "two"}, value_range=(0.0, 1.0))
    assert [(frame.label, frame.alt) for frame in frames] == [("1", "one"), ("2", "two")]
    assert frames[0].png != frames[1].png
    with pytest.raises(ValueError, match="needs alt text"):
        figures.strips(views, alts={"1": "one"})
    assert plt.get_fignums() == before


def test_thresholds_say_what_lies_above_them():
    scores = torch.tensor([0.0, 1.0, 2.0, 3.0, 2.0, 4.0])
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    about = {"xlabel": "score", "names": ("well", "ill")}
    frames = figures.thresholds(scores, labels, count=5, **about)
    assert [frame.label for frame in frames] == [
        "0 (100% against 75% above)",
        "1 (100% against 50% above)",
        "2 (50% against 25% above)",
        "3 (50% against 0% above)",
        "4 (0% against 0% above)",
    ]
    assert "50% of the rows 'ill' and 25% of the rows 'well'" in frames[2].alt
    assert len({frame.png for frame in frames}) == 5
    assert len({Image.open(io.BytesIO(frame.png)).size for frame in frames}) == 1
    with pytest.raises(ValueError, match="all labels are 1"):
        figures.thresholds(scores, torch.ones(6), **about)


def test_thresholds_on_a_logarithmic_scale_keep_the_order():
    scores = torch.tensor([0.0, 1e-12, 1e-6, 1.0])
    labels = torch.tensor([0, 0, 1, 1])
    frames = figures.thresholds(
        scores, labels, xlabel="length", names=("well", "ill"), log=True, count=3
    )
    assert [frame.label for frame in frames] == [
        "1e-12 (100% against 0% above)",
        "1e-06 (50% against 0% above)",
        "1 (0% against 0% above)",
    ]


def test_planes_show_arrows_down_the_score_and_a_frame_for_each_snapshot(monkeypatch):
    from types import SimpleNamespace

    from matplotlib.axes import Axes

    arrows = []
    quiver = Axes.quiver
    monkeypatch.setattr(
        Axes, "quiver", lambda self, *a, **k: (arrows.append(a[2:]), quiver(self, *a, **k))[1]
    )
    private, public = torch.randn(5, 1, 1, 2), torch.randn(6, 1, 1, 2)
    taken = [SimpleNamespace(step=s, images=private + s, mse=float(s)) for s in (0, 2)]
    slopes = [torch.tensor([[3.0, 4.0]]), torch.tensor([[-1.0, 0.0]])]
    scores = [lambda z, w=w: z.flatten(1) @ w.T for w in slopes]
    before = plt.get_fignums()
    frames = figures.planes(SimpleNamespace(private=private, taken=taken), scores, public)
    assert [frame.label for frame in frames] == ["0", "2"]
    assert "After 2 steps" in frames[1].alt and "2.000" in frames[1].alt
    assert frames[0].png != frames[1].png
    for (across, up), way in zip(arrows, ([-0.6, -0.8], [1.0, 0.0]), strict=True):
        assert torch.allclose(torch.stack([across, up], 1), torch.tensor(way).expand(100, 2))
    assert plt.get_fignums() == before
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        figures.planes(SimpleNamespace(private=private, taken=taken), scores[:1], public)


def test_dots_draw_each_run_its_range_and_the_median_below_headings():
    rows = {"cut": [], "cut 1": [0.2, 0.8, 0.3], "cut 2": [0.5]}
    lines = {"nearest public": 1.0, "reference": 0.5}
    figure = figures.dots(
        rows, xlabel="error", lines=lines, parties={"cut 1": "attacker"}, log=True
    )
    (axis,) = figure.axes
    floor, reference, span, runs, middle, *one = axis.lines
    assert [floor.get_xdata()[0], reference.get_xdata()[0]] == [1.0, 0.5]
    assert floor.get_linestyle() != reference.get_linestyle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)
    assert list(span.get_xdata()) == [0.2, 0.8] and list(runs.get_xdata()) == rows["cut 1"]
    assert list(middle.get_xdata()) == [0.3], "the median, not the mean"
    assert {place for line in (span, runs, middle) for place in line.get_ydata()} == {1}
    assert {place for line in one for place in line.get_ydata()} == {2}
    assert runs.get_color() == PARTY["attacker"]["color"] != one[1].get_color()
    labels = axis.get_yticklabels()
    assert [label.get_text() for label in labels] == list(rows)
    assert [label.get_fontweight() for label in labels] == ["bold", "normal", "normal"]
    assert axis.get_xscale() == "log" and axis.yaxis_inverted(), "from the top down"
    plt.close(figure)


def test_dots_refuse_what_they_cannot_draw():
    before = plt.get_fignums()
    with pytest.raises(ValueError, match="no row has figures"):
        figures.dots({"cut": []}, xlabel="error")
    with pytest.raises(ValueError, match="'cut 2' has a figure that is not finite: leave"):
        figures.dots({"cut 1": [0.1], "cut 2": [float("nan")]}, xlabel="error")
    with pytest.raises(ValueError, match="not finite and above 0"):
        figures.dots({"cut 1": [0.0]}, xlabel="error", log=True)
    with pytest.raises(ValueError, match="parties names 'cut 3'"):
        figures.dots({"cut 1": [0.1]}, xlabel="error", parties={"cut 3": "client"})
    assert plt.get_fignums() == before, "no figure is left open"
