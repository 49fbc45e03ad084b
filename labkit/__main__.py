"""`python -m labkit`: the command `labkit` of the Python that is named, also where its environment has been moved."""

from labkit.cli import app

__all__: list[str] = []

if __name__ == "__main__":
    app(prog_name="labkit")
