import dataclasses
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

import splitlab as sl
from splitlab import plot
from splitlab.plot import PARTY, Frame, Picture


@pytest.fixture
def fig():
    figure, ax = plt.subplots(figsize=(4, 3))
    for party, style in PARTY.items():
        ax.plot(np.arange(10), np.arange(10) * len(party), label=party, **style)
    ax.legend()
    yield figure
    plt.close(figure)


def test_png_is_small_deterministic_and_leaves_the_figure_open(fig):
    first = plot.png(fig)
    assert first == plot.png(fig)
    assert plt.fignum_exists(fig.number)
    picture = Image.open(io.BytesIO(first))
    assert picture.mode == "P"
    assert len(picture.getcolors()) <= 64
    plain = io.BytesIO()
    fig.savefig(plain, format="png", dpi=picture.info["dpi"][0])
    assert len(first) < len(plain.getvalue()) / 2


def test_png_keeps_the_parties_colours(fig):
    picture = Image.open(io.BytesIO(plot.png(fig))).convert("RGB")
    pixels = np.asarray(picture).reshape(-1, 3).astype(float)
    for party, style in PARTY.items():
        wanted = 255 * np.array(to_rgb(style["color"]))
        assert np.abs(pixels - wanted).max(axis=1).min() <= 16, party


def test_png_is_white_where_the_style_asks_for_none(fig):
    fig.set_facecolor("none")
    assert Image.open(io.BytesIO(plot.png(fig))).convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_png_cuts_no_label_off():
    figure, ax = plt.subplots(figsize=(3, 1))
    ax.set_xlabel("step")
    pixels = np.asarray(Image.open(io.BytesIO(plot.png(figure))).convert("L"))
    plt.close(figure)
    assert pixels[-1].min() == 255, "the lowest row of pixels is empty"


@pytest.mark.parametrize("colours", [1, 257])
def test_png_refuses_an_impossible_palette(fig, colours):
    with pytest.raises(ValueError, match="2 to 256"):
        plot.png(fig, colours=colours)


def test_show_renders_a_figure_with_alt_text_and_closes_it(fig):
    picture = plot.show(fig, alt='Lines for "a" & b.', caption="Rise < fall.", record="ab12")
    assert not plt.fignum_exists(fig.number)
    page = picture._repr_html_()
    assert 'alt="Lines for &quot;a&quot; &amp; b."' in page
    assert re.search(r"<figcaption>Rise &lt; fall\..*ab12.*</figcaption></figure>$", page)
    assert 'src="data:image/png;base64,' in page
    assert 'width="384" height="288"' in page, "4 x 3 inches, in CSS pixels"


def test_show_without_caption_has_none(fig):
    assert "figcaption" not in plot.show(fig, alt="Lines.")._repr_html_()


def test_alt_text_is_required(fig):
    with pytest.raises(TypeError, match="alt"):
        plot.show(fig)
    with pytest.raises(ValueError, match="alt text"):
        plot.show(fig, alt="  ")
    assert plt.fignum_exists(fig.number), "a refused figure is still the caller's"
    data = plot.png(fig)
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


def linear(colour):
    rgb = np.array(to_rgb(colour))
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


def test_the_parties_differ_without_colour_and_stand_out_on_white():
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
    figure = plot.curves(series, xlabel="step", ylabel="loss", points=["split"])
    whole, split = axis_of(figure).lines
    plt.close(figure)
    assert (whole.get_linestyle(), whole.get_marker()) == ("--", "None")
    assert (split.get_linestyle(), split.get_marker()) == ("None", "o")
    assert (split.get_fillstyle(), split.get_color()) == ("none", PARTY["client"]["color"])
    assert split.get_zorder() > whole.get_zorder()
    with pytest.raises(ValueError, match="'spilt', which is none of whole, split"):
        plot.curves(series, xlabel="step", ylabel="loss", points=["spilt"])


def test_rows_of_a_strip_are_drawn_on_the_given_scale_or_each_on_its_own():
    rows = {"x": torch.tensor([-1.0, 1.0]), "z": torch.tensor([5.0, 9.0])}
    rows = {label: values.view(2, 1, 1, 1).expand(2, 1, 4, 4) for label, values in rows.items()}

    def drawn(**options):
        figure = plot.strip(rows, **options)
        pixels = [axis.images[0].get_array() for axis in figure.axes]
        plt.close(figure)
        return [(float(row[0, 1]), float(row[0, -2])) for row in pixels]  # first and last image

    assert drawn() == [(0, 1), (0, 1)]
    assert drawn(value_range=(-7, 9)) == [(3 / 8, 1 / 2), (3 / 4, 1)]


class Keep(sl.Observer):
    def __init__(self):
        self.messages = []

    def message(self, message):
        self.messages.append(message.delivered())


@pytest.fixture(scope="module")
def step(digits):
    """The messages of one real step, what each party held before it, and the frames of it all."""
    client = sl.Client(sl.tiny.client_net(), digits[0], batch_size=16)
    server, kept = sl.HonestServer(sl.tiny.server_net()), Keep()
    sl.train([client], server, 1, observers=[kept])
    smashed, gradient = kept.messages
    holds = {"client": {"x": digits[0].x[:16], "f": client.net}, "server": {"s": server.net}}
    events = [("client", "runs f"), smashed, ("server", "runs s"), gradient]
    events += [("client", "updates f")]
    return smashed, gradient, holds, plot.messages(events, holds=holds)


