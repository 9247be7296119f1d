"""The runs of sweeps side by side, the best first.

python scripts/leaderboard.py multirun/DATE/TIME
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("leaderboard")
