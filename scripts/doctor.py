"""What is wrong with a data set, before anything is trained on it.

python scripts/doctor.py data.root=photos [out=FOLDER] [write=clean.csv]
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("doctor")
