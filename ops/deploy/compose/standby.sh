#!/bin/sh
# Copies the primary at the first start, and follows it. From then on, a commit waits until the standby has it on disk.
# Promote it by `docker compose exec standby pg_ctl promote`, once the primary is gone for good.
set -eu
PGPASSWORD=$(cat /run/unlost/password)
PGDATA=${PGDATA:-/var/lib/postgresql/data}
export PGPASSWORD PGDATA
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
mkdir -p "$PGDATA" /var/run/postgresql
chown postgres "$PGDATA" /var/run/postgresql
chmod 0700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  as_postgres pg_basebackup -D "$PGDATA" -R -c fast -d 'host=postgres user=unlost application_name=standby'
fi
# The primary is gone if this one is to be promoted.
as_postgres psql -q -d 'host=postgres user=unlost dbname=unlost connect_timeout=5' \
  -c "alter system set synchronous_standby_names = 'standby'" -c 'select pg_reload_conf()' >/dev/null || true
unset PGPASSWORD
exec setpriv --reuid=postgres --regid=postgres --clear-groups \
  postgres -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql "$@"
