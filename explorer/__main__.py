"""Entry point of `python -m explorer`, for launchers that start modules: `torchrun -m explorer train ...`."""

from explorer.cli import main

main()
