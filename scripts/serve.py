"""A finished run's model behind HTTP: a page to try it on, and JSON for programs.

python scripts/serve.py run=outputs/DATE/TIME
"""

from tl_lightning.cli.verbs import script

if __name__ == "__main__":
    script("serve")
