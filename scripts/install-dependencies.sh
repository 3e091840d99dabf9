#!/bin/sh
# Installs what pefo's demo and tests run against: OpenSSH's server, PostgreSQL, puppetserver, a browser,
# and what the Rust build links to; with the word 'bench', what benchmarks measure against besides.
# Debian and Ubuntu only; elsewhere, or without root, it says what is missing and lets the tests that need
# it report `skipped: why`.
#
# It guarantees: no service is started or enabled by the installation (policy-rc.d answers 101 while
# it runs, and is put back as it was), no PostgreSQL cluster is created, and nothing is installed on
# a host that already has a Puppet CA.
set -eu

packages="build-essential pkg-config libssl-dev openssh-server openssh-client openssl curl jq rsync \
acl e2fsprogs iproute2 mount util-linux systemd strace postgresql postgresql-contrib puppetserver puppet-agent \
python3-prometheus-client man-db groff lintian git r10k"
# Ubuntu has its browser as a snap only, which no script should install on somebody's machine.
if [ -r /etc/os-release ] && grep -qx 'ID=debian' /etc/os-release; then
    packages="$packages chromium chromium-driver"
fi
if [ "${1:-}" = bench ]; then
    packages="$packages wrk nginx-light"
fi

say() { printf 'dependencies: %s\n' "$*"; }

missing=""
for package in $packages; do
    status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    say "all present"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    say "not a Debian or Ubuntu system; missing:$missing (tests that need them will say 'skipped')"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    say "not root; missing:$missing (tests that need them will say 'skipped')"
    exit 0
fi
for cadir in /etc/puppetlabs/puppetserver/ca /etc/puppetlabs/puppet/ssl/ca \
    /etc/puppet/puppetserver/ca /var/lib/puppet/ssl/ca; do
    if [ -e "$cadir/ca_key.pem" ]; then
        say "refusing to install: this host has a Puppet CA in $cadir; run the tests elsewhere" >&2
        exit 3
    fi
done

restore_policy=""
cleanup() {
    if [ -n "$restore_policy" ]; then
        mv -f "$restore_policy" /usr/sbin/policy-rc.d
    else
        rm -f /usr/sbin/policy-rc.d
    fi
}
if [ -e /usr/sbin/policy-rc.d ]; then
    restore_policy=$(mktemp /usr/sbin/policy-rc.d.pefo.XXXXXX)
    cp -p /usr/sbin/policy-rc.d "$restore_policy"
fi
trap cleanup EXIT
trap 'exit 130' INT TERM
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

# postgresql's maintainer script would create a cluster of its own in /var/lib/postgresql.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    printf "create_main_cluster = false\n" >/etc/postgresql-common/createcluster.conf
fi

say "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # the list is meant to be split
apt-get install -y -qq -o Dpkg::Options::=--force-confold --no-install-recommends $missing >/dev/null
# Only what came in just now: a service that ran here before is none of ours.
if [ -d /run/systemd/system ]; then
    for package in $missing; do
        case "$package" in
        openssh-server) systemctl disable --quiet ssh.service ssh.socket 2>/dev/null || true ;;
        puppetserver) systemctl disable --quiet puppetserver 2>/dev/null || true ;;
        puppet-agent) systemctl disable --quiet puppet 2>/dev/null || true ;;
        nginx-light) systemctl disable --quiet nginx 2>/dev/null || true ;;
        postgresql) systemctl disable --quiet postgresql 2>/dev/null || true ;;
        esac
    done
fi
say "installed"
