import struct
import sys
import zlib

import pytest
import torch

from deepalign_cli.data.image_folder import read_images
from deepalign_cli.data.sources import Wanted, load_data
from deepalign_cli.errors import DataError, MissingExtra
from tests.data.files import picture_folder

ALL = torch.arange(6)


def test_classes_are_numbered_in_the_order_of_their_names(tmp_path):
    parts, facts = read_images(picture_folder(tmp_path, ("zebra", "ant")))
    x, y = parts[""].read(ALL)
    assert facts == {}
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    assert x.shape == (6, 4, 5)
    assert x.dtype == torch.uint8
    assert x[:, 0, 0].tolist() == [40, 41, 42, 0, 1, 2]


def test_colours_are_the_last_axis(tmp_path):
    parts, _ = read_images(picture_folder(tmp_path, mode="RGB"))
    x, _ = parts[""].read(torch.tensor([4, 1]))
    assert x.shape == (2, 4, 5, 3)
    assert x[:, 0, 0].tolist() == [[41, 0, 255], [1, 0, 255]]


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "jpg", "JPEG"])
def test_reads_the_usual_formats(tmp_path, ending):
    parts, _ = read_images(picture_folder(tmp_path, ending=ending))
    x, _ = parts[""].read(ALL)
    x = x.float().reshape(6, -1)[:, :20]
    torch.testing.assert_close(x.mean(1), torch.tensor([0.0, 1, 2, 40, 41, 42]), atol=2, rtol=0)


def test_splits_share_their_classes(tmp_path):
    picture_folder(tmp_path / "Training", ("a", "b", "c"))
    picture_folder(tmp_path / "val", ("a", "c"))
    assert set(read_images(tmp_path)[0]) == {"training", "val"}
    data = load_data(str(tmp_path), wanted=Wanted("unit"))
    assert data.name == f"{tmp_path.name}, validation, 6 examples"
    ((_, labels),) = data.batches(10)
    assert labels.tolist() == [0, 0, 0, 2, 2, 2]
    assert len(data.training()) == 9


def test_grey_images_among_colours_get_three_channels(tmp_path):
    picture_folder(tmp_path, ("a",))
    picture_folder(tmp_path, ("b",), mode="RGB")
    x, _ = read_images(tmp_path)[0][""].read(ALL)
    assert x.shape == (6, 4, 5, 3)
    assert x[1].unique().tolist() == [1]


def test_whether_images_are_grey_does_not_depend_on_the_batch(tmp_path):
    picture_folder(tmp_path, ("a",))
    picture_folder(tmp_path, ("b",), mode="RGB")
    data = load_data(str(tmp_path), wanted=Wanted("unit"))
    for size in (1, 2, 6):
        assert torch.equal(torch.cat(list(data.inputs(size))), next(data.inputs(6)))


def test_a_late_image_in_colours_is_refused_among_grey_ones(tmp_path):
    from PIL import Image

    picture_folder(tmp_path, ("a",), each=60)
    Image.new("RGB", (5, 4), "red").save(tmp_path / "a" / "9.png")
    data = load_data(str(tmp_path), wanted=Wanted("unit"))
    with pytest.raises(DataError, match=r"/9\.png' has colours, but others are grey"):
        list(data.inputs(10))


def test_see_through_and_palette_images_are_read(tmp_path):
    from PIL import Image

    (tmp_path / "a").mkdir()
    Image.new("RGBA", (3, 2), (9, 8, 7, 128)).save(tmp_path / "a" / "0.png")
    Image.new("RGB", (3, 2), (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE).save(
        tmp_path / "a/1.png"
    )
    x, _ = read_images(tmp_path)[0][""].read(torch.arange(2))
    assert x.reshape(-1, 3).unique(dim=0).tolist() == [[9, 8, 7]]


def test_files_are_opened_only_as_they_are_read(tmp_path):
    picture_folder(tmp_path, ("a",), each=60)
    (tmp_path / "a" / "9.png").write_bytes(b"broken")  # the last
    data = load_data(str(tmp_path), wanted=Wanted("unit"))
    batches = data.inputs(59)
    assert len(next(batches)) == 59
    with pytest.raises(DataError, match=r"a/9\.png' is not a readable image"):
        next(batches)


def test_a_truncated_image_is_refused(tmp_path):
    picture_folder(tmp_path, size=(50, 50), mode="RGB")
    path = tmp_path / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(DataError, match="is not a readable image"):
        read_images(tmp_path)[0][""].read(ALL)


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("side", [8_000, 100_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    (tmp_path / "a").mkdir()
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    (tmp_path / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", b""))
    with pytest.raises(DataError, match=r"is not a readable image: .*pixels"):
        read_images(tmp_path)[0][""].read(torch.arange(1))


def test_more_than_8_bits_are_refused(tmp_path):
    from PIL import Image

    (tmp_path / "a").mkdir()
    Image.new("I;16", (3, 2), 4000).save(tmp_path / "a" / "0.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        read_images(tmp_path)[0][""].read(torch.arange(1))


def test_images_of_two_sizes_are_refused(tmp_path):
    picture_folder(tmp_path, ("a",), size=(5, 4))
    picture_folder(tmp_path, ("b",), size=(6, 4))
    with pytest.raises(DataError, match=r"a/0\.png' is 5x4, '.*b/0\.png' is 6x4"):
        read_images(tmp_path)[0][""].read(ALL)


def test_sizes_are_compared_across_batches(tmp_path):
    picture_folder(tmp_path, ("a",), size=(5, 4))
    picture_folder(tmp_path, ("b",), size=(6, 4))
    part = read_images(tmp_path)[0][""]
    part.read(torch.arange(3))
    with pytest.raises(DataError, match="differ in size"):
        part.read(torch.arange(3, 6))


def test_hidden_and_other_files_are_left_alone(tmp_path):
    picture_folder(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("a cat")
    (tmp_path / "cat" / "._0.png").write_bytes(b"")
    assert len(read_images(tmp_path)[0][""]) == 6


@pytest.mark.parametrize("inside", [(), ("a.png",), ("cat/notes.txt",), ("train/a.png", "test/cat/a.png")])
def test_a_folder_without_classes_is_refused(tmp_path, inside):
    for name in inside:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="holds no folders of images") as caught:
        read_images(tmp_path)
    assert "class/image.png" in caught.value.hint


def test_says_what_to_install(tmp_path, monkeypatch):
    picture_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtra) as caught:
        read_images(tmp_path)
    assert caught.value.hint == "pip install 'deepalign[data]'"
