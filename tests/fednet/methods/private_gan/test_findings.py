"""A run is private only where every site is."""

from __future__ import annotations

from fednet.methods.private_gan.findings import PrivateGanFindings, PrivateGanFrame
from fednet.methods.private_gan.messages import PrivacyStatement
from fednet.metrics.evaluation import Evaluation

SECRET, OPEN = (PrivacyStatement(level="example", private=private) for private in (True, False))


def test_a_run_is_private_only_where_every_site_is() -> None:
    assert PrivateGanFindings(privacy={"a1": SECRET, "a2": SECRET}).private
    assert not PrivateGanFindings(privacy={"a1": SECRET, "a2": OPEN}).private
    assert not PrivateGanFindings().private  # nobody has stated anything


def test_the_numbers_of_a_frame_are_flat() -> None:
    numbers = PrivateGanFrame(3, Evaluation(4, None, 1.5, 2.0, 1.0, {"rows": 4})).numbers()
    assert (numbers["round"], numbers["frechet"], numbers["histogram"]) == (3, 2.0, {"rows": 4})
