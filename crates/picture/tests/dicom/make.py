#!/usr/bin/env python3
"""Makes the files of this folder: DICOM images, and beside each the grey image that pydicom makes of it.

    pip install pydicom==3.0.2 numpy==2.4.6 pillow==13.0.0 pylibjpeg==2.1.0 pylibjpeg-libjpeg==2.5.0 \
        pylibjpeg-openjpeg==2.6.0 pyjpegls==1.5.1 python-gdcm==3.2.6
    python3 make.py
"""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing, convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import UID, generate_uid

FOLDER = Path(__file__).parent
H, W = 34, 40
SYNTAX = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "big": "1.2.840.10008.1.2.2",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg": "1.2.840.10008.1.2.4.50",
    "lossless": "1.2.840.10008.1.2.4.57",
    "lossless1": "1.2.840.10008.1.2.4.70",
    "jpegls": "1.2.840.10008.1.2.4.80",
    "near": "1.2.840.10008.1.2.4.81",
    "j2k": "1.2.840.10008.1.2.4.90",
    "j2k_lossy": "1.2.840.10008.1.2.4.91",
}


def scene(bits, signed=False, seed=0):
    """A smooth hill with noise and a flat part (runs), over most of the range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:H, 0:W]
    hill = 0.1 + 0.8 * np.exp(-((x - 9) ** 2 + (y - 12) ** 2) / 150.0) + rng.uniform(-0.04, 0.04, (H, W))
    hill[20:, 26:] = 0.3
    values = np.round(hill * (2**bits - 1)).astype(np.int64)
    return values - 2 ** (bits - 1) if signed else values


def dataset(values, allocated, stored, photometric="MONOCHROME2", signed=False, high=None, **attributes):
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.SOPInstanceUID = generate_uid(entropy_srcs=["agcnn", str(values.tobytes()[:64])])
    ds.Modality = "DX"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "PA"
    ds.PatientID = "made"
    ds.PatientAge = "058Y"
    ds.PatientSex = "F"
    ds.SamplesPerPixel = 3 if values.ndim == 3 and values.shape[-1] == 3 else 1
    if ds.SamplesPerPixel == 3:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = photometric
    if values.ndim == 3 and ds.SamplesPerPixel == 1:
        ds.NumberOfFrames = values.shape[0]
    ds.Rows, ds.Columns = H, W
    ds.BitsAllocated, ds.BitsStored = allocated, stored
    ds.HighBit = stored - 1 if high is None else high
    ds.PixelRepresentation = int(signed)
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def words(values, allocated, big=False):
    kind = {8: "u1", 16: ">u2" if big else "<u2"}[allocated]
    return (values & (2**allocated - 1)).astype(kind).tobytes()


def write(name, ds, syntax, pixels, vr="OW"):
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(SYNTAX[syntax])
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB" if UID(SYNTAX[syntax]).is_encapsulated else vr
    if UID(SYNTAX[syntax]).is_encapsulated:
        ds["PixelData"].is_undefined_length = True
    ds.save_as(FOLDER / f"{name}.dcm", enforce_file_format=True)


def shown(ds, values):
    """0..255 of stored values, by pydicom's transforms where there is a window or LUT."""
    values = np.asarray(values)
    measured = apply_modality_lut(values, ds)
    if "VOILUTSequence" in ds:
        bits = ds.VOILUTSequence[0].LUTDescriptor[2]
        grey = apply_voi(np.asarray(measured).astype(np.int64), ds) / (2**bits - 1)
    elif "WindowCenter" in ds:
        out = apply_windowing(measured, ds).astype(np.float64)
        if "ModalityLUTSequence" in ds:
            low, high = 0, 2 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
        else:
            low, high = (-(2 ** (ds.BitsStored - 1)), 2 ** (ds.BitsStored - 1) - 1) if ds.PixelRepresentation else (0, 2**ds.BitsStored - 1)
            low, high = [v * ds.get("RescaleSlope", 1) + ds.get("RescaleIntercept", 0) for v in (low, high)]
        grey = (out - float(low)) / (float(high) - float(low))
    elif ds.BitsStored == 8 and not ds.PixelRepresentation:
        grey = measured / 255
    else:
        kept = np.ones(values.shape, bool) if "PixelPaddingValue" not in ds else ~padded(ds, values)
        low, high = measured[kept].min(), measured[kept].max()
        grey = (measured - low) / (high - low)
    grey = np.floor(np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    if "PixelPaddingValue" in ds:
        grey[padded(ds, values)] = 0
    return grey


def padded(ds, values):
    ends = sorted([ds.PixelPaddingValue, ds.get("PixelPaddingRangeLimit", ds.PixelPaddingValue)])
    return (values >= ends[0]) & (values <= ends[1])


def expect(name, grey):
    Image.fromarray(grey.astype(np.uint8), "L").save(FOLDER / f"{name}.png")


def luma(rgb):
    return np.asarray(Image.fromarray(rgb.astype(np.uint8), "RGB").convert("L"))


def lut(first, bits, values):
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.add_new(0x00283006, "US", [int(v) for v in values])
    return item


def plain():
    def case(name, bits, allocated, syntax="explicit", signed=False, seed=0, vr="OW", **attributes):
        values = scene(bits, signed, seed)
        ds = dataset(values, allocated, bits, signed=signed, **attributes)
        expect(name, shown(ds, values))
        pixels = words(values, allocated, syntax == "big")
        if allocated == 8 and syntax == "big":
            pixels = np.frombuffer(pixels, "<u2").byteswap().tobytes()
        write(name, ds, syntax, pixels, vr)
        assert (dcmread(FOLDER / f"{name}.dcm").pixel_array == values).all()

    case("8bit", 8, 8)
    case("8bit_mono1", 8, 8, "implicit", photometric="MONOCHROME1")
    case("10bit_window", 10, 16, WindowCenter=["500", "10"], WindowWidth=["600", "20"])
    case("12bit_signed_rescale", 12, 16, signed=True, RescaleSlope="1.5", RescaleIntercept="-100", WindowCenter="-200", WindowWidth="3000.5")
    case("16bit_range", 16, 16)
    case("16bit_signed_range", 16, 16, signed=True)
    case("12bit_sigmoid", 12, 16, WindowCenter="1800", WindowWidth="1500", VOILUTFunction="SIGMOID")
    case("12bit_exact", 12, 16, "implicit", WindowCenter="1800", WindowWidth="1500.5", VOILUTFunction="LINEAR_EXACT", photometric="MONOCHROME1")
    case("16bit_big", 16, 16, "big", WindowCenter="30000", WindowWidth="40000")
    case("8bit_big", 8, 8, "big")
    case("14bit_deflated", 14, 16, "deflated", WindowCenter="8000", WindowWidth="16000")
    curve = np.round(1023 * np.linspace(0, 1, 3000) ** 0.5)
    case("12bit_voi_lut", 12, 16, photometric="MONOCHROME1", VOILUTSequence=Sequence([lut(500, 10, curve), lut(0, 8, [1, 2, 3])]))
    case("12bit_voi_lut_implicit", 12, 16, "implicit", VOILUTSequence=Sequence([lut(500, 10, curve)]))
    curve = np.round(4095 * np.linspace(0, 1, 1000) ** 2)
    modality = lut(10, 16, curve)
    modality.ModalityLUTType = "US"
    case("10bit_modality_lut", 10, 16, ModalityLUTSequence=Sequence([modality]), WindowCenter="1000", WindowWidth="1500")


def odd():
    values = scene(12)
    values[:3, :] = 4000
    values[-2:, :] = 4010
    for name, photometric in [("12bit_padding", "MONOCHROME2"), ("12bit_padding_mono1", "MONOCHROME1")]:
        ds = dataset(values, 16, 12, photometric, PixelPaddingValue=4010, PixelPaddingRangeLimit=4000)
        expect(name, shown(ds, values))
        write(name, ds, "explicit", words(values, 16))
    # Values in the upper twelve bits, something else in the lower four.
    values = scene(12)
    ds = dataset(values, 16, 12, high=15)
    expect("12bit_high", shown(ds, values))
    write("12bit_high", ds, "explicit", words(values * 16 + np.arange(W) % 16, 16))
    # The first of three frames; sequences of unknown length, one in the other, on the way there.
    frames = np.stack([scene(12, seed=seed) for seed in range(3)])
    ds = dataset(frames, 16, 12, WindowCenter="2000", WindowWidth="3000")
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "A"
    outer.ConceptCodeSequence = Sequence([inner])
    outer.ConceptCodeSequence.is_undefined_length = True
    inner.is_undefined_length_sequence_item = outer.is_undefined_length_sequence_item = True
    ds.AnatomicRegionSequence = Sequence([outer, inner])
    ds["AnatomicRegionSequence"].is_undefined_length = True
    expect("frames", shown(ds, frames[0]))
    write("frames", ds, "explicit", words(frames, 16))


def rle(values, allocated):
    planes = [np.frombuffer(words(v, allocated), np.uint8).reshape(-1, allocated // 8)[:, ::-1].T for v in values]
    segments = []
    for plane in np.concatenate(planes):
        coded = b""
        for i in range(0, len(plane), 100):
            part = plane[i : i + 100]
            coded += bytes([257 - len(part), part[0]]) if (part == part[0]).all() and len(part) > 1 else bytes([len(part) - 1]) + part.tobytes()
        segments.append(coded + b"\0" * (len(coded) % 2))
    offsets = [64 + sum(map(len, segments[:i])) for i in range(len(segments))]
    return struct.pack("<16I", len(segments), *(offsets + [0] * 15)[:15]) + b"".join(segments)


GDCM = """
import sys
import gdcm
reader = gdcm.ImageReader()
reader.SetFileName(sys.argv[1])
assert reader.Read()
change = gdcm.ImageChangeTransferSyntax()
change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
change.SetInput(reader.GetImage())
assert change.Change()
writer = gdcm.ImageWriter()
writer.SetFileName(sys.argv[2])
writer.SetFile(reader.GetFile())
writer.SetImage(change.GetOutput())
assert writer.Write()
"""


def gdcm_coded(name):
    """The image of plain.dcm as lossless JPEG, by GDCM, which bears no Pillow in its process."""
    plain = FOLDER / "plain.dcm"
    subprocess.run([sys.executable, "-c", GDCM, plain, FOLDER / f"{name}.dcm"], check=True)
    plain.unlink()


def coded():
    window = dict(WindowCenter="30000", WindowWidth="50000")
    values = scene(16)
    ds = dataset(values, 16, 16, **window)
    expect("16bit_rle", shown(ds, values))
    write("16bit_rle", ds, "rle", encapsulate([rle([values], 16)]))

    frames = np.stack([scene(8, seed=seed) for seed in range(2)])
    ds = dataset(frames, 8, 8)
    expect("8bit_rle_frames", frames[0])
    write("8bit_rle_frames", ds, "rle", encapsulate([rle([frame], 8) for frame in frames]))

    for name, bits in [("16bit_lossless", 16), ("12bit_lossless", 12), ("8bit_lossless", 8)]:
        values = scene(bits)
        allocated = 16 if bits > 8 else 8
        ds = dataset(values, allocated, bits, WindowCenter=str(2 ** (bits - 1)), WindowWidth=str(2**bits * 0.7))
        expect(name, shown(ds, values))
        write("plain", ds, "explicit", words(values, allocated), "OW" if bits > 8 else "OB")
        gdcm_coded(name)

    from jpeg_ls import encode_array

    for name, bits, lossy in [("8bit_jpegls", 8, 0), ("12bit_jpegls", 12, 0), ("16bit_jpegls", 16, 0), ("8bit_near", 8, 3), ("16bit_near", 16, 40), ("12bit_near", 12, 5)]:
        values = scene(bits)
        allocated = 16 if bits > 8 else 8
        ds = dataset(values, allocated, bits, WindowCenter=str(2 ** (bits - 1)), WindowWidth=str(2**bits * 0.7))
        stream = bytes(encode_array(values.astype("u2" if bits > 8 else "u1"), lossy_error=lossy))
        write(name, ds, "near" if lossy else "jpegls", encapsulate([stream]))
        back = dcmread(FOLDER / f"{name}.dcm").pixel_array.astype(np.int64)
        assert lossy or (back == values).all()
        expect(name, shown(ds, back))

    # Long runs, which noise interrupts: what a small image does not reach.
    rng = np.random.default_rng(7)
    values = np.tile(np.repeat([40, 90, 200], 60), (170, 1))
    values[rng.random(values.shape) < 0.01] += 30
    for name, lossy in [("runs_jpegls", 0), ("runs_near", 4)]:
        ds = dataset(values, 8, 8, Rows=values.shape[0], Columns=values.shape[1])
        write(name, ds, "near" if lossy else "jpegls", encapsulate([bytes(encode_array(values.astype("u1"), lossy_error=lossy))]))
        expect(name, dcmread(FOLDER / f"{name}.dcm").pixel_array)

    from openjpeg.utils import encode_array as j2k

    for name, bits, signed, lossy in [("16bit_j2k", 16, False, False), ("12bit_signed_j2k", 12, True, False), ("8bit_j2k", 8, False, False), ("12bit_j2k_lossy", 12, False, True)]:
        values = scene(bits, signed)
        allocated = 16 if bits > 8 else 8
        ds = dataset(values, allocated, bits, signed=signed, WindowCenter=str(0 if signed else 2 ** (bits - 1)), WindowWidth=str(2**bits * 0.7))
        kind = ("i" if signed else "u") + ("2" if bits > 8 else "1")
        ratios = dict(compression_ratios=[4]) if lossy else {}
        stream = j2k(values.astype(kind), bits_stored=bits, photometric_interpretation=2, **ratios)
        write(name, ds, "j2k_lossy" if lossy else "j2k", encapsulate([stream]))
        back = dcmread(FOLDER / f"{name}.dcm").pixel_array.astype(np.int64)
        assert lossy or (back == values).all()
        expect(name, shown(ds, back))


def jpegs():
    values = scene(8)

    def jpeg(array, mode, **options):
        out = io.BytesIO()
        Image.fromarray(array.astype(np.uint8), mode).save(out, "JPEG", quality=95, **options)
        return out.getvalue()

    stream = jpeg(values, "L")
    ds = dataset(values, 8, 8)
    expect("8bit_jpeg", np.asarray(Image.open(io.BytesIO(stream))))
    write("8bit_jpeg", ds, "jpeg", encapsulate([stream]))
    colour = np.stack([values, values[::-1], values[:, ::-1]], -1)
    for name, array, mode, options in [
        ("grey", values, "L", {}),
        ("grey_progressive", values, "L", {"progressive": True}),
        ("colour", colour, "RGB", {"subsampling": 0}),
        ("colour_420", colour, "RGB", {"subsampling": 2}),
        ("colour_progressive", colour, "RGB", {"progressive": True, "subsampling": 0}),
        ("grey_as_colour", np.stack([values] * 3, -1), "RGB", {}),
    ]:
        stream = jpeg(array, mode, **options)
        (FOLDER / f"{name}.jpg").write_bytes(stream)
        expect(f"{name}_jpg", np.asarray(Image.open(io.BytesIO(stream)).convert("RGB").convert("L")) if mode == "RGB" else np.asarray(Image.open(io.BytesIO(stream))))
    stream = jpeg(np.concatenate([255 - colour, np.full((H, W, 1), 40)], -1), "CMYK")
    (FOLDER / "cmyk.jpg").write_bytes(stream)
    expect("cmyk_jpg", np.asarray(Image.open(io.BytesIO(stream)).convert("RGB").convert("L")))
    return colour, jpeg


def colours(colour, jpeg):
    ds = dataset(colour, 8, 8, "RGB")
    expect("rgb", luma(colour))
    write("rgb", ds, "explicit", words(colour, 8), "OB")
    ds.PlanarConfiguration = 1
    expect("rgb_planar", luma(colour))
    write("rgb_planar", ds, "explicit", words(np.moveaxis(colour, -1, 0), 8), "OB")
    expect("rgb_rle", luma(colour))
    write("rgb_rle", ds, "rle", encapsulate([rle(np.moveaxis(colour, -1, 0), 8)]))
    ds = dataset(colour, 8, 8, "YBR_FULL")
    expect("ybr", luma(convert_color_space(colour.astype(np.uint8), "YBR_FULL", "RGB")))
    write("ybr", ds, "explicit", words(colour, 8), "OB")
    stream = jpeg(colour, "RGB", subsampling=0)
    ds = dataset(colour, 8, 8, "YBR_FULL_422")
    expect("ybr_jpeg", luma(np.asarray(Image.open(io.BytesIO(stream)))))
    write("ybr_jpeg", ds, "jpeg", encapsulate([stream]))
    from openjpeg.utils import encode_array as j2k

    ds = dataset(colour, 8, 8, "YBR_RCT")
    expect("rct_j2k", luma(colour))
    write("rct_j2k", ds, "j2k", encapsulate([j2k(colour.astype("u1"), bits_stored=8, photometric_interpretation=1, use_mct=True)]))


plain()
odd()
coded()
colours(*jpegs())
