#!/bin/sh
# Print the Python that shall run this project: PYTHON where it is set, else the first of the usual names that is
# new enough. One that can also make a virtual environment is preferred: Debian ships python3 without that part.

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
can_make_environments='
import importlib.util as u, sys
complete = all(map(u.find_spec, ("venv", "ensurepip"))) or u.find_spec("virtualenv")
sys.exit(sys.version_info < (3, 11) or not complete)
'
names=${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}

# $names is split on purpose, but a path that the caller named may hold spaces.
[ -n "${PYTHON:-}" ] && IFS='
'
for test in "$can_make_environments" "$new_enough"; do
    for name in $names; do
        if "$name" -c "$test" >/dev/null 2>&1; then
            command -v "$name"
            exit 0
        fi
    done
done

{
    echo "This project needs Python 3.11 or newer."
    for name in $names; do
        version=$("$name" -c 'import sys; print(".".join(map(str, sys.version_info[:3])))' 2>/dev/null)
        [ -n "$version" ] && echo "  found: $name is Python $version"
        [ -n "${PYTHON:-}" ] && [ -z "$version" ] && echo "  $name does not run"
    done
    echo "Install one (apt install python3 python3-venv, dnf install python3.12, brew install python)"
    echo "or name one that is elsewhere: make run PYTHON=/path/to/python3.12"
} >&2
exit 1
