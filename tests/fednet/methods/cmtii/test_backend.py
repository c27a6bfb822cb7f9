"""The interfaces of the models: the embedded ones satisfy them; a back-end knows no further words by default."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from fednet.methods.cmtii.backend import ClipModel, CmtiiBackend, ImageGenerator


def require_interfaces(clip: ClipModel, net: ImageGenerator, shape: tuple[int, int, int]) -> None:
    """A token's row is a word for both models; what the one generates, the other encodes."""
    token = clip.tokens("3")
    images = net.generate(token, 2, torch.Generator().manual_seed(0))
    assert images.shape == (2, *shape)
    features, texts = clip.image_features(images), clip.text_features([token, token])
    assert features.shape == texts.shape == (2, clip.features)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(texts[0], texts[1])
    assert token.shape[1] == clip.width
    assert float(clip.logit_scale) > 0
    assert net.denoising_loss(images, [token] * 2, torch.Generator().manual_seed(0)).shape == (2,)


def test_the_embedded_models_satisfy_the_interfaces(backend: CmtiiBackend) -> None:
    require_interfaces(backend.clip, backend.image_generator, backend.shape)


def test_a_backend_knows_no_further_words_by_default(backend: CmtiiBackend) -> None:
    bare = CmtiiBackend(backend.clip, backend.image_generator, backend.shape, backend.exported)
    assert list(bare.known("3")) == []
    assert len(backend.known("3")) > 1
    assert all(word.shape == (1, backend.clip.width) for word in backend.known("3"))


def test_a_backend_is_a_value(backend: CmtiiBackend) -> None:
    assert replace(backend) == backend
    with pytest.raises(FrozenInstanceError):
        backend.shape = (3, 8, 8)  # type: ignore[misc]
