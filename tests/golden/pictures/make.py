"""Makes the pictures of this directory and expected.safetensors, which holds what Pillow's convert("RGB") gives for
each (for 16-bit gray, which Pillow clips, the high byte). Needs NumPy and Pillow; run it in this directory."""
import io, json, struct, zlib
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

rng = np.random.default_rng(7)
W, H = 13, 11
y, x = np.mgrid[:H, :W]
array = np.stack([128 + 120 * np.sin(x / 4 + y / 6), 128 + 120 * np.cos(x / 3 - y / 5), (x * 17 + y * 9) % 256], -1)
base = Image.fromarray(np.clip(array, 0, 255).astype(np.uint8))
expected = {}


def keep(name, data, rgb=None):
    open(name, "wb").write(data)
    if rgb is None:
        rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    expected[name] = np.ascontiguousarray(rgb, np.uint8)


def save(name, image, **options):
    data = io.BytesIO()
    image.save(data, name.rsplit(".")[-1].replace("jpg", "jpeg").replace("tif", "tiff"), **options)
    keep(name, data.getvalue())


def png(depth, colour, rows, extra=b"", interlaced=0):
    chunk = lambda t, d: struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d))
    header = struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, interlaced)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + (extra and chunk(extra[:4], extra[4:])) +
            chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def rows(a):
    return b"".join(b"\0" + r.tobytes() for r in a)


passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
adam7 = b"".join(rows(np.asarray(base)[b::d, a::c]) for a, b, c, d in passes)
alpha = base.convert("RGBA")
alpha.putalpha(Image.fromarray(rng.integers(0, 256, (H, W)).astype(np.uint8)))
gray = base.convert("L")

save("rgb.png", base)
save("rgba.png", alpha)
save("rgb_transparent.png", base, transparency=base.getpixel((0, 0)))
save("gray.png", gray)
save("gray_alpha.png", alpha.convert("LA"))
save("palette.png", base.quantize(40))
keep("interlaced.png", png(8, 2, adam7, interlaced=1))
for depth in (1, 2, 4):
    packed = rng.integers(0, 256, (H, (W * depth + 7) // 8)).astype(np.uint8)
    keep(f"gray{depth}.png", png(depth, 0, rows(packed)))
    keep(f"palette{depth}.png", png(depth, 3, rows(packed), b"PLTE" + rng.bytes(3 << depth)))
for name, colour, channels in (("rgb16", 2, 3), ("rgba16", 6, 4), ("gray16", 0, 1)):
    deep = rng.integers(0, 65536, (H, W, channels)).astype(">u2")
    high = (deep[..., :3] >> 8) * np.ones((1, 1, 3), int)
    keep(name + ".png", png(16, colour, rows(deep)), high if channels == 1 else None)
for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
    save(f"ycc{name}.jpg", base, quality=92, subsampling=sampling)
save("progressive.jpg", base, quality=92, progressive=True)
save("gray.jpg", gray, quality=92)
save("lossy.webp", base, quality=80)
save("lossless.webp", alpha, lossless=True, exact=True)
save("animation.webp", base, save_all=True, append_images=[base.rotate(180)], lossless=True)
save("rgb.bmp", base)
save("palette.bmp", base.quantize(16))
save("rgb.ppm", base)
save("rgb.tif", base, compression="tiff_lzw")

equivalent = Image.Exif()
equivalent.get_ifd(0x8769)[0xA405] = 26
for suffix in ("jpg", "png", "webp"):
    base.save(f"focal35.{suffix}", exif=equivalent.tobytes())
sensor = Image.Exif()
sensor.get_ifd(0x8769).update({0x920A: IFDRational(5), 0xA20E: IFDRational(200), 0xA210: 3, 0xA002: 26, 0xA003: 22})
base.save("focal_sensor.jpg", exif=sensor.tobytes())

header, offset = {}, 0
for name, a in expected.items():
    header[name] = {"dtype": "U8", "shape": a.shape, "data_offsets": [offset, offset + a.size]}
    offset += a.size
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open("expected.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + b"".join(expected[n] for n in expected))
