"""The plugin, as somebody uses it whose class lies in a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from splitlab.course.conformance.chosen import chosen

ROOT = Path(__file__).parents[2]
MINE = """
import dataclasses
import torch
import splitlab as sl

class MeanImage(sl.PassiveServer):
    threat = sl.ThreatModel(
        who="server, honest but curious (passive)", goal="reconstruct the private images from z",
        sees=("z and labels, once a step",), knows=("public images",), does_not_know=("f",),
    )

    def __init__(self, net, public, **honest):
        super().__init__(net, **honest)
        self.public = public

    def reconstruct(self, message):
        return self.public.x.mean(0, keepdim=True).repeat(len(message.z), 1, 1, 1)

    @classmethod
    def conformance_example(cls, private, public):
        return cls(sl.tiny.server_net(), public)

class Noise(sl.Defense):
    def smash(self, client, turn, z):
        return z + torch.randn_like(z)

    @classmethod
    def conformance_example(cls, private, public):
        return cls()

class Refuses(sl.HonestServer):  # what is not finite
    STATE = ("last",)

    def __init__(self, net, **honest):
        super().__init__(net, **honest)
        self.last = None

    def relay(self, message):
        if self.last is None or all(t.isfinite().all() for t in message.state.values()):
            self.last = message.state
        return super().relay(dataclasses.replace(message, state=self.last))

    @classmethod
    def conformance_example(cls, private, public):
        return cls(sl.tiny.server_net())

class Careless(Refuses):
    def relay(self, message):
        self.seen = getattr(self, "seen", 0) + 1
        return super().relay(message)

class Forgetful(MeanImage):
    def observe(self, message):
        self.seen = getattr(self, "seen", 0) + 1

    def state_dict(self):
        return super().state_dict()

class Half(sl.Server):
    pass

class Mute(Noise):
    conformance_example = sl.Defense.conformance_example

ANSWER = 42
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one module, which can be imported in this process as well."""
    (tmp_path / "its_own_classes.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "needy.py").write_text("import something_that_is_not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run(folder, *options, **environment):
    """The exit status and what pytest prints, from a folder that is not the repository."""
    command = [sys.executable, "-m", "pytest", "-p", "splitlab_pytest", "-p", "no:cacheprovider"]
    environment |= {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [*command, *options], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_an_attack_and_a_defense_of_an_outsider_pass_the_list(folder):
    (folder / "test_of_its_own.py").write_text("def test_another(): assert False")
    attack = ("--splitlab-attack", "its_own_classes:MeanImage")
    defenses = (f"--splitlab-defense=its_own_classes:{name}" for name in ("Noise", "Refuses"))
    status, shown = run(folder, "-rs", *attack, *defenses)
    assert status == 0, shown
    assert re.search(r"^=+ 29 passed, 2 skipped", shown, flags=re.M), shown
    assert shown.count("it takes part in every protocol") == 2


def test_a_class_that_breaks_a_rule_fails_beside_what_was_named(folder):
    (folder / "test_of_its_own.py").write_text("def test_another(): pass")
    attack = ("--splitlab-attack", "its_own_classes:Forgetful")
    defense = ("--splitlab-defense", "its_own_classes:Careless")
    only = ("-k", "another or state_method or (in_turn and u_shaped)", "test_of_its_own.py")
    status, shown = run(folder, *attack, *defense, *only)
    assert status == 1
    assert "2 failed, 2 passed" in shown, shown
    assert "server.seen changes during the run" in shown
    assert "Forgetful writes state_dict: state is collected, so name what changes" in shown


def test_a_class_that_is_not_there_is_one_sentence(folder):
    status, shown = run(folder, "--splitlab-attack", "its_own_classes:MeanImaeg")
    assert status == pytest.ExitCode.USAGE_ERROR
    said = "ERROR: --splitlab-attack its_own_classes:MeanImaeg: its_own_classes has no class"
    assert shown.strip() == f"{said} MeanImaeg; check the spelling"


@pytest.mark.parametrize(
    ("what", "path", "said"),
    [
        ("attack", "its_own_classes", "names no class: write module:Class"),
        ("attack", "its_own_classes:", "names no class: write module:Class"),
        ("attack", "nowhere.at_all:Mine", "there is no module nowhere here; run pytest in"),
        ("attack", "its_own_classes.x:Mine", "there is no module its_own_classes.x here"),
        ("attack", "broken:Mine", "importing broken raises ZeroDivisionError: division by zero"),
        ("attack", "needy:Mine", "importing needy raises ModuleNotFoundError: No module named 'so"),
        ("attack", "its_own_classes:ANSWER", "its_own_classes has no class ANSWER"),
        ("attack", "its_own_classes:Noise", "Noise is a defense; name it with --splitlab-defense"),
        ("defense", "its_own_classes:Half", "Half is an attack; name it with --splitlab-attack"),
        ("defense", "its_own_classes:MeanImage", "MeanImage is an attack; name it with --splitla"),
        ("attack", "splitlab:Observer", "an attack is a subclass of sl.Server or sl.Client"),
        ("defense", "splitlab:Log", "a subclass of sl.Defense, sl.LabelDefense or sl.HonestServer"),
        ("attack", "its_own_classes:Half", "Half does not override reply; write it first"),
        ("defense", "its_own_classes:Mute", "Mute does not say how to make a small example of"),
    ],
)
def test_what_cannot_be_tried_is_one_sentence(folder, what, path, said):
    with pytest.raises(ValueError, match=f"^--splitlab-{what} {path}") as caught:
        chosen(what, path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_its_options_the_plugin_imports_nothing(tmp_path):
    (tmp_path / "test_light.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert 'splitlab_pytest' in sys.modules\n"
        "    assert not {'torch', 'numpy', 'splitlab'} & set(sys.modules)\n"
    )
    # Without the other plugins of whoever runs the tests: one of them may import torch.
    status, shown = run(tmp_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert status == 0, shown
