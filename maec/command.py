"""How a command of this project ends: its exit code, and one line for whatever went wrong.

0 is done, 1 that something failed, 2 that what the user gave was refused.
"""

import sys
from typing import NoReturn

import typer
from typer.exceptions import Abort, TyperException

from maec.errors import InputError
from maec.visible import one_line


def start(app: typer.Typer, name: str) -> NoReturn:
    """Run the command line that ``app`` describes, as the program ``name``, and exit."""
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name=name, standalone_mode=False) or 0
    except TyperException as error:
        context = getattr(error, "ctx", None)
        said = error.format_message().rstrip(".")
        path = context.command_path if context else name
        _say(name, f"{said[:1].lower()}{said[1:]}; `{path} --help` says what is allowed")
        code = error.exit_code
    except Abort:
        _say(name, "aborted")
        code = 1
    except InputError as error:
        _say(name, str(error))
        code = 2
    except OSError as error:
        _say(name, f"{error.filename}: {error.strerror}" if error.filename else str(error))
        code = 1
    sys.exit(code)


def _say(name: str, what: str) -> None:
    """Print ``what`` on a line of its own; an upload that fails leaves its progress bar open."""
    what = one_line(what)
    if "tqdm" not in sys.modules:
        print(f"{name}: {what}", file=sys.stderr)
        return
    from tqdm import tqdm

    tqdm.write(f"{name}: {what}", file=sys.stderr)
