"""`python -m tl_lightning` is `tl`."""

from tl_lightning.cli.verbs import main

main()
