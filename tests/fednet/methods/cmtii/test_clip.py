"""CLIP reads a token's own row as the token, and prepares pictures as open_clip does."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from fednet.errors import ModelError
from fednet.methods.cmtii.clip import OpenClip
from fednet.methods.cmtii.prompts import PROMPT_TEMPLATE, WordVocabulary
from fednet.seeds import generator

VOCABULARY = WordVocabulary(["zero", "one", "two", "bold"])
SMALL: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 8, "layers": 2, "width": 16, "head_width": 8, "patch_size": 4},
    "text_cfg": {"context_length": 9, "vocab_size": len(VOCABULARY), "width": 16, "heads": 2, "layers": 2},
}
WIDE = SMALL | {"text_cfg": SMALL["text_cfg"] | {"context_length": 77, "vocab_size": 49408}}
PIXELS = PreprocessCfg(size=8, mean=(0.5, 0.4, 0.3), std=(0.5, 0.4, 0.3))


def small(kind: type[nn.Module] = open_clip.CLIP, config: dict[str, Any] = SMALL) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(**config).eval()


@pytest.fixture
def clip() -> OpenClip:
    return OpenClip(small(), VOCABULARY, PIXELS)


def pictures(count: int, *shape: int) -> Tensor:
    return torch.rand(count, *shape, generator=generator(0, "pictures")) * 2 - 1


def encoded(model: nn.Module, what: str, batch: Tensor) -> Tensor:
    """open_clip's own features of texts or pictures, of length 1."""
    features: Tensor = getattr(model, f"encode_{what}")(batch, normalize=True)
    return features


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
def test_a_words_own_rows_are_the_word(kind: type[nn.Module]) -> None:
    model = small(kind, WIDE)
    clip = OpenClip(model, SimpleTokenizer(), PIXELS)
    names = ["cat", "aquarium fish", "pickup truck"]
    words = [clip.tokens(name) for name in names]
    assert len(words[0]) == 1
    assert len(words[1]) == 2
    expected = encoded(model, "text", open_clip.tokenize([f"{PROMPT_TEMPLATE} {name}" for name in names]))
    torch.testing.assert_close(clip.text_features(words), expected, rtol=0, atol=0)


def test_an_own_vocabulary_reads_like_any_other(clip: OpenClip) -> None:
    a, photo, of, bold, two = (VOCABULARY.encode(word)[0] for word in ("a", "photo", "of", "bold", "two"))
    ids = torch.tensor([[VOCABULARY.sot_token_id, a, photo, of, a, bold, two, VOCABULARY.eot_token_id, 0]])
    expected = encoded(clip.model, "text", ids)
    torch.testing.assert_close(clip.text_features([clip.tokens("bold two")]), expected, rtol=0, atol=0)


def test_a_word_reads_the_same_beside_others(clip: OpenClip) -> None:
    words = [clip.tokens("zero"), torch.randn(3, 16, generator=generator(0, "word")), clip.tokens("bold one")]
    together = clip.text_features(words)
    alone = torch.cat([clip.text_features([word]) for word in words])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))


def test_states_are_what_is_pooled(clip: OpenClip) -> None:
    words = [clip.tokens("zero"), clip.tokens("bold one")]
    states = clip.text_states(words)
    assert states.shape == (2, 9, 16)
    ends = torch.stack([states[0, 6], states[1, 7]])
    pooled = torch.nn.functional.normalize(ends @ clip.model.get_parameter("text_projection"), dim=-1)
    torch.testing.assert_close(clip.text_features(words), pooled)


def test_gradients_reach_the_word_and_nothing_lasts(clip: OpenClip) -> None:
    clip.model.requires_grad_(requires_grad=False)
    word = clip.tokens("one").requires_grad_()
    before = clip.text_features([clip.tokens("two")])
    clip.text_features([word]).sum().backward()
    assert word.grad is not None
    assert word.grad.abs().sum() > 0
    assert torch.equal(clip.text_features([clip.tokens("two")]), before)
    assert not clip.model.get_submodule("token_embedding")._forward_hooks


def test_pictures_of_the_models_own_size_are_only_normalised(clip: OpenClip) -> None:
    images = pictures(3, 3, 8, 8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXELS.mean, PIXELS.std))
    expected = encoded(clip.model, "image", ((images + 1) / 2 - mean) / std)
    torch.testing.assert_close(clip.image_features(images), expected)
    grey = images[:, :1]
    torch.testing.assert_close(clip.image_features(grey), clip.image_features(grey.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize(("height", "width"), [(21, 30), (5, 4)])
def test_other_sizes_are_prepared_as_open_clip_does(mode: str, height: int, width: int) -> None:
    pixels = PreprocessCfg(size=8, resize_mode=mode)
    model = small()
    seen: list[Tensor] = []
    model.get_submodule("visual").register_forward_pre_hook(lambda _tower, inputs: seen.append(inputs[0]))
    clip = OpenClip(model, VOCABULARY, pixels)
    smooth = torch.nn.functional.interpolate(pictures(1, 3, 3, 3), (height, width), mode="bilinear")
    levels = ((smooth + 1) * 127.5).round().to(torch.uint8)
    clip.image_features(levels.float() / 127.5 - 1)
    theirs = image_transform_v2(pixels, is_train=False)(Image.fromarray(levels[0].permute(1, 2, 0).numpy()))
    levels_apart = (seen[0][0] - theirs) * torch.tensor(pixels.std).view(3, 1, 1) * 255
    assert levels_apart.abs().max() <= 1.5


def test_picture_gradients_flow(clip: OpenClip) -> None:
    images = pictures(2, 1, 12, 12).requires_grad_()
    clip.image_features(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_autocast_stays_near(clip: OpenClip) -> None:
    half = OpenClip(clip.model, VOCABULARY, PIXELS, half=torch.bfloat16)
    images = pictures(2, 3, 8, 8)
    assert half.image_features(images).dtype == torch.float32
    torch.testing.assert_close(half.image_features(images), clip.image_features(images), atol=0.03, rtol=0)
    word = clip.tokens("one")
    torch.testing.assert_close(half.text_features([word]), clip.text_features([word]), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (torch.zeros(1, 15), r"word 1 is torch.float32 \(1, 15\).*\(tokens, 16\)"),
        (torch.zeros(16), r"word 1 is torch.float32 \(16,\)"),
        (torch.zeros(4, 16), "word 1 has 4 tokens; a prompt has room for 1 to 3"),
        (torch.full((1, 16), float("nan")), "word 1 holds NaN"),
        (torch.zeros(1, 16, dtype=torch.int64), "word 1 is torch.int64"),
    ],
)
def test_words_of_another_kind_are_refused(clip: OpenClip, word: Tensor, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        clip.text_features([clip.tokens("one"), word])


def test_names_that_no_prompt_can_hold_are_refused(clip: OpenClip) -> None:
    with pytest.raises(ModelError, match="no word 'seven'"):
        clip.tokens("seven")
    with pytest.raises(ModelError, match="'one one one one' has 4 tokens; a prompt has room for 1 to 3"):
        clip.tokens("one one one one")
    with pytest.raises(ModelError, match="no word"):
        clip.text_features([])


def test_other_pictures_are_refused(clip: OpenClip) -> None:
    with pytest.raises(ModelError, match=r"got \(2, 4, 8, 8\)"):
        clip.image_features(torch.zeros(2, 4, 8, 8))


def test_another_text_tower_is_refused() -> None:
    model = nn.Module()
    model.text = nn.Linear(2, 2)
    with pytest.raises(ModelError, match="has a Linear as its text tower"):
        OpenClip(model, VOCABULARY, PIXELS)
