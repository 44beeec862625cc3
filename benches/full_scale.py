"""A folder of ChestX-ray14's size from a few of its images: full_scale.py NIH OUT [--packed N]

NIH is a folder with NIH's label table, lists, boxes and some 1024 x 1024 px images; OUT gets the texts and all 112,120 names,
each a hard link to one of the images, in twelve folders as NIH ships them. With --packed, images_001.tar.gz to images_N.tar.gz
stand in the place of those folders. Then, for instance,

    prep --set prep.root=OUT --artifacts-dir OUT/artifacts

prepares as much as the real dataset does. The disk holds the images once, so that reading them costs less than in reality.
"""

import argparse
import csv
import os
import pathlib
import shutil
import struct
import tarfile

TEXTS = ["Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "train_val_list.txt", "test_list.txt"]
FOLDERS = 12


def is_original(path):
    head = path.read_bytes()[:24]
    return head.startswith(b"\x89PNG") and struct.unpack(">II", head[16:24]) == (1024, 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nih", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--packed", type=int, default=0, help="so many folders become archives")
    parser.add_argument("--images", type=int, help="so many names only")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    for name in TEXTS:
        shutil.copy(args.nih / name, args.out / name)
    kept = args.out / ".originals"
    kept.mkdir()
    originals = [shutil.copy(path, kept) for path in sorted(args.nih.glob("images_*/images/*.png")) if is_original(path)]
    with open(args.nih / TEXTS[0], newline="") as table:
        names = sorted(row["Image Index"] for row in csv.DictReader(table))[: args.images]
    for number in range(FOLDERS):
        part = names[number * len(names) // FOLDERS : (number + 1) * len(names) // FOLDERS]
        first = number * len(names) // FOLDERS
        source = lambda index: originals[(first + index) % len(originals)]
        if number < args.packed:
            with tarfile.open(args.out / f"images_{number + 1:03}.tar.gz", "w:gz", compresslevel=1) as archive:
                for index, name in enumerate(part):
                    archive.add(source(index), f"images/{name}")
            continue
        folder = args.out / f"images_{number + 1:03}" / "images"
        folder.mkdir(parents=True)
        for index, name in enumerate(part):
            os.link(source(index), folder / name)
    print(f"{len(names)} images from {len(originals)} in {args.out}")


if __name__ == "__main__":
    main()
