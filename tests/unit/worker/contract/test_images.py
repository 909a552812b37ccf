"""Images as users sent them, and what they may cost."""

import asyncio
import threading
import time
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import ollama
import PIL.Image
import pytest
from autogen_core.models import ChatCompletionClient, ModelInfo, UserMessage
from autogen_ext.models.anthropic._anthropic_client import user_message_to_anthropic
from autogen_ext.models.ollama._ollama_client import user_message_to_ollama
from hypothesis import given
from hypothesis import strategies as st

from protos import chat_pb2 as pb
from worker.contract.errors import Unsupported
from worker.contract.image_size import ImageSize, image_size
from worker.contract.images import Images, SentImage
from worker.services.ollama_client import BytesOllamaClient

INFO = ModelInfo(vision=True, function_calling=True, json_output=True, family="unknown", structured_output=True)

FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {},
    "GIF": {},
    "WEBP": {},
    "WEBP lossless": {"lossless": True},
    "WEBP with an alpha channel": {"mode": "RGBA"},
    "JPEG progressive": {"progressive": True},
    "JPEG with a profile": {"icc_profile": bytes(70_000), "exif": b"Exif\x00\x00" + bytes(1000)},
    "GIF moving": {"save_all": True, "append_images": [PIL.Image.new("RGB", (30, 20), "red")]},
}


def file(name: str, width: int = 30, height: int = 20, **options: Any) -> bytes:
    options = FORMATS[name] | options
    buffer = BytesIO()
    PIL.Image.new(options.pop("mode", "RGB"), (width, height)).save(buffer, name.split()[0], **options)
    return buffer.getvalue()


def url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def image(address: str) -> SentImage:
    return SentImage(pb.Image(url=address))


def bomb(side: int) -> SentImage:
    buffer = BytesIO()
    PIL.Image.new("1", (side, side)).save(buffer, "PNG")
    return image(url(buffer.getvalue()))


# ------------------------------------------------------------ sizes


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
    began = time.process_time()
    assert image_size(b"\xff\xd8\xff" + b"\xff\xe0\x00\x02" * 500_000) is None
    assert time.process_time() - began < 5


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
    asked: Any = user_message_to_ollama(message)[0]
    images: Any = asked.model_dump()["images"]
    assert images == [b64encode(data).decode()]


def test_base64_that_names_a_file_is_no_image_for_ollama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client sends the file's content, if there is one of that name."""
    secret = tmp_path / "secretfile12"
    secret.write_text("secret")
    monkeypatch.chdir(tmp_path)
    content: Any = ollama.Image(value=secret.name).model_dump()
    assert content == b64encode(b"secret").decode()
    for name in (secret.name, "//etc/passwd"):
        message = UserMessage(content=["look", image(f"data:image/png;base64,{name}")], source="user")
        with pytest.raises(Unsupported, match="no PNG"):
            user_message_to_ollama(message)


async def test_ollamas_sdk_gets_bytes_which_name_no_file() -> None:
    client = ChatCompletionClient.load_component(
        {
            "provider": "worker.services.ollama_client.BytesOllamaClient",
            "component_type": "model",
            "config": {"model": "llava", "model_info": INFO},
        }
    )
    assert isinstance(client, BytesOllamaClient)
    data = file("PNG")
    asked = client._process_create_args(
        [UserMessage(content=["a", image(url(data))], source="u")], [], "auto", None, {}
    )
    (sent,) = asked.messages[0].images
    assert sent.value == data
    content: Any = sent.model_dump()
    assert content == b64encode(data).decode()
    await client.close()


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
    sent = bomb(20_000)
    monkeypatch.setattr(PIL.Image, "open", None)
    with pytest.raises(Unsupported, match=r"20,000 x 20,000 pixels is too large: 40,000,000 pixels are left"):
        await admit(40_000_000, sent)


async def test_requests_wait_for_each_other_and_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []
    go_on = threading.Event()

    def slow(sent: SentImage, budget: int) -> int:
        running.append(budget)
        go_on.wait(5)
        return 1

    monkeypatch.setattr(SentImage, "admit", slow)
    images = Images(9)
    message = UserMessage(content=["look", image("")], source="user")
    waiting = [asyncio.create_task(images.admit([message])) for _ in range(3)]
    while not running:
        await asyncio.sleep(0.001)
    waiting[1].cancel()
    await asyncio.gather(waiting[1], return_exceptions=True)
    assert running == [9]
    go_on.set()
    await asyncio.gather(waiting[0], waiting[2])
    assert running == [9, 9]
    images.close()


async def test_without_images_no_thread_is_needed() -> None:
    threads = threading.active_count()
    await Images(1).admit([UserMessage(content="hi", source="user"), UserMessage(content=["a", "b"], source="user")])
    assert threading.active_count() == threads


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


def test_other_formats_are_never_decoded(tmp_path: Path) -> None:
    for kind in ("TIFF", "BMP", "ICO", "PPM"):
        buffer = BytesIO()
        PIL.Image.new("RGB", (32, 32)).save(buffer, kind)
        with pytest.raises(Unsupported, match="cannot be decoded"):
            _ = image(url(buffer.getvalue())).image
