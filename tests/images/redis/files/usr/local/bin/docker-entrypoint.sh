#!/bin/sh
# Options alone are the server's; root hands the data over and becomes the server's user, as in the official image.
set -e
case "$1" in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . ! -user redis -exec chown redis '{}' +
  exec setpriv --reuid=redis --regid=redis --clear-groups --nnp --inh-caps=-all --bounding-set=-all "$0" "$@"
fi
# What it writes is nobody else's, unless somebody said so.
[ "$(umask)" != 0022 ] || umask 0077
exec "$@"
