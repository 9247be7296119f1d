"""What a trained model says of new samples, a row for each.

python scripts/predict.py run=outputs/DATE/TIME source=new/ out=answers.csv
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("predict")
