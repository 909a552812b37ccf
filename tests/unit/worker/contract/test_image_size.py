"""An image's size, from its header."""

from collections.abc import Callable
from io import BytesIO

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.growth import assert_linear
from tests.unit.worker.pictures import FORMATS, file
from worker.contract.image_size import ImageSize, image_size


@pytest.mark.parametrize("name", FORMATS)
def test_the_size_is_in_the_header(name: str) -> None:
    data = file(name)
    assert image_size(data) == ImageSize(name.split()[0].lower(), 30, 20)
    with PIL.Image.open(BytesIO(data)) as opened:
        assert opened.size == (30, 20)


@given(st.sampled_from(list(FORMATS)), st.integers(0, 200), st.binary(max_size=40))
def test_a_header_that_is_cut_off_or_wrong_is_no_size_or_some_size(name: str, cut: int, more: bytes) -> None:
    found = image_size(file(name)[:cut] + more)
    assert found is None or (found.width >= 0 and found.height >= 0)


def test_a_header_of_many_segments_is_read_in_linear_time() -> None:
    def read(segments: int) -> Callable[[], ImageSize | None]:
        data = b"\xff\xd8\xff" + b"\xff\xe0\x00\x02" * segments
        return lambda: image_size(data)

    assert read(10)() is None
    assert_linear(read, 20_000)
