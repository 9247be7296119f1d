"""Images in shards: the same as in a folder; what is damaged or odd is found."""

import io
import tarfile
from pathlib import Path

import pytest
import torch

from tests.shards import module, parquet, tar
from tl_lightning.data import image_folder
from tl_lightning.data.images.shards import places
from tl_lightning.data.images.transforms import ImageAugmentation
from tl_lightning.errors import UserError


def test_shards_hold_what_the_folder_holds(shards, samples, tmp_path, input):
    data = module(input, shards)
    assert data.samples.task.outputs == ("dark", "light")
    assert (data.samples.size("train"), data.samples.size("val")) == (48, 12)
    folder = image_folder(input, root=str(tmp_path / "files"), augment=ImageAugmentation(), workers=0)
    plain = {Path(item.path).stem: folder.dataset(s, folder.eval_transform)[k, 0]
             for s in ("train", "val") for k, item in enumerate(folder.samples.used(s))}  # fmt: skip
    for split in ("train", "val"):
        images = data.dataset(split, data.eval_transform)
        for k, item in enumerate(data.samples.used(split)):
            pixels, target, _ = images[k, 0]
            assert torch.equal(pixels, plain[Path(item.path).stem][0])
            assert target == plain[Path(item.path).stem][1]


def test_parquet_of_numbers_with_names(samples, tmp_path, input):
    numbered = [(key, file, int(label == "light")) for key, file, label in samples]
    names = '{"info": {"features": {"label": {"names": ["dark", "light"], "_type": "ClassLabel"}}}}'
    parquet(tmp_path / "p" / "train.parquet", numbered, huggingface=names)
    data = module(input, tmp_path / "p")
    assert data.samples.task.outputs == ("dark", "light")
    assert data.window == 4
    assert [i.kind for i in data.issues()] == []
    unlabelled = [(key, file, -1 if i < 3 else label) for i, (key, file, label) in enumerate(numbered)]
    parquet(tmp_path / "u" / "train.parquet", unlabelled, huggingface=names)
    assert [i.skipped for i in module(input, tmp_path / "u").samples.skipped] == ["no label"] * 3
    parquet(tmp_path / "o" / "train.parquet", [*numbered, ("x", samples[0][1], 7)], huggingface=names)
    with pytest.raises(UserError, match="has the label 7, and names for 0 to 1"):
        module(input, tmp_path / "o")
    levels = {name: [] for name in data.samples.task.outputs}
    for split in ("train", "val"):
        images = data.dataset(split, data.eval_transform)
        for k, item in enumerate(data.samples.used(split)):
            levels[item.label].append(float(images[k, 0][0].float().mean()))
    assert max(levels["dark"]) < 100 < min(levels["light"])


def test_names_with_braces_patterns_and_lists(shards):
    names = [str(shards / f"train-{k}.tar") for k in range(4)]
    assert places.shard_names(str(shards / "train-{0..3}.tar")) == names
    assert places.shard_names(str(shards / "train-*.tar")) == names
    assert places.shard_names([names[0], str(shards / "{train-1,train-2}.tar")]) == names[:3]
    assert places.shard_names(str(shards)) == [*names, str(shards / "val-4.tar")]
    assert places.shard_names("https://x.org/a-{08..10}.tar") == [
        f"https://x.org/a-{k}.tar" for k in ("08", "09", "10")
    ]


def _cut(shards, length):
    file = shards / "train-1.tar"
    file.write_bytes(file.read_bytes()[:length])


