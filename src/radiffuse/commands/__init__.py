"""The sub-commands of `radiffuse`: one module each, with `run(arguments) -> None`."""
