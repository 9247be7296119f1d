"""One page with all that there is to see of a finished run.

python scripts/report.py run=outputs/DATE/TIME
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("report")
