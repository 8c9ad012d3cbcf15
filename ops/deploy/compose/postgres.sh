#!/bin/sh
# Starts PostgreSQL's own entry point, wherever its image keeps it, with the password that stands in a file.
# POSTGRES_PASSWORD_FILE would do, but not every image that calls itself postgres knows it.
set -eu
POSTGRES_PASSWORD=$(cat /run/unlost/password)
export POSTGRES_PASSWORD
# A tmpfs hides the owner that the image gave this directory.
mkdir -p /var/run/postgresql
chown postgres /var/run/postgresql
chmod 0755 /var/run/postgresql
for entry in /usr/local/bin/docker-entrypoint.sh /docker-entrypoint.sh /entry; do
  if [ -x "$entry" ]; then exec "$entry" "$@"; fi
done
echo "this PostgreSQL image has no entry point that is known here" >&2
exit 1
