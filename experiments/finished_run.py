"""What the programs have in common that look at one finished run: `--workdir`, and the data the run was made of."""

import sys
from collections.abc import Callable

import data_builders
from experiments import command_line
from reid_jax import studies, workdir
from reid_jax.studies import Study


def start(make: Callable[[Study], object], description: str) -> None:
    """The program: `make` of the run in `--workdir`; flags may change how it is evaluated."""

    def program() -> None:
        command_line.refuse(
            sys.argv[1:], {"--whitening": "tables and figures are of embeddings as the network gives them"}
        )
        arguments = command_line.parse(description, existing=True)
        workdir.check_scorable(arguments.workdir, arguments.config)
        splits = data_builders.load(arguments.config.data)
        make(studies.take_up(arguments.config, arguments.workdir, splits))

    command_line.run(program)
