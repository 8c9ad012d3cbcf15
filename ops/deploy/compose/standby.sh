#!/bin/sh
# Copies the primary at the first start, and follows it. From then on, a commit waits until the standby has it on disk.
# Promote it by `docker compose exec standby pg_ctl promote`, once the primary is gone for good.
set -eu
password=$(cat /run/unlost/password)
PGDATA=${PGDATA:-/var/lib/postgresql/data}
export PGDATA
as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
on_primary() { (export PGPASSWORD="$password" && as_postgres "$@"); }
mkdir -p "$PGDATA" /var/run/postgresql
chown postgres "$PGDATA" /var/run/postgresql
chmod 0700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  on_primary pg_basebackup -D "$PGDATA" -R -c fast -d 'host=postgres user=unlost application_name=standby'
fi
follows() { [ -e "$PGDATA/standby.signal" ]; }
let_commits_wait() {
  on_primary psql -q -v ON_ERROR_STOP=1 -d 'host=postgres user=unlost dbname=unlost connect_timeout=5' \
    -c "alter system set synchronous_standby_names = 'standby'" -c 'select pg_reload_conf()' >/dev/null
}
if follows && ! let_commits_wait; then
  # The primary is away. It may come back, or be gone, and then this one must start to be promoted.
  ( (while follows && ! let_commits_wait; do sleep 1; done) & )
fi
# The copy has the primary's settings. Once promoted, it must not wait for itself.
exec setpriv --reuid=postgres --regid=postgres --clear-groups \
  postgres -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql -c synchronous_standby_names= "$@"
