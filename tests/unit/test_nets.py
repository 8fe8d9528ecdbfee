"""Shapes and parameter counts of the networks."""

import pytest
import torch

from splitlab import nets
from splitlab.nets import parameter_count

# Sums of z and of the logits of one image, by cut.
GOLDEN = {
    1: (138.440536, -0.417874),
    2: (2.398912, -0.117389),
    3: (4.192223, -0.112790),
    4: (1.103699, 0.129022),
}


@pytest.mark.parametrize(
    ("cut", "client", "pilot", "decoder"),
    [
        (1, 75_776, 38_720, 154_627),
        (2, 371_072, 223_232, 593_667),
        (3, 666_240, 223_232, 593_667),
        (4, 1_846_656, 960_896, 888_579),
    ],
)
def test_parameters_of_the_papers_networks(cut, client, pilot, decoder):
    assert parameter_count(nets.paper.client(cut=cut)) == client
    assert parameter_count(nets.paper.pilot(cut=cut)) == pilot
    assert parameter_count(nets.paper.decoder(cut=cut)) == decoder


def test_parameters_of_the_critics():
    assert parameter_count(nets.paper.critic(cut=4)) == 8_262_145
    assert parameter_count(nets.paper.image_critic()) == 427_361


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
@pytest.mark.parametrize(("module", "image"), [(nets.paper, (3, 32, 32)), (nets.tiny, (1, 16, 16))])
def test_shapes_agree_at_every_cut(module, image, cut):
    x = torch.randn(2, *image)
    z = module.client(cut=cut)(x)
    assert z.shape[1:] == module.Z_SHAPE[cut]
    assert module.pilot(cut=cut)(x).shape == z.shape
    assert module.decoder(cut=cut)(z).shape == x.shape
    assert module.critic(cut=cut)(z).shape == (2, 1)
    assert module.server(cut=cut)(z).shape == (2, 10)
    assert module.image_critic()(x).shape == (2, 1)
    assert nets.upsampling_decoder(z.shape[1:], image)(z).shape == x.shape


