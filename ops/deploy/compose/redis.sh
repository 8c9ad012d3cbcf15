#!/bin/sh
# Starts one of several Redis servers (`server NAME`), or a Sentinel that watches them (`sentinel NAME`). Sentinels write
# into the configuration who the primary is, so it is made only once. At the very first start it is redis-1.
set -eu
umask 077
kind=$1 name=$2
file=/data/$kind.conf
chown redis /data
if [ ! -s "$file" ]; then
  password=$(cat /run/unlost/admin)
  if [ "$kind" = server ]; then
    # When memory is full, writes are refused and no key is evicted: without its claim, a handler could run twice.
    cat >"$file.new" <<CONFIG
port 6379
dir /data
protected-mode no
save ""
appendonly yes
maxmemory 384mb
maxmemory-policy noeviction
aclfile /run/unlost/users.acl
masteruser admin
masterauth $password
replica-announce-ip $name
CONFIG
    [ "$name" = redis-1 ] || echo 'replicaof redis-1 6379' >>"$file.new"
  else
    cat >"$file.new" <<CONFIG
port 26379
dir /data
protected-mode no
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $name
sentinel monitor claims redis-1 6379 2
sentinel auth-user claims admin
sentinel auth-pass claims $password
sentinel down-after-milliseconds claims 5000
sentinel failover-timeout claims 30000
CONFIG
  fi
  mv "$file.new" "$file"
  chown redis "$file"
fi
option=
[ "$kind" = server ] || option=--sentinel
# shellcheck disable=SC2086
exec setpriv --reuid=redis --regid=redis --clear-groups redis-server "$file" $option