def test_messages_are_described_by_themselves(step):
    smashed, gradient, _, frames = step
    assert [frame.label for frame in frames] == [f"{number} of 5" for number in range(6)]
    shape = tuple(smashed.z.shape)
    assert [frame.alt.split(" By then ")[0] for frame in frames] == [
        "Moment 0 of 5: before anything happens.",
        "Moment 1 of 5: client runs f.",
        f"Moment 2 of 5: client to server: SmashedData, {smashed.nbytes:,} bytes, "
        f"with z {shape}, labels (16,).",
        "Moment 3 of 5: server runs s.",
        f"Moment 4 of 5: server to client: Gradient, {gradient.nbytes:,} bytes, with dz {shape}.",
        "Moment 5 of 5: client updates f.",
    ]


def test_parties_gain_what_they_work_out_and_what_they_receive(step):
    _, _, holds, frames = step
    held = []
    for frame in frames:
        sides = frame.alt.split(" By then ")[1].rstrip(".").split("; ")
        held.append(dict(side.split(" holds ") for side in sides))
    weights = sl.nets.parameter_count(holds["client"]["f"])
    assert held[0]["client"] == f"x (16, 1, 16, 16), f {weights:,} weights"

    def tensors(party):
        return [re.findall(r"(\w+) \(", side[party]) for side in held]

    before, after = ["x"], ["x", "z", "labels"]
    assert tensors("client") == [before, after, after, after, [*after, "dz"], [*after, "dz"]]
    received = ["z", "labels"]
    assert tensors("server") == [[], [], received, *[[*received, "dz"]] * 3]


def pixels(frame):
    return np.asarray(Image.open(io.BytesIO(frame.png)).convert("RGB")).astype(int)


def below_the_boxes(picture):
    """The part with the events: it begins under the last row that both boxes' edges share."""
    blue = np.array([round(255 * part) for part in to_rgb(PARTY["client"]["color"])])
    blue_rows = (np.abs(picture - blue).max(axis=2) <= 12).sum(axis=1)
    long_edges = np.flatnonzero(blue_rows > 0.3 * picture.shape[1])
    return picture[long_edges[long_edges < 0.5 * len(picture)].max() + 3 :]


def test_what_happens_has_the_colour_of_the_party_that_does_it(step):
    pictures = [pixels(frame) for frame in step[-1]]
    assert len({picture.shape for picture in pictures}) == 1, "the pictures must not jump"
    found = []
    for picture in pictures:
        events, here = below_the_boxes(picture), ""
        for party in ("client", "server"):
            colour = 255 * np.array(to_rgb(PARTY[party]["color"]))
            if (np.abs(events - colour).max(axis=2) <= 12).sum() > 20:
                here += party
        found.append(here)
    assert found == ["", "client", "client", "server", "server", "client"]


def test_messages_between_three_parties_need_receivers(step):
    smashed, gradient, *_ = step
    weights = sl.Weights(
        state={"w": torch.zeros(3), "b": torch.zeros(1)}, sender="client 1", step=0
    )
    first = dataclasses.replace(smashed, sender="client 1")
    events = [first, gradient, weights, dataclasses.replace(smashed, sender="client 2")]
    receivers = ["server", "client 1", "client 2", "server"]
    frames = plot.messages(events, receivers=receivers)
    assert "client 1 to client 2: Weights, 16 bytes, with state 2 tensors" in frames[3].alt
    assert "client 2 holds nothing" in frames[2].alt
    assert "client 2 holds state 2 tensors." in frames[3].alt
    with pytest.raises(ValueError, match="among client 1, server, client 2: pass receivers"):
        plot.messages(events)
    with pytest.raises(ValueError, match="4 messages and 3 receivers"):
        plot.messages(events, receivers=receivers[:3])


def test_messages_of_the_u_shaped_protocol():
    numbers = torch.zeros(4, 2)
    events = [
        sl.SmashedData(z=numbers, sender="client", step=0),
        sl.ServerOutput(a=numbers, sender="server", step=0),
        sl.OutputGradient(da=numbers, sender="client", step=0),
        sl.Gradient(dz=numbers, sender="server", step=0),
    ]
    last = plot.messages(events)[-1]
    for party in ("client", "server"):
        assert f"{party} holds z (4, 2), a (4, 2), da (4, 2), dz (4, 2)" in last.alt
    assert "labels" not in last.alt, "labels that were not sent are nobody's"


def test_who_works_while_another_party_sends_does_not_hold_what_is_sent(step):
    waits = plot.messages([("server", "waits"), step[0]])[1]
    assert waits.alt.endswith("By then server holds nothing; client holds nothing.")


def test_messages_refuse_what_they_cannot_draw(step):
    smashed = step[0]
    with pytest.raises(ValueError, match="at least one event"):
        plot.messages([])
    with pytest.raises(ValueError, match="among client: pass receivers"):
        plot.messages([smashed])
    for wrong in ("client", ("client",), ("client", 3), smashed.z[0, 0, 0]):
        with pytest.raises(TypeError, match="a message or a pair"):
            plot.messages([smashed, wrong])


def test_a_party_without_a_role_is_grey():
    assert plot._style("client 2") == PARTY["client"]
    assert plot._style("clinic")["color"] not in {style["color"] for style in PARTY.values()}