def _without_end(shards):
    """Cut where the last file in it ends."""
    with tarfile.open(shards / "train-1.tar") as archive:
        last = archive.getmembers()[-1]
    _cut(shards, last.offset_data + -(-last.size // 512) * 512)


def _damaged(shards):
    """One byte of the header of a file in the middle."""
    with tarfile.open(shards / "train-1.tar") as archive:
        place = archive.getmembers()[5].offset
    whole = bytearray((shards / "train-1.tar").read_bytes())
    whole[place + 2] ^= 255
    (shards / "train-1.tar").write_bytes(whole)


def _joined(shards):
    (shards / "train-1.tar").write_bytes((shards / "train-1.tar").read_bytes() + (shards / "train-2.tar").read_bytes())


FAULTS = {
    "cut short": (lambda s: _cut(s, 9000), "", "train-1.tar .*fetch it again"),
    "no end": (_without_end, "", "train-1.tar was cut short: .*fetch it again"),
    "no tar": (lambda s: (s / "train-1.tar").write_bytes(b"nothing" * 200), "", "train-1.tar .*fetch it again"),
    "compressed": (lambda s: None, "/train-{0..3}.tar.gz", "must not be compressed"),
    "a damaged header": (lambda s: _damaged(s), "", "train-1.tar is damaged at byte"),
    "two in one": (lambda s: _joined(s), "", "train-1.tar is damaged at byte .* or two files in one"),
    "empty": (lambda s: [p.unlink() for p in s.iterdir()], "", "there are no shards"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_read_is_refused(fault, shards, input):
    plant, names, said = FAULTS[fault]
    plant(shards)
    with pytest.raises(UserError, match=said):
        module(input, f"{shards}{names}")


def test_addresses_that_do_not_answer_or_are_none(shards, served, input):
    for wrong, said in (
        (f"{served}/none.tar", "none.tar does not answer"),
        ("http://127.0.0.1:9/x.tar", "x.tar does not answer"),
        ("pipe://cat x.tar", "addresses begin with"),
        (f"simplecache::{served}/train-0.tar", "addresses begin with"),
        (f"{shards}/nothing-{{0..1}}.tar", "nothing-0.tar does not exist"),
    ):
        with pytest.raises(UserError, match=said):
            module(input, wrong)


def test_an_image_that_cannot_be_read_is_left_out(samples, tmp_path, input):
    broken = tmp_path / "files" / "dark" / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    tar(tmp_path / "s" / "a.tar", [*samples, ("broken", broken, "dark"), ("nolabel", samples[0][1], "")])
    data = module(input, tmp_path / "s")
    assert {i.path: i.skipped.split(":")[0] for i in data.samples.skipped} == {
        "a.tar/broken.png": "UnidentifiedImageError", "a.tar/nolabel.png": "no label"}  # fmt: skip
    assert data.samples.size("train") + data.samples.size("val") == 60
    assert isinstance(data.samples.shown(data.samples.used("train")[0]), str)


def test_a_folder_above_shards_says_their_split(samples, tmp_path, input):
    (tmp_path / "s").mkdir()
    tar(tmp_path / "s" / "train" / "000.tar", samples[:40])
    tar(tmp_path / "s" / "val" / "000.tar", samples[:20])
    data = module(input, f"{tmp_path}/s/{{train,val}}/000.tar", doctor="off")
    assert (data.samples.size("train"), data.samples.size("val")) == (40, 20)
    assert data.samples.used("val")[0].path.startswith("val/000.tar/")


def test_labels_as_other_programs_write_them(samples, tmp_path, input):
    """JSON before a caption, null for none, dots in names, a second image of a sample."""
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:

        def add(name, data):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        for key, file, label in samples[:40]:
            add(f"{key}.png", file.read_bytes())
            add(f"{key}.txt", b"a caption")
            add(f"{key}.json", f'{{"label": "{label}"}}'.encode())
            add(f"{key}.mask.png", file.read_bytes())
        add("img.v1.png", samples[40][1].read_bytes())
        add("img.v1.cls", samples[40][2].encode())
        add("img.v2.png", samples[41][1].read_bytes())
        add("img.v2.json", b'{"label": null}')
    found = module(input, path).samples
    assert found.task.outputs == ("dark", "light")
    assert found.size("train") + found.size("val") == 41
    assert [(i.path, i.skipped) for i in found.skipped] == [("s.tar/img.v2.png", "no label")]
