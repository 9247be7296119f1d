"""What may be wrong with a folder of images: each plants it, and gives the kind of the finding and its paths."""

import shutil

from PIL import Image

from tests.test_copies import picture, variants, write


def first(root, pattern):
    return sorted(root.glob(pattern))[0]


def blank(root):
    Image.new("RGB", (96, 96), (90, 91, 90)).save(root / "train" / "dark" / "flat.jpg")
    return "blank", {"train/dark/flat.jpg"}


def truncated(root):
    file = first(root, "train/dark/*")
    file.write_bytes(file.read_bytes()[:900])
    return "unusable", {f"train/dark/{file.name}"}


def empty(root):
    (root / "train" / "dark" / "nothing.jpg").touch()
    return "unusable", {"train/dark/nothing.jpg"}


def wrong_ending(root):
    file = first(root, "train/dark/*")
    with Image.open(file) as image:
        image.save(file, "PNG")
    return "endings", {f"train/dark/{file.name}"}


def animated(root):
    frames = [picture(900 + k) for k in range(3)]
    frames[0].save(root / "train" / "dark" / "moving.gif", save_all=True, append_images=frames[1:])
    return "animated", {"train/dark/moving.gif"}


def turned(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(901).save(root / "train" / "dark" / "side.jpg", exif=exif)
    return "turned", {"train/dark/side.jpg"}


def panorama(root):
    picture(902).resize((400, 96)).save(root / "train" / "dark" / "wide.jpg")
    return "long", {"train/dark/wide.jpg"}


def small(root):
    picture(903).resize((40, 40)).save(root / "train" / "dark" / "stamp.jpg")
    return "small", {"train/dark/stamp.jpg"}


def grey(root):
    picture(904).convert("L").save(root / "train" / "dark" / "grey.png")
    return "modes", set()


def leak(kind):
    def plant(root):
        file = first(root, "train/dark/*")
        with Image.open(file) as image:
            write(root / "val" / "dark", {f"leak {kind}": variants(image)[kind]})
        return "leaks", {f"train/dark/{file.name}", f"val/dark/leak {kind}.jpg"}

    return plant


def contradiction(root):
    file = first(root, "train/dark/*")
    shutil.copy(file, root / "train" / "light" / "same.jpg")
    return "contradictions", {f"train/dark/{file.name}", "train/light/same.jpg"}


def copy(root):
    file = first(root, "train/dark/*")
    shutil.copy(file, root / "train" / "dark" / "again.jpg")
    return "copies", {f"train/dark/{file.name}", "train/dark/again.jpg"}


def patient(root):
    picture(905).save(root / "val" / "dark" / "patient_00_b.jpg")
    return "groups", {"train/dark/patient_00_a.jpg", "val/dark/patient_00_b.jpg"}


def cache_folder(root):
    write(root / "train" / "Thumbs", {f"t{k}": picture(910 + k) for k in range(12)})
    return "no_class", set()


def two_writings(root):
    write(root / "train" / "Dark", {f"d{k}": picture(930 + k) for k in range(12)})
    return "names", set()


def rare(root):
    write(root / "train" / "third", {"one": picture(950), "two": picture(951)})
    return "few", set()


FAULTS = [blank, truncated, empty, wrong_ending, animated, turned, panorama, small, grey, contradiction, copy, patient,
          cache_folder, two_writings, rare,
          *(leak(kind) for kind in ("crop", "mirror", "half", "encoded", "double"))]  # fmt: skip
