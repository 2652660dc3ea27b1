#!/usr/bin/env python3
"""The README's pictures: every fourth frame of the three demo scenes as the toy world makes them, above the true renders.

    make && python3 docs/images/make.py build/sanawm        (needs Pillow)
"""
import json, pathlib, subprocess, sys, tempfile
from PIL import Image

here = pathlib.Path(__file__).parent
demo = here.parent.parent / "models" / "toyworld" / "demo"
for scene in range(3):
    with tempfile.TemporaryDirectory() as folder:
        frames = pathlib.Path(folder) / "frames"
        s = json.loads((demo / f"scene{scene}.json").read_text())
        subprocess.run([sys.argv[1], "generate", "--image", str(demo / f"scene{scene}.png"), "--action", s["action"],
                        "--translation-speed", str(s["translation_speed"]), "--rotation-speed-deg", str(s["rotation_speed_deg"]),
                        "--intrinsics", ",".join(map(str, s["intrinsics"])), "--steps", str(s["steps"]), "--seed", str(s["seed"]),
                        "--codec", "png", "--output", str(frames)], check=True)
        made = [Image.open(p).convert("RGB") for p in sorted(frames.glob("*.png"))[::4]]
        truth = Image.open(demo / f"scene{scene}_truth.png").convert("RGB")
        sheet = Image.new("RGB", (truth.width, made[0].height + truth.height + 4), "white")
        for i, picture in enumerate(made):
            sheet.paste(picture, (i * picture.width, 0))
        sheet.paste(truth, (0, made[0].height + 4))
        sheet.save(here / f"scene{scene}.png", optimize=True)
