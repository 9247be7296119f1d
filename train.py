"""Fine-tune a pretrained network on a folder of images.

python train.py backbone=resnet50 strategy=finetune_top data.root=photos
"""

from tl_lightning.runs.cli import train

if __name__ == "__main__":
    train()
