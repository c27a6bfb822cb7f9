"""How DICOM files are known; how they are read is in the table that `test_image_files` checks."""

from __future__ import annotations

import pytest

from fednet.data.dicom import is_dicom


@pytest.mark.parametrize(
    ("head", "found"), [(bytes(128) + b"DICM", True), (b"DICM" + bytes(128), False), (b"", False), (bytes(132), False)]
)
def test_dicom_is_known_by_its_prefix(head: bytes, found: bool) -> None:
    assert is_dicom(head) is found