@pytest.mark.parametrize("size", [16, 28, 32])
@pytest.mark.parametrize("module", [nets.tiny, nets.paper])
def test_shapes_of_the_networks_of_the_client_side_attack_agree(module, size):
    images = module.generator(channels=3, size=size)(torch.randn(2, module.NOISE))
    assert images.shape == (2, 3, size, size)
    a = module.strided_server()(module.strided_client(channels=3)(images))
    assert a.shape[2:] == (size // 4, size // 4)
    assert module.strided_tail(classes=5, size=size)(a).shape == (2, 5)


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_the_tiny_client_can_be_narrow_or_wide_at_the_cut(cut):
    x, width = torch.randn(2, 1, 16, 16), nets.tiny.Z_SHAPE[cut][0]
    for options in ({"cut": cut}, {"cut": cut, "seed": 3}):
        same = [nets.tiny.client(**options, width=w).state_dict() for w in (None, width)]
        assert all(torch.equal(value, same[1][name]) for name, value in same[0].items())
        same = [nets.tiny.server(**options, width=w).state_dict() for w in (None, width)]
        assert all(torch.equal(value, same[1][name]) for name, value in same[0].items())
    for width in (1, 5):
        z = nets.tiny.client(cut=cut, width=width)(x)
        assert z.shape[1:] == (width, *nets.tiny.Z_SHAPE[cut][1:])
        assert nets.tiny.server(cut=cut, width=width)(z).shape == (2, 10)
        before = nets.tiny.client(cut=cut).state_dict()
        narrow = nets.tiny.client(cut=cut, width=width).state_dict()
        assert all(narrow[n].shape == before[n].shape for n in narrow if int(n[0]) < cut - 1)
    for make in (nets.tiny.client, nets.tiny.server):
        with pytest.raises(ValueError, match="width is 0: choose a whole number of at least 1"):
            make(cut=cut, width=0)


def test_the_default_tiny_networks_are_those_of_the_recorded_runs():
    """Figures made before the width could be chosen."""
    x = torch.linspace(-1, 1, 256).view(1, 1, 16, 16)
    for cut, wanted in GOLDEN.items():
        z = nets.tiny.client(cut=cut, seed=3).eval()(x)
        logits = nets.tiny.server(cut=cut, seed=3)(z)
        assert [float(z.detach().sum()), float(logits.detach().sum())] == pytest.approx(
            wanted, rel=1e-4
        )


def test_the_papers_decoder_ends_in_tanh_and_can_be_linear():
    z = 100 * torch.randn(8, 256, 4, 4)
    assert nets.paper.decoder()(z).abs().max() <= 1
    assert nets.paper.decoder(output="linear")(z).abs().max() > 1
    assert nets.tiny.decoder(output="tanh")(100 * torch.randn(8, 32, 4, 4)).abs().max() <= 1


def test_batch_norm_is_keras_unless_told_otherwise():
    norm = nets.paper.client()[1]
    assert (norm.momentum, norm.eps) == (0.01, 1e-3)
    assert nets.paper.client(momentum=0.1)[1].momentum == 0.1


@pytest.mark.parametrize(("out", "stride"), [(4, 1), (6, 2)])
def test_a_residual_block_adds_its_branch_to_its_skip(out, stride):
    block, x = nets.ResBlock(4, out, stride), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        block.branch[-1].weight.zero_()
        block.branch[-1].bias.fill_(2.0)
    expected = x if stride == 1 else block.skip(x)
    torch.testing.assert_close(block(x), expected + 2)


def test_seeds_fix_the_weights_and_leave_the_global_stream():
    before = torch.get_rng_state()
    one, same, other = (nets.tiny.client(seed=s)[0][0].weight for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("cut", [0, 5, "4"])
def test_an_unknown_cut_is_refused(cut):
    with pytest.raises(ValueError, match="choose 1"):
        nets.tiny.client(cut=cut)


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("patch", [2, 4, 8])
def test_depth_to_space_inverts_space_to_depth(patch, grey):
    x = torch.rand(5, 1, 16, 16).expand(-1, 3, -1, -1) if grey else torch.rand(5, 3, 16, 16)
    code = {"mean": 0.3, "std": 0.7, "grey": grey}
    channels = 256
    z = nets.SpaceToDepth(patch, channels, **code)(x)
    assert z.shape == (5, channels, 16 // patch, 16 // patch)
    assert (z[:, (1 if grey else 3) * patch**2 :] == 0).all()
    torch.testing.assert_close(nets.DepthToSpace(patch, 3, **code)(z), x.contiguous())


def test_space_to_depth_refuses_too_few_channels():
    with pytest.raises(ValueError, match="need 64 channels and z has 32"):
        nets.SpaceToDepth(8, 32, mean=0.0, std=1.0)(torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize("parameters", [16_000, 32_000, 64_000])
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
@pytest.mark.parametrize("width", [None, 2, 1])
def test_upsampling_decoders_of_all_cuts_can_have_equally_many_parameters(cut, width, parameters):
    z = nets.tiny.client(cut=cut, width=width)(torch.zeros(2, 1, 16, 16))
    decoder = nets.upsampling_decoder(z.shape[1:], (1, 16, 16), parameters=parameters)
    assert decoder(z).shape == (2, 1, 16, 16)
    assert nets.parameter_count(decoder) == pytest.approx(parameters, rel=0.05)


def test_upsampling_decoders_count_a_dense_layer_and_refuse_sizes_that_they_cannot_have():
    decoder = nets.upsampling_decoder((10,), (1, 16, 16), parameters=32_000)
    assert nets.parameter_count(decoder) == pytest.approx(32_000, rel=0.05)
    for wrong, closest in ((3, 100), (10**9, 16_862_209)):
        with pytest.raises(ValueError, match=f"parameters is {wrong}, .* has {closest}: ask for"):
            nets.upsampling_decoder((8, 8, 8), (1, 16, 16), parameters=wrong)


def test_upsampling_decoder_handles_dense_z_and_refuses_odd_sizes():
    assert nets.upsampling_decoder((100,), (1, 16, 16))(torch.zeros(2, 100)).shape == (2, 1, 16, 16)
    with pytest.raises(ValueError, match="doubling z of"):
        nets.upsampling_decoder((8, 5, 5), (1, 16, 16))
