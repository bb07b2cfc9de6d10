"""Which program a name stands for, and whether policy lets a hook run it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable

# Each of these makes a program run code that the hook brings along, or read settings that name some.
_LOADS_CODE = re.compile(
    r"PATH|HOME|XDG_(CONFIG|DATA)_(HOME|DIRS)|ENV|SHELL|SHELLOPTS|BASHOPTS|PROMPT_COMMAND|PS4|IFS|CDPATH|ZDOTDIR"
    r"|INPUTRC|TERMCAP|TERMINFO(_DIRS)?|GCONV_PATH|GLIBC_TUNABLES|LOCPATH|OPENSSL_(CONF|ENGINES|MODULES)|HOSTALIASES"
    r"|VISUAL|LESS.*|.*(EDITOR|PAGER|BROWSER|ASKPASS|_RSH)|RSYNC_CONNECT_PROG|TAR_OPTIONS|WGETRC|CURL_HOME"
    r"|(GNU)?MAKE(FLAGS|FILES)|CC|CXX|(C|CPP|CXX|LD|RUST)FLAGS|CLASSPATH|MAVEN_(OPTS|ARGS)|JAVA_OPTS"
    r"|PSQLRC|PGSYSCONFDIR|PGSERVICEFILE|GNUPGHOME|KUBECONFIG|DOCKER_(CONFIG|HOST)|AWS_(CONFIG|SHARED_CREDENTIALS)_FILE"
    r"|GO(FLAGS|PATH|ROOT|ENV|TOOLCHAIN)|(LUA|PERL|PYTHON|RUBY|PHP)[A-Z0-9]+"
    r"|(LD|BASH|PYTHON|PERL|RUBY|LUA|PHP|GIT|GEM|BUNDLE|PIP|NODE|NPM_CONFIG|npm_config|CARGO|RUSTC|RUSTUP|JAVA_TOOL"
    r"|JDK|_JAVA|GRADLE|DOTNET|ANSIBLE|SYSTEMD|SSH|SUDO)_.*"
)


def search_path() -> str:
    """The processor's own PATH, without what depends on the working directory."""
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(directory for directory in directories if directory.startswith("/"))


def find_program(name: str) -> str | None:
    """The file that is run for an absolute path, or for a name by the processor's own PATH; None when there is none."""
    found = name if name.startswith("/") else shutil.which(name, path=search_path())
    return _location(found) if found and os.path.isfile(found) and os.access(found, os.X_OK) else None


def _location(path: str) -> str:
    # Not the last link: many programs are one file that acts by the name it is called by.
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def is_granted(program: str | None, name: str, grants: Iterable[str]) -> bool:
    """Whether policy names the program's file, as find_program returns it for the name; a missing one goes by name."""
    if program is None:
        return name in grants
    # A program keeps the last part of its name: most grants need not be looked for.
    file = os.path.basename(program)
    return any(os.path.basename(granted) == file and find_program(granted) == program for granted in grants)


def loads_code(variable: str) -> bool:
    """Whether a program may run what this environment variable names: it can lend a granted one to other code."""
    return _LOADS_CODE.fullmatch(variable) is not None
