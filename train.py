"""Fine-tune a pretrained network on a folder of images.

python train.py backbone=resnet50 strategy=finetune_top data.root=photos
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("train")
