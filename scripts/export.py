"""A trained network as a file that other programs run.

python scripts/export.py run=outputs/DATE/TIME format=onnx
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("export")
