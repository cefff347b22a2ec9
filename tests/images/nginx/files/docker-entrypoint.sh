#!/bin/sh
# Runs what lies in /docker-entrypoint.d, in order, and then the server, as the official image does.
set -e
if [ "$1" = nginx ]; then
  find /docker-entrypoint.d -type f -name '*.sh' | sort | while read -r script; do
    echo "$0: launching $script"
    "$script"
  done
  echo "$0: configuration complete; ready for start up"
fi
exec "$@"
