#!/bin/sh
# Java 17 and Maven, for Apache Kafka in the tests. Installs them on Debian and its like where it may.
set -eu
missing=""
java -version 2>&1 | grep -Eq '"(1[7-9]|[2-9][0-9])' || missing="openjdk-17-jre-headless"
command -v mvn > /dev/null || missing="$missing maven"
[ -n "$missing" ] || exit 0
if command -v apt-get > /dev/null; then
  as_root=""
  [ "$(id -u)" = 0 ] || as_root="sudo -n"
  echo "installing $missing …" >&2
  if $as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qq -y --no-install-recommends $missing > /dev/null; then
    exit 0
  fi
fi
echo "Apache Kafka needs Java 17 or later and Maven, and they could not be installed: $missing." >&2
echo "Install them, or name a broker without topics in KAFKA_BOOTSTRAP_SERVERS." >&2
exit 1
