#!/bin/sh
# Java 17 and Maven, for Apache Kafka in the tests. Installs them on Debian and its like where it may.
set -eu

have_java() { java -version 2>&1 | grep -Eq '"(1[7-9]|[2-9][0-9])'; }
have_maven() { command -v mvn > /dev/null; }
have_java && have_maven && exit 0

if command -v apt-get > /dev/null; then
  as_root=""
  [ "$(id -u)" = 0 ] || as_root="sudo -n"
  echo "installing Java and Maven …" >&2
  # Debian 12 and Ubuntu 22.04 have 17 by this name; later ones have dropped it for a newer one.
  $as_root apt-get update -qq &&
    for java in openjdk-17-jre-headless default-jre-headless; do
      have_java || DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qq -y --no-install-recommends "$java" > /dev/null || true
    done
  have_maven || DEBIAN_FRONTEND=noninteractive $as_root apt-get install -qq -y --no-install-recommends maven > /dev/null || true
fi

missing=""
have_java || missing=" Java 17 or later"
have_maven || missing="$missing${missing:+ and} Maven"
[ -n "$missing" ] || exit 0
echo "Apache Kafka needs$missing, which could not be installed here." >&2
echo "Install it (Debian: apt-get install openjdk-17-jre-headless maven; macOS: brew install openjdk@17 maven)," >&2
echo "or name a broker without topics of ours: KAFKA_BOOTSTRAP_SERVERS=host:9092 make test-kafka" >&2
exit 1
