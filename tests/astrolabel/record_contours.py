"""Write references/opencv_contours.json: contours that OpenCV traces around small masks.

Run where OpenCV is installed (pip install opencv-python-headless):

    python tests/astrolabel/record_contours.py
"""

import json
from pathlib import Path

import cv2
import numpy as np

MASKS = {
    "disc": ["..###..", ".#####.", "#######", "#######", ".#####.", "..###.."],
    "ring": [".#####.", "##...##", "##.#.##", "##...##", ".#####."],
    "pinhole": ["#####", "##.##", "#####"],
    "spur": ["......", ".####.", ".####.", "...#..", "...##.", "....##"],
    "two": ["##....", "##..##", "....##", "#...##", "#....."],
    "corner": ["##...", "##...", "..##.", "..##."],
}


def main() -> None:
    found = {}
    for name, rows in MASKS.items():
        mask = np.array([[c == "#" for c in row] for row in rows], np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        found[name] = {"mask": rows, "contours": [c.ravel().tolist() for c in contours]}
    path = Path(__file__).parent / "references" / "opencv_contours.json"
    text = json.dumps({"opencv": cv2.__version__, "masks": found}, indent=1)
    path.write_text(text + "\n")


if __name__ == "__main__":
    main()
