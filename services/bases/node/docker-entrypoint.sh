#!/bin/sh
# What is not a command is node's: `docker run IMAGE server.js` and `docker run IMAGE --version`.
set -e
if [ "${1#-}" != "$1" ] || ! command -v "$1" >/dev/null 2>&1 || { [ -f "$1" ] && [ ! -x "$1" ]; }; then
    set -- node "$@"
fi
exec "$@"
