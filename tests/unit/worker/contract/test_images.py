"""Images as users sent them, and what they may cost."""

import asyncio
import threading
from base64 import b64decode, b64encode
from io import BytesIO
from typing import Any

import PIL.Image
import pytest
from autogen_core.models import UserMessage
from autogen_ext.models.anthropic._anthropic_client import user_message_to_anthropic

from tests.harness.waiting import until
from tests.unit.worker.pictures import FORMATS, file, image, url
from worker.contract.errors import Unsupported
from worker.contract.images import Images, SentImage


def bomb(side: int) -> SentImage:
    buffer = BytesIO()
    PIL.Image.new("1", (side, side)).save(buffer, "PNG")
    return image(url(buffer.getvalue()))


# ------------------------------------------------------------ what clients get


@pytest.mark.parametrize("name", FORMATS)
def test_data_is_passed_on_as_it_was_sent_with_its_own_type(name: str) -> None:
    data = file(name)
    sent = image(url(data, "x-whatever"))
    assert b64decode(sent.to_base64()) == data
    assert sent.data_uri == url(data, name.split()[0].lower())
    assert sent.to_openai_format()["image_url"]["url"] == url(data, "x-whatever")


@pytest.mark.parametrize("name", FORMATS)
def test_stock_clients_decode_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    data = file(name)
    monkeypatch.setattr(PIL.Image, "open", refuse)
    message = UserMessage(content=["look", image(url(data))], source="user")
    block: Any = user_message_to_anthropic(message)
    source: dict[str, str] = block["content"][1]["source"]
    assert source["media_type"] == f"image/{name.split()[0].lower()}"
    assert source["data"] == b64encode(data).decode()


async def test_images_are_read_by_their_urls() -> None:
    images = Images(1000)
    try:
        (read,) = await images.read([url(file("PNG"))])
        assert read.to_base64() == b64encode(file("PNG")).decode()
        assert await images.read([]) == []
        for refused in ("data:image/png;base64,//etc/passwd", "https://x.example/a.png"):
            with pytest.raises(Unsupported):
                await images.read([url(file("PNG")), refused])
    finally:
        images.close()


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("https://x.example/a.png", "not by URL"),
        ("data:image/png,AA", "not by URL"),
        ("data:image/png;base64,!!!!", "base64"),
        ("data:image/png;base64,iVBORw0KGg", "base64"),
        ("data:image/png;base64,é", "base64"),
        ("data:image/png;base64,", "no PNG"),
        (url(b"<svg/>", "svg+xml"), "no PNG"),
        (url(file("PNG")[:20]), "no PNG"),
        (url(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "no PNG"),
        (url(b"II*\x00" + bytes(100), "tiff"), "no PNG"),
    ],
)
def test_what_is_no_image_is_refused(address: str, text: str) -> None:
    with pytest.raises(Unsupported, match=text):
        image(address).to_base64()


@pytest.mark.parametrize(
    "head", ["data:IMAGE/PNG;base64", "DATA:image/png; base64", "data:;charset=utf-8;BASE64", " data:image/png;base64"]
)
def test_a_data_url_may_be_spelt_in_any_way(head: str) -> None:
    data = file("PNG")
    assert b64decode(image(f"{head},{b64encode(data).decode()}").to_base64()) == data


def test_white_space_in_base64_does_no_harm() -> None:
    data = file("PNG")
    assert b64decode(image(url(data).replace("0", "\n0 ")).to_base64()) == data


# ------------------------------------------------------------ the budget


async def admit(pixels: int, *images: SentImage) -> None:
    made = Images(pixels)
    try:
        await made.admit([UserMessage(content=["look", *images], source="user")])
    finally:
        made.close()


async def test_the_images_of_a_request_share_its_pixels() -> None:
    await admit(1800, *[image(url(file("PNG"))) for _ in range(3)])
    with pytest.raises(Unsupported, match=r"30 x 20 pixels is too large: 599 pixels are left .*WORKER_IMAGE_PIXELS"):
        await admit(1799, *[image(url(file("PNG"))) for _ in range(3)])


async def test_a_bomb_is_refused_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = bomb(7000)
    monkeypatch.setattr(PIL.Image, "open", None)
    with pytest.raises(Unsupported, match=r"7,000 x 7,000 pixels is too large: 40,000,000 pixels are left"):
        await admit(40_000_000, sent)


async def test_requests_wait_for_each_other_and_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []
    go_on = threading.Event()

    def slow(sent: SentImage, budget: int) -> int:
        running.append(budget)
        go_on.wait(30)
        return 1

    monkeypatch.setattr(SentImage, "admit", slow)
    images = Images(9)
    message = UserMessage(content=["look", image("")], source="user")
    waiting = [asyncio.create_task(images.admit([message])) for _ in range(3)]
    await until(lambda: running)
    waiting[1].cancel()
    await asyncio.gather(waiting[1], return_exceptions=True)
    assert running == [9]
    go_on.set()
    await asyncio.gather(waiting[0], waiting[2])
    assert running == [9, 9]
    images.close()


async def test_without_images_no_thread_is_needed() -> None:
    threads = {*threading.enumerate()}
    await Images(1).admit([UserMessage(content="hi", source="user"), UserMessage(content=["a", "b"], source="user")])
    assert {*threading.enumerate()} <= threads, "those of other tests may end meanwhile"


# ------------------------------------------------------------ pixels


async def test_pixels_are_decoded_in_a_thread_and_not_on_the_loop() -> None:
    sent = image(url(file("JPEG progressive")))
    with pytest.raises(Unsupported, match="on the event loop"):
        _ = sent.image
    decoded = await asyncio.to_thread(lambda: sent.image)
    assert (decoded.size, decoded.mode) == ((30, 20), "RGB")


def test_pixels_are_decoded_within_the_budget_only() -> None:
    with pytest.raises(Unsupported, match="too large"):
        _ = bomb(7000).image
    sent = image(url(file("PNG")))
    sent.admit(600)
    assert sent.image.size == (30, 20)


@pytest.mark.parametrize("name", FORMATS)
def test_an_image_that_is_cut_off_cannot_be_decoded(name: str) -> None:
    data = file(name, 300, 200)
    sent = image(url(data[: len(data) * 2 // 3]))
    with pytest.raises(Unsupported, match="cannot be decoded"):
        _ = sent.image


def test_other_formats_are_never_decoded() -> None:
    for kind in ("TIFF", "BMP", "ICO", "PPM"):
        buffer = BytesIO()
        PIL.Image.new("RGB", (32, 32)).save(buffer, kind)
        with pytest.raises(Unsupported, match="cannot be decoded"):
            _ = image(url(buffer.getvalue())).image
