#!/bin/sh
# Volumes come as root's; the server must be able to write them after it has changed its user.
set -e
if [ "$(id -u)" = 0 ] && [ -d /mosquitto ]; then
  chown -R mosquitto:mosquitto /mosquitto || true
fi
exec "$@"
